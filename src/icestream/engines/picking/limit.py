"""Where noise ends: a limit for the scores of one image, from its own decoys.

A template with its sign reversed (a decoy) answers noise as the template itself does,
whatever the colour of the noise, but it does not answer particles. So the decoys' peaks
say what noise alone can score.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["noise_limit"]

_FALSE_ALARMS = 0.1  # expected per image, where particles are few
_LEAST_DECOYS = 4
_LEAST_MANY = 15  # noise beats its decoys so often in a row in one image of 30,000
_ERRORS = 2.0  # standard errors of the tail's width, to be on the safe side
_UPPER = 0.2  # the part of the decoys that gives the width of the tail
_LEAST_WIDTH = 0.3  # of the median squared: white noise has 0.31, coloured noise more


def noise_limit(
    scores: NDArray[np.float64],
    decoys: NDArray[np.float64],
    *,
    false_fraction: float,
) -> float:
    """Return the least score that is not noise.

    Parameters
    ----------
    scores, decoys
        Peak scores of the templates and of the reversed templates, > 0, any order.
    false_fraction
        Share of false picks that is allowed where there are 15 or more; 0 sets the
        first limit below, 1 or more sets none.

    Returns
    -------
    float
        The lower of two limits; either keeps noise out. Few particles: the score that
        noise exceeds once in ten images. Many: the least score above which decoys
        are no more than ``false_fraction`` of the picks.
    """
    if false_fraction >= 1:
        return 0.0
    return min(_tail_limit(decoys), _competition_limit(scores, decoys, false_fraction))


def _tail_limit(decoys: NDArray[np.float64]) -> float:
    """Score that the decoys' own tail rarely exceeds, and none of them does.

    Peaks of a Gaussian field fall off as ``exp(-t ** 2 / width)``; the width follows
    from the median and the upper fifth, which a few odd peaks cannot move. Twenty
    decoys may lie close together by chance: it is no less than what noise of any
    colour has, and raised by two standard errors of a difference of order statistics.
    """
    if len(decoys) < _LEAST_DECOYS:
        return math.inf
    median, upper, largest = np.quantile(decoys, [0.5, 1 - _UPPER, 1.0])
    span = math.log(0.5 / _UPPER)
    width = max((upper**2 - median**2) / span, _LEAST_WIDTH * median**2)
    width *= 1 + _ERRORS * math.sqrt((1 / _UPPER - 1 / 0.5) / len(decoys)) / span
    often = max(1.0, 0.5 * len(decoys) / _FALSE_ALARMS)
    return max(math.sqrt(median**2 + width * math.log(often)), float(largest))


def _competition_limit(
    scores: NDArray[np.float64], decoys: NDArray[np.float64], false_fraction: float
) -> float:
    """Least score at which ``(1 + decoys) / picks <= false_fraction``.

    The 1 makes the share hold on average for any number of picks (Barber & Candès,
    Ann. Statist. 43 (2015)).
    """
    ranked = np.sort(scores)[::-1]
    above = len(decoys) - np.searchsorted(np.sort(decoys), ranked, side="left")
    count = np.arange(1, len(ranked) + 1)
    is_many = count >= _LEAST_MANY
    passed = np.flatnonzero(is_many & (1 + above <= false_fraction * count))
    return float(ranked[passed[-1]]) if len(passed) else math.inf
