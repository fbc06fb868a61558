"""A micrograph as cells of some 32 Å: how bright each is, and how much is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from icestream.compiled import compiled
from icestream.domain.errors import UnusableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Cells", "cells_of", "usual_range"]

_CELL_ANGST = 32.0
_FINE = 8  # along a side of a cell
_TEXTURE_CELLS = 4
_LEAST_CELLS = 4
_SAMPLE_PX = 1 << 16
_HOT_QUANTILE = 0.998
# Between these, e/Å2, lies the dose that mean and noise are believed to tell.
_LEAST_DOSE, _USUAL_DOSE, _MOST_DOSE = 2.0, 40.0, 100.0
_BRIGHT = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What is known of each cell.

    Parameters
    ----------
    light
        ``(rows, columns)`` mean, in the unit of the image.
    all_light
        What the bright part of the image has, if mean and noise are believable; else
        what would be.
    fine, middle, coarse
        ``(rows, columns)`` variance of the image from 4 to 8 Å, 8 to 16 and 16 to 32,
        averaged over 4 x 4 cells; for white noise all three are equal.
    cell_angst
        Side, Å.
    """

    light: NDArray[np.float32]
    fine: NDArray[np.float32]
    middle: NDArray[np.float32]
    coarse: NDArray[np.float32]
    all_light: float
    cell_angst: float

    @property
    def share(self) -> NDArray[np.float32]:
        """``(rows, columns)`` light as a share of all that comes through ice."""
        return self.light / np.float32(self.all_light)


def cells_of(image: Tensor, *, pixel_size_angst: float) -> Cells:
    """Reduce a micrograph to cells.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type.
    pixel_size_angst
        Its pixel size, Å/px.

    Returns
    -------
    Cells
        They divide the image evenly; at least 4 along a side.

    Raises
    ------
    UnusableImage
        Not two axes, a side of less than 4 px, not a number, or one constant value.

    Notes
    -----
    An image whose zero was moved has no share of light: where its mean and its noise
    tell a dose that cannot be, the nearest that can is taken for it.
    """
    values = _checked(image)
    low, high = usual_range(values)
    rows, columns = (
        max(_LEAST_CELLS, round(side * pixel_size_angst / _CELL_ANGST))
        for side in values.shape
    )
    edges = [
        np.linspace(0, side, _FINE * count + 1).round().astype(np.int64)
        for side, count in zip(values.shape, (rows, columns), strict=True)
    ]
    pooled = torch.from_numpy(_means(values, low, high, *edges))[None, None]
    bands = []
    for finer in (1, 2, 4):
        coarser = avg_pool2d(pooled, 2)
        rest = pooled - interpolate(coarser, scale_factor=2, mode="nearest")
        power = avg_pool2d(rest.square(), _FINE // finer) * (finer**2 * 4 / 3)
        bands.append(_averaged(power)[0, 0].numpy())
        pooled = coarser
    light = pooled[0, 0].numpy()
    return Cells(
        light=light,
        fine=bands[0],
        middle=bands[1],
        coarse=bands[2],
        all_light=_all_light(light, bands),
        cell_angst=math.sqrt(values.size / (rows * columns)) * pixel_size_angst,
    )


def _averaged(power: Tensor) -> Tensor:
    """Average over a neighbourhood, of cells inside the image only."""
    side = 2 * (_TEXTURE_CELLS // 2) + 1
    mean: Tensor = avg_pool2d(
        power, side, stride=1, padding=side // 2, count_include_pad=False
    )
    return mean


def _checked(image: Tensor) -> NDArray[Any]:
    if image.ndim != 2 or min(image.shape) < _LEAST_CELLS:
        raise UnusableImage(
            f"An image of shape {tuple(image.shape)} cannot be judged.",
            hint=f"It needs two axes of at least {_LEAST_CELLS} px.",
        )
    if image.dtype in (torch.float16, torch.bfloat16):
        image = image.float()
    values: NDArray[Any] = image.cpu().numpy()
    return values


def usual_range(values: NDArray[Any]) -> tuple[float, float]:
    """Return the range outside which pixels are hot or dead.

    Parameters
    ----------
    values
        ``(h, w)``, of which a sample is looked at.

    Raises
    ------
    UnusableImage
        Something is not a number, or next to all is one value.
    """
    every = max(1, math.isqrt(values.size // _SAMPLE_PX))
    sample = values[::every, ::every].astype(np.float64)
    if not np.isfinite(sample).all():
        raise UnusableImage("The image holds values that are not finite numbers.")
    low, middle, high = np.quantile(sample, (1 - _HOT_QUANTILE, 0.5, _HOT_QUANTILE))
    if low == high:
        raise UnusableImage(f"Next to every pixel of the image is {low:g}.")
    return 2 * low - middle, 2 * high - middle


def _all_light(light: NDArray[np.float32], bands: list[NDArray[np.float32]]) -> float:
    """Return how bright the bright part of an image is, if its noise agrees."""
    bright = light >= np.quantile(light, _BRIGHT)
    level = float(np.median(light[bright]))
    noise = [float(np.median(one[bright])) for one in bands]
    variance = next((one for one in noise if one > 0), 1.0)
    area_angst2 = (_CELL_ANGST / _FINE) ** 2
    dose = level**2 / (variance * area_angst2)
    believed = min(max(dose, _LEAST_DOSE), _MOST_DOSE) if level > 0 else _USUAL_DOSE
    return math.sqrt(believed * variance * area_angst2)


@compiled
def _means(
    values: NDArray[Any],
    low: float,
    high: float,
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Average rectangles of pixels, which are clipped first."""
    rows, columns = len(tops) - 1, len(lefts) - 1
    out = np.empty((rows, columns), np.float32)
    line = np.empty(values.shape[1], np.float32)
    least, most = np.float32(low), np.float32(high)
    for y in range(rows):
        line[:] = 0
        first = min(tops[y], values.shape[0] - 1)
        last = max(tops[y + 1], first + 1)
        for row in range(first, last):
            _add_clipped(values[row], least, most, line)
        for x in range(columns):
            start = min(lefts[x], values.shape[1] - 1)
            stop = max(lefts[x + 1], start + 1)
            total = np.float32(0)
            for i in range(start, stop):
                total += line[i]
            out[y, x] = total / np.float32((stop - start) * (last - first))
    return out


@compiled
def _add_clipped(
    row: NDArray[Any],
    low: np.float32,
    high: np.float32,
    line: NDArray[np.float32],
) -> None:
    for x in range(line.size):
        line[x] += min(max(np.float32(row[x]), low), high)
