"""Frames with fewer pixels, for the estimate of motion: sums over squares."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["binned_frames"]


def binned_frames(
    frames: NDArray[Any],
    gain: NDArray[np.float32] | None,
    *,
    factor: int,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Add up squares of pixels, times the gain.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` of any real type.
    gain
        ``(h, w)``, or none.
    factor
        Side of a square, px. What is left over at the end of an axis is dropped.
    threads
        Frames at a time.

    Returns
    -------
    ndarray
        ``(frames, h // factor, w // factor)`` float32.
    """
    count, height, width = frames.shape
    binned = np.empty((count, height // factor, width // factor), np.float32)
    flat = np.ones((1, 1), np.float32) if gain is None else gain

    def work(number: int) -> None:
        _bin(frames[number], flat, factor, binned[number])

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
    return binned


@compiled
def _bin(
    frame: NDArray[Any],
    gain: NDArray[np.float32],
    factor: int,
    out: NDArray[np.float32],
) -> None:
    height, width = out.shape
    line = np.empty(width * factor, np.float32)
    for y in range(height):
        line[:] = 0
        for row in range(y * factor, (y + 1) * factor):
            if gain.size > 1:
                _add_row_with_gain(frame[row], gain[row], line)
            else:
                _add_row(frame[row], line)
        target = out[y]
        for x in range(width):
            total = np.float32(0)
            for i in range(x * factor, (x + 1) * factor):
                total += line[i]
            target[x] = total


@compiled
def _add_row(counts: NDArray[Any], out: NDArray[np.float32]) -> None:
    for i in range(len(out)):
        out[i] += np.float32(counts[i])


@compiled
def _add_row_with_gain(
    counts: NDArray[Any], gain: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    for i in range(len(out)):
        out[i] += np.float32(counts[i]) * gain[i]
