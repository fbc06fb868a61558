"""RELION's model of how parts of an image move: 18 numbers for each axis.

The shift is the sum over six terms of place (1, x, x², y, y², xy) and three of time
(t, t², t³), with x and y from -0.5 to 0.5 over the image and t in frames from 0. It is
0 in the first frame, so a motion that is given otherwise is fitted but for what does
not change with time, and but for what is the same everywhere: both have other places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PolynomialFit", "fit_polynomial", "node_places_px", "polynomial_px"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialFit:
    """A motion as RELION can hold it.

    Parameters
    ----------
    coefficients
        ``(2, 6, 3)`` y and x of the local shift, terms of place, terms of time; px.
    whole_px
        ``(frames, 2)`` y and x of what is the same everywhere, px.
    rms_px
        RMS over frames, nodes and both axes of what is not followed, px.
    offset_px
        RMS over nodes and both axes of what does not change with time and is left out:
        RELION's places differ from the true ones by that.
    """

    coefficients: NDArray[np.float64]
    whole_px: NDArray[np.float64]
    rms_px: float
    offset_px: float


def node_places_px(
    shape_px: tuple[int, int], counts: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return y and x of nodes that lie evenly from the first pixel to the last.

    Parameters
    ----------
    shape_px
        Rows and columns of the image.
    counts
        Number of nodes along y and along x.

    Returns
    -------
    y_px, x_px
        ``(rows, columns)`` each.
    """
    y_px, x_px = (
        np.linspace(0.0, side - 1.0, count)
        for side, count in zip(shape_px, counts, strict=True)
    )
    grid_y, grid_x = np.meshgrid(y_px, x_px, indexing="ij")
    return grid_y, grid_x


def polynomial_px(
    coefficients: NDArray[np.float64],
    *,
    frame: ArrayLike,
    y_px: ArrayLike,
    x_px: ArrayLike,
    shape_px: tuple[int, int],
) -> NDArray[np.float64]:
    """Return the shift that the polynomial has.

    Parameters
    ----------
    coefficients
        ``(2, 6, 3)`` as in `PolynomialFit`.
    frame, y_px, x_px
        Frames, from 0, and places; broadcast against each other.
    shape_px
        Rows and columns of the image.

    Returns
    -------
    ndarray
        ``(*broadcast, 2)`` y and x, px.
    """
    time, space = _time_terms(frame), _space_terms(y_px, x_px, shape_px)
    shift: NDArray[np.float64] = np.einsum(
        "ask,...s,...k->...a", coefficients, space, time
    )
    return shift


def fit_polynomial(
    shift_px: NDArray[np.float64], *, shape_px: tuple[int, int]
) -> PolynomialFit:
    """Fit the polynomial to a motion, by least squares over nodes and frames.

    Parameters
    ----------
    shift_px
        ``(frames, rows, columns, 2)`` y and x at nodes as `node_places_px` has them.
    shape_px
        Rows and columns of the image.

    Notes
    -----
    Terms of place and of time are independent, so is their fit: one pseudo-inverse
    each. Too few frames for three terms take the smallest ones that fit.
    """
    counts = (shift_px.shape[1], shift_px.shape[2])
    y_px, x_px = (one.ravel() for one in node_places_px(shape_px, counts))
    values = shift_px.reshape(len(shift_px), -1, 2)
    time = _time_terms(np.arange(len(values)))
    space = _space_terms(y_px, x_px, shape_px)
    # What is free in each frame and at each node takes the means away.
    inverse_time = np.linalg.pinv(time - time.mean(axis=0))
    inverse_space = np.linalg.pinv(space - space.mean(axis=0))
    coefficients = np.einsum(
        "kt,sn,tna->ask", inverse_time, inverse_space, values, optimize=True
    )
    left = values - np.einsum("ask,ns,tk->tna", coefficients, space, time)
    whole_px = left.mean(axis=1)
    left -= whole_px[:, None]
    offset = left.mean(axis=0)
    return PolynomialFit(
        coefficients=coefficients,
        whole_px=whole_px,
        rms_px=float(np.sqrt(np.mean((left - offset) ** 2))),
        offset_px=float(np.sqrt(np.mean(offset**2))),
    )


def _time_terms(frame: ArrayLike) -> NDArray[np.float64]:
    t = np.asarray(frame, np.float64)
    return np.stack([t, t**2, t**3], axis=-1)


def _space_terms(
    y_px: ArrayLike, x_px: ArrayLike, shape_px: tuple[int, int]
) -> NDArray[np.float64]:
    y, x = np.broadcast_arrays(
        np.asarray(y_px, np.float64) / shape_px[0] - 0.5,
        np.asarray(x_px, np.float64) / shape_px[1] - 0.5,
    )
    return np.stack([np.ones_like(x), x, x * x, y, y * y, x * y], axis=-1)
