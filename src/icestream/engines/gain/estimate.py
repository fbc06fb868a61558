"""A gain from the movies themselves, and what is left of one that was applied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.engines.gain.defects import find_defects
from icestream.engines.gain.pattern import (
    CountSums,
    common_pattern,
    relative_to_mean,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GainEstimate", "ResidualGain", "estimate_gain", "residual_gain"]

# Wide enough for the steps where panels meet, narrow against holes and their ice.
_SIDE_PX = 65
_CLEAR = 6.0
_DEFECT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GainEstimate:
    """A gain estimated from movies.

    Parameters
    ----------
    gain
        ``(h, w)`` factors that multiply counts, about 1 over any 65 x 65 px; 0 for what
        `find_defects` finds in the sum and is a quarter off.
    error
        Standard error of a factor, relative: shot noise of the counts so far.
    pattern_deviation
        Standard deviation of the sensor's pattern, relative; ``None`` before the second
        movie.
    movie_count
        Movies that it rests on.
    least_movies
        From how many movies like these on it is better than none: its error is less
        than the pattern's deviation. ``None`` where there is no clear pattern.
    """

    gain: NDArray[np.float32]
    error: float
    pattern_deviation: float | None
    movie_count: int
    least_movies: int | None

    @property
    def is_better_than_none(self) -> bool:
        """Whether to apply it."""
        return self.least_movies is not None and self.movie_count >= self.least_movies


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualGain:
    """The pattern that a window of movies keeps after its gain.

    Parameters
    ----------
    deviation
        Standard deviation of the pattern beyond shot noise, relative; 0 where less than
        none was found.
    detection_limit
        Deviation that would be seen with certainty (6 standard errors).
    movie_count
        Movies in the window.
    """

    deviation: float
    detection_limit: float
    movie_count: int


def estimate_gain(sums: CountSums) -> GainEstimate:
    """Estimate the gain from movies of whatever was looked at.

    Parameters
    ----------
    sums
        Of movies that are not corrected.

    Returns
    -------
    GainEstimate
        Differences between pixels and steps between panels; what is smooth over 65 px
        is content or light as far as can be known, and is left out.

    Raises
    ------
    BadSettings
        No movie.

    Notes
    -----
    The error is that of counted electrons, or of whatever scatters as even and odd
    movies do; content that repeats from movie to movie is not in it.
    """
    if sums.movie_count == 0:
        raise BadSettings("A gain from no movie.", hint="Add movies first.")
    total = sums.total
    level = float(total.mean(dtype=np.float64))
    common, scatter = None, 1.0
    if sums.movie_count > 1:
        common = common_pattern(sums.even, sums.odd, side_px=_SIDE_PX)
        scatter = max(common.scatter, 0.0)
    error = math.sqrt(scatter / level)
    least = None
    if common is not None and common.variance > _CLEAR * common.variance_error:
        needed = error**2 * sums.movie_count / common.variance
        least = max(math.ceil(needed), 2)
    deviation = None if common is None else math.sqrt(max(common.variance, 0.0))
    return GainEstimate(
        gain=_inverse(total),
        error=error,
        pattern_deviation=deviation,
        movie_count=sums.movie_count,
        least_movies=least,
    )


def residual_gain(
    sums: CountSums, gain: NDArray[np.float32] | None = None
) -> ResidualGain:
    """Measure what pattern the movies of a window keep after their gain.

    Parameters
    ----------
    sums
        Of the movies of one window, at least two, as they are in their files.
    gain
        ``(h, w)`` factors that they are corrected with; ``None`` for none.

    Returns
    -------
    ResidualGain
        Even against odd movies, so shot noise and content are in its limit, not in its
        value.

    Raises
    ------
    BadSettings
        Fewer than two movies, or a gain of another shape.
    """
    if sums.movie_count < 2 or (gain is not None and gain.shape != sums.even.shape):
        other = "" if gain is None else f" with a gain of {gain.shape} px"
        raise BadSettings(
            f"A residual gain of {sums.movie_count} movies of {sums.even.shape} px"
            f"{other}.",
            hint="Give at least two movies, and fit the gain to them first.",
        )
    even, odd = sums.even, sums.odd
    if gain is not None:
        even, odd = even * gain, odd * gain
    common = common_pattern(even, odd, side_px=_SIDE_PX)
    return ResidualGain(
        deviation=math.sqrt(max(common.variance, 0.0)),
        detection_limit=math.sqrt(_CLEAR * common.variance_error),
        movie_count=sums.movie_count,
    )


def _inverse(total: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return local mean over counts; 0 for defects."""
    # With many counts a pixel of an honest pattern stands out too.
    is_far = np.abs(relative_to_mean(total, side_px=_SIDE_PX)) > _DEFECT
    is_good = ~(find_defects(total) & is_far)
    relative = relative_to_mean(total, is_good, side_px=_SIDE_PX) + 1
    is_good &= relative > 0
    return np.divide(1, relative, out=np.zeros_like(relative), where=is_good)
