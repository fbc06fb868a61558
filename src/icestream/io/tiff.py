"""TIFF and BigTIFF images: the chain of directories, the strips, the pixels.

Directories are walked by our own few lines, because a check for completeness must be
quick and must see what lies outside the file; tifffile decodes. Orientation tags are
ignored: rows stay as stored.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.header import ImageHeader, plausible_pixel_size_angst
from icestream.io.tiff_directory import Directory, read_directories

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["check_strips", "data_end_bytes", "decode", "header_of", "read_header"]

_KIND_OF_SAMPLE_FORMAT = {1: "uint", 2: "int", 3: "float"}
_UNCOMPRESSED = 1
_KNOWN_COMPRESSIONS = {_UNCOMPRESSED, 5, 8, 32773, 32946, 34926, 50000}
# tifffile trusts the tags that are not checked here; damaged ones end in any of these.
_DECODER_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    AssertionError,
    struct.error,
)
_UNIT_ANGST = {2: 2.54e8, 3: 1e8}


def read_header(file: FileIO, path: Path) -> ImageHeader:
    """Return what the directories of a TIFF file say; the first stands for all.

    Raises
    ------
    UnreadableFile
        Coloured, of an unusual type, or compressed in a way that is not read.
    IncompleteFile
        The chain of directories breaks off.
    """
    return header_of(read_directories(file, path), path)


def header_of(directories: Sequence[Directory], path: Path) -> ImageHeader:
    """Return what directories that were read say; errors as of `read_header`."""
    first = directories[0]
    compression = first.number("compression", default=_UNCOMPRESSED)
    if compression not in _KNOWN_COMPRESSIONS:
        raise UnreadableFile(
            f"{path} uses TIFF compression {compression}.",
            hint="Read are none, LZW, deflate, packbits and zstd; EER if named .eer.",
        )
    return ImageHeader(
        height_px=first.number("height"),
        width_px=first.number("width"),
        frame_count=len(directories),
        dtype=_dtype(first, path),
        pixel_size_angst=_pixel_size_angst(first),
        format="tiff",
    )


def data_end_bytes(file: FileIO, path: Path) -> int:
    """Return the size of the file after every strip was found to lie in it.

    Raises
    ------
    UnreadableFile
        As `read_header` does.
    IncompleteFile
        That too; a strip or tile is absent or lies beyond the end.
    """
    directories = read_directories(file, path)
    header_of(directories, path)
    return check_strips(directories, file, path)


def check_strips(directories: Sequence[Directory], file: FileIO, path: Path) -> int:
    """Do as `data_end_bytes` with directories that were read."""
    size_bytes = file.seek(0, 2)
    for number, directory in enumerate(directories, start=1):
        fault = _strip_fault(directory, size_bytes)
        if fault:
            raise IncompleteFile(
                f"{path}, page {number}: {fault} (the file has {size_bytes} bytes).",
                hint="Wait until it is written, or transfer it again.",
            )
    return size_bytes


def decode(file: FileIO, path: Path) -> NDArray[Any]:
    """Return the first page, ``(1, h, w)``, in the stored type, rows as stored.

    Raises
    ------
    IncompleteFile
        The compressed pixels end too early or are damaged.
    """
    import tifffile

    header = read_header(file, path)
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            pixels = np.asarray(tiff.pages.first.asarray(maxworkers=1))
        return pixels.reshape(1, header.height_px, header.width_px)
    except (*_DECODER_ERRORS, tifffile.TiffFileError) as error:
        raise IncompleteFile(
            f"{path} could not be decoded as TIFF: {error}.",
            hint="Wait until it is written, or transfer it again.",
        ) from error


def _strip_fault(directory: Directory, size_bytes: int) -> str:
    """Say what is wrong with the strips or tiles of a page; nothing if all is well."""
    kind = "tile" if "tile_width" in directory.values else "strip"
    offsets = directory.numbers(f"{kind}_offsets")
    counts = directory.numbers(f"{kind}_byte_counts")
    expected = _segment_count(directory, kind)
    if len(offsets) < expected or len(counts) != len(offsets):
        return f"it lists {len(offsets)} of {expected} {kind}s"
    absent = np.flatnonzero((offsets == 0) | (counts == 0))
    if absent.size:
        return f"{kind} {absent[0] + 1} of {expected} is not written"
    # Not offsets + counts: damaged ones overflow; negative ones did in reading.
    beyond = np.flatnonzero(
        (offsets < 0) | (counts < 0) | (counts > size_bytes - offsets)
    )
    if beyond.size:
        return f"{kind} {beyond[0] + 1} of {expected} lies beyond the end"
    if directory.number("compression", default=_UNCOMPRESSED) == _UNCOMPRESSED:
        needed = directory.number("height") * directory.number("width")
        needed = needed * directory.number("bits_per_sample", default=8) // 8
        if counts.sum() < needed:
            return f"its {kind}s hold {counts.sum()} of {needed} bytes"
    return ""


def _segment_count(directory: Directory, kind: str) -> int:
    height_px, width_px = directory.number("height"), directory.number("width")
    if kind == "tile":
        across = -(-width_px // max(directory.number("tile_width"), 1))
        return across * -(-height_px // max(directory.number("tile_height"), 1))
    rows = directory.number("rows_per_strip", default=height_px)
    return -(-height_px // max(rows, 1))


def _dtype(directory: Directory, path: Path) -> np.dtype[Any]:
    bits = directory.number("bits_per_sample", default=1)
    sample_count = directory.number("samples_per_pixel", default=1)
    sample_format = directory.number("sample_format", default=1)
    kind = _KIND_OF_SAMPLE_FORMAT.get(sample_format)
    if sample_count != 1 or kind is None or bits not in (8, 16, 32, 64):
        raise UnreadableFile(
            f"{path} has {sample_count} samples a pixel of {bits} bits"
            f" (TIFF sample format {sample_format}).",
            hint="Read is one grey channel of 8, 16, 32 or 64 bits.",
        )
    if kind == "float" and bits == 8:
        raise UnreadableFile(
            f"{path} has floats of 8 bits.", hint="Convert it to 16-bit floats."
        )
    return np.dtype(f"{kind}{bits}")


def _pixel_size_angst(directory: Directory) -> float | None:
    resolution = directory.values.get("x_resolution")
    unit_angst = _UNIT_ANGST.get(directory.number("resolution_unit", default=2))
    if resolution is None or unit_angst is None or 0 in resolution:
        return None
    return plausible_pixel_size_angst(
        unit_angst * float(resolution[1]) / float(resolution[0])
    )
