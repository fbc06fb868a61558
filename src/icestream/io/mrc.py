"""MRC images and stacks: the header, the length that follows from it, the pixels.

The layout is that of the MRC2014 standard (Cheng et al., J. Struct. Biol. 192, 2015),
with what cameras and older programs write besides: no ``MAP`` word, no or a wrong
machine stamp, any extended header, unsigned bytes marked the way of IMOD, and its mode
101: two pixels of 4 bits to a byte, the first in the lower half, each row in whole
bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at, read_into
from icestream.io.header import ImageHeader, MovieHeader, plausible_pixel_size_angst

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "HEADER_BYTES",
    "MODE_OF_DTYPE",
    "MrcFrames",
    "data_end_bytes",
    "decode",
    "header_layout",
    "open_frames",
    "read_header",
]

HEADER_BYTES = 1024
MODE_OF_DTYPE = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
"""The modes of real images that the standard has, by NumPy name."""

_DTYPE_OF_MODE = {mode: name for name, mode in MODE_OF_DTYPE.items()}
_REFUSED_MODES = {
    3: "complex 16-bit integers",
    4: "complex floats (a Fourier transform)",
}
_PACKED_MODE = 101
_IMOD_STAMP = 1146047817
_SIGNED_BYTES, _PACKED_BYTES = 1, 16
_LARGEST_SIDE_PX = 1 << 20


@functools.cache
def header_layout(byte_order: str) -> np.dtype[np.void]:
    """Return the 1024-byte header as a NumPy record.

    Parameters
    ----------
    byte_order
        ``<`` (little-endian) or ``>``.
    """
    integer, real = f"{byte_order}i4", f"{byte_order}f4"
    return np.dtype(
        [
            ("shape_xyz", integer, 3),
            ("mode", integer),
            ("start_xyz", integer, 3),
            ("sampling_xyz", integer, 3),
            ("cell_angst", real, 3),
            ("cell_angle_deg", real, 3),
            ("axes", integer, 3),
            ("minimum", real),
            ("maximum", real),
            ("mean", real),
            ("space_group", integer),
            ("extended_bytes", integer),
            ("extra_a", "V8"),
            ("extended_type", "S4"),
            ("version", integer),
            ("extra_b", "V40"),
            ("imod_stamp", integer),
            ("imod_flags", integer),
            ("extra_c", "V36"),
            ("origin", real, 3),
            ("map_word", "S4"),
            ("machine_stamp", "u1", 4),
            ("rms", real),
            ("label_count", integer),
            ("labels", "S80", 10),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where and how the pixels of a file lie."""

    width_px: int
    height_px: int
    frame_count: int
    dtype: np.dtype[Any]
    is_packed: bool
    offset_bytes: int
    pixel_size_angst: float | None

    @property
    def row_bytes(self) -> int:
        if self.is_packed:
            return (self.width_px + 1) // 2
        return self.width_px * self.dtype.itemsize

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.height_px * self.frame_count * self.row_bytes


def read_header(file: FileIO, path: Path) -> ImageHeader:
    """Return what the header of an MRC file says.

    Raises
    ------
    UnreadableFile, IncompleteFile
        No MRC header, a kind of pixel that is not read, or a header not yet written.
    """
    return _header_of(_read_layout(file, path))


def _header_of(layout: _Layout) -> ImageHeader:
    return ImageHeader(
        height_px=layout.height_px,
        width_px=layout.width_px,
        frame_count=layout.frame_count,
        dtype=layout.dtype.newbyteorder("="),
        pixel_size_angst=layout.pixel_size_angst,
        format="mrc",
    )


def data_end_bytes(file: FileIO, path: Path) -> int:
    """Return the offset at which the pixels end; the file may be longer.

    Raises
    ------
    UnreadableFile, IncompleteFile
        As `read_header` does; also a file that is shorter than its header says.
    """
    return _checked_end_bytes(_read_layout(file, path), file, path)


def _checked_end_bytes(layout: _Layout, file: FileIO, path: Path) -> int:
    end_bytes = layout.end_bytes
    size_bytes = file.seek(0, 2)
    if size_bytes < end_bytes:
        raise IncompleteFile(
            f"{path} has {size_bytes} of the {end_bytes} bytes that its header says.",
            hint="Wait until it is written, or transfer it again.",
        )
    return end_bytes


def decode(file: FileIO, path: Path) -> NDArray[Any]:
    """Return all pixels, ``(frame, h, w)``, in the stored type, rows as stored.

    Raises
    ------
    IncompleteFile
        The file ended while it was read.
    """
    layout = _read_layout(file, path)
    shape = (layout.frame_count, layout.height_px, layout.width_px)
    pixels = np.empty(shape, layout.dtype.newbyteorder("="))
    _read_rows(file, path, layout, 0, pixels.reshape(-1, layout.width_px))
    return pixels


@dataclass(frozen=True, slots=True)
class MrcFrames:
    """The frames of an MRC stack, rows as stored; see `open_frames`."""

    path: Path
    header: MovieHeader
    layout: _Layout

    @property
    def most_pieces(self) -> int:
        """Into how many pieces a frame can be divided."""
        return self.layout.height_px

    def decode_into(
        self,
        file: FileIO,
        target: NDArray[Any],
        frame: int,
        piece: int,
        piece_count: int,
    ) -> None:
        """Write one piece of a frame, of so many, into its place in ``target``."""
        height_px = self.layout.height_px
        begin, end = (height_px * (piece + i) // piece_count for i in (0, 1))
        first_row = frame * height_px + begin
        _read_rows(file, self.path, self.layout, first_row, target[begin:end])


def open_frames(file: FileIO, path: Path) -> MrcFrames:
    """Prepare to read the frames of a stack.

    Raises
    ------
    UnreadableFile, IncompleteFile
        As `read_header` and `data_end_bytes` do.
    """
    layout = _read_layout(file, path)
    _checked_end_bytes(layout, file, path)
    image = _header_of(layout)
    header = MovieHeader(
        height_px=image.height_px,
        width_px=image.width_px,
        frame_count=image.frame_count,
        dtype=image.dtype,
        pixel_size_angst=image.pixel_size_angst,
        format="mrc",
        raw_frame_count=image.frame_count,
    )
    return MrcFrames(path, header, layout)


def _read_rows(
    file: FileIO, path: Path, layout: _Layout, first_row: int, target: NDArray[Any]
) -> None:
    """Fill ``(rows, w)`` of native byte order; rows of all frames are numbered on."""
    raw = target.view(np.uint8)
    if layout.is_packed:
        raw = np.empty((len(target), layout.row_bytes), np.uint8)
    offset_bytes = layout.offset_bytes + first_row * layout.row_bytes
    count_bytes = read_into(file, offset_bytes, raw.reshape(-1))
    if count_bytes < raw.size:
        raise IncompleteFile(
            f"{path} ended after {offset_bytes + count_bytes} bytes.",
            hint="Wait until it is written, or transfer it again.",
        )
    if layout.is_packed:
        target[:, 0::2] = raw & 15
        target[:, 1::2] = raw[:, : layout.width_px // 2] >> 4
    elif not layout.dtype.isnative:
        target.byteswap(inplace=True)


def _read_layout(file: FileIO, path: Path) -> _Layout:
    head = read_at(file, 0, HEADER_BYTES)
    record = _parse(head.ljust(HEADER_BYTES, b"\0"))
    if record is None and len(head) >= 16:
        raise UnreadableFile(
            f"{path} has no MRC header: its first numbers are no image size.",
            hint="Check what wrote it; the suffix promises an MRC file.",
        )
    if record is None or len(head) < HEADER_BYTES or record["shape_xyz"][2] == 0:
        raise IncompleteFile(
            f"{path} has an MRC header that is cut short or says 0 sections.",
            hint="Wait until it is written, or transfer it again.",
        )
    width_px, height_px, frame_count = (int(side) for side in record["shape_xyz"])
    return _Layout(
        width_px=width_px,
        height_px=height_px,
        frame_count=frame_count,
        dtype=_dtype(record, path),
        is_packed=bool(record["mode"] == _PACKED_MODE),
        offset_bytes=HEADER_BYTES + int(record["extended_bytes"]),
        pixel_size_angst=_pixel_size_angst(record),
    )


def _parse(head: bytes) -> np.void | None:
    """Return the header in the byte order in which it makes sense."""
    # The stamp is often absent or wrong, so it only decides which order is tried first.
    for byte_order in "><" if head[212:213] == b"\x11" else "<>":
        record: np.void = np.frombuffer(head, dtype=header_layout(byte_order))[0]
        width_px, height_px, frame_count = record["shape_xyz"]
        if (
            0 < width_px <= _LARGEST_SIDE_PX
            and 0 < height_px <= _LARGEST_SIDE_PX
            and 0 <= frame_count <= _LARGEST_SIDE_PX
            and 0 <= record["mode"] <= 1000
            and record["extended_bytes"] >= 0
        ):
            return record
    return None


def _dtype(record: np.void, path: Path) -> np.dtype[Any]:
    mode = int(record["mode"])
    flags = int(record["imod_flags"]) if record["imod_stamp"] == _IMOD_STAMP else None
    if mode == _PACKED_MODE:
        return np.dtype("uint8")
    if mode == 0 and flags is not None:
        if flags & _PACKED_BYTES:
            raise UnreadableFile(
                f"{path} has two pixels to a byte, in mode 0 and half the width.",
                hint=f"Convert it to mode {_PACKED_MODE}.",
            )
        return np.dtype("int8" if flags & _SIGNED_BYTES else "uint8")
    if mode not in _DTYPE_OF_MODE:
        kind = _REFUSED_MODES.get(mode, "a kind of pixel that the standard lacks")
        raise UnreadableFile(
            f"{path} has MRC mode {mode}: {kind}.",
            hint=f"Convert it to mode 0, 1, 2, 6, 12 or {_PACKED_MODE}.",
        )
    byte_order = record.dtype["mode"].byteorder
    return np.dtype(_DTYPE_OF_MODE[mode]).newbyteorder(byte_order)


def _pixel_size_angst(record: np.void) -> float | None:
    cell_angst, sampling = record["cell_angst"][0], record["sampling_xyz"][0]
    if not (np.isfinite(cell_angst) and sampling > 0):
        return None
    return plausible_pixel_size_angst(float(cell_angst) / float(sampling))
