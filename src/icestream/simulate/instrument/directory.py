"""Write TIFF and BigTIFF directory by directory, as a camera does."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

from icestream.domain.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DirectoryWriter", "Field", "ascii_field", "bytes_field", "integer_field"]

FieldKind: TypeAlias = Literal["ascii", "short", "long", "undefined", "long8"]

_CODE_OF_KIND: dict[FieldKind, int] = {
    "ascii": 2,
    "short": 3,
    "long": 4,
    "undefined": 7,
    "long8": 16,
}
_BYTES_OF_KIND: dict[FieldKind, int] = {
    "ascii": 1,
    "short": 2,
    "long": 4,
    "undefined": 1,
    "long8": 8,
}
_LETTER_OF_KIND: dict[FieldKind, str] = {"short": "H", "long": "I", "long8": "Q"}
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS = 273, 279
_CLASSIC_LIMIT_BYTES = 1 << 32


@dataclass(frozen=True, slots=True)
class Field:
    """The value of one tag, in little-endian bytes.

    Parameters
    ----------
    kind
        Of the elements.
    content
        All elements, one after another.
    """

    kind: FieldKind
    content: bytes

    @property
    def count(self) -> int:
        """How many elements there are."""
        return len(self.content) // _BYTES_OF_KIND[self.kind]


def integer_field(kind: FieldKind, *values: int) -> Field:
    """Return a field of unsigned integers of 16 (short), 32 or 64 bits (long8)."""
    return Field(kind, struct.pack(f"<{len(values)}{_LETTER_OF_KIND[kind]}", *values))


def ascii_field(text: str) -> Field:
    """Return a field of text, with the zero byte that TIFF wants at its end."""
    return Field("ascii", text.encode("ascii", "replace") + b"\0")


def bytes_field(content: bytes) -> Field:
    """Return a field of bytes without a meaning to TIFF."""
    return Field("undefined", content)


class DirectoryWriter:
    """A little-endian TIFF that grows at its end.

    Parameters
    ----------
    file
        Open for writing, empty.
    is_big
        BigTIFF: 64-bit offsets.

    Raises
    ------
    InternalError
        From `append`: a classic TIFF would exceed 4 GiB.

    Notes
    -----
    The strips of a directory come first, then its long values, then itself; the
    directory before is linked to it last. So a file that is cut anywhere reads as one
    with fewer directories or with one that points behind the end.
    """

    def __init__(self, file: BinaryIO, *, is_big: bool) -> None:
        self._file = file
        self._is_big = is_big
        self._entry = struct.Struct("<HHQ8s" if is_big else "<HHI4s")
        self._offset = struct.Struct("<Q" if is_big else "<I")
        self._link_offset = 8 if is_big else 4
        file.write(
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0)
            if is_big
            else struct.pack("<2sHI", b"II", 42, 0)
        )
        self._end = file.tell()

    def append(self, fields: Mapping[int, Field], strips: Sequence[bytes]) -> int:
        """Write one image.

        Parameters
        ----------
        fields
            By tag; without the offsets and the byte counts of the strips.
        strips
            Encoded content, from the first row on.

        Returns
        -------
        int
            Where its directory begins, for `replace_field`.
        """
        kind: FieldKind = "long8" if self._is_big else "long"
        offsets = [self._write(strip) for strip in strips]
        self._check_length()
        tags = dict(fields) | {
            _STRIP_OFFSETS: integer_field(kind, *offsets),
            _STRIP_BYTE_COUNTS: integer_field(kind, *map(len, strips)),
        }
        entries = [self._packed_entry(tag, tags[tag]) for tag in sorted(tags)]
        head = struct.pack("<Q" if self._is_big else "<H", len(entries))
        position = self._write(head + b"".join(entries) + self._offset.pack(0))
        self._check_length()
        self._patch(self._link_offset, self._offset.pack(position))
        self._link_offset = position + len(head) + self._entry.size * len(entries)
        return position

    def replace_field(
        self, position: int, tags: Sequence[int], tag: int, field: Field
    ) -> None:
        """Give a field of an earlier directory another value, written at the end.

        Parameters
        ----------
        position
            What `append` returned.
        tags
            All tags given to it.
        tag, field
            Which one, and its new value.
        """
        row = sorted({*tags, _STRIP_OFFSETS, _STRIP_BYTE_COUNTS}).index(tag)
        head_bytes = 8 if self._is_big else 2
        entry = self._packed_entry(tag, field)
        self._patch(position + head_bytes + row * self._entry.size, entry)

    def _packed_entry(self, tag: int, field: Field) -> bytes:
        content = field.content
        if len(content) > self._offset.size:
            content = self._offset.pack(self._write(content))
        return self._entry.pack(tag, _CODE_OF_KIND[field.kind], field.count, content)

    def _write(self, content: bytes) -> int:
        """Write at the end, on an even offset; return where."""
        padding = self._end & 1
        offset = self._end + padding
        self._file.write(bytes(padding) + content)
        self._end = offset + len(content)
        return offset

    def _patch(self, offset: int, content: bytes) -> None:
        self._file.seek(offset)
        self._file.write(content)
        self._file.seek(self._end)

    def _check_length(self) -> None:
        if not self._is_big and self._end >= _CLASSIC_LIMIT_BYTES:
            raise InternalError(f"A classic TIFF cannot hold {self._end} bytes.")
