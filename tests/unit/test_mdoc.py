"""SerialEM's mdoc is read as it was meant; other kinds are named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.io.serialem import read_mdoc
from icestream.simulate.instrument.serialem import SerialemExposure, mdoc_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TAKEN_AT = datetime(2021, 10, 8, 7, 39, 8, tzinfo=UTC)
EXPOSURE = SerialemExposure(
    movie_path="\\\\192.168.10.81\\Offload\\\\frames\\g_00993_Oct08_07.39.05.tif",
    taken_at=TAKEN_AT,
    frame_count=40,
    dose_e_per_angst2=50.25,
    exposure_s=2.125,
    pixel_size_angst=0.4125,
    shape=(8184, 11520),
    binning=0.5,
    gain_reference="SuperRef_00000.dm4",
    defocus_um=-1.25,
    target_defocus_um=-1.5,
    stage_um=(-142.82, -457.442, -13.7196),
    tilt_deg=30.5,
    image_shift_um=(2.5, -0.25),
    slit_ev=10.0,
    magnification=105_000,
    camera_index=2,
    navigator_label="726",
    hole_and_position="3-1",
)
TEXT = mdoc_text([EXPOSURE], voltage_kv=200.0)
TRUTH = ExposureMetadata(
    pixel_size_angst=0.825,
    camera_shape=(4092, 5760),
    super_resolution_factor=2,
    magnification=105_000,
    voltage_kv=200.0,
    dose_e_per_angst2=50.25,
    frame_count=40,
    exposure_s=2.125,
    target_defocus_angst=15_000.0,
    applied_defocus_angst=12_500.0,
    stage_x_um=-142.82,
    stage_y_um=-457.442,
    stage_z_um=-13.7196,
    stage_alpha_deg=30.5,
    image_shift_x=2.5,
    image_shift_y=-0.25,
    foil_hole="726",
    position="3-1",
    detector="camera 2",
    is_cds=False,
    energy_slit_ev=10.0,
    gain_reference="SuperRef_00000.dm4",
    movie_name="g_00993_Oct08_07.39.05.tif",
    acquired_at="2021-10-08T07:39:08",
)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], ExposureMetadata]:
    def reading(text: str) -> ExposureMetadata:
        path = tmp_path / "g_00993.tif.mdoc"
        path.write_bytes(text.encode("latin-1"))
        return read_mdoc(path)

    return reading


def changed(key: str, value: str) -> str:
    """The mdoc with one line changed; the key must be there."""
    lines = TEXT.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{key} =")]
    lines[at] = f"{key} = {value}"
    return "\r\n".join(lines) + "\r\n"


def test_every_value_comes_back(read: Callable[[str], ExposureMetadata]) -> None:
    assert read(TEXT) == TRUTH


def test_ends_of_lines_may_be_those_of_unix(
    read: Callable[[str], ExposureMetadata],
) -> None:
    assert read(TEXT.replace("\r\n", "\n")) == TRUTH


def test_lines_without_a_value_or_of_no_pair_are_passed_over(
    read: Callable[[str], ExposureMetadata],
) -> None:
    bare = "Version = SerialEM Version 4.0.6 64-bit,  built Apr 30 2022  23:07:13\n"
    odd = "Version =\nVersion = \nno pair at all\n[T =     Tilt axis angle = 85.3]\n"
    assert read(bare + odd + TEXT) == TRUTH


def test_binned_images_do_not_bin_the_camera(
    read: Callable[[str], ExposureMetadata],
) -> None:
    for binning, pixel_angst in (("1", 0.4125), ("2", 0.20625), ("0.5", 0.825)):
        assert read(changed("Binning", binning)).pixel_size_angst == pixel_angst


@pytest.mark.parametrize(
    ("size", "binning", "shape"),
    [
        ("-5760 -4092", "1", (4092, 5760)),
        ("-2880 -2046", "1", (4092, 5760)),
        ("11520 8184", "0.5", (4092, 5760)),
        ("-1919 -1855", "2", (3710, 3838)),
        ("-4096 -4096", "1", (4096, 4096)),
        ("-1024 -1024", "8", (8192, 8192)),
        ("-48 -64", "0.5", None),
        ("0 0", "1", None),
    ],
)
def test_the_camera_is_known_by_its_image(
    size: str,
    binning: str,
    shape: tuple[int, int] | None,
    read: Callable[[str], ExposureMetadata],
) -> None:
    text = changed("UncroppedSize", size)
    text = text.replace("Binning = 0.5", f"Binning = {binning}")
    assert read(text).camera_shape == shape


def test_a_dose_of_zero_is_unknown_or_that_of_the_frames(
    read: Callable[[str], ExposureMetadata],
) -> None:
    text = changed("ExposureDose", "0")
    assert read(text).dose_e_per_angst2 == pytest.approx(50.25, rel=1e-5)
    frames = f"FrameDosesAndNumber = {50.25 / 40:.6g} 40"
    assert frames in text
    two = text.replace(frames, "FrameDosesAndNumber = 0.5 10  1 30")
    assert read(two).dose_e_per_angst2 == 35.0
    none = text.replace(frames, "FrameDosesAndNumber = 0 7  0 3")
    assert read(none).dose_e_per_angst2 is None


def test_what_is_not_told_is_unknown(read: Callable[[str], ExposureMetadata]) -> None:
    assert read("[FrameSet = 0]\n") == ExposureMetadata()


def test_modes_of_the_camera(read: Callable[[str], ExposureMetadata]) -> None:
    assert read(changed("UsingCDS", "1")).is_cds is True
    assert read(changed("FilterSlitAndLoss", "0 0")).energy_slit_ev is None


def test_years_have_two_or_four_digits(
    read: Callable[[str], ExposureMetadata],
) -> None:
    read_one = read(changed("DateTime", "01-Aug-2022  18:58:35"))
    assert read_one.acquired_at == "2022-08-01T18:58:35"


OTHER_KINDS = {
    "montage": (TEXT.replace("FrameSet", "ZValue") + "PieceCoordinates = 0 0 0\n"),
    "tilt series": TEXT.replace("FrameSet", "ZValue"),
    "2 movies": mdoc_text([EXPOSURE, EXPOSURE]),
    "no section": "PixelSpacing = 1.2\n",
}


@pytest.mark.parametrize(("said", "text"), OTHER_KINDS.items())
def test_other_kinds_are_named(
    said: str, text: str, read: Callable[[str], ExposureMetadata]
) -> None:
    with pytest.raises(UnreadableFile, match=said):
        read(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PixelSpacing", "wide"),
        ("PixelSpacing", "-1"),
        ("PixelSpacing", "inf"),
        ("Binning", "-2"),
        ("Binning", "1e-320"),
        ("NumSubFrames", "-4"),
        ("NumSubFrames", "1e400"),
        ("DateTime", "08/10/21 07:39:08"),
        ("DateTime", "08-Okt-21  07:39:08"),
        ("DateTime", "31-Feb-21  07:39:08"),
        ("UncroppedSize", "nan 4"),
    ],
)
def test_what_cannot_be_is_refused(
    key: str, value: str, read: Callable[[str], ExposureMetadata]
) -> None:
    with pytest.raises(UnreadableFile, match=r"g_00993\.tif\.mdoc holds what cannot"):
        read(changed(key, value))


def test_a_file_that_is_too_large_is_refused(
    read: Callable[[str], ExposureMetadata],
) -> None:
    with pytest.raises(UnreadableFile, match="larger than 4 MiB"):
        read(TEXT + "\n" * (4 << 20))


@given(cut=st.integers(0, len(TEXT) - 1))
def test_a_cut_file_never_tells_another_value(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.mdoc"
    path.write_text(TEXT[:cut], encoding="latin-1", newline="")
    try:
        read_one = read_mdoc(path)
    except IncompleteFile:
        return
    except UnreadableFile:
        assert "[FrameSet" not in TEXT[:cut]
        return
    for name in ExposureMetadata.__slots__:
        assert getattr(read_one, name) in (None, getattr(TRUTH, name)), name


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_and_no_more(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.mdoc"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        read_mdoc(path)
