"""Tell a film from a thing that lies on the ice, by its outline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_film"]

# Shares of the image and of its shorter side; nothing but a film is larger than most.
_LEAST_AREA, _MOST_AREA, _LEAST_REACH = 0.04, 0.6, 0.5
_LEAST_LINE = 8  # cells: less has no shape
_LEAST_RADIUS, _STRAIGHT = 0.5, 2.0  # of the image's longer side
_NEAR_CELLS = 2.0
_LEAST_ON_LINE = 0.5
_ROUNDS = 5


def is_film(part: NDArray[np.bool_]) -> bool:
    """Tell whether a dark part is the film around a hole.

    Parameters
    ----------
    part
        ``(rows, columns)``, one connected part of an image.

    Returns
    -------
    bool
        Whether it lies along the image's border for long enough and ends in a line, or
        in an arc about a hole that it is not in; or covers most of the image.
    """
    border = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    if part.mean() < _LEAST_AREA or border.sum() < _LEAST_REACH * min(part.shape):
        return False
    inner = ndimage.binary_dilation(part) & ~part
    y, x = np.nonzero(inner)
    if part.mean() > _MOST_AREA or len(y) < _LEAST_LINE:
        return True
    longest = max(part.shape)
    place = np.stack([y, x], 1) / longest
    weight = np.ones(len(place))
    distance = np.zeros(len(place))
    for _ in range(_ROUNDS):
        distance, radius, centre = _circle(place, weight)
        weight = 1 / (1 + (distance * longest / _NEAR_CELLS) ** 2)
    is_on_line = np.abs(distance) * longest < _NEAR_CELLS
    y_in, x_in = np.nonzero(part)
    inside = np.hypot(y_in / longest - centre[0], x_in / longest - centre[1]) < radius
    is_around = inside.mean() < 0.3 or radius > _STRAIGHT
    return bool(
        is_on_line.mean() > _LEAST_ON_LINE and is_around and radius > _LEAST_RADIUS
    )


def _circle(
    place: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Fit a circle; return how far from it places lie, its radius and centre."""
    middle = np.average(place, axis=0, weights=weight)
    offset = place - middle
    square = (offset**2).sum(1)
    design = np.concatenate([2 * offset, np.ones((len(place), 1))], 1)
    weighted = design * weight[:, None]
    normal = weighted.T @ design + 1e-9 * np.eye(3) * weight.sum()
    a, b, c = np.linalg.solve(normal, weighted.T @ square)
    radius = float(np.sqrt(max(c + a * a + b * b, 1e-12)))
    distance = np.hypot(offset[:, 0] - a, offset[:, 1] - b) - radius
    return distance, radius, middle + np.array([a, b])
