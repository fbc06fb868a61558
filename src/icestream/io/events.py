"""Decode the electrons of an EER frame and add them to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.compiled import compiled, inlined

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_events"]

_0, _1, _2, _3 = (np.uint64(number) for number in range(4))
_LOW_3_BITS = np.uint64(7)


@compiled
def add_events(
    data: NDArray[np.uint8],
    data_bytes: int,
    image: NDArray[Any],
    width_px: int,
    upsampling: int,
    run_bits: int,
    horizontal_bits: int,
    vertical_bits: int,
    is_wasteful: bool,
) -> bool:
    """Add the electrons of one raw frame to an image.

    Parameters
    ----------
    data
        The bit stream, and `SPARE_BYTES` of `icestream.io.access` behind it.
    data_bytes
        Its length.
    image
        Flat, of unsigned integers: ``h * w`` pixels of the camera, or four times as
        many.
    width_px
        Columns of the camera.
    upsampling
        1, or 2 for the finer grid.
    run_bits, horizontal_bits, vertical_bits
        Bits of a run of empty pixels, and of the place within a pixel.
    is_wasteful
        Whether bits for a place follow the longest run too, though no electron does.

    Returns
    -------
    bool
        Whether the stream ended at the last pixel, as a whole one does.

    Notes
    -----
    A run of empty pixels, an electron, and so on, the least significant bit first; the
    longest run has no electron behind it. The upper bit of both places is inverted.
    """
    place_bits = np.uint64(horizontal_bits + vertical_bits)
    right_bit, lower_bit = np.uint64(horizontal_bits - 1), place_bits - _1
    run_length = np.uint64(run_bits)
    longest = (_1 << run_length) - _1
    wasted = place_bits if is_wasteful else _0
    width = np.uint64(width_px)
    end = np.uint64(image.size // upsampling**2)
    bit, end_bit = _0, np.uint64(data_bytes) << _3
    pixel, row_begin, row_end = _0, _0, width
    while bit + run_length <= end_bit and pixel <= end:
        code = _code(data, bit)
        pixel += code & longest
        bit += run_length
        if code & longest == longest:
            bit += wasted
            continue
        if pixel >= end:
            break
        place = code >> run_length
        bit += place_bits
        if upsampling == 1:
            image[pixel] += 1
        else:
            while pixel >= row_end:
                row_begin, row_end = row_end, row_end + width
            right = ((place >> right_bit) & _1) ^ _1
            row = row_begin + row_begin + width * (((place >> lower_bit) & _1) ^ _1)
            image[_2 * (row + pixel - row_begin) + right] += 1
        pixel += _1
    return bool(pixel == end)


@inlined
def _code(data: NDArray[np.uint8], bit: np.uint64) -> np.uint64:
    at = bit >> _3
    four = (
        np.uint64(data[at])
        | (np.uint64(data[at + _1]) << np.uint64(8))
        | (np.uint64(data[at + _2]) << np.uint64(16))
        | (np.uint64(data[at + _3]) << np.uint64(24))
    )
    return four >> (bit & _LOW_3_BITS)
