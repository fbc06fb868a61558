"""Corrected images: frames moved to where they belong, weighted, added up.

Frames are interpolated once, from counts straight into sums of a few neighbours whose
dose weights hardly differ; only these sums are transformed. What the interpolation
weakens on the mean is given back, and binning cuts the transform. A CPU works on some
sums at a time with compiled loops, any other device with torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from icestream.domain.errors import BadSettings
from icestream.engines.motion.average_cpu import sums_on_cpu
from icestream.engines.motion.average_device import sums_on_device
from icestream.engines.motion.groups import frame_groups
from icestream.engines.motion.interpolation import shift_lattice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.domain import MotionField

__all__ = ["Averages", "average_frames"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Averages:
    """Corrected images of one movie, ``(h, w)`` float32 each, sums over frames.

    Parameters
    ----------
    plain
        Every frame counts the same.
    dose_weighted
        Frames by what is left of their signal, the noise power that of ``plain``.
    odd, even
        Plain sums of the first, third, ... and of the second, fourth, ... frames.
    """

    plain: Tensor | None = None
    dose_weighted: Tensor | None = None
    odd: Tensor | None = None
    even: Tensor | None = None

    def on_cpu(self) -> Averages:
        """Return them where NumPy can read them."""
        kept = {one.name: getattr(self, one.name) for one in fields(self)}
        return Averages(
            **{name: one.cpu() for name, one in kept.items() if one is not None}
        )


def average_frames(
    frames: NDArray[Any] | Tensor,
    *,
    field: MotionField,
    pixel_size_angst: float,
    gain: NDArray[np.float32] | None = None,
    weights: NDArray[np.float64] | None = None,
    with_plain: bool = True,
    with_halves: bool = False,
    shape: tuple[int, int] | None = None,
    threads: int = 1,
) -> Averages:
    """Add up the frames of a movie, content where it belongs.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` counts of any real type: an array for the CPU, or a tensor
        where it lies.
    field
        Where content goes in these frames.
    pixel_size_angst
        Å/px of the frames.
    gain
        ``(h, w)``; none where the counts are corrected already.
    weights
        ``(frames, n)`` of frequencies from 0 to 1/2 a pixel, evenly, both included:
        see `dose_weights`. Not dose-weighted, if not given.
    with_plain, with_halves
        Which other images are wanted.
    shape
        Of the images, at most that of the frames; both sides in about one ratio.
    threads
        On a CPU.

    Returns
    -------
    Averages
        What was asked for, where the frames are.

    Raises
    ------
    BadSettings
        Shapes that do not fit, or nothing asked for.
    UnusableImage
        Content that moves by as much as the frame's side.
    """
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    wanted = size if shape is None else shape
    _check(frames, field, gain, weights, size, wanted)
    groups = frame_groups(len(frames), weights, with_halves=with_halves)
    if with_plain and not with_halves:
        groups = [group.also("plain") for group in groups]
    if not any(group.names or group.weights is not None for group in groups):
        raise BadSettings(
            "No image of a movie is asked for.",
            hint="Ask for the plain sum, or give the dose for a weighted one.",
        )
    lattice = shift_lattice(field, pixel_size_angst=pixel_size_angst)
    if isinstance(frames, torch.Tensor):
        images = sums_on_device(frames, gain, lattice, groups, wanted)
    else:
        images = sums_on_cpu(frames, gain, lattice, groups, wanted, threads)
    if with_plain and with_halves:
        images["plain"] = images["odd"] + images["even"]
    return Averages(**images)


def _check(
    frames: NDArray[Any] | Tensor,
    field: MotionField,
    gain: NDArray[np.float32] | None,
    weights: NDArray[np.float64] | None,
    size: tuple[int, int],
    wanted: tuple[int, int],
) -> None:
    fits = frames.ndim == 3 and field.shape_px == size
    fits &= field.frame_count == len(frames)
    fits &= gain is None or gain.shape == size
    fits &= weights is None or (weights.ndim == 2 and len(weights) == len(frames))
    fits &= all(0 < new <= old for new, old in zip(wanted, size, strict=True))
    if not fits:
        raise BadSettings(
            f"Frames {tuple(frames.shape)}, a field of {field.frame_count} frames of "
            f"{field.shape_px} px, a gain {None if gain is None else gain.shape}, "
            f"weights {None if weights is None else weights.shape} and images of "
            f"{wanted} px do not fit together.",
            hint="All must be of one movie.",
        )
