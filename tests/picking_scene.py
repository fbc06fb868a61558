"""Pictures of round particles at known places, for the tests of picking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain import Coordinates

if TYPE_CHECKING:
    from collections.abc import Sequence

DIAMETER_PX = 40.0
GRID_PX = tuple((y, x) for y in range(50, 400, 70) for x in range(45, 440, 85))
SHAPE_PX = (400, 440)


def coordinates(places_yx_px: Sequence[tuple[float, float]]) -> Coordinates:
    """Make coordinates of places (y, x)."""
    y_px, x_px = np.array(places_yx_px, dtype=np.float32).reshape(-1, 2).T
    same = np.ones_like(x_px)
    return Coordinates(
        x_px=x_px.copy(), y_px=y_px.copy(), score=same, diameter_angst=same
    )


def particles(
    places_yx_px: Sequence[tuple[float, float]] = GRID_PX,
    *,
    shape: tuple[int, int] = SHAPE_PX,
    hole: float = 0.0,
    noise: float = 2.0,
    seed: int = 0,
) -> torch.Tensor:
    """Draw dark discs of 40 px and depth 1 on 0, under white noise.

    Parameters
    ----------
    places_yx_px
        Centres (y, x).
    shape
        ``(h, w)``.
    hole
        Radius of the bright middle as a fraction of the particle's.
    noise
        Standard deviation per pixel.
    seed
        Of the noise.
    """
    y = torch.arange(float(shape[0]))[:, None]
    x = torch.arange(float(shape[1]))
    image = torch.zeros(shape)
    for centre_y, centre_x in places_yx_px:
        radius_px = torch.hypot(y - centre_y, x - centre_x)
        image -= torch.sigmoid(DIAMETER_PX / 2 - radius_px)
        if hole:
            image += torch.sigmoid(hole * DIAMETER_PX / 2 - radius_px)
    generator = torch.Generator().manual_seed(seed)
    return image + noise * torch.randn(shape, generator=generator)


def coloured_noise(
    shape: tuple[int, int], *, exponent: float, ring: float = 0.0, seed: int
) -> torch.Tensor:
    """Draw Gaussian noise whose power falls with frequency, with rings as ice has.

    Parameters
    ----------
    shape
        ``(h, w)``.
    exponent
        Power falls as ``frequency ** -exponent``.
    ring
        Phase of the oscillation ``sin(ring * frequency ** 2) ** 2`` at Nyquist.
    seed
        Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(shape, generator=generator)
    y, x = torch.fft.fftfreq(shape[0]), torch.fft.rfftfreq(shape[1])
    frequency = torch.hypot(y[:, None], x).clamp_min(1 / max(shape))
    amplitude = frequency ** (-exponent / 2)
    if ring:
        amplitude = amplitude * (torch.sin(4 * ring * frequency.square()).abs() + 0.1)
    noise: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, shape)
    return noise / noise.std()
