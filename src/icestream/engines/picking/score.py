"""Compare picks with known centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.domain.particles import Coordinates

__all__ = ["Matches", "match_coordinates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Pairs of picks and true centres, and what was left over.

    Parameters
    ----------
    found_index, true_index
        ``(n,)`` rows of the pairs.
    distance_px
        ``(n,)`` distance of each pair, px.
    found_count, true_count
        Numbers of picks and of true centres.
    """

    found_index: NDArray[np.intp]
    true_index: NDArray[np.intp]
    distance_px: NDArray[np.float64]
    found_count: int
    true_count: int

    @property
    def precision(self) -> float | None:
        """Share of the picks that are true; ``None`` without picks."""
        return len(self.distance_px) / self.found_count if self.found_count else None

    @property
    def recall(self) -> float | None:
        """Share of the true centres that were found; ``None`` without such."""
        return len(self.distance_px) / self.true_count if self.true_count else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; ``None`` where nothing is counted."""
        total = self.found_count + self.true_count
        return 2 * len(self.distance_px) / total if total else None


def match_coordinates(
    found: Coordinates,
    truth: Coordinates,
    *,
    max_distance_px: float | NDArray[np.float64],
) -> Matches:
    """Pair picks with true centres one to one.

    Parameters
    ----------
    found, truth
        Centres in pixels of the same micrograph.
    max_distance_px
        Greatest distance of a pair, px: one for all, or ``(n,)`` one for each true
        centre.

    Returns
    -------
    Matches
        As many pairs as can be, and among those choices the one with the least sum of
        distances.

    Raises
    ------
    BadSettings
        A distance is not above 0.
    """
    given_px = np.asarray(max_distance_px, np.float64)
    if not ((given_px > 0) & (given_px < np.inf)).all():
        raise BadSettings(
            f"Nothing can be matched within {max_distance_px} px.",
            hint="Give a distance above 0.",
        )
    limit_px = np.broadcast_to(given_px, len(truth))
    distance_px = cdist(_places(found), _places(truth))
    # One more pair saves more than any choice of the others can cost.
    reward = limit_px.max(initial=0.0) * (min(distance_px.shape) + 1)
    cost = np.where(distance_px <= limit_px, distance_px - reward, 0.0)
    rows, columns = linear_sum_assignment(cost)
    is_near = distance_px[rows, columns] <= limit_px[columns]
    rows, columns = rows[is_near], columns[is_near]
    return Matches(
        found_index=rows,
        true_index=columns,
        distance_px=distance_px[rows, columns],
        found_count=len(found),
        true_count=len(truth),
    )


def _places(coordinates: Coordinates) -> NDArray[np.float64]:
    return np.stack([coordinates.x_px, coordinates.y_px], axis=1).astype(np.float64)
