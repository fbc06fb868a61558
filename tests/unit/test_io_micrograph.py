"""Reading images: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile

from icestream.domain.errors import IncompleteFile, UnreadableFile, UnusableImage
from icestream.io import read_header, read_micrograph, read_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

NOBODY = 65534


def counts(height_px: int = 96, width_px: int = 80) -> NDArray[np.uint16]:
    generator = np.random.default_rng(7)
    return generator.integers(1, 60_000, (height_px, width_px), dtype=np.uint16)


def write_mrcfile(path: Path, array: NDArray[Any], *, voxel_size: float = 1.5) -> Path:
    """Write by an independent implementation of the standard."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(array)
        mrc.voxel_size = voxel_size
    return path


def write_png(path: Path, array: NDArray[Any]) -> Path:
    path.write_bytes(imagecodecs.png_encode(array))
    return path


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run without the rights of root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_every_mrc_mode_and_byte_order(
    tmp_path: Path, dtype: str, byte_order: Literal["<", ">"]
) -> None:
    image = (counts() % 100).astype(np.dtype(dtype).newbyteorder(byte_order))
    path = write_mrcfile(tmp_path / "image.mrc", image)

    header = read_header(path)
    read = read_micrograph(path)

    assert (header.height_px, header.width_px, header.frame_count) == (96, 80, 1)
    assert header.dtype == np.dtype(dtype)
    assert header.pixel_size_angst == pytest.approx(1.5)
    assert header.format == "mrc"
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, image.astype(np.float32))


def test_row_0_is_the_first_row_in_the_file(tmp_path: Path) -> None:
    image = counts().astype(np.float32)
    path = write_mrcfile(tmp_path / "image.mrc", image)

    first_row = np.frombuffer(path.read_bytes()[1024 : 1024 + 80 * 4], np.float32)

    np.testing.assert_array_equal(read_micrograph(path)[0], first_row)


def test_extended_header_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "image.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(counts())
        mrc.set_extended_header(np.full(768 * 1024, 7, np.uint8).view("V1"))

    np.testing.assert_array_equal(read_micrograph(path), counts())


def test_header_without_map_word_and_stamp_is_read(tmp_path: Path) -> None:
    path = write_mrcfile(tmp_path / "image.mrc", counts())
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw)

    np.testing.assert_array_equal(read_micrograph(path), counts())


@pytest.mark.parametrize(("flags", "expected"), [(0, 200.0), (1, 200.0 - 256)])
def test_bytes_of_imod_have_the_sign_that_its_flag_says(
    tmp_path: Path, flags: int, expected: float
) -> None:
    image = np.full((64, 64), -56, np.int8)
    image[0, 0] = 1
    path = write_mrcfile(tmp_path / "image.mrc", image)
    raw = bytearray(path.read_bytes())
    raw[152:160] = struct.pack("<2i", 1146047817, flags)
    path.write_bytes(raw)

    assert read_micrograph(path)[5, 5] == expected


def test_longer_than_needed_is_fine(tmp_path: Path) -> None:
    path = write_mrcfile(tmp_path / "image.mrc", counts())
    path.write_bytes(path.read_bytes() + bytes(5000))

    np.testing.assert_array_equal(read_micrograph(path), counts())


@pytest.mark.parametrize("cell_angst", [0.0, np.nan, 1e9])
def test_pixel_size_that_cannot_be_is_none(tmp_path: Path, cell_angst: float) -> None:
    path = write_mrcfile(tmp_path / "image.mrc", counts())
    raw = bytearray(path.read_bytes())
    raw[40:44] = struct.pack("<f", cell_angst)
    path.write_bytes(raw)

    assert read_header(path).pixel_size_angst is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
def test_tiff_types_and_compressions(
    tmp_path: Path, dtype: str, compression: str | None
) -> None:
    image = (counts() % 100).astype(dtype)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, compression=compression, rowsperstrip=7)

    header = read_header(path)

    assert (header.height_px, header.width_px, header.frame_count) == (96, 80, 1)
    assert header.dtype == np.dtype(dtype)
    assert header.pixel_size_angst is None
    np.testing.assert_array_equal(read_micrograph(path), image.astype(np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": True, "compression": "lzw"},
        {"byteorder": ">"},
        {"tile": (32, 32), "compression": "zlib"},
        {"predictor": True, "compression": "lzw"},
    ],
    ids=["big", "big-endian", "tiled", "predictor"],
)
def test_tiff_layouts(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "image.TIFF"
    tifffile.imwrite(path, counts(), **options)

    np.testing.assert_array_equal(read_micrograph(path), counts())


def test_tiff_orientation_tag_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, counts(), extratags=[(274, "H", 1, 4, True)])

    np.testing.assert_array_equal(read_micrograph(path), counts())


def test_tiff_resolution_gives_the_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    per_cm = 1e8 / 0.75
    tifffile.imwrite(
        path, counts(), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER"
    )

    assert read_header(path).pixel_size_angst == pytest.approx(0.75, rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png(tmp_path: Path, dtype: str) -> None:
    image = (counts() % 200).astype(dtype)
    path = write_png(tmp_path / "image.png", image)

    assert read_header(path).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_micrograph(path), image.astype(np.float32))


@pytest.mark.parametrize("mode", [3, 4, 999])
def test_other_mrc_modes_are_refused_by_name(tmp_path: Path, mode: int) -> None:
    path = write_mrcfile(tmp_path / "image.mrc", counts())
    raw = bytearray(path.read_bytes())
    raw[12:16] = struct.pack("<i", mode)
    path.write_bytes(raw)

    with pytest.raises(UnreadableFile, match=f"MRC mode {mode}"):
        read_micrograph(path)


def stack_mrc(path: Path) -> None:
    write_mrcfile(path, np.stack([counts()] * 3))


def stack_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.stack([counts()] * 3), photometric="minisblack")


@pytest.mark.parametrize(
    ("name", "write"), [("movie.mrc", stack_mrc), ("movie.tif", stack_tiff)]
)
def test_movies_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)

    assert read_header(tmp_path / name).frame_count == 3
    with pytest.raises(UnreadableFile, match="3 frames"):
        read_micrograph(tmp_path / name)


def test_coloured_pictures_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((32, 32, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    write_png(tmp_path / "a.png", colour)

    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableFile, match=r"samples|grey"):
            read_micrograph(path)


def test_tiff_with_jpeg_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (counts() % 200).astype(np.uint8), compression="jpeg")

    with pytest.raises(UnreadableFile, match="compression 7"):
        read_micrograph(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.dm4", b"x", "suffix .dm4"),
        ("a", b"x", "no suffix"),
        ("a.mrc.bz2", b"x", "packed"),
        ("a.mrc", b"BZh91AY&SY" + bytes(2000), "BZIP2"),
        ("a.mrc", b"II*\0" + bytes(2000), "TIFF"),
        ("a.tif", b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        ("a.png", b"<?xml version='1.0'?>", "XML"),
        ("a.tif", b"no picture at all, just words", "something else"),
        ("a.mrc", b"no picture at all, just words" * 100, "no MRC header"),
    ],
)
def test_wrong_kinds_are_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    for read in (read_header, read_micrograph):
        with pytest.raises(UnreadableFile, match=words) as caught:
            read(path)
        assert str(path) in caught.value.what
        assert caught.value.hint
        assert not isinstance(caught.value, IncompleteFile)


@pytest.mark.parametrize("suffix", [".mrc", ".tif", ".png"])
@pytest.mark.parametrize("content", [b"", bytes(3), bytes(5000)])
def test_empty_and_zero_files_are_incomplete(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)

    with pytest.raises(IncompleteFile):
        read_micrograph(path)


def test_absent_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mrc").mkdir()
    os.mkfifo(tmp_path / "pipe.mrc")

    with pytest.raises(UnreadableFile, match="does not exist"):
        read_header(tmp_path / "absent.mrc")
    for name in ("folder.mrc", "pipe.mrc"):
        with pytest.raises(UnreadableFile, match="not a regular file"):
            read_header(tmp_path / name)


def test_no_permission_is_said() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = write_mrcfile(Path(name) / "image.mrc", counts())
        path.chmod(0o644)
        with as_nobody():
            read_micrograph(path)
        path.chmod(0)
        with as_nobody(), pytest.raises(UnreadableFile, match="permission denied"):
            read_micrograph(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_nan_and_infinity_are_unusable(tmp_path: Path, bad: float, dtype: str) -> None:
    image = (counts() % 100).astype(dtype)
    image[3, 4] = bad
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image)

    with pytest.raises(UnusableImage, match="1 pixels"):
        read_micrograph(path)


def test_float64_beyond_float32_is_unusable(tmp_path: Path) -> None:
    image = counts().astype(np.float64)
    image[0, 0] = 1e300
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image)

    with pytest.raises(UnusableImage):
        read_micrograph(path)


@pytest.mark.parametrize("value", [0, 7])
def test_constant_images_are_unusable(tmp_path: Path, value: int) -> None:
    path = write_mrcfile(tmp_path / "a.mrc", np.full((64, 64), value, np.uint16))

    with pytest.raises(UnusableImage, match=f"every pixel is {value}"):
        read_micrograph(path)


@pytest.mark.parametrize("zero_rows", [4, 5, 48, 95])
def test_zeros_at_the_end_are_incomplete(tmp_path: Path, zero_rows: int) -> None:
    image = counts()
    image[-zero_rows:] = 0
    path = write_mrcfile(tmp_path / "a.mrc", image)

    with pytest.raises(IncompleteFile, match=rf"{zero_rows}\.0 rows"):
        read_micrograph(path)


def test_few_zeros_at_the_end_and_many_at_the_start_are_fine(tmp_path: Path) -> None:
    image = counts()
    image[-3:] = 0
    image[:20] = 0
    path = write_mrcfile(tmp_path / "a.mrc", image)

    np.testing.assert_array_equal(read_micrograph(path), image)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd"])
def test_damaged_strips_are_incomplete(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    image = np.random.default_rng(1).poisson(40, (96, 80)).astype(np.uint16)
    tifffile.imwrite(path, image, compression=compression, rowsperstrip=32)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[1], page.databytecounts[1]
    raw = bytearray(path.read_bytes())
    raw[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(raw)

    with pytest.raises(IncompleteFile, match="decoded"):
        read_micrograph(path)


def test_tiff_directories_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts())
    raw = bytearray(path.read_bytes())
    start = struct.unpack("<I", raw[4:8])[0]
    count = struct.unpack("<H", raw[start : start + 2])[0]
    link = start + 2 + 12 * count
    raw[link : link + 4] = struct.pack("<I", start)
    path.write_bytes(raw)

    with pytest.raises(UnreadableFile, match="circle"):
        read_header(path)


def test_stack_is_read_whole(tmp_path: Path) -> None:
    images = np.stack([counts() % 50, counts() % 70]).astype(np.float16)
    path = write_mrcfile(tmp_path / "particles.mrcs", images)

    stack = read_stack(path)

    assert stack.dtype == np.float32
    np.testing.assert_array_equal(stack, images.astype(np.float32))


def test_stack_is_an_mrc_file_without_nan(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", counts())
    images = np.ones((2, 8, 8), np.float32)
    images[1, 2, 3] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):
        write_mrcfile(tmp_path / "a.mrcs", images)

    with pytest.raises(UnreadableFile, match="no MRC stack"):
        read_stack(tmp_path / "a.png")
    with pytest.raises(UnusableImage):
        read_stack(tmp_path / "a.mrcs")
