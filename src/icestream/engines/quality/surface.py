"""A smooth surface through a part of an image, and what goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_surface"]

_ROUNDS = 6
_NEAR = 0.015
_PLANE_BELOW = 0.4  # of the image: too little to tell a curvature from
# Slopes and curvatures are held near 0: as if each were seen to be, by so many cells.
_HELD = np.array([0.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def fit_surface(
    values: NDArray[np.float32], start: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Fit a smooth surface to a part and to all that fits to it.

    Parameters
    ----------
    values
        ``(rows, columns)``.
    start
        ``(rows, columns)``, the part to begin with, not empty.

    Returns
    -------
    ndarray
        ``(rows, columns)``, the surface everywhere: of second order where enough of
        the image is in it, else a plane.
    """
    rows, columns = values.shape
    y, x = (np.linspace(-1, 1, side) for side in (rows, columns))
    basis = np.stack(
        [
            one.ravel()
            for one in np.broadcast_arrays(
                1.0, y[:, None], x, y[:, None] ** 2, y[:, None] * x, x**2
            )
        ],
        axis=1,
    )
    flat, chosen = values.ravel(), start.ravel()
    surface, near = flat, 0.0
    for _ in range(_ROUNDS):
        share = chosen.mean()
        terms = 6 if share > _PLANE_BELOW else 3
        part = basis[chosen, :terms]
        found = np.linalg.solve(
            part.T @ part + np.diag(_HELD[:terms]), part.T @ flat[chosen]
        )
        surface = basis[:, :terms] @ found
        rest = flat - surface
        near = near or max(_NEAR, 3 * float(np.median(np.abs(rest[chosen]))))
        now = np.abs(rest) < near
        if now.sum() < 3 * terms or (now == chosen).all():
            break
        chosen = now
    return surface.reshape(rows, columns).astype(np.float32)
