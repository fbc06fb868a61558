"""Greyscale PNG images: the header, the chain of chunks, the pixels."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at
from icestream.io.header import LARGEST_IMAGE_PX, ImageHeader

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["data_end_bytes", "decode", "read_header"]

_SIGNATURE_BYTES = 8
_CHUNK_FRAME_BYTES = 12
_END_CHUNK = b"\0\0\0\0IEND\xae\x42\x60\x82"
_GREY = 0


def read_header(file: FileIO, path: Path) -> ImageHeader:
    """Return what the first chunk of a PNG file says.

    Raises
    ------
    UnreadableFile
        It is a coloured picture, or has fewer than 8 bits a pixel.
    IncompleteFile
        The first chunk is cut short.
    """
    head = read_at(file, 0, 33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise IncompleteFile(
            f"{path} has no whole PNG header.",
            hint="Wait until it is written, or transfer it again.",
        )
    width_px, height_px, bit_depth, colour = struct.unpack(">IIBB", head[16:26])
    if colour != _GREY or bit_depth not in (8, 16):
        raise UnreadableFile(
            f"{path} is no plain grey picture of 8 or 16 bits"
            f" (PNG colour type {colour}, {bit_depth} bits).",
            hint="A micrograph is one grey channel; is this a screenshot?",
        )
    if not 0 < width_px * height_px <= LARGEST_IMAGE_PX:
        raise UnreadableFile(
            f"{path} has a PNG header of {width_px} x {height_px} px.",
            hint="The file is damaged: transfer it again.",
        )
    return ImageHeader(
        height_px=height_px,
        width_px=width_px,
        frame_count=1,
        dtype=np.dtype(f"uint{bit_depth}"),
        pixel_size_angst=None,
        format="png",
    )


def data_end_bytes(file: FileIO, path: Path) -> int:
    """Return the offset behind the end chunk, found along the chain of chunks.

    Raises
    ------
    UnreadableFile
        As `read_header` does.
    IncompleteFile
        That too; the chain breaks off before its end chunk.
    """
    read_header(file, path)
    offset_bytes = _SIGNATURE_BYTES
    while len(frame := read_at(file, offset_bytes, _CHUNK_FRAME_BYTES)) >= 12:
        if frame == _END_CHUNK:
            return offset_bytes + _CHUNK_FRAME_BYTES
        length_bytes, kind = struct.unpack(">I4s", frame[:8])
        if not kind.isalpha():
            break
        offset_bytes += _CHUNK_FRAME_BYTES + length_bytes
    raise IncompleteFile(
        f"{path} has no PNG end chunk: the chain breaks at byte {offset_bytes}.",
        hint="Wait until it is written, or transfer it again.",
    )


def decode(file: FileIO, path: Path) -> NDArray[Any]:
    """Return the pixels, ``(1, h, w)``, in the stored type, rows as stored.

    Raises
    ------
    IncompleteFile
        The compressed pixels end too early or are damaged.
    """
    import imagecodecs

    file.seek(0)
    try:
        pixels: NDArray[Any] = imagecodecs.png_decode(file.readall())
    except (RuntimeError, ValueError) as error:
        raise IncompleteFile(
            f"{path} could not be decoded as PNG: {error}.",
            hint="Wait until it is written, or transfer it again.",
        ) from error
    return pixels[None]
