"""The pixels of a spectrum that take part in a fit, with their smooth bases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from icestream.domain.units import angst_from_mm, electron_wavelength_angst
from icestream.engines.ctf.model import (
    constant_phase_rad,
    defocus_slope,
    lens_phase_rad,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Band",
    "Optics",
    "band_position",
    "log_amplitude",
    "power_in_band",
    "select_band",
]

_ICE_RING_ANGST = (3.5, 4.1)
_CELLS = 24  # of 7.5 degrees, on half a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """What the microscope contributes to the phase of every image."""

    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float

    @property
    def slope(self) -> float:
        """Phase per ``g^2`` and per Å of defocus, radians."""
        return defocus_slope(self.voltage_kv)

    @property
    def lens_defocus_angst3(self) -> float:
        """Cs times the squared wavelength: defocus per ``g^2`` that the lens takes."""
        wavelength = electron_wavelength_angst(self.voltage_kv)
        return angst_from_mm(self.spherical_aberration_mm) * wavelength**2

    def fixed_phase_rad(self, g2: Tensor, *, phase_shift_deg: float = 0.0) -> Tensor:
        """Compute the phase that is left at zero defocus, radians."""
        lens = lens_phase_rad(
            g2,
            voltage_kv=self.voltage_kv,
            spherical_aberration_mm=self.spherical_aberration_mm,
        )
        return lens + constant_phase_rad(
            phase_shift_deg=phase_shift_deg, amplitude_contrast=self.amplitude_contrast
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Points between two resolutions, one of each Friedel pair, in float64.

    Parameters
    ----------
    index
        ``(pixel,)``, position in the flattened half spectrum.
    g2, along, across
        ``(point,)``: ``g^2``, ``gx^2 - gy^2`` and ``2 gx gy``, 1/Å^2.
    g_low, g_high
        Limits of the band, 1/Å.
    g_step
        Width of a spectrum pixel, 1/Å.
    cell
        ``(pixel,)``, the point that a pixel belongs to; ``None`` where each is one.
    weight
        ``(point,)``, pixels of a point.
    """

    index: Tensor
    g2: Tensor
    along: Tensor
    across: Tensor
    g_low: float
    g_high: float
    g_step: float
    weight: Tensor
    cell: Tensor | None = None

    @property
    def g(self) -> Tensor:
        """``(point,)``, spatial frequency, 1/Å."""
        return self.g2.sqrt()

    @property
    def azimuth_rad(self) -> Tensor:
        """``(point,)``, twice the angle from +x towards +y, in [-pi, pi]."""
        return torch.atan2(self.across, self.along)

    def gathered(self) -> Band:
        """Put neighbouring pixels together: half a pixel wide, 7.5 degrees long.

        A point lies at the mean of its pixels, so nothing is lost but the bend of the
        model within it.
        """
        ring = (2 * (self.g - self.g_low) / self.g_step).long()
        turn = (self.azimuth_rad + math.pi) * (_CELLS / (2 * math.pi))
        place = ring * _CELLS + turn.long().clamp(0, _CELLS - 1)
        _, cell, count = torch.unique(place, return_inverse=True, return_counts=True)
        points = replace(self, weight=count.to(self.g2), cell=cell)
        return replace(
            points,
            g2=points.at_points(self.g2),
            along=points.at_points(self.along),
            across=points.at_points(self.across),
        )

    def at_points(self, values: Tensor) -> Tensor:
        """Average values of pixels, ``(*batch, pixel)`` to ``(*batch, point)``."""
        if self.cell is None:
            return values
        total = values.new_zeros(*values.shape[:-1], len(self.weight))
        mean: Tensor = total.index_add_(-1, self.cell, values) / self.weight
        return mean

    def at_pixels(self, values: Tensor) -> Tensor:
        """Repeat the values of points, ``(point,)`` to ``(pixel,)``."""
        if self.cell is None:
            return values
        repeated: Tensor = values[self.cell]
        return repeated


def select_band(
    box: int,
    *,
    pixel_size_angst: float,
    resolution_angst: tuple[float, float],
    skip_ice: bool,
    device: torch.device,
) -> Band:
    """List the pixels of a half spectrum between two resolutions.

    Parameters
    ----------
    box
        ``n`` of the spectrum ``(n, n // 2 + 1)``.
    pixel_size_angst
        Pixel size that belongs to it, Å/px.
    resolution_angst
        Low and high limit, Å, e.g. ``(30, 4)``.
    skip_ice
        Leave out 4.1 to 3.5 Å, where ice may shine.
    device
        Where the tensors are made.

    Notes
    -----
    The two axes are left out, where camera rows and image edges leave streaks.
    """
    wide = torch.float64
    gy = torch.fft.fftfreq(box, d=pixel_size_angst, device=device, dtype=wide)[:, None]
    gx = torch.fft.rfftfreq(box, d=pixel_size_angst, device=device, dtype=wide)
    g2 = gy.square() + gx.square()
    low, high = (1 / limit for limit in resolution_angst)
    inside = (g2 >= low**2) & (g2 < high**2) & (gx > 0) & (gy != 0)
    if skip_ice:
        start, stop = (1 / limit for limit in reversed(_ICE_RING_ANGST))
        inside &= (g2 < start**2) | (g2 > stop**2)
    index = inside.flatten().nonzero().squeeze(1)
    row, col = index // g2.shape[1], index % g2.shape[1]
    y, x = gy[row, 0], gx[col]
    return Band(
        index=index,
        g2=g2.flatten()[index],
        along=x.square() - y.square(),
        across=2 * x * y,
        g_low=low,
        g_high=high,
        g_step=1 / (box * pixel_size_angst),
        weight=torch.ones_like(x),
    )


def power_in_band(power: Tensor, band: Band) -> Tensor:
    """Take the pixels of a band out of a power spectrum, none of them zero.

    Parameters
    ----------
    power
        ``(*batch, n, n // 2 + 1)``.

    Returns
    -------
    Tensor
        ``(*batch, pixel)``, float64.
    """
    values = power.flatten(-2)[..., band.index].double()
    floor = values.mean(dim=-1, keepdim=True) * 1e-6
    return values.clamp_min(floor).clamp_min(1e-300)


def log_amplitude(power: Tensor) -> Tensor:
    """Take half the logarithm of power.

    Speckle multiplies a spectrum, so its logarithm has the same noise everywhere and
    the unit of the image becomes an offset.
    """
    return power.log() / 2


def band_position(g2: Tensor, *, band: Band) -> Tensor:
    """Map ``g^2`` to [0, 1] over a band, in the logarithm of frequency."""
    low, high = math.log(band.g_low), math.log(band.g_high)
    return (g2.log() / 2 - low) / (high - low)
