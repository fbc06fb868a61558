"""Read one micrograph, or one stack of particles, as float32 that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile, UnusableImage
from icestream.io.formats import opened_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.io.header import ImageHeader

__all__ = ["read_header", "read_micrograph", "read_stack"]

_ZERO_TAIL_BYTES = 1 << 16
_ZERO_TAIL_ROWS = 4


def read_header(path: Path) -> ImageHeader:
    """Return what the header of an image says; no pixel is decoded.

    Parameters
    ----------
    path
        MRC, TIFF, EER or PNG.

    Raises
    ------
    UnreadableFile
        Not of its kind, of a kind that is not read, or without permission.
    IncompleteFile
        The header is cut short or not written yet.
    """
    with opened_image(path) as (reader, file):
        return reader.read_header(file, path)


def read_micrograph(path: Path) -> NDArray[np.float32]:
    """Read the one image of a file.

    Parameters
    ----------
    path
        MRC, TIFF or PNG with one frame.

    Returns
    -------
    ndarray
        ``(h, w)`` C-contiguous float32 in the file's unit, rows as stored: row 0 is
        the first in the file, whatever the orientation tags say.

    Raises
    ------
    UnreadableFile
        Not of its kind, of a kind that is not read, a movie, or without permission.
    IncompleteFile
        Cut short, undecodable, or ending in zeros as a preallocated file does.
    UnusableImage
        NaN or infinite pixels, or all pixels the same.
    """
    with opened_image(path) as (reader, file):
        header = reader.read_header(file, path)
        if header.frame_count != 1:
            raise UnreadableFile(
                f"{path} is a movie or stack of {header.frame_count} frames.",
                hint="Import motion-corrected micrographs, one frame to a file.",
            )
        reader.data_end_bytes(file, path)
        pixels = reader.decode(file, path)[0]
    image = _float32(pixels)
    _check_range(image, path)
    _check_tail(image, pixels.itemsize, path)
    return image


def read_stack(path: Path) -> NDArray[np.float32]:
    """Read all images of an MRC stack, e.g. extracted particles.

    Parameters
    ----------
    path
        An MRC file (``.mrcs``).

    Returns
    -------
    ndarray
        ``(n, h, w)`` C-contiguous float32, rows as stored.

    Raises
    ------
    UnreadableFile
        No MRC file, of a kind that is not read, or without permission.
    IncompleteFile
        Cut short.
    UnusableImage
        NaN or infinite pixels.
    """
    with opened_image(path) as (reader, file):
        if reader.read_header(file, path).format != "mrc":
            raise UnreadableFile(
                f"{path} is no MRC stack.", hint="Give the .mrcs file of particles."
            )
        images = _float32(reader.decode(file, path))
    _check_finite(images, path)
    return images


def _float32(pixels: NDArray[Any]) -> NDArray[np.float32]:
    # Values beyond float32 become infinite here and are refused with their count.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, dtype=np.float32)


def _check_finite(image: NDArray[np.float32], path: Path) -> None:
    # Minimum and maximum carry a NaN on, and need no array of flags.
    if np.isfinite(image.min()) and np.isfinite(image.max()):
        return
    bad = int(image.size - np.count_nonzero(np.isfinite(image)))
    raise UnusableImage(
        f"{path} holds {bad} pixels that are NaN or infinite, of {image.size}.",
        hint="Look at the program that wrote it; leave this image out.",
    )


def _check_range(image: NDArray[np.float32], path: Path) -> None:
    _check_finite(image, path)
    if image.min() == image.max():
        raise UnusableImage(
            f"{path} is blank: every pixel is {image.flat[0]:g}.",
            hint="Was the beam on, the shutter open? Leave this image out.",
        )


def _check_tail(image: NDArray[np.float32], item_bytes: int, path: Path) -> None:
    """Refuse an image whose last rows are exactly zero: a preallocated file."""
    width_px = image.shape[1]
    rows = min(_ZERO_TAIL_ROWS, max(image.shape[0] // 2, 1))
    limit_px = min(_ZERO_TAIL_BYTES // item_bytes, rows * width_px)
    flat = image.reshape(-1)
    if flat[-limit_px:].any():
        return
    zero_px = int(np.argmax(flat[::-1] != 0))
    raise IncompleteFile(
        f"{path} ends in {zero_px} pixels that are exactly 0 ({zero_px / width_px:.1f}"
        " rows): preallocated and not yet filled, or padded.",
        hint="Wait until it is written; crop the zeros if the image is padded.",
    )
