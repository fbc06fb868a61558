"""A track without what no stage can do: the most likely random acceleration.

A model with four numbers: the variance of the acceleration, ``a exp(-dose / d) + b``
(what is fast at first calms down), and that of the measurement. They are chosen by the
likelihood of the second differences, the track then follows by least squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["smoothed_track"]

# Where the search begins: logarithms of a, b (Å2), d (e/Å2), variance of noise (Å2);
# and how loosely each is held there. Calming takes some e/Å2, as the literature has it.
_START = np.log([7.0, 0.02, 2.0, 0.05])
_SPREAD = np.array([5.0, 5.0, 1.0, 5.0])
_MOST_STEPS = 2000
# The variance of what says nothing, over that of a measurement.
_VAGUE = 1e6


def smoothed_track(
    measured: NDArray[np.float64],
    is_known: NDArray[np.bool_],
    *,
    dose_e_per_angst2: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smooth a track.

    Parameters
    ----------
    measured
        ``(frames, 2)`` Å, at least 5 frames.
    is_known
        ``(frames,)`` the others say nothing.
    dose_e_per_angst2
        Of each frame, e/Å2.

    Returns
    -------
    track
        ``(frames, 2)`` Å, of mean 0.
    error
        ``(frames,)`` its standard error along an axis, Å.
    """
    count = len(measured)
    second = np.diff(np.eye(count), 2, axis=0)
    change = second @ measured
    dose = dose_e_per_angst2 * np.arange(count - 2)
    vague = np.where(is_known, 1.0, _VAGUE)

    def variances(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        fast, slow, calm, noise = np.exp(np.clip(numbers, -20, 20))
        return fast * np.exp(-dose / calm) + slow, float(noise)

    def cost(numbers: NDArray[np.float64]) -> float:
        steps, noise = variances(numbers)
        covariance = np.diag(steps) + noise * (second * vague) @ second.T
        root = np.linalg.cholesky(covariance)
        white = np.linalg.solve(root, change)
        held = ((numbers - _START) / _SPREAD) ** 2
        likelihood = 0.5 * (white**2).sum() + 2 * np.log(np.diag(root)).sum()
        return float(likelihood + 0.5 * held.sum())

    best = minimize(
        cost,
        _START,
        method="Nelder-Mead",
        options={"maxiter": _MOST_STEPS, "xatol": 1e-2, "fatol": 1e-3},
    ).x
    steps, noise = variances(best)
    precision = np.diag(1 / (noise * vague)) + second.T @ (second / steps[:, None])
    covariance = np.linalg.inv(precision)
    track = covariance @ (measured / (noise * vague)[:, None])
    # Only differences count: the error of a track whose mean is taken away.
    centring = np.eye(count) - 1 / count
    error = np.sqrt(np.diag(centring @ covariance @ centring))
    return track - track.mean(0), error
