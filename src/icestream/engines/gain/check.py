"""Does a gain fit its movies? Found from the movies themselves.

The mean of movies is 1 / gain, up to a smooth factor and shot noise. So the pattern of
the counts is compared with that of the gain in each of the eight orientations, and with
that of 1 / gain. The slope of the comparison is near 1 for what is right and near 0 for
what is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from icestream.engines.gain.orientation import ORIENTATIONS, Orientation
from icestream.engines.gain.pattern import (
    CommonPattern,
    CountSums,
    common_pattern,
    counts_pattern,
    sensitivity_pattern,
)
from icestream.engines.gain.shape import fit_shape, has_fitting_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GainCandidate", "GainCheck", "GainVerdict", "check_gain"]

# Over so many pixels the content of an image hardly changes.
_SIDE_PX = 7
_CLEAR = 6.0
# Standard errors between the right way and one that is a little alike.
_CLEAR_LEAD = 10.0
# Deviation that raw counts have at least; that corrected ones keep at most, where it
# can be seen that they are no raw counts.
_RAW_PATTERN, _MOST_LEFT_PATTERN = 0.01, 0.05
_MOST_SCATTER = 2.0
_SHIFTS = 5
_MOST_SIDE_PX = 1024


class GainVerdict(StrEnum):
    """What the movies say of their gain."""

    AS_DECLARED = "as declared"
    TURNED = "turned"
    INVERTED = "inverted"
    CORRECTED = "no gain visible: the movies are corrected already"
    FOREIGN = "not of these movies: they have another pattern"
    MISSING = "missing: the movies have a fixed pattern"
    UNDECIDED = "not yet decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class GainCandidate:
    """One way to apply a gain, and how well it fits.

    Parameters
    ----------
    orientation
        What to do to the gain first.
    is_inverse
        Whether counts are to be divided by it.
    correlation
        Of its pattern and the counts', -1 to 1; shot noise keeps it small.
    slope
        Of the counts' pattern against its own: 1 where it is right.
    slope_error
        What chance makes of a slope, by comparison at places that do not belong
        together.
    """

    orientation: Orientation
    is_inverse: bool
    correlation: float
    slope: float
    slope_error: float

    @property
    def least_slope(self) -> float:
        """Slope from which on it fits.

        Noise of the gain itself lowers the slope; and it makes corrected movies look
        like those of the inverse, up to 1/2.
        """
        return 0.5 if self.is_inverse else 0.25

    @property
    def z_score(self) -> float:
        """Slope over its error."""
        return self.slope / self.slope_error


@dataclass(frozen=True, slots=True, kw_only=True)
class GainCheck:
    """What was found.

    Parameters
    ----------
    verdict
        In short.
    best
        The candidate that fits best; ``None`` without a gain, or with one that
        has no pattern.
    candidates
        All that have the shape of the frames, sixteen for a square camera and eight for
        another; the first is the gain as declared where that fits.
    pattern_deviation
        Of the pattern that even and odd movies have in common, relative;
        ``None`` where nothing needs it, or before the second movie.
    movie_count
        Movies that it rests on.
    """

    verdict: GainVerdict
    best: GainCandidate | None
    candidates: tuple[GainCandidate, ...]
    pattern_deviation: float | None
    movie_count: int


def check_gain(sums: CountSums, gain: NDArray[np.float32] | None) -> GainCheck:
    """Find how a gain lies against its movies, and whether they need one.

    Parameters
    ----------
    sums
        Of movies as they are in their files.
    gain
        ``(h, w)`` factors as declared, 0 for dead pixels; ``None`` where none is given.

    Returns
    -------
    GainCheck
        A gain that fits is found from one movie as a rule; that none is visible, or
        that one is missing, needs two. Undecided where chance could do it (6 standard
        errors), or where orientations fit alike.

    Raises
    ------
    UnusableImage
        A gain that fits the frames neither as it is nor turned by 90°.

    Notes
    -----
    Errors come from the same comparison with the gain moved at random, so a pattern
    that is alike over neighbouring pixels (or content that is) makes them larger. Of
    large frames only the middle is looked at. Corrected movies keep the noise of their
    gain as a pattern of their own: one with more noise than the sensor has pattern
    would look like an inverted gain. Values that are no counts (not whole, or scattered
    more) are taken for corrected up to a pattern of 5 %. A gain of more noise than the
    sensor has pattern is told from a foreign one by its correlation alone.
    """
    if sums.movie_count == 0:
        return _found(GainVerdict.UNDECIDED, sums)
    candidates = () if gain is None else _compared(sums.total, gain)
    verdict = _verdict(candidates) if candidates else None
    if verdict is not None:
        return _found(verdict, sums, candidates)
    if sums.movie_count < 2:
        return _found(GainVerdict.UNDECIDED, sums, candidates)
    common = common_pattern(_middle(sums.even), _middle(sums.odd), side_px=_SIDE_PX)
    is_patterned = _is_patterned(common, sums)
    if is_patterned is None:
        verdict = GainVerdict.UNDECIDED
    elif not is_patterned:
        verdict = GainVerdict.CORRECTED
    elif candidates:
        best = max(candidates, key=_certainty)
        return replace(
            _found(_noisy_verdict(best, candidates), sums, candidates, common),
            best=best,
        )
    else:
        verdict = GainVerdict.MISSING
    return _found(verdict, sums, candidates, common)


def _noisy_verdict(
    best: GainCandidate, candidates: tuple[GainCandidate, ...]
) -> GainVerdict:
    """Return how a gain lies that has more noise than the sensor has pattern.

    The slope is small then, whatever way is right; but only one is no chance.
    """
    others = [_certainty(one) for one in candidates if one is not best]
    if _certainty(best) - max(others, default=0.0) < _CLEAR_LEAD:
        return GainVerdict.FOREIGN
    if _is_declared(best):
        return GainVerdict.AS_DECLARED
    return GainVerdict.INVERTED if best.is_inverse else GainVerdict.TURNED


def _certainty(candidate: GainCandidate) -> float:
    return max(candidate.z_score, 0.0)


def _is_patterned(common: CommonPattern, sums: CountSums) -> bool | None:
    """Return whether the pattern is one of raw counts; ``None`` while it is open."""
    is_counted = sums.are_whole and common.scatter < _MOST_SCATTER
    limit = (_RAW_PATTERN if is_counted else _MOST_LEFT_PATTERN) ** 2
    margin = _CLEAR * common.variance_error
    if common.variance - margin > limit:
        return True
    return False if common.variance + margin < limit else None


def _found(
    verdict: GainVerdict,
    sums: CountSums,
    candidates: tuple[GainCandidate, ...] = (),
    common: CommonPattern | None = None,
) -> GainCheck:
    deviation = None if common is None else math.sqrt(max(common.variance, 0))
    return GainCheck(
        verdict=verdict,
        best=max(candidates, key=_fit, default=None),
        candidates=candidates,
        pattern_deviation=deviation,
        movie_count=sums.movie_count,
    )


def _verdict(candidates: tuple[GainCandidate, ...]) -> GainVerdict | None:
    """Return what the slopes say; ``None`` where no candidate fits."""
    best = max(candidates, key=_fit)
    margin = _CLEAR * best.slope_error
    if best.slope + margin < best.least_slope:
        return None
    if best.slope - margin < best.least_slope:
        return GainVerdict.UNDECIDED
    alike = [one for one in candidates if best.slope - one.slope < 2 * margin]
    # A pattern that looks the same in two orientations leaves what was declared.
    if any(_is_declared(one) for one in alike):
        return GainVerdict.AS_DECLARED
    if len(alike) > 1:
        return GainVerdict.UNDECIDED
    return GainVerdict.INVERTED if best.is_inverse else GainVerdict.TURNED


def _fit(candidate: GainCandidate) -> float:
    return candidate.slope - candidate.least_slope


def _is_declared(candidate: GainCandidate) -> bool:
    return candidate.orientation == Orientation() and not candidate.is_inverse


def _compared(
    total: NDArray[np.float32], gain: NDArray[np.float32]
) -> tuple[GainCandidate, ...]:
    """Compare all ways; none for a gain without a pattern."""
    height, width = total.shape
    is_upright = has_fitting_shape(gain.shape, frame_shape=(height, width))
    fitted = fit_shape(
        gain, frame_shape=(height, width) if is_upright else (width, height)
    )
    # By whole sides: the middles of large frames are square whatever those are.
    ways = [one for one in ORIENTATIONS if one.shape_of(fitted.shape) == total.shape]
    fitted, total = _middle(fitted), _middle(total)
    sensitivity = np.divide(1, fitted, out=np.zeros_like(fitted), where=fitted > 0)
    counts = counts_pattern(total, side_px=_SIDE_PX).reshape(-1)
    own = float(np.dot(counts, counts))
    measured: list[tuple[Orientation, bool, float, float]] = []
    chance: list[float] = []
    for is_inverse, wanted in ((False, sensitivity), (True, fitted)):
        pattern = sensitivity_pattern(wanted, side_px=_SIDE_PX)
        power = float(np.dot(pattern.reshape(-1), pattern.reshape(-1)))
        if power * own == 0:
            return ()
        for orientation in ways:
            flat = orientation.apply(pattern).reshape(-1)
            product = float(np.dot(counts, flat))
            measured.append((orientation, is_inverse, product, power))
            chance += [
                p / math.sqrt(power) for p in _by_chance(counts, flat, total.shape[1])
            ]
    # The deviation that the products of unrelated pixels have, at least the white one.
    deviation = 1.4826 * float(np.median(np.abs(chance)))
    deviation = max(deviation, math.sqrt(own / counts.size))
    return tuple(
        GainCandidate(
            orientation=orientation,
            is_inverse=is_inverse,
            correlation=product / math.sqrt(own * power),
            slope=product / power,
            slope_error=deviation / math.sqrt(power),
        )
        for orientation, is_inverse, product, power in measured
    )


def _middle(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle of an array; that of the turned one is it turned."""
    margins = [max(side - _MOST_SIDE_PX + 1, 0) // 2 for side in array.shape]
    rows, columns = (
        slice(margin, side - margin)
        for margin, side in zip(margins, array.shape, strict=True)
    )
    return np.ascontiguousarray(array[rows, columns])


def _by_chance(
    counts: NDArray[np.float32], pattern: NDArray[np.float32], width: int
) -> list[float]:
    """Return products with the pattern moved by some rows and columns, cyclically."""
    rows = counts.size // width
    found = []
    for number in range(1, _SHIFTS + 1):
        # Far from each other and from the halves and quarters where panels meet.
        share = (number * 0.381966) % 1
        at = max(round(rows * share), 1) * width + max(round(width * share / 3), 1)
        at %= counts.size
        found.append(
            float(np.dot(counts[at:], pattern[: counts.size - at]))
            + float(np.dot(counts[:at], pattern[counts.size - at :]))
        )
    return found
