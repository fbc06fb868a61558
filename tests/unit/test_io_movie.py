"""Frames of TIFF and MRC movies: the counts that were written, rows as RELION has them.

The TIFF files are tifffile's, of every kind that it writes, and the simulator's.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icestream.domain.errors import (
    IncompleteFile,
    InternalError,
    UnreadableFile,
    UnusableImage,
)
from icestream.io import (
    check_complete,
    read_frames,
    read_header,
    read_micrograph,
    read_movie_header,
)
from icestream.io.movie import open_movie
from icestream.simulate.instrument import write_mrc_movie, write_tiff_movie

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DTYPES = ["uint8", "int8", "uint16", "int16", "float32"]


def counts(
    shape: tuple[int, ...] = (5, 37, 50), dtype: str = "uint8", seed: int = 1
) -> NDArray[Any]:
    generator = np.random.default_rng(seed)
    drawn = generator.poisson(1.3, shape)
    if dtype == "float32":
        return (drawn + generator.normal(size=shape)).astype(dtype)
    return drawn.astype(dtype)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(DTYPES),
    compression=st.sampled_from([None, "lzw", "zlib", "zstd", "packbits"]),
    has_predictor=st.booleans(),
    byteorder=st.sampled_from(["<", ">"]),
    bigtiff=st.booleans(),
    rows=st.one_of(st.none(), st.integers(1, 50)),
    tile=st.one_of(st.none(), st.tuples(st.just(16), st.sampled_from([16, 32]))),
    threads=st.integers(1, 4),
)
def test_every_kind_of_tiff_comes_back(
    folder: Path,
    shape: tuple[int, int, int],
    dtype: str,
    compression: str | None,
    has_predictor: bool,
    byteorder: Literal["<", ">"],
    bigtiff: bool,
    rows: int | None,
    tile: tuple[int, int] | None,
    threads: int,
) -> None:
    assume(not has_predictor or compression not in (None, "packbits"))
    frames = counts(shape, dtype)
    path = folder / "a.tif"
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as tiff:
        for frame in frames:
            tiff.write(
                frame,
                compression=compression,
                predictor=has_predictor,
                rowsperstrip=None if tile else rows,
                tile=tile,
                photometric="minisblack",
                contiguous=False,
            )

    header = read_movie_header(path)
    assert (header.frame_count, header.height_px, header.width_px) == shape
    assert header.dtype == frames.dtype
    found = read_frames(path, threads=threads)
    assert found.dtype == frames.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, frames[:, ::-1])


@pytest.mark.parametrize("rows_per_strip", [None, 1, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiff_movies_of_cameras_come_back(
    tmp_path: Path, dtype: str, rows_per_strip: int | None
) -> None:
    frames = counts(dtype=dtype)
    path = tmp_path / "movie.tiff"
    write_tiff_movie(path, frames, rows_per_strip=rows_per_strip, is_big=True)
    np.testing.assert_array_equal(read_frames(path), frames[:, ::-1])


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_mrc_movies_come_back(tmp_path: Path, dtype: str, threads: int) -> None:
    frames = counts(dtype="float32" if dtype == "float16" else dtype).astype(dtype)
    path = tmp_path / "movie.mrcs"
    write_mrc_movie(path, frames, pixel_size_angst=0.8)

    header = read_movie_header(path)
    assert header.frame_count == header.raw_frame_count == 5
    assert header.pixel_size_angst == pytest.approx(0.8)
    found = read_frames(path, threads=threads)
    assert found.dtype == frames.dtype
    np.testing.assert_array_equal(found, frames)


def raw_mrc(
    path: Path,
    content: bytes,
    *,
    mode: int,
    shape: tuple[int, int, int],
    byte_order: str = "<",
    extended: bytes = b"",
    flags: int | None = None,
) -> Path:
    """Write an MRC file by hand: counts in frames, rows, columns."""
    head = bytearray(1024)
    struct.pack_into(f"{byte_order}4i", head, 0, *shape[::-1], mode)
    struct.pack_into(f"{byte_order}i", head, 92, len(extended))
    if flags is not None:
        struct.pack_into(f"{byte_order}2i", head, 152, 1146047817, flags)
    path.write_bytes(bytes(head) + extended + content)
    return path


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">f4", ">f2"])
def test_big_endian_mrc_comes_back(tmp_path: Path, dtype: str) -> None:
    frames = counts()
    mode = {">i2": 1, ">u2": 6, ">f4": 2, ">f2": 12}[dtype]
    path = raw_mrc(
        tmp_path / "a.mrc",
        frames.astype(dtype).tobytes(),
        mode=mode,
        shape=frames.shape,
        byte_order=">",
        extended=b"x" * 100,
    )
    found = read_frames(path, threads=2)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, frames)


def packed(frames: NDArray[np.uint8]) -> bytes:
    """Two pixels to a byte, the first in the lower half; rows end with a byte."""
    odd = frames.shape[-1] % 2
    even = np.pad(frames, ((0, 0), (0, 0), (0, odd)))
    return bytes((even[..., 0::2] | even[..., 1::2] << 4).tobytes())


@pytest.mark.parametrize("width_px", [1, 2, 49, 50])
@pytest.mark.parametrize("threads", [1, 4])
def test_four_bit_mrc_comes_back(tmp_path: Path, width_px: int, threads: int) -> None:
    frames = np.random.default_rng(1).integers(0, 16, (3, 7, width_px), dtype=np.uint8)
    content = packed(frames)
    path = raw_mrc(tmp_path / "a.mrc", content, mode=101, shape=frames.shape)

    assert read_movie_header(path).dtype == np.uint8
    np.testing.assert_array_equal(read_frames(path, threads=threads), frames)
    check_complete(path)
    path.write_bytes(path.read_bytes()[:-1])
    for read in (read_frames, check_complete):
        with pytest.raises(IncompleteFile):
            read(path)


def test_a_four_bit_micrograph_is_read_too(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 16, (1, 9, 11), dtype=np.uint8)
    path = raw_mrc(tmp_path / "a.mrc", packed(image), mode=101, shape=image.shape)
    np.testing.assert_array_equal(read_micrograph(path), image[0])


def test_half_the_width_in_bytes_of_two_pixels_is_refused(tmp_path: Path) -> None:
    path = raw_mrc(tmp_path / "a.mrc", bytes(30), mode=0, shape=(1, 5, 6), flags=16)
    with pytest.raises(UnreadableFile, match="two pixels to a byte"):
        read_header(path)


def lzw_movie(path: Path, frames: NDArray[Any], rows_per_strip: int | None = 8) -> Path:
    write_tiff_movie(path, frames, rows_per_strip=rows_per_strip)
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.mrc"])
@pytest.mark.parametrize("frame_count", [1, 2, 7])
@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(
    tmp_path: Path, name: str, frame_count: int, threads: int
) -> None:
    """More frames than threads, fewer, and fewer rows than threads."""
    frames = counts((frame_count, 11, 30))
    path = tmp_path / name
    if name == "a.tif":
        write_tiff_movie(path, frames, rows_per_strip=2)
    else:
        write_mrc_movie(path, frames, pixel_size_angst=1.0)
    np.testing.assert_array_equal(read_frames(path, threads=threads), read_frames(path))


@pytest.mark.parametrize("name", ["a.tif", "a.mrc"])
@pytest.mark.parametrize(
    "frames", [range(5), range(1, 3), range(4, 5), range(4, -1, -2)]
)
def test_a_range_of_frames_goes_into_a_kept_buffer(
    tmp_path: Path, name: str, frames: range
) -> None:
    written = counts()
    path = tmp_path / name
    if name == "a.tif":
        lzw_movie(path, written)
    else:
        write_mrc_movie(path, written, pixel_size_angst=1.0)
    buffer = np.full((len(frames), 37, 50), 99, np.uint8)

    found = read_frames(path, frames=frames, out=buffer)
    assert found is buffer
    np.testing.assert_array_equal(found, read_frames(path)[list(frames)])


@pytest.mark.parametrize("frames", [range(6), range(-1, 2), range(5, 7), range(0)])
def test_frames_that_are_not_there_are_refused(tmp_path: Path, frames: range) -> None:
    path = lzw_movie(tmp_path / "a.tif", counts())
    with pytest.raises(UnusableImage, match="has 5 frames"):
        read_frames(path, frames=frames)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((5, 37, 51), np.uint8),
        np.empty((4, 37, 50), np.uint8),
        np.empty((5, 37, 50), np.uint16),
        np.empty((5, 37, 100), np.uint8)[:, :, ::2],
    ],
)
def test_a_buffer_that_does_not_fit_is_our_own_fault(
    tmp_path: Path, out: NDArray[Any]
) -> None:
    path = lzw_movie(tmp_path / "a.tif", counts())
    with pytest.raises(InternalError):
        read_frames(path, out=out)


def test_no_threads_are_our_own_fault(tmp_path: Path) -> None:
    path = lzw_movie(tmp_path / "a.tif", counts())
    with pytest.raises(InternalError):
        read_frames(path, threads=0)


def test_a_file_of_another_size_than_before_is_not_decoded(tmp_path: Path) -> None:
    path = lzw_movie(tmp_path / "a.tif", counts())
    movie = open_movie(path)
    assert movie.sampled(None) is movie
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(IncompleteFile, match="bytes, and has"):
        movie.decode()


def test_one_frame_is_a_movie(tmp_path: Path) -> None:
    frames = counts((1, 20, 30))
    path = lzw_movie(tmp_path / "a.tif", frames)
    assert read_movie_header(path).frame_count == 1
    np.testing.assert_array_equal(read_frames(path), frames[:, ::-1])


def test_a_picture_is_no_movie(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(counts()[0]))
    with pytest.raises(UnreadableFile, match="no movie"):
        read_frames(path)


@pytest.mark.parametrize(
    "second", [counts((20, 31)), counts((21, 30)), counts((20, 30), "uint16")]
)
def test_pages_that_differ_are_refused(tmp_path: Path, second: NDArray[Any]) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page in (counts((20, 30)), second):
            tiff.write(page, photometric="minisblack", contiguous=False)
    for read in (read_movie_header, read_frames):
        with pytest.raises(UnreadableFile, match="page 2 is"):
            read(path)


def patched(path: Path, tag: str, number: int, value: int) -> Path:
    """Give a tag of one page another value."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[number].aspage().tags[tag]
        place, code = found.valueoffset, "<H" if found.dtype == 3 else "<I"
    raw = bytearray(path.read_bytes())
    struct.pack_into(code, raw, place, value)
    path.write_bytes(raw)
    return path


def test_an_unknown_compression_of_any_page_is_refused(tmp_path: Path) -> None:
    path = lzw_movie(tmp_path / "a.tif", counts())
    patched(path, "Compression", 3, 7)
    with pytest.raises(UnreadableFile, match="TIFF compression 7"):
        read_frames(path)


@pytest.mark.parametrize(("dtype", "predictor"), [("uint8", 3), ("uint16", 34892)])
def test_an_unknown_predictor_is_refused(
    tmp_path: Path, dtype: str, predictor: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts((20, 30), dtype), compression="lzw", predictor=2)
    patched(path, "Predictor", 0, predictor)
    with pytest.raises(UnreadableFile, match=f"predictor {predictor}"):
        read_frames(path)


@pytest.mark.parametrize("name", ["a.tif", "plain.tif", "a.mrc"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_movie_that_is_cut_short_is_refused(
    tmp_path: Path, name: str, share: float
) -> None:
    path = tmp_path / name
    if name == "a.mrc":
        write_mrc_movie(path, counts(), pixel_size_angst=1.0)
    else:
        compression: Literal["lzw", "none"] = "lzw" if name == "a.tif" else "none"
        write_tiff_movie(path, counts(), rows_per_strip=8, compression=compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for read in (read_movie_header, read_frames):
        with pytest.raises(IncompleteFile):
            read(path)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_damaged_strip_is_named(
    tmp_path: Path, compression: str, threads: int
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for frame in counts((3, 40, 50)):
            tiff.write(frame, compression=compression, rowsperstrip=8, contiguous=False)
    with tifffile.TiffFile(path) as tiff_file:
        page = tiff_file.pages[1].aspage()
        place, size = page.dataoffsets[2], page.databytecounts[2]
    raw = bytearray(path.read_bytes())
    raw[place : place + size] = b"\x7f" * size
    path.write_bytes(raw)

    with pytest.raises(IncompleteFile, match="page 2: strip 3 of 5"):
        read_frames(path, threads=threads)
    # The frames beside it are there.
    np.testing.assert_array_equal(
        read_frames(path, frames=range(2, 3)), counts((3, 40, 50))[2:, ::-1]
    )
