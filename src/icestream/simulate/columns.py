"""Columns of a transform: shifted, blurred by motion, transformed back along y.

One pass over memory on a CPU, where this is a quarter of a movie's cost; the library's
own operations on other devices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.compiled import compiled
from icestream.simulate.motion import blur_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["inverse_along_y", "turned_anywhere"]

# A way so short that a series does for its sinc, and that series, last term first.
_SHORT_PX = 2.0
_SINC = tuple((-1) ** n / math.factorial(2 * n + 1) for n in reversed(range(8)))


def inverse_along_y(
    planes: Tensor,
    *,
    along_y: Tensor,
    along_x: Tensor,
    way_px: NDArray[np.float64],
    out: Tensor,
    first: int,
) -> None:
    """Turn, blur and transform some columns.

    Parameters
    ----------
    planes
        ``(2, n, H)`` float32: real and imaginary part, columns first.
    along_y, along_x
        ``(3, H)`` and ``(3, n)`` float32: real and imaginary part of a factor (a shift,
        a transfer function), and frequency, 1/px.
    way_px
        y and x that an image moves while it is taken, px: see `motion.blur_filter`.
    out
        ``(H, C)`` complex64, of which n columns are written.
    first
        The first of them.
    """
    if out.is_cpu:
        moved = torch.empty(planes.shape[1:], dtype=torch.complex64)
        _turn(
            planes.numpy(),
            along_y.numpy(),
            along_x.numpy(),
            moved.numpy(),
            float(way_px[0]),
            float(way_px[1]),
        )
        _put(torch.fft.ifft(moved, dim=1).numpy(), out.numpy(), first)
        return
    moved = turned_anywhere(planes, along_y, along_x, way_px)
    out[:, first : first + len(moved)] = torch.fft.ifft(moved, dim=1).T


def turned_anywhere(
    planes: Tensor, along_y: Tensor, along_x: Tensor, way_px: NDArray[np.float64]
) -> Tensor:
    """Return what is to be transformed back, ``(n, H)`` complex64, on any device."""
    turn = torch.complex(*along_x[:2])[:, None] * torch.complex(*along_y[:2])
    blur = blur_filter(way_px, along_y[2], along_x[2, :, None])
    if blur is not None:
        turn *= blur
    return torch.complex(*planes) * turn


@compiled
def _turn(
    planes: NDArray[np.float32],
    along_y: NDArray[np.float32],
    along_x: NDArray[np.float32],
    out: NDArray[np.complex64],
    way_y_px: float,
    way_x_px: float,
) -> None:
    """Multiply by both factors and the sinc of the way."""
    y_real, y_imaginary, y_frequency = along_y[0], along_y[1], along_y[2]
    way_y = np.float32(np.pi * way_y_px)
    blur = np.empty_like(y_real)
    for column in range(len(out)):
        x_real, x_imaginary = along_x[0, column], along_x[1, column]
        way_x = np.float32(np.pi * way_x_px) * along_x[2, column]
        if abs(way_y_px) + abs(way_x_px) <= _SHORT_PX:
            for i in range(len(blur)):
                phase = way_x + way_y * y_frequency[i]
                blur[i] = _sinc_of_root(phase * phase)
        else:
            for i in range(len(blur)):
                phase = max(abs(way_x + way_y * y_frequency[i]), np.float32(1e-6))
                blur[i] = np.sin(phase) / phase
        one, other, line = planes[0, column], planes[1, column], out[column]
        for i in range(len(blur)):
            turn_real = (x_real * y_real[i] - x_imaginary * y_imaginary[i]) * blur[i]
            turn_other = (x_real * y_imaginary[i] + x_imaginary * y_real[i]) * blur[i]
            line[i] = complex(
                one[i] * turn_real - other[i] * turn_other,
                other[i] * turn_real + one[i] * turn_other,
            )


@compiled
def _sinc_of_root(square: np.float32) -> np.float32:
    """Return sin(x) / x of x squared, to 1e-5 up to x = pi."""
    total = np.float32(0)
    for factor in _SINC:
        total = np.float32(factor) + square * total
    return total


@compiled
def _put(
    columns: NDArray[np.complex64], out: NDArray[np.complex64], first: int
) -> None:
    """Copy ``(n, H)`` to n columns of ``(H, C)``."""
    for row in range(len(out)):
        line = out[row, first : first + len(columns)]
        for column in range(len(columns)):
            line[column] = columns[column, row]
