"""EPU's XML is read as the instrument meant it; nothing hostile gets through."""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.io.epu import exposure_stem, read_epu_name, read_epu_xml
from icestream.simulate.instrument.epu_image import FALCON_4I, K3, EpuImage, image_xml

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "FoilHole_9015883_Data_9017347_6_20250108_154915"
TAKEN_AT = datetime(2025, 1, 8, 15, 49, 18, 115828, tzinfo=timezone(timedelta(hours=1)))
ON_K3 = EpuImage(
    camera=K3,
    taken_at=TAKEN_AT,
    pixel_size_angst=0.528,
    exposure_s=0.89,
    dose_e_per_angst2=14.4,
    fraction_count=50,
    applied_defocus_angst=27_000,
    stage_um=(-97.15, -152.72, 85.71),
    stage_tilt_deg=(20.0, -1.0),
    beam_shift=(0.0609, -0.1542),
    image_shift=(0.01, -0.02),
    voltage_kv=200.0,
    magnification=105_000,
    is_phase_plate_used=True,
)
ON_FALCON = dataclasses.replace(
    ON_K3,
    camera=FALCON_4I,
    fraction_count=None,
    exposure_s=3.518346,
    gain_reference="ImagesForProcessing/EF-Falcon/300kV/20250108_EER_GainReference.gain",
    slit_ev=None,
)
FRACTIONS = """<?xml version="1.0" encoding="utf-8"?>
<Acquisition><Info><RecordedNumberOfFractions>3</RecordedNumberOfFractions></Info>
<Fractions>
<Fraction><ExposureTime>1.5</ExposureTime></Fraction>
<Fraction><ExposureTime>1.5</ExposureTime></Fraction>
<Fraction><ExposureTime>0.25</ExposureTime></Fraction>
</Fractions></Acquisition>"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    folder = tmp_path / "GridSquare_8999138" / "Data"
    folder.mkdir(parents=True)

    def writing(content: bytes) -> Path:
        path = folder / f"{NAME}.xml"
        path.write_bytes(content)
        return path

    return writing


@pytest.mark.parametrize("image", [ON_K3, ON_FALCON], ids=["k3", "falcon"])
def test_every_value_comes_back(
    image: EpuImage, write: Callable[[bytes], Path]
) -> None:
    read = read_epu_xml(write(image_xml(image, name=NAME)))
    is_k3 = image is ON_K3
    truth = ExposureMetadata(
        pixel_size_angst=0.528,
        camera_shape=(4092, 5760) if is_k3 else (4096, 4096),
        super_resolution_factor=2 if is_k3 else 1,
        magnification=105_000,
        voltage_kv=200.0,
        dose_e_per_angst2=14.4,
        frame_count=50 if is_k3 else None,
        exposure_s=image.exposure_s,
        target_defocus_angst=27_000.0,
        applied_defocus_angst=27_000.0,
        stage_x_um=-97.15,
        stage_y_um=-152.72,
        stage_z_um=85.71,
        stage_alpha_deg=20.0,
        beam_shift_x=0.0609,
        beam_shift_y=-0.1542,
        image_shift_x=0.01,
        image_shift_y=-0.02,
        grid_square="8999138",
        foil_hole="9015883",
        position="9017347",
        detector="BioQuantum K3" if is_k3 else "Falcon 4i",
        is_counting=True,
        is_phase_plate_used=True,
        energy_slit_ev=20.0 if is_k3 else None,
        gain_reference=None if is_k3 else "20250108_EER_GainReference.gain",
        acquired_at="2025-01-08T15:49:18.115828+01:00",
    )
    for name in ExposureMetadata.__slots__:
        wanted = getattr(truth, name)
        if isinstance(wanted, float):
            wanted = pytest.approx(wanted, rel=1e-12)
        assert getattr(read, name) == wanted, name


def test_white_space_between_tags_changes_nothing(
    write: Callable[[bytes], Path],
) -> None:
    content = image_xml(ON_K3, name=NAME)
    one_line = read_epu_xml(write(content))
    assert read_epu_xml(write(content.replace(b"><", b">\r\n  <"))) == one_line


def test_prefixes_and_places_of_namespaces_change_nothing(
    write: Callable[[bytes], Path],
) -> None:
    content = image_xml(ON_K3, name=NAME)
    read = read_epu_xml(write(content))
    types = b"http://schemas.datacontract.org/2004/07/Fei.Types"
    moved = content.replace(b' xmlns:a="' + types + b'"', b"").replace(
        b"<MicroscopeImage", b'<MicroscopeImage xmlns:a="' + types + b'"', 1
    )
    assert moved != content
    assert read_epu_xml(write(moved)) == read


def test_a_dose_of_zero_is_unknown(write: Callable[[bytes], Path]) -> None:
    image = dataclasses.replace(ON_K3, dose_e_per_angst2=0.0)
    assert read_epu_xml(write(image_xml(image, name=NAME))).dose_e_per_angst2 is None


def test_no_number_and_nil_are_unknown(write: Callable[[bytes], Path]) -> None:
    content = image_xml(ON_K3, name=NAME)
    content = content.replace(b">200000<", b">NaN<").replace(b">105000<", b"><")
    read = read_epu_xml(write(content))
    assert read.voltage_kv is None
    assert read.magnification is None


def test_a_slit_that_is_not_in_has_no_width(write: Callable[[bytes], Path]) -> None:
    content = image_xml(ON_K3, name=NAME)
    out = content.replace(b"SlitInserted>true<", b"SlitInserted>false<")
    assert out != content
    assert read_epu_xml(write(out)).energy_slit_ev is None


def test_fractions_tell_what_was_recorded(write: Callable[[bytes], Path]) -> None:
    read = read_epu_xml(write(FRACTIONS.encode()))
    assert read.frame_count == 3
    assert read.exposure_s == 3.25
    assert read.voltage_kv is None
    assert read.foil_hole == "9015883"


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_incomplete(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = image_xml(ON_K3, name=NAME)
    path = tmp_path_factory.mktemp("cut") / f"{NAME}.xml"
    path.write_bytes(content[: math.floor(share * len(content))])
    with pytest.raises(IncompleteFile):
        read_epu_xml(path)


ENTITIES = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">%s]><MicroscopeImage>&j;</MicroscopeImage>'
)
HOSTILE = {
    "entities": ENTITIES
    % b"".join(
        b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
    ),
    "another file": b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><MicroscopeImage/>',
    "in 16 bits": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x><x/>'.encode(
        "utf-16"
    ),
    "too large": b"<MicroscopeImage>" + b" " * (4 << 20) + b"</MicroscopeImage>",
    "too deep": b"<MicroscopeImage>"
    + b"<a>" * 400_000
    + b"</a>" * 400_000
    + b"</MicroscopeImage>",
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><MicroscopeImage/>',
    "wide encoding": b'<?xml version="1.0" encoding="shift_jis"?><MicroscopeImage/>',
    "not closed well": b"<MicroscopeImage><a></b></MicroscopeImage>",
    "an image": b"II*\x00\x08\x00\x00\x00",
    "zeros": bytes(1000),
    "another root": b"<html/>",
    "text for a number": image_xml(ON_K3, name=NAME).replace(b">200000<", b">high<"),
    "a negative voltage": image_xml(ON_K3, name=NAME).replace(b">200000<", b">-1<"),
    "no date": image_xml(ON_K3, name=NAME).replace(b">2025-01-08T", b">8/1/25 "),
    "endless count": image_xml(ON_K3, name=NAME).replace(b">105000<", b">1E400<"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_epu_never_writes_is_refused(
    content: bytes, write: Callable[[bytes], Path]
) -> None:
    path = write(content)
    with pytest.raises(UnreadableFile, match=path.name) as refused:
        read_epu_xml(path)
    assert type(refused.value) is UnreadableFile
    assert refused.value.hint


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_and_no_more(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.xml"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        read_epu_xml(path)


def test_an_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="does not exist"):
        read_epu_xml(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "ending",
    ["_fractions.tiff", "_Fractions.mrc", "_EER.eer", ".xml", "_Fractions.xml", ".mrc"],
)
def test_files_of_an_exposure_share_its_name(ending: str) -> None:
    for stem in (NAME, "FoilHole_1_Data_2_3_20200101_121212"):
        assert exposure_stem(stem + ending) == stem


def test_other_names_lose_their_ending_only() -> None:
    assert exposure_stem("grid_fractions.tiff") == "grid_fractions"


def test_names_tell_square_hole_and_place() -> None:
    path = PurePosixPath("d/GridSquare_7/Data/FoilHole_1_Data_2_3_20200101_121212.mrc")
    read = read_epu_name(path)
    assert (read.grid_square, read.foil_hole, read.position) == ("7", "1", "2")
    older = read_epu_name(PurePosixPath("FoilHole_1_Data_2_20200101_121212.mrc"))
    assert (older.grid_square, older.foil_hole, older.position) == (None, "1", "2")
    assert read_epu_name(PurePosixPath("GridSquare_7/a.tif")) == ExposureMetadata()
