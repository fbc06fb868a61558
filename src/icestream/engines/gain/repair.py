"""Give bad pixels values that do no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.compiled import compiled
from icestream.domain.errors import BadSettings, UnusableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["repair_frames", "repaired_gain"]

_REACH_PX = 2
_MOST_REACH_PX = 16
_LEAST_NEIGHBOURS = 6
_MOST_NEIGHBOURS = (2 * _MOST_REACH_PX + 1) ** 2


def repair_frames(
    frames: NDArray[Any], is_bad: NDArray[np.bool_], *, seed: int
) -> None:
    """Replace bad pixels IN PLACE, each in each frame by a good neighbour's value.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` of any real type, C-contiguous. Changed: only the bad pixels
        are read and written, which a copy would make ten times as slow.
    is_bad
        ``(h, w)``.
    seed
        Of the choice; the same seed, place and number of the frame give the same
        neighbour.

    Raises
    ------
    BadSettings
        Shapes that differ, or frames that are not contiguous.
    UnusableImage
        More than half of the pixels are bad.

    Notes
    -----
    One value at random from within 2 px, as RELION does it, has the noise of its
    surroundings: a mean would have a fifth of it, and less power at high frequencies.
    Where fewer than 6 good pixels are as near, up to 16 px are looked at; further in,
    a good pixel of anywhere stands in.
    """
    if frames.shape[1:] != is_bad.shape or not frames.flags.c_contiguous:
        raise BadSettings(
            f"Frames of {frames.shape[1:]} px with defects of {is_bad.shape} px.",
            hint="Give a C-contiguous stack, and fit the defects to it first.",
        )
    places = _places(is_bad)
    flat = frames.reshape(len(frames), -1)
    _replace(flat, is_bad, places, np.uint64(seed % (1 << 64)))


def repaired_gain(
    gain: NDArray[np.float32], is_bad: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return a gain with the median of good neighbours for bad pixels.

    Parameters
    ----------
    gain
        ``(h, w)`` factors.
    is_bad
        ``(h, w)``; pixels of gain 0 must be among them.

    Returns
    -------
    ndarray
        ``(h, w)`` above 0 everywhere: to multiply repaired frames with.

    Raises
    ------
    BadSettings
        Shapes that differ, or a good pixel without a gain.
    UnusableImage
        More than half of the pixels are bad.
    """
    if gain.shape != is_bad.shape or (gain[~is_bad] <= 0).any():
        raise BadSettings(
            f"A gain of {gain.shape} px with defects of {is_bad.shape} px, or with "
            "good pixels of gain 0.",
            hint="Fit both to the frames; pixels of gain 0 are defects.",
        )
    repaired = gain.copy()
    _fill_median(
        gain, is_bad, _places(is_bad), float(np.median(gain[~is_bad][::16])), repaired
    )
    return repaired


def _places(is_bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    places = np.flatnonzero(is_bad)
    if 2 * places.size > is_bad.size:
        raise UnusableImage(
            f"{places.size} of {is_bad.size} pixels are bad.",
            hint="Look at the gain and the list of defects: are they of this camera?",
        )
    return places


@compiled
def _scrambled(number: np.uint64) -> np.uint64:
    """Return 64 bits that look random (the finaliser of SplitMix64)."""
    number += np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


@compiled
def _good_around(
    is_bad: NDArray[np.bool_], place: int, found: NDArray[np.int64]
) -> int:
    """List good pixels around a place; return how many, 0 where too few are near."""
    height, width = is_bad.shape
    y, x = place // width, place % width
    for reach in range(_REACH_PX, _MOST_REACH_PX + 1):
        count = 0
        for v in range(max(y - reach, 0), min(y + reach + 1, height)):
            for u in range(max(x - reach, 0), min(x + reach + 1, width)):
                if not is_bad[v, u]:
                    found[count] = v * width + u
                    count += 1
        if count >= _LEAST_NEIGHBOURS:
            return count
    return 0


@compiled
def _replace(
    frames: NDArray[Any],
    is_bad: NDArray[np.bool_],
    places: NDArray[np.int64],
    seed: np.uint64,
) -> None:
    found = np.empty(_MOST_NEIGHBOURS, dtype=np.int64)
    flat = is_bad.reshape(-1)
    for place in places:
        count = _good_around(is_bad, place, found)
        state = _scrambled(seed ^ _scrambled(np.uint64(place)))
        for t in range(frames.shape[0]):
            state = _scrambled(state)
            if count:
                source = found[state % np.uint64(count)]
            else:
                source = np.int64(state % np.uint64(flat.size))
                while flat[source]:
                    state = _scrambled(state)
                    source = np.int64(state % np.uint64(flat.size))
            frames[t, place] = frames[t, source]


@compiled
def _fill_median(
    gain: NDArray[np.float32],
    is_bad: NDArray[np.bool_],
    places: NDArray[np.int64],
    otherwise: float,
    repaired: NDArray[np.float32],
) -> None:
    found = np.empty(_MOST_NEIGHBOURS, dtype=np.int64)
    values = np.empty(_MOST_NEIGHBOURS, dtype=np.float32)
    known, filled = gain.reshape(-1), repaired.reshape(-1)
    for place in places:
        count = _good_around(is_bad, place, found)
        for i in range(count):
            values[i] = known[found[i]]
        filled[place] = np.median(values[:count]) if count else otherwise
