"""What is told of a file goes with it when it is taken, or as soon as it is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.domain import RawFile
from icestream.domain.arrangement import Told
from icestream.io.exposure_metadata import MetadataFinder
from icestream.protocols.exposure_files import ExposureFiles
from icestream.simulate.instrument import K3, EpuImage, write_picture, write_tiff_movie
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEM = "FoilHole_1_Data_2_3_20250108_154915"
KEY = f"{STEM}_Fractions.tiff"
LOOK_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def sighting(folder: Path, key: str = KEY, *, frames: int = 3) -> Sighting:
    """A movie of EPU that was taken."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff_movie(path, iter(np.ones((frames, 16, 24), np.uint8)))
    item = RawFile(path=str(path), size_bytes=1, mtime_ns=1, fingerprint="f", setup="k")
    return Sighting(
        path=str(path),
        state=SightingState.TAKEN,
        reason="complete",
        key=key,
        item=item,
        fingerprint="f",
    )


def write_xml(folder: Path, **values: Any) -> Path:
    image = EpuImage(
        camera=K3,
        taken_at=datetime(2025, 1, 8, tzinfo=UTC),
        pixel_size_angst=0.83,
        exposure_s=2.0,
        dose_e_per_angst2=50.0,
        fraction_count=3,
        **values,
    )
    return write_picture(folder / STEM, image, np.zeros((8, 8), np.uint8))[1]


def told(sightings: Sequence[Sighting]) -> Told:
    (one,) = sightings
    found = Told.of(one.acquisition)
    assert found is not None
    return found


def test_what_is_there_is_told_at_once(tmp_path: Path) -> None:
    xml = write_xml(tmp_path)
    found = told(ExposureFiles(tmp_path).described([sighting(tmp_path)]))
    assert found.frame_shape == (16, 24)
    assert found.files == (str(xml),)
    assert found.metadata.pixel_size_angst == pytest.approx(0.83)


def test_late_metadata_are_told_when_they_come_and_once(tmp_path: Path) -> None:
    clock = Clock()
    movies, metadata = tmp_path / "movies", tmp_path / "xml"
    files = ExposureFiles(movies, metadata_folder=metadata, clock=clock)
    first = told(files.described([sighting(movies)]))
    assert (first.files, first.metadata.position) == ((), "2")
    assert not files.late()
    write_xml(metadata)
    assert not files.late()  # it is looked for once in a while
    clock.now_s += LOOK_S
    (late,) = files.late()
    assert told([late]).metadata.dose_e_per_angst2 == pytest.approx(50.0)
    assert (late.key, late.fingerprint) == (KEY, "f")
    clock.now_s += LOOK_S
    assert not files.late()


def test_after_a_restart_only_what_is_new_is_told(tmp_path: Path) -> None:
    files = ExposureFiles(tmp_path)
    (before,) = files.described([sighting(tmp_path)])
    xml = write_xml(tmp_path)
    again = ExposureFiles(tmp_path)
    again.resume([before])
    (late,) = again.late()
    assert told([late]).files == (str(xml),)
    third = ExposureFiles(tmp_path)
    third.resume([late])
    assert not third.late()


def test_a_damaged_file_is_tried_again(tmp_path: Path) -> None:
    clock = Clock()
    xml = write_xml(tmp_path)
    whole = xml.read_bytes()
    xml.write_bytes(whole[: len(whole) // 2])
    files = ExposureFiles(tmp_path, clock=clock)
    found = told(files.described([sighting(tmp_path)]))
    assert str(xml) in found.notice
    assert found.metadata.voltage_kv is None
    clock.now_s += LOOK_S
    assert not files.late()
    xml.write_bytes(whole)
    clock.now_s += LOOK_S
    assert told(files.late()).metadata.voltage_kv == 300.0


def test_nothing_is_told_of_images_without_metadata(tmp_path: Path) -> None:
    files = ExposureFiles(tmp_path)
    one, no_image = sighting(tmp_path, frames=1), sighting(tmp_path, "other.tif")
    (tmp_path / "other.tif").write_bytes(b"no image")
    assert [o.acquisition for o in files.described([one, no_image])] == [{}, {}]
    write_xml(tmp_path)
    assert told(files.late()).frame_shape == (16, 24)


def test_what_is_not_there_any_more_is_forgotten(tmp_path: Path) -> None:
    files = ExposureFiles(tmp_path)
    taken = sighting(tmp_path)
    files.described([taken])
    gone = Sighting(path=taken.path, state=SightingState.VANISHED, reason="gone")
    assert files.described([gone]) == [gone]
    write_xml(tmp_path)
    assert not files.late()


def test_where_no_metadata_come_no_file_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand exposures must not be asked for one by one, every ten seconds."""
    clock = Clock()
    files = ExposureFiles(tmp_path, clock=clock)
    files.described(sighting(tmp_path, f"{n}.tiff") for n in range(5))
    asked: list[str] = []
    monkeypatch.setattr(MetadataFinder, "find", lambda _, key: asked.append(key))
    for _ in range(3):
        clock.now_s += LOOK_S
        assert not files.late()
    assert asked == []
