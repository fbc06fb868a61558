"""Masks of micrographs as small pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from icestream.domain.errors import UnreadableFile
from icestream.io.access import reading, replacing
from icestream.io.png import decode, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MASK_SUFFIX", "read_mask", "write_mask"]

MASK_SUFFIX = "_mask.png"
"""A grey PNG of 8 bits, 1 to 3 kB."""


def write_mask(classes: NDArray[np.uint8], path: Path) -> None:
    """Write the classes of a mask.

    Parameters
    ----------
    classes
        ``(rows, columns)``, of `MaskClass`.
    path
        Ends in ``.png``; replaced in one step.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    encoded = imagecodecs.png_encode(np.ascontiguousarray(classes), level=6)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the classes of a mask.

    Parameters
    ----------
    path
        As `write_mask` has made it.

    Returns
    -------
    ndarray
        ``(rows, columns)``.

    Raises
    ------
    UnreadableFile, IncompleteFile
        It has gone, is damaged, or is no mask.
    """
    with reading(path) as file:
        header = read_header(file, path)
        if header.dtype != np.uint8:
            raise UnreadableFile(
                f"{path} has 16 bits a pixel: it is no mask.",
                hint="Remove it and process this exposure again.",
            )
        pixels: NDArray[np.uint8] = decode(file, path)[0]
    return pixels
