"""Smooth surfaces over an image: how the parts of a field differ from the whole.

Legendre polynomials of y and x up to degree two together, each of mean square 1 over
the image, so that their coefficients compare; and the cubic spline through nodes that
`MotionField` keeps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import make_interp_spline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.domain import MotionField

__all__ = ["DEGREES", "NODES", "field_on_grid", "node_places", "surfaces"]

DEGREES = (0, 1, 1, 2, 2, 2)
"""Degree of each surface of `surfaces`; the first is even."""

NODES = 5
"""Nodes along each axis of a field; four would do for these surfaces."""


def surfaces(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the surfaces at places.

    Parameters
    ----------
    y, x
        ``(*places)``, from -1 at one edge of the image to 1 at the other.

    Returns
    -------
    ndarray
        ``(*places, 6)``.
    """
    first, second = math.sqrt(3), math.sqrt(5) / 2
    columns = (
        np.ones_like(y),
        first * y,
        first * x,
        second * (3 * y**2 - 1),
        3 * y * x,
        second * (3 * x**2 - 1),
    )
    return np.stack(columns, axis=-1)


def node_places(side_px: int) -> NDArray[np.float64]:
    """Return where the nodes of an axis lie, from -1 to 1 between the image's edges."""
    place: NDArray[np.float64] = 2 * (np.linspace(0, side_px - 1, NODES) + 0.5)
    return place / side_px - 1


def field_on_grid(
    field: MotionField, y_px: NDArray[np.float64], x_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where content goes at the places of a grid.

    Parameters
    ----------
    field
        The field.
    y_px
        ``(n,)`` rows of the grid, px.
    x_px
        ``(m,)`` columns, px. Beyond the image's edges the splines go on.

    Returns
    -------
    ndarray
        ``(frames, n, m, 2)`` y and x, Å.
    """
    whole = field.shift_angst[:, None, None]
    local = field.local_angst
    if local is None:
        return np.broadcast_to(whole, (len(whole), len(y_px), len(x_px), 2)).copy()
    rows = _splines(local.shape[1], field.shape_px[0], y_px)
    columns = _splines(local.shape[2], field.shape_px[1], x_px)
    found: NDArray[np.float64] = whole + np.einsum(
        "yr,trca,xc->tyxa", rows, local, columns, optimize=True
    )
    return found


def _splines(
    count: int, side_px: int, place_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``(places, nodes)``: what each node counts for."""
    nodes = np.linspace(0, max(side_px - 1, 1), count)
    weights: NDArray[np.float64] = make_interp_spline(nodes, np.eye(count), k=3)(
        place_px
    )
    return weights
