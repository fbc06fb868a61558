"""Write MRC images that RELION and cryoSPARC open."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import InternalError, UnusableImage
from icestream.io.access import replacing
from icestream.io.mrc import HEADER_BYTES, MODE_OF_DTYPE, header_layout

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

__all__ = ["write_mrc"]

_LABEL = b"Written by icestream"
_MRC2014 = 20140


def write_mrc(
    path: Path,
    array: NDArray[Any],
    *,
    pixel_size_angst: float,
    dtype: DTypeLike = np.float16,
    is_stack: bool = False,
) -> None:
    """Write an image, a stack of images or a volume as MRC2014.

    Parameters
    ----------
    path
        The file; replaced in one step, so nobody sees half of it.
    array
        ``(h, w)`` image, ``(n, h, w)`` stack or ``(d, h, w)`` volume; row 0 first.
    pixel_size_angst
        Å/px.
    dtype
        float16 (mode 12), float32 (2), uint16 (6), int16 (1) or int8 (0).
    is_stack
        Whether three axes are a stack of images and not a volume.

    Raises
    ------
    UnusableImage
        A value is NaN, infinite or outside the range of ``dtype``.
    DiskFull, FolderUnavailable
        The file could not be written.

    Notes
    -----
    Minimum, maximum, mean and rms in the header are those of the stored values, summed
    in float64.
    """
    stored_dtype = np.dtype(dtype)
    if array.ndim not in (2, 3) or not array.size or pixel_size_angst <= 0:
        raise InternalError(
            f"{path}: shape {array.shape} at {pixel_size_angst} Å/px is no image."
        )
    if stored_dtype.name not in MODE_OF_DTYPE:
        raise InternalError(f"{path}: MRC has no mode for {stored_dtype.name}.")
    pixels = _stored(array, stored_dtype, path)
    header = _header(
        pixels, pixel_size_angst, is_volume=array.ndim == 3 and not is_stack
    )
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        # Not tofile(): its error for a full disk carries no error number.
        file.write(pixels.reshape(-1).view(np.uint8).data)


def _stored(array: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Return the array as it will lie in the file; refuse what does not fit."""
    low, high = float(array.min()), float(array.max())
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    if not (float(limits.min) <= low and high <= float(limits.max)):
        raise UnusableImage(
            f"{path}: values from {low:g} to {high:g} do not fit {dtype.name}.",
            hint="Clip or normalise the image, or write float32.",
        )
    if dtype.kind in "iu":
        array = np.rint(array)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))


def _header(pixels: NDArray[Any], pixel_size_angst: float, *, is_volume: bool) -> bytes:
    *leading, height_px, width_px = pixels.shape
    depth = leading[0] if leading else 1
    sampling = np.array([width_px, height_px, depth if is_volume else 1])
    is_little = sys.byteorder == "little"
    header = np.zeros((), dtype=header_layout("="))
    header["shape_xyz"] = width_px, height_px, depth
    header["mode"] = MODE_OF_DTYPE[pixels.dtype.name]
    header["sampling_xyz"] = sampling
    header["cell_angst"] = sampling * pixel_size_angst
    header["cell_angle_deg"] = 90
    header["axes"] = 1, 2, 3
    values = pixels.astype(np.float32)  # float16 is slow to compare and to add
    header["minimum"], header["maximum"] = values.min(), values.max()
    header["mean"] = values.mean(dtype=np.float64)
    header["rms"] = values.std(dtype=np.float64)
    header["space_group"] = 1 if is_volume else 0
    header["version"] = _MRC2014
    header["map_word"] = b"MAP "
    header["machine_stamp"] = (0x44, 0x44, 0, 0) if is_little else (0x11, 0x11, 0, 0)
    header["label_count"] = 1
    header["labels"][0] = _LABEL.ljust(80)
    raw = header.tobytes()
    if len(raw) != HEADER_BYTES:
        raise InternalError(f"The MRC header has {len(raw)} bytes.")
    return raw
