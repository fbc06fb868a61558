"""Frames that share a transform, and tables over frequency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FrameGroup", "frame_groups", "radial_table"]

# With dose weights, and without: then only so that threads have something to do.
_MOST_GROUPS, _FEW_GROUPS = 8, 4
# Weights up to so much of Nyquist, and so many of them, tell how alike frames are.
_WEIGHED, _COLUMNS = 0.6, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGroup:
    """Frames that are added up before they are transformed.

    Parameters
    ----------
    frames
        Their numbers.
    weights
        ``(n,)`` dose weights, one a frequency from 0 to 1/2 a pixel; or none.
    names
        Of the images in which their transform counts as it is.
    """

    frames: tuple[int, ...]
    weights: NDArray[np.float64] | None
    names: tuple[str, ...] = ()

    def also(self, name: str) -> FrameGroup:
        """Return the same, counting in one more image."""
        return replace(self, names=(*self.names, name))


def frame_groups(
    count: int, weights: NDArray[np.float64] | None, *, with_halves: bool
) -> list[FrameGroup]:
    """Return neighbours in few groups; odd and even frames apart if halves are wanted.

    Parameters
    ----------
    count
        Number of frames.
    weights
        ``(frames, n)``: with them there are up to 8 groups (16 of halves), each with
        the mean of its frames' weights; without, up to 4.
    with_halves
        Make the images ``odd`` and ``even``.
    """
    if weights is None:
        parts = np.array_split(np.arange(count), min(count, _FEW_GROUPS))
    else:
        parts = _alike(weights, min(count, _MOST_GROUPS))
    groups = []
    for part in parts:
        halves = {"odd": part[part % 2 == 0], "even": part[part % 2 == 1]}
        for name, members in halves.items() if with_halves else [("", part)]:
            if len(members):
                groups.append(
                    FrameGroup(
                        frames=tuple(int(one) for one in members),
                        weights=None if weights is None else weights[members].mean(0),
                        names=(name,) if name else (),
                    )
                )
    return groups


def _alike(weights: NDArray[np.float64], parts: int) -> list[NDArray[np.int64]]:
    """Return runs of frames whose weights differ least within each.

    Early frames, whose signal falls fastest, get the shorter runs. That costs 1 % of
    the power of the signal at most, where runs of one length cost up to 5 %.
    """
    count = len(weights)
    seen = weights[:, : max(round(weights.shape[1] * _WEIGHED), 1)]
    seen = seen[:, :: max(seen.shape[1] // _COLUMNS, 1)]
    cost = np.full((count, count + 1), np.inf)
    for first in range(count):
        for stop in range(first + 1, count + 1):
            run = seen[first:stop]
            cost[first, stop] = np.square(run - run.mean(0)).sum()
    best = cost[0]
    starts = []
    for _ in range(parts - 1):
        every = best[:count, None] + cost
        starts.append(every.argmin(0))
        best = every.min(0)
    runs, stop = [], count
    for start in [*reversed(starts), np.zeros(count + 1, np.int64)]:
        first = int(start[stop])
        runs.append(np.arange(first, stop))
        stop = first
    return runs[::-1]


def radial_table(values: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """Return a table over the square of the frequency, for look-ups without roots.

    Parameters
    ----------
    values
        ``(n,)`` over frequencies from 0 to 1/2 a pixel, evenly; flat beyond.
    count
        Entries from 0 to the square of the corner's frequency, 1/2.

    Returns
    -------
    ndarray
        ``(count,)``: entry ``i`` is for the square ``(i + 0.5) / (2 count)``.
    """
    frequency = np.sqrt((np.arange(count) + 0.5) / (2 * count))
    known = np.linspace(0, 0.5, len(values))
    return np.interp(frequency, known, values).astype(np.float32)
