"""EPU trees: names, places and XML as in real sessions."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest

from icestream.simulate.instrument import epu
from icestream.simulate.instrument.epu_image import FALCON_4I, K3, EpuImage, image_xml
from icestream.simulate.instrument.epu_session import (
    EpuHole,
    EpuSession,
    EpuSquare,
    atlas_dm,
    grid_square_dm,
    session_dm,
)
from icestream.simulate.instrument.markup import element, text
from icestream.simulate.instrument.thumbnail import (
    draw_atlas,
    draw_grid_square,
    draw_hole,
    thumbnail_shape,
)

if TYPE_CHECKING:
    from pathlib import Path

SESSION = "epu39_session"
NAME = "FoilHole_9015883_Data_9017347_6_20250108_154915"

SHARED = "{http://schemas.datacontract.org/2004/07/Fei.SharedObjects}"
TAKEN_AT = datetime(2025, 1, 8, 15, 49, 18, 115828, tzinfo=timezone(timedelta(hours=1)))
EXPOSURE = EpuImage(
    camera=K3,
    taken_at=TAKEN_AT,
    pixel_size_angst=0.528,
    exposure_s=0.89,
    dose_e_per_angst2=14.4,
    fraction_count=50,
    applied_defocus_angst=27_000,
    stage_um=(-97.15, -152.72, 85.71),
    stage_tilt_deg=(0.1, -1.0),
    beam_shift=(0.0609, -0.1542),
    beam_tilt=(0.0114, -0.0149),
)
EER_EXPOSURE = dataclasses.replace(
    EXPOSURE,
    camera=FALCON_4I,
    fraction_count=None,
    gain_reference="ImagesForProcessing/EF-Falcon/300kV/20250108_EER_GainReference.gain",
    slit_ev=10.0,
)
HOLE = EpuHole(
    hole_id=9015883,
    stage_um=(-97.15, -152.72, 85.71),
    centre_xy_px=(1396.0, 972.0),
    diameter_px=51.3,
    image_name="FoilHole_9015883_20250108_154715",
    exposures=("FoilHole_9015883_Data_9017347_6_20250108_154915",),
)
SQUARE = EpuSquare(
    square_id=8999138,
    stage_um=(-98.8, -164.7, 85.7),
    hole_spacing_um=2.65,
    image_name="GridSquare_20250108_151151",
    atlas_xy_px=(180.0, 260.0),
    atlas_size_px=12.0,
    holes=(HOLE, dataclasses.replace(HOLE, hole_id=9015900, exposures=())),
)
RECORD = EpuSession(
    session_id=9015527,
    name="Supervisor_20250108_101446_62_simulated_EPU",
    started_at=TAKEN_AT,
    hole_size_um=1.34,
    hole_spacing_um=2.65,
    storage_folder="Z:\\DoseFractions\\cm00001-1",
    atlas_path="Z:\\DoseFractions\\cm00001-1\\atlas\\Sample7\\Atlas\\Atlas.dm",
    square_ids=(8999138, 8999186),
    autoloader_slot=7,
)


def paths(root: ET.Element) -> set[str]:
    """All paths of elements, with their namespaces."""
    found = {root.tag}
    for child in root:
        found |= {f"{root.tag}/{path}" for path in paths(child)}
    return found


def real_paths(*files: Path) -> set[str]:
    return set().union(*(paths(ET.parse(file).getroot()) for file in files))


def keys(root: ET.Element) -> set[str]:
    """All keys of custom data and camera input, with their camera's name left out."""
    names = (key.text or "" for key in root.iter() if key.tag.endswith("}Key"))
    return {re.sub(r"\[[BE][MF]-\w+\]", "[]", name) for name in names}


def value_of(root: ET.Element, path: str) -> str:
    steps = path.replace("/", f"/{SHARED}")
    return root.findtext(f"{SHARED}{steps}") or ""


def custom(root: ET.Element, key: str) -> str:
    """What a reader of custom data finds."""
    pairs = root.find(f"{SHARED}CustomData")
    assert pairs is not None
    return {str(pair[0].text): str(pair[1].text) for pair in pairs}[key]


@pytest.mark.parametrize("image", [EXPOSURE, EER_EXPOSURE])
def test_exposure_xml_has_only_what_real_ones_have(
    shared_data: Path, image: EpuImage
) -> None:
    real = shared_data / "epu"
    files = [
        *(real / SESSION).rglob("FoilHole_*_Data_*.xml"),
        real / "falcon4i_glacios.xml",
    ]
    root = ET.fromstring(image_xml(image, name=NAME))
    assert paths(root) <= real_paths(*files)
    assert keys(root) <= set().union(*(keys(ET.parse(f).getroot()) for f in files))


@pytest.mark.parametrize(
    ("content", "file"),
    [
        (session_dm(RECORD), f"{SESSION}/EpuSession.dm"),
        (
            grid_square_dm(SQUARE, image_folder="Z:\\s\\Images-Disc1"),
            "GridSquare_4590776.dm",
        ),
        (
            atlas_dm(
                3436163,
                [SQUARE],
                taken_at=TAKEN_AT,
                storage_folder="Z:\\atlas\\Sample7",
                shape=(364, 512),
            ),
            "Atlas_2025.dm",
        ),
    ],
    ids=["session", "square", "atlas"],
)
def test_dm_files_have_only_what_real_ones_have(
    shared_data: Path, content: bytes, file: str
) -> None:
    assert paths(ET.fromstring(content)) <= real_paths(shared_data / "epu" / file)


def test_a_reader_gets_the_same_kind_of_values_from_both(shared_data: Path) -> None:
    folder = shared_data / "epu" / SESSION
    real = ET.parse(next(folder.rglob("FoilHole_9015883_Data_9017354*.xml"))).getroot()
    ours = ET.fromstring(image_xml(EXPOSURE, name=NAME))
    for path in (
        "microscopeData/gun/AccelerationVoltage",
        "microscopeData/optics/TemMagnification/NominalMagnification",
        "microscopeData/acquisition/camera/ExposureTime",
        "microscopeData/acquisition/camera/Name",
        "microscopeData/optics/EnergyFilter/EnergySelectionSlitWidth",
        "microscopeData/core/ApplicationSoftwareVersion",
    ):
        assert float_or_text(value_of(ours, path)) == float_or_text(
            value_of(real, path)
        )
    assert float(custom(ours, "AppliedDefocus")) == float(
        custom(real, "AppliedDefocus")
    )
    # The real pixel is not given to the last digit; both are those of the picture.
    pixel = "SpatialScale/pixelSize/x/numericValue"
    assert float(value_of(ours, pixel)) == pytest.approx(
        float(value_of(real, pixel)), rel=1e-3
    )


def float_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def test_exposure_xml_says_what_was_given() -> None:
    root = ET.fromstring(image_xml(EXPOSURE, name=NAME))
    assert float(custom(root, "Dose")) == pytest.approx(14.4e20)
    assert float(custom(root, "AppliedDefocus")) == pytest.approx(-2.7e-6)
    assert float(value_of(root, "microscopeData/stage/Position/X")) == pytest.approx(
        -97.15e-6
    )
    assert float(value_of(root, "microscopeData/stage/Position/A")) == pytest.approx(
        np.deg2rad(0.1)
    )
    taken_at = value_of(root, "microscopeData/acquisition/acquisitionDateTime")
    assert datetime.fromisoformat(taken_at) == TAKEN_AT
    area = root.find(f".//{SHARED}ReadoutArea")
    assert area is not None
    assert [side.text for side in area][:2] == ["2046", "2880"]
    fractions = [e.text for e in root.iter() if e.tag.endswith("NumberOffractions")]
    assert fractions == ["50"]


def test_doses_are_those_of_a_real_k3(shared_data: Path) -> None:
    real = shared_data / "epu" / "k3_krios"
    root = ET.parse(next(real.glob("*.xml"))).getroot()
    pixel_m = value_of(root, "SpatialScale/pixelSize/x/numericValue")
    image = dataclasses.replace(
        EXPOSURE,
        pixel_size_angst=float(pixel_m) * 1e10 / 2,
        exposure_s=2.0,
        dose_e_per_angst2=float(custom(root, "Dose")) / 1e20,
    )
    ours = ET.fromstring(image_xml(image, name=NAME))
    # The real exposure was 2.003 s.
    for key, tolerance in (("DoseOnCamera", 1e-6), ("DoseRate", 0.003)):
        assert float(custom(ours, key)) == pytest.approx(
            float(custom(root, key)), rel=tolerance
        )


def test_pictures_of_one_moment_have_identities_of_their_own() -> None:
    def identities(name: str) -> set[str]:
        root = ET.fromstring(image_xml(EXPOSURE, name=name))
        return {value_of(root, "uniqueID"), value_of(root, "microscopeData/core/Guid")}

    assert identities(NAME) == identities(NAME)
    assert len(identities(NAME) | identities("Atlas_1")) == 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4092, 5760), (364, 512)), ((4096, 4096), (512, 512)), ((96, 128), (96, 128))],
)
def test_pictures_keep_the_aspect_of_the_camera(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert thumbnail_shape(shape) == expected


def test_eer_exposure_xml_names_the_gain_and_the_frame_rate() -> None:
    content = image_xml(EER_EXPOSURE, name=NAME)
    root = ET.fromstring(content)
    gain = custom(root, "Detectors[EF-Falcon].EerGainReference")
    assert gain.endswith("EER_GainReference.gain")
    assert float(custom(root, "Detectors[EF-Falcon].FrameRate")) > 300
    assert b"EerFractionation" in content
    assert not any(e.tag.endswith("NumberOffractions") for e in root.iter())


def test_the_tree_stands_as_epu_lays_it_out(tmp_path: Path) -> None:
    session, sample = tmp_path / RECORD.name, tmp_path / "atlas" / "Sample7"
    name = epu.exposure_name(9015883, 9017347, 6, taken_at=TAKEN_AT)
    hole = epu.hole_image_name(9015883, taken_at=TAKEN_AT)
    square = epu.square_image_name(taken_at=TAKEN_AT)
    picture = draw_hole(radius_px=120, shape=(364, 512))
    for stem in (name, hole, square):
        path = epu.picture_path(session, 8999138, stem)
        written = epu.write_picture(path, EXPOSURE, picture)
        assert [one.suffix for one in written] == [".jpg", ".xml"]
    epu.write_square(session, SQUARE, image_folder="Z:\\s\\Images-Disc1")
    epu.write_session(session, RECORD)
    epu.write_atlas(
        sample,
        4590151,
        [SQUARE],
        image=EXPOSURE,
        picture=draw_atlas([(180, 260)], side_px=12, shape=(364, 512)),
        storage_folder="Z:\\atlas\\Sample7",
    )
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    base = f"{RECORD.name}/Images-Disc1/GridSquare_8999138"
    data = f"{base}/Data/FoilHole_9015883_Data_9017347_6_20250108_154918"
    assert found == {
        f"{data}.jpg",
        f"{data}.xml",
        f"{base}/FoilHoles/FoilHole_9015883_20250108_154918.jpg",
        f"{base}/FoilHoles/FoilHole_9015883_20250108_154918.xml",
        f"{base}/GridSquare_20250108_154918.jpg",
        f"{base}/GridSquare_20250108_154918.xml",
        f"{RECORD.name}/Metadata/GridSquare_8999138.dm",
        f"{RECORD.name}/EpuSession.dm",
        "atlas/Sample7/Atlas/Atlas.dm",
        "atlas/Sample7/Atlas/Atlas_4590151.jpg",
        "atlas/Sample7/Atlas/Atlas_4590151.xml",
    }
    content = (tmp_path / f"{data}.jpg").read_bytes()
    decoded = imagecodecs.jpeg8_decode(content)
    assert decoded.shape == (364, 512)
    assert np.abs(decoded.astype(float) - picture).mean() < 5


def test_names_are_like_real_ones(shared_data: Path) -> None:
    folder = shared_data / "epu" / SESSION
    real = next(folder.rglob("FoilHole_9015883_Data_9017347*.xml")).stem
    taken_at = datetime(2025, 1, 8, 15, 49, 15, tzinfo=TAKEN_AT.tzinfo)
    assert epu.exposure_name(9015883, 9017347, 6, taken_at=taken_at) == real


def test_square_dm_tells_holes_and_their_exposures_as_prefix_readers_look() -> None:
    # Some readers take prefixes literally.
    content = grid_square_dm(SQUARE, image_folder="Z:\\s\\Images-Disc1").decode()
    assert "<a:m_serializationArray" in content
    assert "<b:key>9015883</b:key>" in content
    assert "<c:x>1396</c:x><c:y>972</c:y>" in content
    assert "FoilHole_9015883_Data_9017347_6_20250108_154915" in content
    identities = re.findall(r'z:Id="(\d+)"', content)
    assert len(identities) == len(set(identities))


def test_a_grid_square_is_drawn_with_its_holes() -> None:
    centres = np.array([[100.0, 100.0], [100.0, 300.0], [250.0, 200.0]])
    picture = draw_grid_square(centres, hole_radius_px=20, shape=(364, 512))
    assert picture.shape == (364, 512)
    assert picture[100, 100] > picture[180, 100] > picture[1, 1]


def test_markup_is_escaped_and_written_as_dotnet_does() -> None:
    assert (
        element("a", text("<&>"), attributes={"b": '"'})
        == "<a b='\"'>&lt;&amp;&gt;</a>"
    )
    assert [text(v) for v in (True, 1e-06, 0.89, 2.0, 3)] == [
        "true",
        "1E-06",
        "0.89",
        "2",
        "3",
    ]
    assert element("a") == "<a/>"
