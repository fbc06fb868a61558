"""From the counts of a movie to corrected images.

Bad pixels are found in the sum of all frames and filled, frames are binned to estimate
the motion, and then interpolated once from their counts.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.compiled import compiled
from icestream.domain.errors import BadSettings
from icestream.engines.gain import (
    find_defects,
    repair_frames,
    repaired_gain,
    sum_frames,
)
from icestream.engines.motion.average import Averages, average_frames
from icestream.engines.motion.dose import dose_weights
from icestream.engines.motion.field import Motion, estimate_motion

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Correction", "CorrectionRecipe", "binned_frames", "correct_movie"]

# To estimate motion, pixels of about this size are enough.
_BINNED_ANGST = 3.5
_FREQUENCIES = 513


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionRecipe:
    """What belongs to a movie, and what is wanted of it.

    Parameters
    ----------
    pixel_size_angst
        Of the frames, Å/px.
    voltage_kv
        Acceleration voltage.
    dose_e_per_angst2
        Of each frame; ``None`` where it is not known: no dose weighting then.
    before_e_per_angst2
        Dose before the first frame.
    with_local
        Look for motion in parts of the image.
    with_plain, with_halves
        Keep sums without dose weights, and of odd and even frames. Where the dose is
        not known, the plain sum is always made.
    binning
        Sides of the frames over those of the images, at least 1.
    """

    pixel_size_angst: float
    voltage_kv: float = 300.0
    dose_e_per_angst2: float | None = None
    before_e_per_angst2: float = 0.0
    with_local: bool = True
    with_plain: bool = False
    with_halves: bool = False
    binning: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """What has become of a movie.

    Parameters
    ----------
    averages
        The images.
    motion
        How it moved.
    is_bad
        ``(h, w)`` pixels that were filled.
    counts
        ``(h, w)`` sum of the frames as they were, float32.
    pixel_size_angst
        Of the images, Å/px, along y.
    """

    averages: Averages
    motion: Motion
    is_bad: NDArray[np.bool_] = field(repr=False)
    counts: NDArray[np.float32] = field(repr=False)
    pixel_size_angst: float


def correct_movie(
    frames: NDArray[Any],
    *,
    recipe: CorrectionRecipe,
    gain: NDArray[np.float32] | None = None,
    defects: NDArray[np.bool_] | None = None,
    seed: int = 0,
    threads: int = 1,
    device: torch.device | str = "cpu",
) -> Correction:
    """Correct a movie.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` counts; bad pixels are filled **in place**.
    recipe
        What is wanted.
    gain
        ``(h, w)``, times which the counts are even; 0 where a pixel is dead.
    defects
        ``(h, w)`` pixels that are known to be bad.
    seed
        Of the chance with which bad pixels are filled.
    threads
        On the CPU.
    device
        Where the frames are moved and added up.

    Returns
    -------
    Correction
        The images on the CPU.

    Raises
    ------
    BadSettings
        Fewer than 2 frames, or values that cannot be.
    UnusableImage
        No pixel to fill others from, frames that are too small to align or have pixels
        that are no numbers, or content that leaves the frame.
    """
    if frames.ndim != 3 or recipe.binning < 1:
        raise BadSettings(
            f"Frames {frames.shape}, binned by {recipe.binning}.",
            hint="Give (frames, h, w), and a binning of 1 or more.",
        )
    torch.set_num_threads(threads)
    counts = sum_frames(frames)
    is_bad = find_defects(counts, gain)
    if defects is not None:
        is_bad |= defects
    repair_frames(frames, is_bad, seed=seed)
    even_gain = None if gain is None else repaired_gain(gain, is_bad)
    height, width = frames.shape[1:]
    factor = max(
        1, min(int(_BINNED_ANGST / recipe.pixel_size_angst + 0.5), height // 16)
    )
    binned = binned_frames(frames, even_gain, factor=factor, threads=threads)
    motion = estimate_motion(
        torch.from_numpy(binned).to(device),
        pixel_size_angst=recipe.pixel_size_angst * factor,
        dose_e_per_angst2=recipe.dose_e_per_angst2 or 1.0,
        shape_px=(height, width),
        with_local=recipe.with_local,
    )
    shape = _shape((height, width), recipe.binning)
    averages = average_frames(
        frames if str(device) == "cpu" else torch.from_numpy(frames).to(device),
        field=motion.field,
        pixel_size_angst=recipe.pixel_size_angst,
        gain=even_gain,
        weights=_weights(recipe, len(frames)),
        with_plain=recipe.with_plain or recipe.dose_e_per_angst2 is None,
        with_halves=recipe.with_halves,
        shape=shape,
        threads=threads,
    )
    return Correction(
        averages=averages,
        motion=motion,
        is_bad=is_bad,
        counts=counts,
        pixel_size_angst=recipe.pixel_size_angst * height / shape[0],
    )


def _shape(size: tuple[int, int], binning: float) -> tuple[int, int]:
    """Return the sides of the images: even where they are smaller."""
    if binning == 1:
        return size
    height, width = (2 * max(1, round(side / binning / 2)) for side in size)
    return height, width


def _weights(recipe: CorrectionRecipe, frame_count: int) -> NDArray[np.float64] | None:
    if recipe.dose_e_per_angst2 is None:
        return None
    return dose_weights(
        np.linspace(0, 0.5 / recipe.pixel_size_angst, _FREQUENCIES),
        frame_count=frame_count,
        dose_e_per_angst2=recipe.dose_e_per_angst2,
        voltage_kv=recipe.voltage_kv,
        before_e_per_angst2=recipe.before_e_per_angst2,
    )


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
    binned = np.empty(
        (count, math.floor(height / factor), math.floor(width / factor)), np.float32
    )
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
