"""What stands beside images agrees with the images and with the truth."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from icestream.io import read_header, read_micrograph
from icestream.simulate import (
    TRUTH_NAME,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.timetable import STARTED_AT, Timing, draw_timetable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHARED = "{http://schemas.datacontract.org/2004/07/Fei.SharedObjects}"
SMALL: dict[str, Any] = {
    "shape": (96, 128),
    "pixel_size_angst": 4.0,
    "frame_count": 3,
    "dose_e_per_angst2": 6.0,
    "particle_count": 3,
    "defect_share": 0.0,
}


def value(root: ET.Element, path: str) -> str:
    return root.findtext(SHARED + path.replace("/", f"/{SHARED}")) or ""


def pairs(root: ET.Element) -> dict[str, str]:
    """All keys with simple values in an XML of EPU."""
    found = (one for one in root.iter() if one.tag.endswith("KeyValueOfstringanyType"))
    return {str(one[0].text): str(one[1].text) for one in found}


def mdoc(path: Path) -> dict[str, str]:
    text = path.with_name(path.name + ".mdoc").read_text(encoding="ascii")
    return dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)


def numbers(text: str) -> list[float]:
    return [float(one) for one in text.split()]


@pytest.mark.parametrize("super_resolution", [1, 2])
@pytest.mark.parametrize("output", ["tiff", "mrc"])
def test_an_mdoc_is_that_of_its_movie(
    tmp_path: Path, super_resolution: int, output: str
) -> None:
    wanted = usual_acquisition(
        2,
        layout="serialem",
        output=output,  # type: ignore[arg-type]
        super_resolution=super_resolution,
        **SMALL,
    )
    paths = simulate_acquisition(tmp_path, wanted)
    truths = read_truth(tmp_path / TRUTH_NAME).exposures
    for path, truth in zip(paths, truths, strict=True):
        header, told = read_header(path), mdoc(path)
        size = (header.width_px, header.height_px)
        assert size == (128 * super_resolution, 96 * super_resolution)
        binning = float(told["Binning"])
        # A real K3 in super-resolution tells a quarter of the sides of its frames.
        sides = [-side * binning**2 for side in size]
        assert numbers(told["UncroppedSize"]) == sides
        pixel_angst = float(told["PixelSpacing"])
        assert pixel_angst == truth.pixel_size_angst * binning
        if output == "mrc":
            assert header.pixel_size_angst == pytest.approx(pixel_angst)
        assert int(told["NumSubFrames"]) == header.frame_count == truth.frame_count
        assert (tmp_path / told["GainReference"]).exists()
        dose, count = numbers(told["FrameDosesAndNumber"])
        assert dose * count == pytest.approx(float(told["ExposureDose"]))
        assert float(told["ExposureDose"]) == 6.0
        assert float(told["TargetDefocus"]) * -1e4 == pytest.approx(
            truth.target_defocus_angst, rel=1e-5
        )
        frames = tifffile.imread(path) if output == "tiff" else read_movie(path)
        counted = frames.sum(axis=0).mean() * super_resolution**2
        rate = float(told["DoseRate"]) * float(told["ExposureTime"])
        assert rate == pytest.approx(counted, rel=1e-4)


def read_movie(path: Path) -> NDArray[np.uint8]:
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return content[1024:].reshape(3, -1)


def test_corrected_movies_name_no_gain(tmp_path: Path) -> None:
    wanted = usual_acquisition(
        1, layout="serialem", output="tiff", is_gain_applied=True, **SMALL
    )
    (path,) = simulate_acquisition(tmp_path, wanted)
    assert "GainReference" not in mdoc(path)
    assert not (tmp_path / "gain.mrc").exists()


@pytest.fixture(scope="module")
def eer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EPU session of one EER movie of about 60 raw frames, the least that is."""
    folder = tmp_path_factory.mktemp("eer") / "session"
    wanted = usual_acquisition(
        1,
        shape=(4096, 4096),
        pixel_size_angst=1.0,
        frame_count=2,
        dose_e_per_angst2=1.8,
        particle_count=1,
        output="eer",
        layout="epu",
        defect_share=0.0,
    )
    simulate_acquisition(folder, wanted)
    return folder


def test_an_eer_movie_its_xml_and_the_truth_agree(eer: Path) -> None:
    (truth,) = read_truth(eer / TRUTH_NAME).exposures
    path = eer / truth.file
    with tifffile.TiffFile(path) as tiff:
        metadata = tiff.eer_metadata
        assert metadata is not None
        raw_frames = len(tiff.pages)
        events = sum(int((page.asarray() > 0).sum()) for page in tiff.pages)
    # 0.9 electrons a frame at 0.03 a raw frame; some are always missing.
    assert 2 * 30 - 4 <= raw_frames <= 2 * 30
    assert metadata["numberOfFrames"] == raw_frames
    root = ET.parse(path.with_name(path.name.replace("_EER.eer", ".xml"))).getroot()
    told, detector = pairs(root), "Detectors[EF-Falcon]"
    rate_hz = float(told[f"{detector}.FrameRate"])
    assert metadata["exposureTime"] == pytest.approx(raw_frames / rate_hz, abs=1e-6)
    assert float(told[f"{detector}.ExposureTime"]) == pytest.approx(
        metadata["exposureTime"], abs=1e-6
    )
    exposure = "microscopeData/acquisition/camera/ExposureTime"
    assert float(value(root, exposure)) == pytest.approx(raw_frames / rate_hz, abs=0.01)
    assert metadata["totalDose"] == pytest.approx(events / 4096**2, abs=1e-6)
    for key in (f"{detector}.TotalDose", "DoseOnCamera"):
        assert float(told[key]) == pytest.approx(metadata["totalDose"], abs=1e-6)
    assert float(told["Dose"]) == pytest.approx(1e20 * events / 4096**2)
    assert float(told["DoseRate"]) == pytest.approx(metadata["meanDoseRate"], abs=1e-4)
    # Ice, detector and crowded raw frames lose a fourth.
    assert 0.65 < events / 4096**2 / truth.dose_e_per_angst2 < 0.8
    assert metadata["eerGainReference"] == told[f"{detector}.EerGainReference"]
    assert (eer / metadata["eerGainReference"]).exists()
    pixel_m = float(value(root, "SpatialScale/pixelSize/x/numericValue"))
    assert pixel_m == pytest.approx(metadata["sensorPixelSize.width"])
    assert pixel_m == pytest.approx(truth.pixel_size_angst * 1e-10)
    taken_at = value(root, "microscopeData/acquisition/acquisitionDateTime")
    assert datetime.fromisoformat(taken_at) == STARTED_AT
    assert str(metadata["timestamp"]).startswith(STARTED_AT.strftime("%Y-%m-%d"))
    assert b"EerFractionation" in ET.tostring(root)
    area = root.find(f".//{SHARED}ReadoutArea")
    assert area is not None
    assert [side.text for side in area][:2] == ["4096", "4096"]
    assert "Eer</" in (eer / "EpuSession.dm").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two grids, two squares each, two clusters a square."""
    folder = tmp_path_factory.mktemp("epu") / "session"
    timing = Timing(holes_per_cluster=2, holes_per_square=3, shots_per_hole=2)
    wanted = usual_acquisition(
        16, grids=2, output="tiff", layout="epu", timing=timing, **SMALL
    )
    simulate_acquisition(folder, wanted)
    return folder


def test_every_exposure_of_a_session_is_where_and_when_it_was_taken(
    session: Path,
) -> None:
    truths = read_truth(session / TRUTH_NAME).exposures
    places = {(one.grid, one.square, one.hole, one.area) for one in truths}
    assert len(places) == 16
    beams = defaultdict(set)
    for truth in truths:
        path = session / truth.file
        stem = path.name.removesuffix("_fractions.tiff")
        root = ET.parse(path.with_name(f"{stem}.xml")).getroot()
        taken_at = value(root, "microscopeData/acquisition/acquisitionDateTime")
        seconds = (datetime.fromisoformat(taken_at) - STARTED_AT).total_seconds()
        assert seconds == pytest.approx(truth.taken_at_s)
        told = pairs(root)
        assert float(told["AppliedDefocus"]) == pytest.approx(
            -truth.target_defocus_angst * 1e-10
        )
        header = read_header(path)
        area = root.find(f".//{SHARED}ReadoutArea")
        assert area is not None
        # The picture's, which is binned by two; the movie has the camera's pixels.
        assert [int(side.text or 0) for side in area][:2] == [
            header.height_px // 2,
            header.width_px // 2,
        ]
        pixel = float(value(root, "SpatialScale/pixelSize/x/numericValue"))
        assert pixel == pytest.approx(2 * truth.pixel_size_angst * 1e-10)
        assert f"<b:NumberOffractions>{header.frame_count}<" in path.with_name(
            f"{stem}.xml"
        ).read_text(encoding="utf-8")
        counted = tifffile.imread(path).sum(axis=0).mean()
        assert float(told["Dose"]) == pytest.approx(1e20 * counted / 16, rel=1e-4)
        shift = root.find(f".//{SHARED}BeamShift")
        assert shift is not None
        beams[truth.beam_group].add(tuple(axis.text for axis in shift))
    assert all(len(found) == 1 for found in beams.values())
    assert len(set.union(*beams.values())) == len(beams) == 4


def test_no_two_pictures_of_a_session_share_an_identity(session: Path) -> None:
    files = sorted(session.rglob("*.xml"))
    roots = [ET.parse(one).getroot() for one in files]
    assert len({value(one, "uniqueID") for one in roots}) == len(files)
    sizes = defaultdict(set)
    for file, root in zip(files, roots, strict=True):
        kind = re.sub(r"[\d_]+", "", file.stem).replace("HoleData", "Exposure")
        pixel_m = float(value(root, "SpatialScale/pixelSize/x/numericValue"))
        magnification = value(
            root, "microscopeData/optics/TemMagnification/NominalMagnification"
        )
        sizes[kind].add((pixel_m, int(magnification)))
    assert set(sizes) == {"Atlas", "GridSquare", "FoilHole", "FoilExposure"}
    assert all(len(found) == 1 for found in sizes.values())
    by_pixel = sorted(next(iter(one)) for one in sizes.values())
    assert [magnification for _, magnification in by_pixel] == sorted(
        (magnification for _, magnification in by_pixel), reverse=True
    )


def test_records_of_a_session_agree(session: Path) -> None:
    for grid in (1, 2):
        folder = session / f"grid{grid}"
        record = ET.parse(folder / "EpuSession.dm").getroot()
        found = {one.tag.rpartition("}")[2]: one for one in record.iter()}
        atlas = (found["AtlasId"].text or "").split("\\")
        assert atlas[-5:-3] == [f"grid{grid}", "atlas"]
        assert (folder.joinpath(*atlas[-4:])).exists()
        assert found["AutoloaderSlot"].text == str(grid - 1)
        squares = [ET.parse(one).getroot() for one in (folder / "Metadata").iterdir()]
        assert len(squares) == 2
        for square in squares:
            spacing = next(e.text for e in square.iter() if e.tag.endswith("Spacing"))
            assert spacing == found["HoleSpacing"].text


def test_holes_of_a_square_lie_where_they_are_drawn(session: Path) -> None:
    square = session / "grid1" / "Images-Disc1" / "GridSquare_1000001"
    (xml,) = square.glob("GridSquare_*.xml")
    pixel_m = float(
        value(ET.parse(xml).getroot(), "SpatialScale/pixelSize/x/numericValue")
    )
    record = session / "grid1" / "Metadata" / "GridSquare_1000001.dm"
    text = record.read_text(encoding="utf-8")
    stage = re.findall(r"<StagePosition.*?<c:X>(.*?)</c:X><c:Y>(.*?)</c:Y>", text)
    pixels = re.findall(r"<PixelCenter.*?<c:x>(.*?)</c:x><c:y>(.*?)</c:y>", text)
    stage_m, places_px = np.array(stage, float), np.array(pixels, float)
    assert len({tuple(one) for one in stage}) == len(stage) == 3
    np.testing.assert_allclose(
        (places_px - places_px[0]) * pixel_m, stage_m - stage_m[0], atol=1e-9
    )
    picture = imagecodecs.jpeg8_decode(xml.with_suffix(".jpg").read_bytes())
    assert picture.shape == (96, 128)
    # The picture is kept as large as the camera, twice what was read out.
    x_px, y_px = (2 * places_px).round().astype(int).T
    assert (picture[y_px, x_px] > 140).all()
    pictures = {one.stem for one in (square / "FoilHoles").glob("*.xml")}
    told = set(re.findall(r"<c:BaseFileName[^>]*>(FoilHole_\d+_\d+_\d+)<", text))
    # One for each cluster of two holes.
    assert pictures == told
    assert len(pictures) == 2


def test_pictures_keep_the_aspect_of_the_movie(tmp_path: Path) -> None:
    wanted = usual_acquisition(
        1, output="micrograph", layout="epu", **(SMALL | {"shape": (400, 600)})
    )
    (path,) = simulate_acquisition(tmp_path, wanted)
    content = path.with_suffix(".jpg").read_bytes()
    picture = imagecodecs.jpeg8_decode(content).astype(float)
    assert picture.shape == (341, 512)
    root = ET.parse(path.with_suffix(".xml")).getroot()
    # Where no movie is kept, the image is the picture.
    pixel_m = float(value(root, "SpatialScale/pixelSize/x/numericValue"))
    assert pixel_m == pytest.approx(4e-10)
    assert read_micrograph(path).shape == (400, 600)


def test_beam_tilt_follows_the_beam_shift(tmp_path: Path) -> None:
    timing = Timing(holes_per_cluster=4, shots_per_hole=2)
    wanted = usual_acquisition(8, timing=timing, **SMALL)
    simulate_acquisition(tmp_path, wanted)
    truths = read_truth(tmp_path / TRUTH_NAME).exposures
    entries = draw_timetable(8, timing=timing)
    for truth, entry in zip(truths, entries, strict=True):
        tilt_mrad = (truth.beam_tilt_x_mrad, truth.beam_tilt_y_mrad)
        # 0.04 mrad from one hole to the next.
        assert tilt_mrad == pytest.approx(
            [0.04 * shift_um / 2.5 for shift_um in entry.image_shift_um]
        )
    assert len({(one.beam_tilt_x_mrad, one.beam_tilt_y_mrad) for one in truths}) == 8
