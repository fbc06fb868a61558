"""Write movies and images as TIFF, as SerialEM and EPU do for Gatan cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import imagecodecs
import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import replacing
from icestream.simulate.instrument.directory import (
    DirectoryWriter,
    Field,
    ascii_field,
    integer_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TiffCompression", "image_fields", "write_tiff", "write_tiff_movie"]

TiffCompression: TypeAlias = Literal["lzw", "none"]

_COMPRESSION: dict[TiffCompression, int] = {"none": 1, "lzw": 5}
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}
_DATE_TIME = 306
_WRITABLE = ("uint8", "int8", "uint16", "int16", "float32")


def write_tiff_movie(
    path: Path,
    frames: Iterable[NDArray[Any]],
    *,
    rows_per_strip: int | None = None,
    compression: TiffCompression = "lzw",
    is_big: bool = False,
    taken_at: datetime | None = None,
) -> int:
    """Write a movie, one directory a frame.

    Parameters
    ----------
    path
        The file; replaced in one step.
    frames
        ``(h, w)`` each, all of one shape and one type: uint8 counts as cameras write
        them (uint16, int16, int8, float32 too). Row 0 is written first. One is held at
        a time.
    rows_per_strip
        ``None`` for one strip a frame. Readers must take any number; strips of some 128
        rows are the fastest to write.
    compression
        ``lzw`` without predictor, or ``none``.
    is_big
        BigTIFF, for more than 4 GiB.
    taken_at
        Time of the first directory.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    BadSettings
        No frame, frames that differ, or a type that cameras do not write.
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    time = {} if taken_at is None else {_DATE_TIME: _time_field(taken_at)}
    first: tuple[tuple[int, ...], str] | None = None
    count = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = DirectoryWriter(file, is_big=is_big)
        for frame in frames:
            shape, dtype, strips = _encoded(
                frame, rows_per_strip=rows_per_strip, compression=compression
            )
            first = first or (shape, dtype.name)
            if first != (shape, dtype.name):
                raise BadSettings(
                    f"Frame {count + 1} of {path} is {dtype} {shape}, not {first}.",
                    hint="Give frames of one shape and type.",
                )
            fields = image_fields(shape, dtype, rows_per_strip, compression)
            writer.append({**fields, **(time if not count else {})}, strips)
            count += 1
        if not count:
            raise BadSettings(f"{path} would have no frame.", hint="Give one at least.")
    return count


def write_tiff(
    path: Path,
    image: NDArray[Any],
    *,
    extra_fields: Mapping[int, Field] | None = None,
) -> None:
    """Write one image, such as a gain reference.

    Parameters
    ----------
    path
        The file; replaced in one step.
    image
        ``(h, w)``, of the types of `write_tiff_movie`.
    extra_fields
        Further tags of the directory.

    Raises
    ------
    BadSettings, DiskFull, FolderUnavailable
        As `write_tiff_movie` does.
    """
    shape, dtype, strips = _encoded(image, rows_per_strip=None, compression="lzw")
    fields = image_fields(shape, dtype, None, "lzw")
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = DirectoryWriter(file, is_big=False)
        writer.append({**fields, **(extra_fields or {})}, strips)


def image_fields(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rows_per_strip: int | None,
    compression: TiffCompression,
) -> dict[int, Field]:
    """Return the fields of a gray image of one sample a pixel."""
    height_px, width_px = shape
    return {
        254: integer_field("long", 0),
        256: integer_field("long", width_px),
        257: integer_field("long", height_px),
        258: integer_field("short", 8 * dtype.itemsize),
        259: integer_field("short", _COMPRESSION[compression]),
        262: integer_field("short", 1),
        277: integer_field("short", 1),
        278: integer_field("long", min(rows_per_strip or height_px, height_px)),
        284: integer_field("short", 1),
        339: integer_field("short", _SAMPLE_FORMAT[dtype.kind]),
    }


def _time_field(taken_at: datetime) -> Field:
    return ascii_field(taken_at.strftime("%Y:%m:%d %H:%M:%S"))


def _encoded(
    image: NDArray[Any], *, rows_per_strip: int | None, compression: TiffCompression
) -> tuple[tuple[int, ...], np.dtype[Any], list[bytes]]:
    """Return shape, type and strips of an image."""
    rows = image.shape[0] if rows_per_strip is None else rows_per_strip
    if image.ndim != 2 or not image.size or rows < 1:
        raise BadSettings(
            f"An image of shape {image.shape} in strips of {rows} rows cannot be.",
            hint="Give (h, w) and 1 row a strip at least.",
        )
    if image.dtype.name not in _WRITABLE:
        raise BadSettings(
            f"{image.dtype} is not written as TIFF.",
            hint=f"Known are {', '.join(_WRITABLE)}.",
        )
    pixels = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    parts = (pixels[row : row + rows] for row in range(0, len(pixels), rows))
    if compression == "none":
        return image.shape, pixels.dtype, [part.tobytes() for part in parts]
    strips = [bytes(imagecodecs.lzw_encode(part.tobytes())) for part in parts]
    return image.shape, pixels.dtype, strips
