"""From the counts of a movie to corrected images.

Bad pixels are found in the sum of all frames and filled, frames are binned to estimate
the motion, and then interpolated once from their counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.engines.gain import (
    find_defects,
    repair_frames,
    repaired_gain,
    sum_frames,
)
from icestream.engines.motion.average import Averages, average_frames
from icestream.engines.motion.binning import binned_frames
from icestream.engines.motion.dose import dose_weights
from icestream.engines.motion.field import Motion, estimate_motion

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Correction", "CorrectionRecipe", "correct_movie"]

# To estimate motion, pixels of about this size are enough.
_BINNED_ANGST = 3.5
_FREQUENCIES = 513
# What fast motion is thought to calm down with, where the dose is not known.
_USUAL_DOSE_E_PER_ANGST2 = 1.0


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
        Of each frame; ``None`` where it is not known: no dose weighting then, and paths
        are smoothed as if it were 1 e/Å2.
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
        On the CPU, of what does not go by `torch.set_num_threads`.
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
        dose_e_per_angst2=_USUAL_DOSE_E_PER_ANGST2
        if recipe.dose_e_per_angst2 is None
        else recipe.dose_e_per_angst2,
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
        averages=averages.on_cpu(),
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
