"""SerialEM mdoc: the same keys, in the same order, in the same forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from icestream.domain.errors import BadSettings
from icestream.simulate.instrument.serialem import (
    SerialemExposure,
    frame_set_name,
    mdoc_text,
    write_mdoc,
)

if TYPE_CHECKING:
    from pathlib import Path

TAKEN_AT = datetime(2021, 10, 8, 7, 39, 8, tzinfo=UTC)
EXPOSURE = SerialemExposure(
    movie_path="X:\\Johannes_20211007\\frames\\s_mmm_00993_Oct08_07.39.05.tif",
    taken_at=TAKEN_AT,
    frame_count=12,
    dose_e_per_angst2=7.65892,
    exposure_s=1.07856,
    pixel_size_angst=1.2827,
    shape=(8184, 11520),
    binning=0.5,
    dose_rate_e_per_px_s=4.97858,
    gain_reference="SuperRef_s_mmm_00000_Oct08_01.59.24.dm4",
    defocus_um=-5.08286,
    target_defocus_um=-4.5,
    stage_um=(-142.82, -457.442, -13.7196),
    tilt_deg=32.984,
    image_shift_um=(2.69654, -0.304661),
    magnification=33_000,
    spot_index=9,
    intensity=0.11378,
    rotation_deg=178.414,
)


def parsed(text: str) -> list[dict[str, str]]:
    """The blocks of an mdoc; the first is what stands before them."""
    blocks: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        if line.startswith("["):
            blocks.append({})
        if " = " in line:
            key, value = line.strip("[]").split(" = ", 1)
            blocks[-1][key] = value
    return blocks


def test_a_frame_set_is_as_in_a_real_super_resolution_mdoc(shared_data: Path) -> None:
    real = parsed(
        (shared_data / "serialem" / "frame_set_single.mdoc").read_text(encoding="ascii")
    )
    ours = parsed(mdoc_text([EXPOSURE]))
    assert list(ours[0]) == list(real[0])
    assert list(ours[1]) == list(real[1])
    differing = {"GainReference", "SubFramePath", "FrameDosesAndNumber"}
    for key in set(real[1]) - differing:
        assert ours[1][key] == real[1][key], key
    dose, count = ours[1]["FrameDosesAndNumber"].split()
    assert float(dose) == pytest.approx(0.63824, abs=1e-4)
    assert count == "12"


def test_a_mdoc_file_has_the_bytes_of_windows(
    tmp_path: Path, shared_data: Path
) -> None:
    path = tmp_path / "frames" / "s_mmm_00993_Oct08_07.39.05.tif.mdoc"
    write_mdoc(path, [EXPOSURE], microscope="UMass_Krios Camera -> 0:Ceta 1:GIF-K3")
    ours = path.read_bytes()
    real = (shared_data / "serialem" / "frame_set_single.mdoc").read_bytes()
    assert ours.count(b"\r\n") == ours.count(b"\n") == real.count(b"\n")
    title = rb"T = SerialEM: .{45} \d\d-[A-Z][a-z]{2}-\d\d  [\d:]{8}    \r\n"
    assert re.match(title, ours)
    assert re.match(title, real)


def test_one_mdoc_of_a_session_numbers_its_sets() -> None:
    text = mdoc_text([EXPOSURE, EXPOSURE, EXPOSURE], voltage_kv=200)
    blocks = parsed(text)
    assert blocks[0]["Voltage"] == "200"
    assert [block["FrameSet"] for block in blocks[1:]] == ["0", "1", "2"]


def test_single_particle_records_say_hole_and_position() -> None:
    exposure = SerialemExposure(
        movie_path="D:\\f\\g_00001.tif",
        taken_at=TAKEN_AT,
        frame_count=40,
        dose_e_per_angst2=50,
        exposure_s=2,
        pixel_size_angst=0.83,
        shape=(4092, 5760),
        slit_ev=None,
        navigator_label="726",
        hole_and_position="1-1",
    )
    block = parsed(mdoc_text([exposure]))[1]
    assert block["MultishotHoleAndPosition"] == "1-1"
    assert block["NavigatorLabel"] == "726"
    assert block["Binning"] == "1"
    assert block["UncroppedSize"] == "-5760 -4092"
    assert "FilterSlitAndLoss" not in block
    assert "GainReference" not in block


def test_movies_are_named_as_serialem_numbers_them() -> None:
    name = frame_set_name("s_mmm", 993, taken_at=TAKEN_AT)
    assert name == "s_mmm_00993_Oct08_07.39.08"


def test_a_mdoc_without_exposures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings):
        write_mdoc(tmp_path / "a.mdoc", [])
    assert not list(tmp_path.iterdir())
