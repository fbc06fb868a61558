"""Faults: what was done is what is recorded, and what readers then find."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from icestream.domain.errors import BadSettings, FolderUnavailable, IncompleteFile
from icestream.io import check_complete, read_header
from icestream.simulate.instrument import faults
from icestream.simulate.instrument.eer import EerExposure, EventFrame, write_eer
from icestream.simulate.instrument.mrc import write_mrc_movie
from icestream.simulate.instrument.tiff import write_tiff_movie

if TYPE_CHECKING:
    from pathlib import Path

NAME = "FoilHole_9015883_Data_9017347_6_20250108_154915_fractions.tiff"


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    path = tmp_path / "Data" / NAME
    path.parent.mkdir()
    generator = np.random.default_rng(0)
    frames = generator.poisson(3, (6, 64, 64)).astype(np.uint8)
    write_tiff_movie(path, frames)
    return path


def test_a_truncated_file_is_seen_as_incomplete(movie: Path) -> None:
    size_bytes = movie.stat().st_size
    fault = faults.truncate(movie, share=0.7)
    assert movie.stat().st_size == int(size_bytes * 0.7)
    assert (fault.kind, fault.path) == ("truncated", movie)
    assert str(size_bytes) in fault.detail
    with pytest.raises(IncompleteFile):
        check_complete(movie)


def test_a_zero_tail_keeps_length_and_beginning(movie: Path) -> None:
    content = movie.read_bytes()
    faults.zero_tail(movie, share=0.5)
    kept_bytes = len(content) // 2
    spoilt = movie.read_bytes()
    assert len(spoilt) == len(content)
    assert spoilt[:kept_bytes] == content[:kept_bytes]
    assert not any(spoilt[kept_bytes:])
    with pytest.raises(IncompleteFile):
        check_complete(movie)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_shares_beyond_the_file_are_refused(movie: Path, share: float) -> None:
    content = movie.read_bytes()
    for function in (faults.truncate, faults.zero_tail):
        with pytest.raises(BadSettings):
            function(movie, share=share)
    assert movie.read_bytes() == content


def test_an_empty_file_has_a_name_only(movie: Path) -> None:
    assert faults.empty(movie).kind == "empty"
    assert movie.stat().st_size == 0


def test_a_duplicate_has_the_same_name_elsewhere(movie: Path, tmp_path: Path) -> None:
    other = tmp_path / "GridSquare_2" / "Data"
    fault = faults.duplicate_name(movie, into=other)
    assert fault.path == other / NAME
    assert fault.path.read_bytes() == movie.read_bytes()
    with pytest.raises(BadSettings):
        faults.duplicate_name(movie, into=other)


def test_a_rewritten_file_has_other_content_in_the_same_inode(
    movie: Path, tmp_path: Path
) -> None:
    inode = movie.stat().st_ino
    source = tmp_path / "other.tiff"
    source.write_bytes(b"other")
    assert faults.rewrite(movie, source=source).kind == "rewritten"
    assert movie.read_bytes() == b"other"
    assert movie.stat().st_ino == inode


def test_a_missing_file_is_gone(movie: Path) -> None:
    assert faults.remove(movie).kind == "missing"
    assert not movie.exists()
    with pytest.raises(FolderUnavailable):
        faults.remove(movie)


def test_a_late_file_waits_and_comes(movie: Path, tmp_path: Path) -> None:
    content = movie.read_bytes()
    fault = faults.delay(movie, aside=tmp_path / "waiting")
    assert not movie.exists()
    assert faults.deliver(fault) == movie
    assert movie.read_bytes() == content
    with pytest.raises(BadSettings):
        faults.deliver(faults.empty(movie))


@pytest.mark.parametrize("offset_s", [3600.0, -86_400.5])
def test_a_skewed_clock_moves_the_time_only(movie: Path, offset_s: float) -> None:
    before, content = movie.stat().st_mtime_ns, movie.read_bytes()
    fault = faults.skew_clock(movie, offset_s=offset_s)
    assert movie.stat().st_mtime_ns - before == round(offset_s * 1e9)
    assert movie.read_bytes() == content
    assert fault.detail.endswith(" s")


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_a_tiff_with_fewer_frames_is_whole(
    movie: Path, count: int, *, is_big: bool
) -> None:
    frames = tifffile.imread(movie)
    write_tiff_movie(movie, frames, is_big=is_big)
    fault = faults.drop_frames(movie, count=count)
    assert fault.detail == f"{count} frames"
    check_complete(movie)
    assert read_header(movie).frame_count == count
    left = tifffile.imread(movie).reshape(count, 64, 64)
    np.testing.assert_array_equal(left, frames[:count])


def test_an_eer_with_fewer_frames_keeps_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "FoilHole_1_Data_2_3_20250314_174048_EER.eer"
    frame = EventFrame(np.array([3, 9]), np.array([1, 2], dtype=np.uint8))
    exposure = EerExposure(
        started_at=datetime(2025, 3, 14, tzinfo=UTC),
        frame_rate_hz=320,
        pixel_size_angst=0.73,
        gain_reference="a.gain",
    )
    write_eer(path, [frame] * 4, shape=(8, 8), exposure=exposure)
    faults.drop_frames(path, count=3)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 3
        assert tiff.eer_metadata is not None
        assert tiff.eer_metadata["numberOfFrames"] == 4


def test_an_mrc_with_fewer_frames_is_whole(movie: Path, tmp_path: Path) -> None:
    path = tmp_path / "frames.mrcs"
    write_mrc_movie(path, tifffile.imread(movie), pixel_size_angst=1)
    faults.drop_frames(path, count=2)
    check_complete(path)
    assert read_header(path).frame_count == 2
    assert path.stat().st_size == 1024 + 2 * 64 * 64


@pytest.mark.parametrize("count", [0, 6, 7])
def test_no_frame_can_be_added_and_one_stays(
    movie: Path, tmp_path: Path, count: int
) -> None:
    mrc = tmp_path / "frames.mrcs"
    write_mrc_movie(mrc, tifffile.imread(movie), pixel_size_angst=1)
    for path in (movie, mrc):
        content = path.read_bytes()
        with pytest.raises(BadSettings):
            faults.drop_frames(path, count=count)
        assert path.read_bytes() == content
