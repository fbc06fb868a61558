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
    parts = min(count, _FEW_GROUPS if weights is None else _MOST_GROUPS)
    groups = []
    for part in np.array_split(np.arange(count), parts):
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
