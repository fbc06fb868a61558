"""A movie of a grid that moves as told: no physics, no interpolation, exact truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.simulate.detector import draw_poisson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from icestream.simulate.motion import MotionField

__all__ = ["phantom_frames", "phantom_intensity"]

_NODE_PX = 16


def phantom_frames(
    motion: MotionField,
    *,
    electrons_per_px: float | None,
    generator: Generator,
    pitch_px: float = 128.0,
    line_px: float = 3.0,
    depth: float = 0.5,
) -> Iterator[Tensor]:
    """Give the frames of a moving grid.

    Parameters
    ----------
    motion
        How it moves; gives shape and number of frames.
    electrons_per_px
        Mean of the Poisson counts; ``None`` for the expected intensity without noise.
    generator
        The source of the noise; its device is where the frames lie.
    pitch_px, line_px, depth
        Distance of the lines, standard deviation of their profile, px; how much darker
        than 1 they are.

    Yields
    ------
    Tensor
        ``(h, w)`` float32 intensity, or whole counts.
    """
    for frame in range(motion.frame_count):
        intensity = phantom_intensity(
            motion,
            frame,
            pitch_px=pitch_px,
            line_px=line_px,
            depth=depth,
            device=generator.device,
        )
        if electrons_per_px is not None:
            intensity = draw_poisson(intensity * electrons_per_px, generator=generator)
        yield intensity


def phantom_intensity(
    motion: MotionField,
    frame: int,
    *,
    pitch_px: float,
    line_px: float,
    depth: float,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return one frame of the grid: the pattern at x - d(x, t), evaluated there.

    Parameters
    ----------
    motion, frame
        How it moves, and when.
    pitch_px, line_px, depth
        As `phantom_frames` has them.
    device
        Where the result lies.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, between 1 - 2 depth and 1.
    """
    y, x = (torch.arange(side, device=device).float() for side in motion.shape)
    shift_px = _shift_px(motion, frame, device)
    pattern = torch.ones(motion.shape, device=device)
    for place in (y[:, None] - shift_px[0], x[None, :] - shift_px[1]):
        away = torch.remainder(place + pitch_px / 2, pitch_px) - pitch_px / 2
        pattern -= depth * torch.exp(-((away / line_px) ** 2) / 2)
    return pattern


def _shift_px(motion: MotionField, frame: int, device: torch.device | str) -> Tensor:
    """Return ``(2, h, w)`` px: exact every 16 px, lines between (within 1e-3 px)."""
    y, x = (np.linspace(0, side - 1, side // _NODE_PX + 2) for side in motion.shape)
    shift = motion.shift_angst(frame, y[:, None], x[None, :]) / motion.pixel_size_angst
    coarse = torch.from_numpy(shift).to(device=device, dtype=torch.float32)
    return torch.nn.functional.interpolate(
        coarse.permute(2, 0, 1)[None],
        size=motion.shape,
        mode="bilinear",
        align_corners=True,
    )[0]
