"""Sums of moved frames on any device of torch, a group after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icestream.engines.motion.interpolation import ShiftLattice, add_moved_anywhere

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.groups import FrameGroup

__all__ = ["sums_on_device"]

_SPARSE = 37


def sums_on_device(
    frames: Tensor,
    gain: NDArray[np.float32] | None,
    lattice: ShiftLattice,
    groups: Sequence[FrameGroup],
    shape: tuple[int, int],
) -> dict[str, Tensor]:
    """Return the images that the groups make, by name; see `average_frames`."""
    size = (frames.shape[1], frames.shape[2])
    flat = None if gain is None else torch.from_numpy(gain).to(frames.device)
    height, width = shape
    y = torch.fft.fftfreq(height, device=frames.device) * height / size[0]
    x = torch.fft.rfftfreq(width, device=frames.device) * width / size[1]
    radius = (y[:, None] ** 2 + x**2).sqrt()
    totals: dict[str, Tensor] = {}
    for group in groups:
        spectrum = _cut(torch.fft.rfft2(_added_up(frames, flat, lattice, group)), shape)
        shares = dict.fromkeys(group.names, spectrum)
        if group.weights is not None:
            shares["dose_weighted"] = spectrum * _at(group.weights, radius)
        for name, share in shares.items():
            totals[name] = totals[name] + share if name in totals else share
    up, along = (
        _at(lattice.restoring(257, axis=axis), one.abs())
        for axis, one in enumerate((y, x))
    )
    restored = height * width / (size[0] * size[1]) * up[:, None] * along
    return {
        name: torch.fft.irfft2(total * restored, s=shape)
        for name, total in totals.items()
    }


def _added_up(
    frames: Tensor, gain: Tensor | None, lattice: ShiftLattice, group: FrameGroup
) -> Tensor:
    out = torch.zeros(frames.shape[1:], device=frames.device)
    for number in group.frames:
        frame = frames[number].float()
        if gain is not None:
            frame = frame * gain
        beyond = float(frame[::_SPARSE, ::_SPARSE].mean(dtype=torch.float64))
        add_moved_anywhere(frame, lattice, number, out=out, beyond=beyond)
    return out


def _cut(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    """Drop frequencies, that at the new edge of an even side too."""
    height, width = shape
    old = (spectrum.shape[0], spectrum.shape[1])
    down = (height - 1) // 2 if height < old[0] else height // 2
    across = width // 2 + 1
    if across < old[1]:
        across = (width - 1) // 2 + 1
    cut = spectrum.new_zeros(height, width // 2 + 1)
    cut[: down + 1, :across] = spectrum[: down + 1, :across]
    below = min(down, height - down - 1)
    if below:
        cut[-below:, :across] = spectrum[-below:, :across]
    return cut


def _at(table: NDArray[np.float64], frequency: Tensor) -> Tensor:
    """Return a table over 0 to 1/2 a pixel at frequencies, on lines, flat beyond."""
    values = torch.from_numpy(table).to(frequency)
    place = (frequency * (2 * (len(table) - 1))).clamp(max=len(table) - 1)
    low = place.floor().clamp(max=len(table) - 2).long()
    part = place - low
    return values[low] * (1 - part) + values[low + 1] * part
