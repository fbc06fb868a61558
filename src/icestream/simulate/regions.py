"""The space that an asymmetric unit may fill, in domains, as labels on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Grid", "label_domains", "spread_centres"]

_RELAXATIONS = 12


class Grid:
    """Values on a grid of cubes, looked up and set by position.

    Parameters
    ----------
    low_angst, high_angst
        Corners of what it must hold, ``(3,)``, Å.
    spacing_angst
        Edge of a cube, Å.
    dtype
        Of its values, which start at 0.
    """

    def __init__(
        self,
        low_angst: NDArray[np.float64],
        high_angst: NDArray[np.float64],
        *,
        spacing_angst: float,
        dtype: type[np.generic] = np.int16,
    ) -> None:
        self.low_angst = low_angst
        self.spacing_angst = spacing_angst
        shape = np.ceil((high_angst - low_angst) / spacing_angst).astype(int) + 1
        self.values = np.zeros(shape, dtype=dtype)
        self._strides = np.array([shape[1] * shape[2], shape[2], 1], dtype=np.float64)
        self._balls: dict[float, NDArray[np.int64]] = {}

    def cells(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return flat indices of ``(..., 3)`` points; those outside get the nearest."""
        place = np.rint((points - self.low_angst) / self.spacing_angst)
        np.maximum(place, 0, out=place)
        np.minimum(place, np.array(self.values.shape) - 1, out=place)
        flat: NDArray[np.int64] = (place @ self._strides).astype(np.int64)
        return flat

    def at(self, points: NDArray[np.float64]) -> NDArray[Any]:
        """Return the values at ``(..., 3)`` points."""
        return self.values.reshape(-1)[self.cells(points)]

    def add_balls(self, points: NDArray[np.float64], radius_angst: float) -> None:
        """Set to 1 all cells within a radius of points that far from the edges."""
        steps = self._balls.get(radius_angst)
        if steps is None:
            reach = int(radius_angst / self.spacing_angst)
            line = np.arange(-reach, reach + 1)
            ball = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
            square = (ball**2).sum(axis=1) * self.spacing_angst**2
            steps = (ball[square <= radius_angst**2] @ self._strides).astype(np.int64)
            self._balls[radius_angst] = steps
        cells = self.cells(points)[:, None] + steps
        self.values.reshape(-1)[np.clip(cells, 0, self.values.size - 1)] = 1

    def places(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``(n, 3)`` positions of flat indices."""
        index = np.stack(np.unravel_index(cells, self.values.shape), axis=1)
        places: NDArray[np.float64] = index * self.spacing_angst + self.low_angst
        return places


def _copies(
    centres: NDArray[np.float64], rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return centres under all rotations, ``(order x d, 3)``; the identity first."""
    copies: NDArray[np.float64] = np.einsum("gij,dj->gdi", rotations, centres)
    return copies.reshape(-1, 3)


def spread_centres(
    generator: np.random.Generator,
    inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    *,
    reach_angst: float,
    rotations: NDArray[np.float64],
    domain_count: int,
) -> NDArray[np.float64]:
    """Divide a symmetric space into compact domains of about one size.

    Parameters
    ----------
    generator
        The source of randomness.
    inside
        Which of ``(n, 3)`` points lie in the space; it has the symmetry.
    reach_angst
        The space lies within this from the origin along x, y and z, Å.
    rotations
        ``(order, 3, 3)``, the identity first.
    domain_count
        Domains in an asymmetric unit.

    Returns
    -------
    ndarray
        ``(domain_count, 3)`` centres, Å.

    Notes
    -----
    Lloyd's relaxation: every centre moves to the centroid of what is nearest to it.
    """
    points = generator.uniform(-reach_angst, reach_angst, size=(60_000, 3))
    points = points[inside(points)]
    centres = points[generator.choice(len(points), domain_count, replace=False)]
    for _ in range(_RELAXATIONS):
        _, nearest = cKDTree(_copies(centres, rotations)).query(points)
        rotation, domain = np.divmod(np.asarray(nearest), domain_count)
        home = np.einsum("nji,nj->ni", rotations[rotation], points)
        for index in range(domain_count):
            if (domain == index).any():
                centres[index] = home[domain == index].mean(axis=0)
    return centres


def label_domains(
    centres: NDArray[np.float64],
    inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    *,
    rotations: NDArray[np.float64],
    radius_angst: float,
) -> Grid:
    """Label the space around the first asymmetric unit.

    Parameters
    ----------
    centres
        ``(d, 3)`` domain centres, Å.
    inside
        Which points lie in the space.
    rotations
        ``(order, 3, 3)``, the identity first.
    radius_angst
        No domain reaches further from its centre.

    Returns
    -------
    Grid
        Of 2 Å: 0 for ice, the number of the domain from 1, -1 for other copies.
    """
    margin = radius_angst + 6
    grid = Grid(
        centres.min(axis=0) - margin, centres.max(axis=0) + margin, spacing_angst=2.0
    )
    nearest = np.full(grid.values.shape, radius_angst**2)
    owner = np.full(grid.values.shape, -1)
    for index, centre in enumerate(_copies(centres, rotations)):
        window, square = _squares_about(grid, centre, radius_angst)
        is_nearer = square < nearest[window]
        nearest[window][is_nearer] = square[is_nearer]
        owner[window][is_nearer] = index
    cells = np.flatnonzero(owner.reshape(-1) >= 0)
    cells = cells[inside(grid.places(cells))]
    found = owner.reshape(-1)[cells]
    # The identity comes first.
    grid.values.reshape(-1)[cells] = np.where(found < len(centres), found + 1, -1)
    return grid


def _squares_about(
    grid: Grid, centre: NDArray[np.float64], radius_angst: float
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Return the part of a grid about a place, and squared distances there."""
    window, total = [], np.zeros((1, 1, 1))
    for axis, side in enumerate(grid.values.shape):
        place = (centre[axis] - grid.low_angst[axis]) / grid.spacing_angst
        reach = radius_angst / grid.spacing_angst
        start = min(max(int(np.ceil(place - reach)), 0), side)
        stop = min(max(int(place + reach) + 1, start), side)
        away = (np.arange(start, stop) - place) * grid.spacing_angst
        shape = [1, 1, 1]
        shape[axis] = -1
        total = total + (away**2).reshape(shape)
        window.append(slice(start, stop))
    return tuple(window), total
