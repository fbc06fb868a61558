"""A camera's sensor with its flaws, and the gain reference measured on it.

Flaws thin the electrons pixel by pixel, which leaves counts Poisson. Files hold the
counts as they fell; the gain reference *multiplies* them to correct, as RELION has it,
and is 0 where a pixel is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["Sensor", "flat_field_gain", "simulate_sensor"]

_SMOOTH_SD = 0.01
_PANEL_SD = 0.012
_SEAM_SENSITIVITY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One sensor with its flaws.

    Parameters
    ----------
    sensitivity
        ``(h, w)`` float32, mean about 1; 0 where a pixel is dead.
    noisy_index
        ``(n,)`` int64, pixels in row order that count by themselves.
    noisy_rate
        ``(n,)`` float32 counts a frame while they do.
    noisy_share
        ``(n,)`` float32 share of frames in which they do: 1 is hot, less is flickering.
    """

    sensitivity: Tensor
    noisy_index: Tensor
    noisy_rate: Tensor
    noisy_share: Tensor

    @property
    def gain(self) -> Tensor:
        """``(h, w)`` exact gain reference: multiply counts by it; 0 where dead."""
        live = self.sensitivity > 0
        return torch.where(live, 1 / self.sensitivity, 0.0)


def simulate_sensor(
    shape: tuple[int, int],
    *,
    generator: Generator,
    pixel_sd: float = 0.025,
    panels: tuple[int, int] = (2, 4),
    hot_count: int = 60,
    flickering_count: int = 20,
    dead_count: int = 30,
    dead_column_count: int = 0,
) -> Sensor:
    """Draw a sensor's flaws.

    Parameters
    ----------
    shape
        ``(h, w)`` of what the files hold, px.
    generator
        The source of randomness; its device is where the sensor lives.
    pixel_sd
        Spread of the sensitivity from pixel to pixel.
    panels
        Parts read out separately, down and across; each has a sensitivity of its own,
        and pixels on both sides of a seam have 0.9 of it. ``(1, 1)`` for none.
    hot_count, flickering_count
        Pixels that count 4 to 40 electrons of their own in every frame, or in a fifth
        of the frames.
    dead_count, dead_column_count
        Pixels and whole columns that never count.

    Returns
    -------
    Sensor
        Mean sensitivity 1 over the live pixels.
    """
    device = generator.device
    sensitivity = torch.empty(shape, device=device).normal_(
        1, pixel_sd, generator=generator
    )
    sensitivity.clamp_(min=0.5)
    coarse = torch.randn(1, 1, 6, 6, generator=generator, device=device) * _SMOOTH_SD
    sensitivity *= 1 + torch.nn.functional.interpolate(
        coarse, size=shape, mode="bicubic", align_corners=True
    ).reshape(shape)
    _apply_panels(sensitivity, panels, generator)
    flat = sensitivity.view(-1)
    dead = torch.randint(
        flat.numel(), (dead_count,), generator=generator, device=device
    )
    columns = torch.randint(
        shape[1], (dead_column_count,), generator=generator, device=device
    )
    flat[dead] = 0
    sensitivity[:, columns] = 0
    # In float64, so that the order of the sum does not show.
    sensitivity /= float(sensitivity.sum(dtype=torch.float64) / (sensitivity > 0).sum())
    count = hot_count + flickering_count
    share = torch.full((count,), 0.2, device=device)
    share[:hot_count] = 1
    return Sensor(
        sensitivity=sensitivity,
        noisy_index=torch.randint(
            flat.numel(), (count,), generator=generator, device=device
        ),
        noisy_rate=4 + 36 * torch.rand(count, generator=generator, device=device),
        noisy_share=share,
    )


def flat_field_gain(
    sensor: Sensor, *, electrons_per_px: float, generator: Generator
) -> Tensor:
    """Return the gain reference as it is measured: from a flat exposure.

    Parameters
    ----------
    sensor
        The sensor.
    electrons_per_px
        Dose of the flat exposure; its noise stays in the reference.
    generator
        The source of randomness.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, mean about 1; 0 where nothing was counted. Multiply counts.
    """
    counts = torch.poisson(sensor.sensitivity * electrons_per_px, generator=generator)
    live = counts > 0
    mean = float(counts.sum(dtype=torch.float64) / live.sum())
    return torch.where(live, mean / counts.clamp(min=1), 0.0)


def _apply_panels(
    sensitivity: Tensor, panels: tuple[int, int], generator: Generator
) -> None:
    factors = torch.empty(panels, device=sensitivity.device).normal_(
        1, _PANEL_SD if max(panels) > 1 else 0.0, generator=generator
    )
    rows, columns = (
        [round(side * i / count) for i in range(count + 1)]
        for side, count in zip(sensitivity.shape, panels, strict=True)
    )
    for i in range(panels[0]):
        for j in range(panels[1]):
            sensitivity[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] *= factors[
                i, j
            ]
    for edge in rows[1:-1]:
        sensitivity[edge - 1 : edge + 1] *= _SEAM_SENSITIVITY
    for edge in columns[1:-1]:
        sensitivity[:, edge - 1 : edge + 1] *= _SEAM_SENSITIVITY
