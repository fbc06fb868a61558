"""Faults: what readers find of files that went wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from icestream.domain.errors import BadSettings, IncompleteFile
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
    faults.truncate(movie, share=0.7)
    assert movie.stat().st_size == int(size_bytes * 0.7)
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
    for function in (faults.truncate, faults.zero_tail, faults.drop_frames):
        with pytest.raises(BadSettings):
            function(movie, share=share)
    assert movie.read_bytes() == content


def test_an_empty_file_has_a_name_only(movie: Path) -> None:
    faults.empty(movie)
    assert movie.stat().st_size == 0


def test_a_duplicate_has_the_same_name_elsewhere(movie: Path, tmp_path: Path) -> None:
    other = tmp_path / "GridSquare_2" / "Data"
    faults.duplicate_name(movie, into=other)
    assert (other / NAME).read_bytes() == movie.read_bytes()
    with pytest.raises(BadSettings):
        faults.duplicate_name(movie, into=other)


def test_a_rewritten_file_has_other_content_in_the_same_inode(
    movie: Path, tmp_path: Path
) -> None:
    inode = movie.stat().st_ino
    source = tmp_path / "other.tiff"
    source.write_bytes(b"other")
    faults.rewrite(movie, source=source)
    assert movie.read_bytes() == b"other"
    assert movie.stat().st_ino == inode


@pytest.mark.parametrize("offset_s", [3600.0, -86_400.5])
def test_a_skewed_clock_moves_the_time_only(movie: Path, offset_s: float) -> None:
    before, content = movie.stat().st_mtime_ns, movie.read_bytes()
    faults.skew_clock(movie, offset_s=offset_s)
    assert movie.stat().st_mtime_ns - before == round(offset_s * 1e9)
    assert movie.read_bytes() == content


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize(("share", "count"), [(0.99, 1), (0.5, 3), (0.01, 5)])
def test_a_tiff_with_fewer_frames_is_whole(
    movie: Path, share: float, count: int, *, is_big: bool
) -> None:
    frames = tifffile.imread(movie)
    write_tiff_movie(movie, frames, is_big=is_big)
    assert faults.drop_frames(movie, share=share)
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
    assert faults.drop_frames(path, share=0.125)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 3
        assert tiff.eer_metadata is not None
        assert tiff.eer_metadata["numberOfFrames"] == 4


def test_an_mrc_with_fewer_frames_is_whole(movie: Path, tmp_path: Path) -> None:
    path = tmp_path / "frames.mrcs"
    write_mrc_movie(path, tifffile.imread(movie), pixel_size_angst=1)
    assert faults.drop_frames(path, share=2 / 3)
    check_complete(path)
    assert read_header(path).frame_count == 2
    assert path.stat().st_size == 1024 + 2 * 64 * 64


def test_a_single_frame_stays(movie: Path, tmp_path: Path) -> None:
    mrc = tmp_path / "frames.mrcs"
    frames = tifffile.imread(movie)[:1]
    write_tiff_movie(movie, frames)
    write_mrc_movie(mrc, frames, pixel_size_angst=1)
    for path in (movie, mrc):
        content = path.read_bytes()
        assert not faults.drop_frames(path, share=0.125)
        assert path.read_bytes() == content
