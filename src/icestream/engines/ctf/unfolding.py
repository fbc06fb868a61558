"""Phase shifts of a series of exposures as one line, although fits know half a turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["unfold_phase_shift_deg"]

_TURN_DEG = 180.0


def unfold_phase_shift_deg(
    values: NDArray[np.float64], *, memory: int = 5
) -> NDArray[np.float64]:
    """Add half turns to phase shifts in the order of time, so that they run on.

    Parameters
    ----------
    values
        ``(n,)`` degrees, modulo 180; NaN where there is no fit.
    memory
        Each value is put within 90 degrees of the median of so many before it: fewer
        than half of them may be wrong.

    Returns
    -------
    NDArray
        ``(n,)`` degrees, equal to ``values`` modulo 180; NaN stays. Half of them at
        least lie above 0, and their median below 180.

    Notes
    -----
    A phase plate that is moved to a fresh place by more than 90 degrees at once cannot
    be told from one that went on: unfold what lies between two moves.
    """
    unfolded = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return unfolded
    recent = [_middle_deg(values[known[:memory]])]
    for index in known:
        expected = float(np.median(recent[-memory:]))
        turns = round((expected - values[index]) / _TURN_DEG)
        unfolded[index] = values[index] + turns * _TURN_DEG
        recent.append(float(unfolded[index]))
    middle = float(np.median(unfolded[known]))
    return unfolded - math.floor(middle / _TURN_DEG) * _TURN_DEG


def _middle_deg(values: NDArray[np.float64]) -> float:
    """Find the value with the least summed distance to all, modulo half a turn."""
    apart = (values[:, None] - values + _TURN_DEG / 2) % _TURN_DEG - _TURN_DEG / 2
    return float(values[np.abs(apart).sum(axis=1).argmin()])
