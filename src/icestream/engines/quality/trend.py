"""Whether a number rises or falls while a session goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trend", "trend"]

_LEAST_COUNT = 5
_ROUNDS = 30
_TUNING = 4.685  # of the bisquare: 95 % as good as least squares for Gaussian noise
_SIGMA_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A straight line through values over time.

    Parameters
    ----------
    slope, slope_error
        Change for one unit of time, and its standard error.
    value
        Of the line at the last time.
    count
        Values that it was fitted to.
    """

    slope: float
    slope_error: float
    value: float
    count: int


def trend(times: NDArray[np.float64], values: NDArray[np.float64]) -> Trend | None:
    """Fit a line that outliers do not bend.

    Parameters
    ----------
    times, values
        ``(n,)``, in any order; NaN where a value is missing.

    Returns
    -------
    Trend or None
        ``None`` with fewer than 5 values, or where all are of one time.

    Notes
    -----
    An M-estimate with the bisquare, begun at Tukey's resistant line; its standard
    error after Huber, Robust Statistics (1981), eq. 6.4 of chapter 7, so it
    supposes that errors do not depend on each other.
    """
    known = np.isfinite(times) & np.isfinite(values)
    at, y = times[known].astype(np.float64), values[known].astype(np.float64)
    if len(y) < _LEAST_COUNT or not np.ptp(at) > 0:
        return None
    middle, scale = float(at.mean()), float(at.std())
    x = (at - middle) / scale
    slope, level = _first_line(x, y)
    sigma = _sigma(y - level - slope * x)
    if sigma > 0:
        for _ in range(_ROUNDS):
            weight = _weight((y - level - slope * x) / sigma)
            slope, level = _weighted_line(x, y, weight)
    rest = y - level - slope * x
    return Trend(
        slope=slope / scale,
        slope_error=_slope_error(x, rest, sigma) / scale,
        value=level + slope * (float(at.max()) - middle) / scale,
        count=len(y),
    )


def _first_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return the line that leaves the first and the last third at one median."""
    low, high = np.quantile(x, (1 / 3, 2 / 3))
    first, last = x <= low, x >= high
    way = float(np.median(x[last]) - np.median(x[first]))
    slope = 0.0
    for _ in range(_ROUNDS if way > 0 else 0):
        rest = y - slope * x
        slope += float(np.median(rest[last]) - np.median(rest[first])) / way
    return slope, float(np.median(y - slope * x))


def _weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    mean_x, mean_y = (float(np.average(one, weights=weight)) for one in (x, y))
    spread = float(weight @ (x - mean_x) ** 2)
    slope = float(weight @ ((x - mean_x) * (y - mean_y))) / spread if spread else 0.0
    return slope, mean_y - slope * mean_x


def _weight(rest: NDArray[np.float64]) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = np.clip(1 - (rest / _TUNING) ** 2, 0, None) ** 2
    return inside


def _sigma(rest: NDArray[np.float64]) -> float:
    return _SIGMA_OF_MAD * float(np.median(np.abs(rest - np.median(rest))))


def _slope_error(
    x: NDArray[np.float64], rest: NDArray[np.float64], sigma: float
) -> float:
    spread = float(((x - x.mean()) ** 2).sum())
    if not sigma > 0:
        return 0.0
    u = rest / sigma
    inside = np.clip(1 - (u / _TUNING) ** 2, 0, None)
    influence = u * inside**2
    steepness = float(np.mean(inside * (1 - 5 * (u / _TUNING) ** 2)))
    if not steepness > 0:
        return math.inf
    spare = len(u) - 2
    # With few values the steepness is itself uncertain: Huber's factor for that.
    variance = float(influence @ influence) / spare * sigma**2 / steepness**2
    return math.sqrt(variance / spread)
