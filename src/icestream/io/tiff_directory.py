"""Walk the chain of directories of a TIFF or BigTIFF file.

Layouts: TIFF 6.0 (1992) and the BigTIFF proposal of the AWare Systems page.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at
from icestream.io.header import LARGEST_IMAGE_PX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Directory", "read_directories"]

_TAGS = {
    256: "width",
    257: "height",
    258: "bits_per_sample",
    259: "compression",
    266: "fill_order",
    273: "strip_offsets",
    277: "samples_per_pixel",
    278: "rows_per_strip",
    279: "strip_byte_counts",
    282: "x_resolution",
    296: "resolution_unit",
    317: "predictor",
    322: "tile_width",
    323: "tile_height",
    324: "tile_offsets",
    325: "tile_byte_counts",
    339: "sample_format",
    65001: "exposure_xml",
    65007: "run_bits",
    65008: "horizontal_bits",
    65009: "vertical_bits",
}
# Type number to NumPy code and values an entry counts for (a rational is two).
_TYPES = {
    1: ("u1", 1),
    2: ("u1", 1),
    3: ("u2", 1),
    4: ("u4", 1),
    5: ("u4", 2),
    7: ("u1", 1),
    16: ("u8", 1),
}
_MOST_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one page that matter, by name; every value an array of integers.

    ``order`` is that of the bytes, of the tags as of the pixels: ``<`` or ``>``.
    """

    order: Literal["<", ">"]
    values: dict[str, NDArray[np.int64]]

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Return all values of a tag; none where it is absent."""
        return self.values.get(name, np.empty(0, np.int64))

    def number(self, name: str, *, default: int = 0) -> int:
        """Return the first value of a tag."""
        values = self.values.get(name)
        return default if values is None or not values.size else int(values[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """Byte order and the widths in which TIFF and BigTIFF differ."""

    order: Literal["<", ">"]
    count_code: str
    offset_code: str
    first_link_bytes: int

    @property
    def entry_bytes(self) -> int:
        return 4 + 2 * self.offset_bytes

    @property
    def offset_bytes(self) -> int:
        return struct.calcsize(self.offset_code)

    def entries(self, raw: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield tag, type, number of values and what stands in their place."""
        code = f"{self.order}HH{self.offset_code}{self.offset_bytes}s"
        return struct.iter_unpack(code, raw)

    def unpack(self, code: str, raw: bytes) -> int:
        return int(struct.unpack_from(self.order + code, raw)[0])


def read_directories(file: FileIO, path: Path) -> list[Directory]:
    """Return the directory of every page, in order.

    Raises
    ------
    IncompleteFile
        The chain breaks off, or a directory lies beyond the end of the file or is not
        filled.
    UnreadableFile
        No TIFF file, a chain that bites its own tail, or a page too large to be.
    """
    dialect = _dialect(file, path)
    link = read_at(file, dialect.first_link_bytes, dialect.offset_bytes)
    if len(link) < dialect.offset_bytes:
        raise _broken(path, "the header is cut short")
    offset_bytes = dialect.unpack(dialect.offset_code, link)
    if offset_bytes == 0:
        raise _broken(path, "no directory is written yet")
    directories: list[Directory] = []
    seen: set[int] = set()
    while offset_bytes:
        if offset_bytes in seen:
            raise UnreadableFile(
                f"{path} has TIFF directories that run in a circle.",
                hint="The file is damaged: transfer it again.",
            )
        seen.add(offset_bytes)
        directory, offset_bytes = _read_directory(file, dialect, offset_bytes, path)
        _check_size(directory, path)
        directories.append(directory)
    return directories


def _dialect(file: FileIO, path: Path) -> _Dialect:
    head = read_at(file, 0, 8)
    is_known = head[:2] in (b"II", b"MM")
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    version = struct.unpack(order + "H", head[2:4])[0] if is_known and head[3:] else 0
    if version == 42:
        return _Dialect(
            order=order, count_code="H", offset_code="I", first_link_bytes=4
        )
    if version == 43:
        return _Dialect(
            order=order, count_code="Q", offset_code="Q", first_link_bytes=8
        )
    if len(head) < 8:
        raise _broken(path, "the header is cut short")
    raise UnreadableFile(
        f"{path} has no TIFF header.",
        hint="Check what wrote it; the suffix promises a TIFF file.",
    )


def _read_directory(
    file: FileIO, dialect: _Dialect, offset_bytes: int, path: Path
) -> tuple[Directory, int]:
    """Return a directory and the offset of the next, 0 behind the last."""
    count_bytes = struct.calcsize(dialect.count_code)
    # One read holds a usual directory whole, which counts on a network file system.
    raw = read_at(file, offset_bytes, 1024)
    count = dialect.unpack(dialect.count_code, raw) if len(raw) >= count_bytes else 0
    if not 0 < count <= _MOST_ENTRIES:
        raise _broken(path, f"no directory stands at byte {offset_bytes}")
    link_bytes = count_bytes + count * dialect.entry_bytes
    end_bytes = link_bytes + dialect.offset_bytes
    if len(raw) < end_bytes:
        raw = read_at(file, offset_bytes, end_bytes)
    if len(raw) < end_bytes:
        raise _broken(path, f"the directory at byte {offset_bytes} is cut short")
    values: dict[str, NDArray[np.int64]] = {}
    for tag, kind, count, inline in dialect.entries(raw[count_bytes:link_bytes]):
        if kind == 0:
            raise _broken(path, f"the directory at byte {offset_bytes} is not filled")
        if tag in _TAGS and kind in _TYPES:
            values[_TAGS[tag]] = _entry_numbers(
                file, dialect, kind, count, inline, path
            )
    following = dialect.unpack(dialect.offset_code, raw[link_bytes:])
    return Directory(dialect.order, values), following


def _entry_numbers(
    file: FileIO, dialect: _Dialect, kind: int, count: int, inline: bytes, path: Path
) -> NDArray[np.int64]:
    """Return the values of an entry, which stand in it or elsewhere in the file."""
    code, per_value = _TYPES[kind]
    dtype = np.dtype(dialect.order + code)
    count *= per_value
    needed_bytes = count * dtype.itemsize
    if needed_bytes > len(inline):
        inline = _read_outside(file, dialect, inline, needed_bytes, path)
    return np.frombuffer(inline, dtype=dtype, count=count).astype(np.int64)


def _read_outside(
    file: FileIO, dialect: _Dialect, inline: bytes, needed_bytes: int, path: Path
) -> bytes:
    start_bytes = dialect.unpack(dialect.offset_code, inline)
    if start_bytes + needed_bytes > file.seek(0, 2):
        raise _broken(path, f"values at byte {start_bytes} lie beyond the end")
    return read_at(file, start_bytes, needed_bytes)


def _check_size(directory: Directory, path: Path) -> None:
    width_px, height_px = directory.number("width"), directory.number("height")
    if min(width_px, height_px) <= 0:
        raise _broken(path, f"a page of {width_px} x {height_px} px is not filled")
    if width_px * height_px > LARGEST_IMAGE_PX:
        raise UnreadableFile(
            f"{path} has a TIFF page of {width_px} x {height_px} px.",
            hint="The file is damaged: transfer it again.",
        )


def _broken(path: Path, fault: str) -> IncompleteFile:
    return IncompleteFile(
        f"{path} is no whole TIFF file: {fault}.",
        hint="Wait until it is written, or transfer it again.",
    )
