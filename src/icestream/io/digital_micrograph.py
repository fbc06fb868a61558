"""Read the image of a DM3 or DM4 file, as Gatan's cameras write their gains.

A file is a tree of tags, big-endian, with values in the byte order that its header
says. Images are under ``ImageList``; one of them is usually a small coloured picture.
The layout is not published: it follows what several readers agree on. Every length is
held against the file's own before it is believed; tags and their depth are counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at
from icestream.io.header import LARGEST_IMAGE_PX

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_digital_micrograph"]

_MOST_TAGS = 1 << 17
_MOST_DEPTH = 32
_MOST_DESCRIPTION = 256
_WINDOW_BYTES = 1 << 16
_END, _DIRECTORY, _VALUE = 0, 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_CHARACTER_BYTES = 2
_SIMPLE = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1"}
_SIMPLE |= {10: "u1", 11: "i8", 12: "u8"}
# DataType of an image to its pixels; pictures, complex and packed ones are left out.
_PIXELS = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """Where the values of a tag lie."""

    dtype: str
    offset_bytes: int
    count: int

    @property
    def size_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * self.count


def read_digital_micrograph(file: FileIO, path: Path) -> NDArray[Any]:
    """Return the largest image of a DM3 or DM4 file.

    Parameters
    ----------
    file
        Open for reading.
    path
        For messages.

    Returns
    -------
    ndarray
        ``(h, w)`` in the stored type, rows as stored.

    Raises
    ------
    UnreadableFile
        No such file, damaged, or without a real image of one plane.
    IncompleteFile
        Cut short.
    """
    tree = _Tree(file, path)
    values = tree.read()
    numbers = {name[1] for name in values if name[0] == "ImageList" and len(name) > 2}
    images = [one for number in numbers if (one := _image(tree, values, number))]
    if not images:
        raise UnreadableFile(
            f"{path} holds no image of real numbers.",
            hint="Save the gain as one image, or as MRC or TIFF.",
        )
    shape, pixels = max(images, key=lambda one: one[1].count)
    raw = read_at(file, pixels.offset_bytes, pixels.size_bytes)
    if len(raw) < pixels.size_bytes:
        raise tree.cut_short()
    return np.frombuffer(raw, dtype=pixels.dtype).reshape(shape)


def _image(
    tree: _Tree, values: dict[tuple[str, ...], _Value], number: str
) -> tuple[tuple[int, int], _Value] | None:
    """Return the shape and the pixels of an image; ``None`` for other things."""
    base = ("ImageList", number, "ImageData")
    data, kind = values.get((*base, "Data")), values.get((*base, "DataType"))
    sides = [values.get((*base, "Dimensions", str(axis))) for axis in range(4)]
    if data is None or kind is None or sides[0] is None or sides[1] is None:
        return None
    dtype = _PIXELS.get(tree.number(kind))
    width, height, *others = (tree.number(side) for side in sides if side is not None)
    if dtype is None or any(other != 1 for other in others):
        return None
    if min(width, height) <= 0 or width * height > LARGEST_IMAGE_PX:
        return None
    pixels = _Value(
        dtype=tree.order + dtype, offset_bytes=data.offset_bytes, count=width * height
    )
    if pixels.size_bytes != data.size_bytes:
        raise UnreadableFile(
            f"{tree.path} has an image of {height} x {width} px in {data.size_bytes} "
            "bytes.",
            hint="The file is damaged: transfer it again.",
        )
    return (height, width), pixels


class _Tree:
    """The tags of a file, read once from the first to the last."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size_bytes = file.seek(0, 2)
        self.at_bytes, self.window, self.window_bytes = 0, b"", 0
        self.tag_count = 0
        self.values: dict[tuple[str, ...], _Value] = {}
        version = struct.unpack(">I", self.take(4))[0]
        if version not in (3, 4):
            raise UnreadableFile(
                f"{path} is no DM3 or DM4 file.",
                hint="Check what wrote it, and name it after what it is.",
            )
        self.length_code = ">Q" if version == 4 else ">I"
        self.length()
        self.order = "<" if struct.unpack(">I", self.take(4))[0] == 1 else ">"

    def read(self) -> dict[tuple[str, ...], _Value]:
        """Return all values by the names on the way to them."""
        self.directory((), 0)
        return self.values

    def number(self, value: _Value) -> int:
        """Return a value as a whole number; -1 where it is none."""
        raw = read_at(self.file, value.offset_bytes, np.dtype(value.dtype).itemsize)
        found = np.frombuffer(raw, dtype=value.dtype)[0]
        return int(found) if np.isfinite(found) else -1

    def take(self, count: int) -> bytes:
        """Return the next bytes and go on behind them."""
        start = self.at_bytes - self.window_bytes
        if start < 0 or start + count > len(self.window):
            self.window = read_at(self.file, self.at_bytes, max(count, _WINDOW_BYTES))
            self.window_bytes, start = self.at_bytes, 0
        taken = self.window[start : start + count]
        if len(taken) < count:
            raise self.cut_short()
        self.at_bytes += count
        return taken

    def length(self) -> int:
        """Return the next length or count."""
        width_bytes = struct.calcsize(self.length_code)
        return int(struct.unpack(self.length_code, self.take(width_bytes))[0])

    def skip(self, count_bytes: int) -> None:
        """Go on behind values that are not read now."""
        if count_bytes > self.size_bytes - self.at_bytes:
            raise self.cut_short()
        self.at_bytes += count_bytes

    def directory(self, name: tuple[str, ...], depth: int) -> None:
        """Read a directory and all below it."""
        if depth > _MOST_DEPTH:
            raise self.damaged(f"tags {depth} deep")
        self.take(2)
        for number in range(self.length()):
            self.tag_count += 1
            if self.tag_count > _MOST_TAGS:
                raise self.damaged(f"more than {_MOST_TAGS} tags")
            kind = self.take(1)[0]
            if kind == _END:
                return
            label = self.take(struct.unpack(">H", self.take(2))[0]).decode("latin-1")
            if self.length_code == ">Q":
                self.length()
            child = (*name, label or str(number))
            if kind == _DIRECTORY:
                self.directory(child, depth + 1)
            elif kind == _VALUE:
                self.value(child)
            else:
                raise self.damaged(f"a tag of kind {kind}")

    def value(self, name: tuple[str, ...]) -> None:
        """Note where a value is, if it is of numbers, and skip it."""
        if self.take(4) != b"%%%%":
            raise self.damaged(f"no value at byte {self.at_bytes - 4}")
        count = self.length()
        if not 0 < count <= _MOST_DESCRIPTION:
            raise self.damaged(f"a value described by {count} numbers")
        kind = [self.length() for _ in range(count)]
        number, one = (kind[-1], kind[1:-1]) if kind[0] == _ARRAY else (1, kind)
        if len(one) == 1 and one[0] in _SIMPLE:
            self.values[name] = _Value(
                dtype=self.order + _SIMPLE[one[0]],
                offset_bytes=self.at_bytes,
                count=number,
            )
        self.skip(self.kind_bytes(kind))

    def kind_bytes(self, kind: list[int]) -> int:
        """Return the size of a value from its description."""
        first, *rest = kind
        if first in _SIMPLE and not rest:
            return np.dtype(_SIMPLE[first]).itemsize
        if first == _ARRAY and len(rest) > 1:
            return rest[-1] * self.kind_bytes(rest[:-1])
        if first == _STRUCT and len(rest) > 1 and len(rest) == 2 + 2 * rest[1]:
            return sum(self.kind_bytes([one]) for one in rest[3::2])
        if first == _STRING and len(rest) == 1:
            return _CHARACTER_BYTES * rest[0]
        raise self.damaged(f"a value of kind {first}")

    def damaged(self, fault: str) -> UnreadableFile:
        """Return what to raise for something that cannot be."""
        return UnreadableFile(
            f"{self.path} is a damaged DM3 or DM4 file: {fault}.",
            hint="Transfer it again, or save the gain as MRC or TIFF.",
        )

    def cut_short(self) -> IncompleteFile:
        """Return what to raise where the file ends too early."""
        return IncompleteFile(
            f"{self.path} has {self.size_bytes} bytes, fewer than its tags say.",
            hint="Wait until it is written, or transfer it again.",
        )
