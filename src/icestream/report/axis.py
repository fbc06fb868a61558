"""Axes of a chart: a range that a few wild values do not stretch, and round ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Axis", "round_step", "span_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A straight scale from values to places in a drawing.

    Parameters
    ----------
    low, high
        Values at the two ends; what lies beyond is drawn at the end.
    start, end
        Places of the two ends; ``start`` may be the larger one.
    """

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return about so many round values inside the range, with their labels."""
        step = round_step((self.high - self.low) / max(count, 1))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(n * step, f"{n * step:.{digits}f}") for n in range(first, last + 1)]


def round_step(width: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten that is not smaller."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(
        (f * power for f in (1, 2, 5) if width <= f * power * (1 + 1e-9)), 10 * power
    )


def span_of(
    values: Sequence[float], *, include: Sequence[float] = (), least: float = 1e-9
) -> tuple[float, float]:
    """Return a range for an axis.

    Parameters
    ----------
    values
        What is drawn; values further than three times the middle half's width above or
        below that half do not count.
    include
        Values that must be seen, such as limits; far ones are left out.
    least
        Differences that are smaller count as none.
    """
    if not values:
        return (0.0, 1.0)
    lower, upper = np.percentile(values, (25, 75))
    reach = 3 * max(upper - lower, 1e-3 * abs(upper), least)
    near = [v for v in values if lower - reach <= v <= upper + reach]
    low, high = min(near), max(near)
    size = max(high - low, 0.1 * abs(high), least)
    high = max(high, low + least)
    for one in include:
        if low - 1.5 * size <= one <= high + 1.5 * size:
            low, high = min(low, one), max(high, one)
    margin = 0.06 * max(high - low, 0.1 * abs(high))
    bottom = low - margin if low < 0 else max(low - margin, 0.0)
    return (float(bottom), float(high + margin))
