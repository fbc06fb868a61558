"""What stays in the same pixels of all movies: sums of counts, and their pattern.

The mean of movies is ice and particles, which differ from movie to movie and are
smooth, times the sensitivity of each pixel, which is neither. Divided by its own local
mean it is the pattern of the sensor, plus shot noise. Even and odd movies are summed
apart: what their patterns have in common is the sensor's, without the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.compiled import compiled
from icestream.domain.errors import BadSettings, UnusableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CommonPattern",
    "CountSums",
    "common_pattern",
    "counts_pattern",
    "relative_to_mean",
    "sensitivity_pattern",
]

_OUTLIER = 6.0
_MAD_TO_DEVIATION = 1.4826
_MOST_SAMPLED = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountSums:
    """Sums of movies, even and odd ones apart: all that is kept of them.

    Parameters
    ----------
    even, odd
        ``(h, w)`` float32 counts, exact up to 2^24 in a pixel.
    movie_count
        Movies in both.
    are_whole
        Whether all counts were whole numbers.
    """

    even: NDArray[np.float32]
    odd: NDArray[np.float32]
    movie_count: int
    are_whole: bool

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> CountSums:
        """Return the sums of no movie."""
        nothing = np.zeros(shape, dtype=np.float32)
        return cls(even=nothing, odd=nothing, movie_count=0, are_whole=True)

    @property
    def total(self) -> NDArray[np.float32]:
        """``(h, w)`` counts of all movies."""
        return self.even + self.odd

    def plus(self, counts: NDArray[Any]) -> CountSums:
        """Return the sums with one more movie.

        Parameters
        ----------
        counts
            ``(h, w)`` sum over its frames, as they are in the file.

        Raises
        ------
        BadSettings
            Another shape than before.
        UnusableImage
            A sum that is not finite, or of nothing.
        """
        if counts.shape != self.even.shape:
            raise BadSettings(
                f"A movie of {counts.shape} px among movies of {self.even.shape} px.",
                hint="Keep sums of each acquisition setup apart.",
            )
        total = float(counts.sum(dtype=np.float64))
        if not (math.isfinite(total) and total > 0):
            raise UnusableImage(
                f"The frames of a movie add up to {total:g}.",
                hint="Was the beam on, the shutter open? Leave this movie out.",
            )
        is_odd = self.movie_count % 2 == 1
        added = (self.odd if is_odd else self.even) + counts.astype(np.float32)
        return CountSums(
            even=self.even if is_odd else added,
            odd=added if is_odd else self.odd,
            movie_count=self.movie_count + 1,
            are_whole=self.are_whole and bool((counts == np.rint(counts)).all()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonPattern:
    """The pattern that even and odd movies have in common.

    Parameters
    ----------
    variance
        Of the pattern without shot noise, relative to the local mean, squared; around 0
        where there is none, also below.
    variance_error
        Its standard error.
    scatter
        Variance over mean of what they do not have in common: about 1 for counted
        electrons, the square of a scale for what was multiplied by it, over that scale.
    """

    variance: float
    variance_error: float
    scatter: float


def common_pattern(
    even: NDArray[np.float32], odd: NDArray[np.float32], *, side_px: int
) -> CommonPattern:
    """Compare two sums of movies, neither of them empty.

    Parameters
    ----------
    even, odd
        ``(h, w)`` counts of different movies.
    side_px
        As `counts_pattern` has it.
    """
    level = math.sqrt(float(even.mean()) * float(odd.mean()))
    first = counts_pattern(even, side_px=side_px).reshape(-1)
    other = counts_pattern(odd, side_px=side_px).reshape(-1)
    size = first.size
    own = math.sqrt(float(np.dot(first, first)) * float(np.dot(other, other))) / size
    variance = float(np.dot(first, other)) / size
    return CommonPattern(
        variance=variance,
        variance_error=own / math.sqrt(size),
        scatter=(own - variance) * level,
    )


def counts_pattern(counts: NDArray[np.float32], *, side_px: int) -> NDArray[np.float32]:
    """Divide counts by their local mean.

    Parameters
    ----------
    counts
        ``(h, w)``, 0 or more.
    side_px
        Odd side of the square over which the mean is taken.

    Returns
    -------
    ndarray
        ``(h, w)`` counts over local mean, minus 1; 0 for pixels that stand out by more
        than 6 standard deviations, which the mean leaves out.
    """
    mean = max(float(counts.mean(dtype=np.float64)), 1e-12)
    return _pattern(counts, None, side_px, least_deviation=mean**-0.5)


def sensitivity_pattern(
    sensitivity: NDArray[np.float32], *, side_px: int
) -> NDArray[np.float32]:
    """Divide a sensitivity by its local mean, as `counts_pattern` does counts.

    Parameters
    ----------
    sensitivity
        ``(h, w)``; 0 for dead pixels, which are left out.
    side_px
        Odd side of the square over which the mean is taken.
    """
    return _pattern(sensitivity, sensitivity > 0, side_px, least_deviation=0.0)


def relative_to_mean(
    values: NDArray[np.float32],
    is_kept: NDArray[np.bool_] | None = None,
    *,
    side_px: int,
) -> NDArray[np.float32]:
    """Return values over their local mean, minus 1; 0 for those that are not kept.

    Parameters
    ----------
    values
        ``(h, w)``, 0 or more.
    is_kept
        ``(h, w)`` what the mean is taken of; ``None`` for all.
    side_px
        Odd side of the square over which it is taken.
    """
    half = side_px // 2
    if is_kept is None:
        sides = (np.arange(side, dtype=np.float32) for side in values.shape)
        rows, columns = (
            np.minimum(at + half, at[-1]) - np.maximum(at - half, 0) + 1 for at in sides
        )
        weight, mean = np.outer(rows, columns), _box_sums(values, half)
    else:
        weight = _box_sums(is_kept.astype(np.float32), half)
        mean = _box_sums(values * is_kept, half)
    mean /= np.maximum(weight, 1, out=weight)
    np.maximum(mean, np.float32(1e-12), out=mean)
    relative = np.divide(values, mean, out=mean)
    relative -= 1
    if is_kept is not None:
        relative[~is_kept] = 0
    return relative


def _pattern(
    values: NDArray[np.float32],
    is_kept: NDArray[np.bool_] | None,
    side_px: int,
    *,
    least_deviation: float,
) -> NDArray[np.float32]:
    first = relative_to_mean(values, is_kept, side_px=side_px)
    step = max(first.size // _MOST_SAMPLED, 1)
    sample = np.abs(first.reshape(-1)[::step])
    deviation = max(_MAD_TO_DEVIATION * float(np.median(sample)), least_deviation)
    is_usual = np.abs(first) <= _OUTLIER * deviation
    if is_kept is not None:
        is_usual &= is_kept
    return relative_to_mean(values, is_usual, side_px=side_px)


def _box_sums(values: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """Return sums over squares of ``2 half + 1`` px, cut at the borders."""
    sums = np.empty_like(values)
    _add_boxes(values, half, sums)
    return sums


@compiled
def _add_boxes(
    values: NDArray[np.float32], half: int, sums: NDArray[np.float32]
) -> None:
    """Add what comes and take off what goes, in float64, down and then across."""
    height, width = values.shape
    down = np.zeros(width, dtype=np.float64)
    for y in range(-half, height):
        if y + half < height:
            down += values[y + half]
        if y - half > 0:
            down -= values[y - half - 1]
        if y >= 0:
            across = down[:half].sum()
            for x in range(width):
                if x + half < width:
                    across += down[x + half]
                if x - half > 0:
                    across -= down[x - half - 1]
                sums[y, x] = across
