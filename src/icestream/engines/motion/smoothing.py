"""Paths without what no stage can do: the most likely random acceleration.

A model with five numbers: the variance of the acceleration, ``a exp(-dose / d) + b``
(what is fast at first calms down), that of the velocity, and by how much that of the
measurement is more or less than thought. They are chosen by the likelihood of what
changes from frame to frame; the path then follows by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Smoother", "fit_smoother"]

UNKNOWN = 1e5
"""Variance, Å2, of what says nothing."""

# Where the search begins: logarithms of a, b (Å2), d (e/Å2), the velocity's (Å2) and
# the noise's variance over what it is thought to be; and how loosely each is held
# there. Most is over after 4 e/Å2 (Brilot et al., J. Struct. Biol. 177 (2012) 630).
_START = np.log([7.0, 0.02, 2.0, 0.1, 1.0])
_SPREAD = np.array([5.0, 5.0, 1.0, 5.0, 0.5])
_WIDEST = 20.0
_MOST_STEPS = 2000
# Paths may lie anywhere: so many times the noise's variance.
_VAGUE = 1e6
# Nothing is known better than a thousandth of an Å: frames that are the same.
_LEAST_VARIANCE_ANGST2 = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoother:
    """What makes a path of a measured one.

    Parameters
    ----------
    matrix
        ``(frames, frames)``: times a measured path of mean 0, it gives the path of
        mean 0.
    error_angst
        ``(frames,)`` standard error of the path along an axis, Å.
    """

    matrix: NDArray[np.float64]
    error_angst: NDArray[np.float64]


def fit_smoother(
    measured: NDArray[np.float64],
    variance_angst2: NDArray[np.float64],
    *,
    dose_e_per_angst2: float,
) -> Smoother:
    """Fit the model to paths of one kind.

    Parameters
    ----------
    measured
        ``(frames, paths)`` Å, at least 2 frames.
    variance_angst2
        ``(frames,)`` of what is measured, Å2; `UNKNOWN` where nothing is.
    dose_e_per_angst2
        Of each frame, e/Å2.

    Returns
    -------
    Smoother
        For paths of this kind.
    """
    count, paths = measured.shape
    variance_angst2 = np.maximum(variance_angst2, _LEAST_VARIANCE_ANGST2)
    change = np.diff(measured, axis=0)
    step = np.diff(np.eye(count), axis=0)
    jitter = (step * variance_angst2) @ step.T
    # Velocities share what both have been accelerated by.
    shared = np.minimum.outer(np.arange(count - 1), np.arange(count - 1))
    dose = dose_e_per_angst2 * np.arange(count - 2)

    def velocities(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        fast, slow, calm, start, _ = np.exp(np.clip(logs, -_WIDEST, _WIDEST))
        gained = np.cumsum(fast * np.exp(-dose / calm) + slow)
        found: NDArray[np.float64] = start + np.concatenate([[0.0], gained])[shared]
        return found

    def cost(logs: NDArray[np.float64]) -> float:
        noise = np.exp(np.clip(logs[-1], -_WIDEST, _WIDEST))
        covariance = velocities(logs) + noise * jitter
        # Not by triangles: for matrices as small, those start threads that only wait.
        width = np.log(np.diag(np.linalg.cholesky(covariance))).sum()
        square = (change * np.linalg.solve(covariance, change)).sum()
        held = ((logs - _START) / _SPREAD) ** 2
        likelihood = 0.5 * square + paths * width
        return float(likelihood + 0.5 * held.sum())

    best = minimize(
        cost,
        _START,
        method="Nelder-Mead",
        options={"maxiter": _MOST_STEPS, "xatol": 5e-2, "fatol": 5e-3},
    ).x
    noise = np.exp(np.clip(best[-1], -_WIDEST, _WIDEST)) * variance_angst2
    return _smoother(velocities(best), noise)


def _smoother(velocities: NDArray[np.float64], noise: NDArray[np.float64]) -> Smoother:
    """Return it for covariances of velocity and measurement."""
    count = len(noise)
    summed = np.tril(np.ones((count, count - 1)), -1)
    # Only differences count: a path may lie anywhere, and its mean is taken away.
    anywhere = _VAGUE * noise.min()
    prior = summed @ velocities @ summed.T + anywhere
    centring = np.eye(count) - 1 / count
    matrix = np.linalg.solve(prior + np.diag(noise), prior).T
    left = centring @ (prior - matrix @ prior) @ centring
    return Smoother(
        matrix=centring @ matrix, error_angst=np.sqrt(np.diag(left).clip(min=0))
    )
