"""TIFF and MRC movies: what is written is what readers find."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import tifffile

from icestream.domain.errors import BadSettings, InternalError
from icestream.io import check_complete, read_header, read_stack
from icestream.simulate.instrument.directory import DirectoryWriter
from icestream.simulate.instrument.mrc import write_mrc_movie
from icestream.simulate.instrument.tiff import write_tiff, write_tiff_movie

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAME = "FoilHole_9015883_Data_9017347_6_20250108_154915_fractions.tiff"


def movie(dtype: str = "uint8", *, count: int = 5) -> NDArray[Any]:
    generator = np.random.default_rng(7)
    return generator.poisson(3, (count, 41, 57)).astype(dtype)


@pytest.mark.parametrize("rows_per_strip", [None, 1, 16, 41, 99])
def test_a_movie_reads_back(tmp_path: Path, rows_per_strip: int | None) -> None:
    path, frames = tmp_path / NAME, movie()
    count = write_tiff_movie(path, iter(frames), rows_per_strip=rows_per_strip)
    assert count == 5
    np.testing.assert_array_equal(tifffile.imread(path), frames)
    assert read_header(path).frame_count == 5
    check_complete(path)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert page.compression == 5
        assert page.predictor == 1
        assert page.rowsperstrip == min(rows_per_strip or 41, 41)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int8", "float32"])
@pytest.mark.parametrize("is_big", [False, True])
def test_types_and_dialects_read_back(
    tmp_path: Path, dtype: str, *, is_big: bool
) -> None:
    path, frames = tmp_path / "20251008_grid2_00042.tif", movie(dtype)
    write_tiff_movie(
        path,
        iter(frames),
        is_big=is_big,
        compression="none",
        taken_at=datetime(2025, 10, 8, 7, 39, 5, tzinfo=UTC),
    )
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == is_big
        assert tiff.pages.first.datetime == datetime(2025, 10, 8, 7, 39, 5)  # noqa: DTZ001
        assert tiff.asarray().dtype == dtype
        np.testing.assert_array_equal(tiff.asarray(), frames)


def test_no_frames_or_unlike_ones_leave_no_file(tmp_path: Path) -> None:
    frames = movie()
    for bad in (
        [],
        [frames[0], frames[1, :-1]],
        [frames[0], frames[1].astype(np.uint16)],
        [frames[0].astype(np.float64)],
        [frames],
    ):
        with pytest.raises(BadSettings):
            write_tiff_movie(tmp_path / NAME, iter(bad))
    with pytest.raises(BadSettings):
        write_tiff_movie(tmp_path / NAME, iter(frames), rows_per_strip=0)
    with pytest.raises(BadSettings):
        write_tiff(tmp_path / NAME, frames)
    assert not list(tmp_path.iterdir())


def test_a_classic_tiff_beyond_four_gib_is_refused(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.seek((1 << 32) - 20)
        writer = DirectoryWriter(file, is_big=False)
        with pytest.raises(InternalError):
            writer.append({}, [bytes(100)])


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [("uint8", 0), ("int8", 0), ("uint16", 6), ("float16", 12), ("float32", 2)],
)
def test_an_mrc_movie_reads_back(tmp_path: Path, dtype: str, mode: int) -> None:
    frames = movie(dtype)
    if dtype == "uint8":
        frames[3, 2, 1] = 250
    path = tmp_path / "FoilHole_1_Data_2_3_20250108_154915_Fractions.mrc"
    assert write_mrc_movie(path, iter(frames), pixel_size_angst=0.83) == 5
    check_complete(path)
    header = read_header(path)
    assert header.frame_count == 5
    assert header.dtype == dtype
    assert header.pixel_size_angst == pytest.approx(0.83)
    np.testing.assert_array_equal(read_stack(path), frames)
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == mode
        assert mrc.header.dmax == frames.max()
        assert mrc.header.dmean == pytest.approx(float(frames.mean(dtype=float)))
        assert mrc.header.rms == pytest.approx(float(frames.astype(float).std()), 1e-4)


def test_an_mrc_movie_of_no_or_unlike_frames_leaves_no_file(tmp_path: Path) -> None:
    frames = movie()
    for bad in ([], [frames[0], frames[1, :-1]], [frames[0], frames[1].view("int8")]):
        with pytest.raises(BadSettings):
            write_mrc_movie(tmp_path / "m.mrc", iter(bad), pixel_size_angst=1.0)
    assert not list(tmp_path.iterdir())
