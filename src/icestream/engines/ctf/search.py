"""Exhaustive search of defocus and astigmatism, one matrix product for all.

The spectrum is averaged in sectors of azimuth. Within a sector astigmatism is nothing
but another defocus, so each sector is correlated with one dictionary of rings; the
score of (mean, astigmatism, angle) is then a sum of dictionary scores over sectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import InternalError
from icestream.engines.ctf.band import band_position
from icestream.engines.ctf.linear import spline_basis
from icestream.engines.ctf.refine import RingParameters

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics

__all__ = ["search_defocus"]

_SECTORS = 12
_STEP_ANGST = 50.0
_BACKGROUND_SPLINES = 6
_FALL_ANGST2 = (60.0, 200.0)  # B factors tried for the amplitude of the rings


def search_defocus(
    log_spectrum: Tensor,
    *,
    band: Band,
    optics: Optics,
    defocus_angst: tuple[float, float],
    astigmatism_angst: float,
    phase_shifts_deg: list[float],
) -> RingParameters:
    """Find the best point of a grid of defocus, astigmatism and phase shift.

    Parameters
    ----------
    log_spectrum
        ``(pixel,)``, log amplitude in the band.
    band, optics
        Where the pixels lie, and the microscope.
    defocus_angst
        Lowest and highest mean of U and V, Å.
    astigmatism_angst
        Highest U - V, Å.
    phase_shifts_deg
        Those to be tried.

    Returns
    -------
    RingParameters
        Good to about 100 Å: a start for ``refine``.
    """
    profile, g2, weight = _sector_profiles(log_spectrum, band)
    grid = _Grid.make(defocus_angst, astigmatism_angst, device=g2.device)
    position = band_position(g2, band=band)
    smooth = _orthonormal(spline_basis(position, count=_BACKGROUND_SPLINES) * weight)
    data = _without(profile * weight, smooth)
    best, best_score = None, -math.inf
    for phase in phase_shifts_deg:
        fixed = optics.fixed_phase_rad(g2, phase_shift_deg=phase)
        rings = torch.sin(optics.slope * grid.defocus[:, None] * g2 + fixed).square()
        for fall in _FALL_ANGST2:
            entries = _without(rings * torch.exp(-fall / 4 * g2) * weight, smooth)
            entries = entries / entries.norm(dim=1, keepdim=True)
            point, score = grid.best(data @ entries.T)
            if score > best_score:
                best, best_score = replace(point, phase_shift_deg=phase), score
    if best is None:
        raise InternalError("The search was given no phase shift.")
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Where each (astigmatism, sector) looks relative to the mean defocus."""

    defocus: Tensor
    margin: int
    offset: Tensor
    along: Tensor
    across: Tensor

    @classmethod
    def make(
        cls,
        defocus_angst: tuple[float, float],
        astigmatism_angst: float,
        *,
        device: torch.device,
    ) -> _Grid:
        """Lay out the grid."""
        margin = math.ceil(astigmatism_angst / 2 / _STEP_ANGST)
        steps = max(1, math.ceil((defocus_angst[1] - defocus_angst[0]) / _STEP_ANGST))
        number = torch.arange(-margin, steps + margin + 1, device=device)
        defocus = defocus_angst[0] + number.double() * _STEP_ANGST
        along, across = _astigmatism_grid(astigmatism_angst / 2, device=device)
        azimuth = _sector_azimuth(device)
        offset = along[:, None] * azimuth.cos() + across[:, None] * azimuth.sin()
        return cls(
            defocus=defocus,
            margin=margin,
            offset=(offset / _STEP_ANGST).round().long(),
            along=along,
            across=across,
        )

    def best(self, match: Tensor) -> tuple[RingParameters, float]:
        """Sum ``(sector, defocus)`` along each astigmatism; the best and its score."""
        width = match.shape[1] - 2 * self.margin
        total = match.new_zeros(len(self.along), width)
        for row, offset in zip(match, self.offset.T, strict=True):
            total += row.unfold(0, width, 1)[offset + self.margin]
        highest = int(total.argmax())
        astigmatism, mean = divmod(highest, width)
        parameters = RingParameters(
            mean_angst=float(self.defocus[mean + self.margin]),
            along_angst=float(self.along[astigmatism]),
            across_angst=float(self.across[astigmatism]),
        )
        return parameters, float(total[astigmatism, mean])


def _astigmatism_grid(half: float, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cover a disc of (half cos 2 angle, half sin 2 angle) with a square grid."""
    spacing = max(3 * _STEP_ANGST, half / 10)
    number = math.floor(half / spacing + 1e-9)
    line = torch.arange(-number, number + 1, device=device).double() * spacing
    along, across = torch.meshgrid(line, line, indexing="ij")
    inside = along.square() + across.square() <= half**2 * (1 + 1e-9)
    return along[inside], across[inside]


def _sector_azimuth(device: torch.device) -> Tensor:
    """Give twice the azimuth of each sector's centre, radians."""
    sector = torch.arange(_SECTORS, device=device).double()
    return (sector + 0.5) * (2 * math.pi / _SECTORS) - math.pi


def _sector_profiles(log_spectrum: Tensor, band: Band) -> tuple[Tensor, Tensor, Tensor]:
    """Average in sectors: ``(sector, bin)``, ``g^2`` and weight of each bin."""
    bins = ((band.g - band.g_low) / band.g_step).long()
    size = int(bins.max()) + 1
    turn = (band.azimuth_rad + math.pi) * (_SECTORS / (2 * math.pi))
    cell = turn.long().clamp(0, _SECTORS - 1) * size + bins
    count = torch.bincount(cell, minlength=_SECTORS * size).reshape(_SECTORS, size)
    total = torch.bincount(cell, weights=log_spectrum, minlength=_SECTORS * size)
    ring_count = count.sum(dim=0)
    ring_total = total.reshape(_SECTORS, size).sum(dim=0)
    used = ring_count > 0
    ring_count, count = ring_count[used], count[:, used]
    ring_mean = ring_total[used] / ring_count
    mean = total.reshape(_SECTORS, size)[:, used] / count.clamp_min(1)
    profile = torch.where(count > 0, mean, ring_mean)
    g2 = torch.bincount(bins, weights=band.g2, minlength=size)[used] / ring_count
    return profile, g2, (ring_count / _SECTORS).sqrt()


def _orthonormal(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(rows.T).Q
    return basis.T


def _without(rows: Tensor, smooth: Tensor) -> Tensor:
    """Remove from each row what the orthonormal rows of ``smooth`` can explain."""
    return rows - (rows @ smooth.T) @ smooth
