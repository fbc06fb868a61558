"""Exhaustive search of defocus and astigmatism, one matrix product for all.

The spectrum is averaged in sectors of azimuth. Within a sector astigmatism is nothing
but another defocus, so each sector is correlated with one dictionary of rings; the
score of (mean, astigmatism, angle) is then a sum of dictionary scores over sectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

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
_PHASES_DEG = tuple(range(0, 180, 15))  # half a turn more is the same
_STARTS, _LOOKED_AT = 8, 256
_NEAR_ANGST, _NEAR_DEG = 120.0, 20.0


def search_defocus(
    log_spectrum: Tensor,
    *,
    band: Band,
    optics: Optics,
    defocus_angst: tuple[float, float],
    astigmatism_angst: float,
    phase_shift_deg: float | None,
) -> list[RingParameters]:
    """Find the best points of a grid of defocus, astigmatism and phase shift.

    Parameters
    ----------
    log_spectrum
        ``(point,)``, log amplitude in the band.
    band, optics
        Where the points lie, and the microscope.
    defocus_angst
        Lowest and highest mean of U and V, Å.
    astigmatism_angst
        Highest U - V, Å.
    phase_shift_deg
        The known one; ``None`` where it is to be searched too.

    Returns
    -------
    list of RingParameters
        The best first, none next to a better one. Good to about 100 Å: starts for
        `refine`.

    Notes
    -----
    A ring is ``sin^2(chi + phase)``, a sum of ``cos 2 chi`` and ``sin 2 chi`` with
    weights that depend on the phase alone: two dictionaries serve all phases.
    """
    profile, g2, weight = _sector_profiles(log_spectrum, band)
    grid = _Grid.make(defocus_angst, astigmatism_angst, device=g2.device)
    position = band_position(g2, band=band)
    smooth = _orthonormal(spline_basis(position, count=_BACKGROUND_SPLINES) * weight)
    data = _without(profile * weight, smooth)
    twice = 2 * (optics.slope * grid.defocus[:, None] * g2 + optics.fixed_phase_rad(g2))
    found: list[tuple[float, RingParameters]] = []
    for fall in _FALL_ANGST2:
        height = torch.exp(-fall / 4 * g2) * weight / 2
        pair = _without(
            torch.stack((-torch.cos(twice), torch.sin(twice))) * height, smooth
        )
        match = _Match.of(data, pair)
        for phase in _PHASES_DEG if phase_shift_deg is None else (phase_shift_deg,):
            total = grid.total(match.at(math.radians(2 * phase)))
            found += grid.best(total, phase_shift_deg=phase)
    return _apart(found)


def _apart(found: list[tuple[float, RingParameters]]) -> list[RingParameters]:
    """Choose the best, and the next best that are not beside one of them."""
    chosen: list[RingParameters] = []
    for _, one in sorted(found, key=lambda pair: -pair[0]):
        if all(_distance(one, other) > 1 for other in chosen):
            chosen.append(one)
        if len(chosen) == _STARTS:
            break
    return chosen


def _distance(one: RingParameters, other: RingParameters) -> float:
    """Tell how far apart two points are, 1 where they lead to the same minimum."""
    turn = abs(one.phase_shift_deg - other.phase_shift_deg) % 180
    return max(
        abs(one.mean_angst - other.mean_angst) / _NEAR_ANGST,
        abs(one.along_angst - other.along_angst) / (2 * _NEAR_ANGST),
        abs(one.across_angst - other.across_angst) / (2 * _NEAR_ANGST),
        min(turn, 180 - turn) / _NEAR_DEG,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """Products ``(2, sector, defocus)`` of data and dictionary, and of the pair."""

    data: Tensor
    squares: Tensor

    @classmethod
    def of(cls, data: Tensor, pair: Tensor) -> _Match:
        """Multiply ``(sector, bin)`` with ``(2, defocus, bin)``."""
        cos, sin = pair
        squares = ((cos * cos).sum(1), (cos * sin).sum(1), (sin * sin).sum(1))
        return cls(
            data=torch.einsum("sb,pdb->psd", data, pair), squares=torch.stack(squares)
        )

    def at(self, twice_phase: float) -> Tensor:
        """Correlate at a phase shift, ``(sector, defocus)``."""
        c, s = math.cos(twice_phase), math.sin(twice_phase)
        norm = c * c * self.squares[0] + 2 * c * s * self.squares[1]
        norm = (norm + s * s * self.squares[2]).clamp_min(1e-30).sqrt()
        return (c * self.data[0] + s * self.data[1]) / norm


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

    def total(self, match: Tensor) -> Tensor:
        """Sum ``(sector, defocus)`` along each astigmatism: ``(astigmatism, mean)``."""
        width = match.shape[1] - 2 * self.margin
        total = match.new_zeros(len(self.along), width)
        for row, offset in zip(match, self.offset.T, strict=True):
            total += row.unfold(0, width, 1)[offset + self.margin]
        return total

    def best(
        self, total: Tensor, *, phase_shift_deg: float
    ) -> list[tuple[float, RingParameters]]:
        """Return the highest points with their scores."""
        score, place = total.flatten().topk(min(_LOOKED_AT, total.numel()))
        width = total.shape[1]
        mean, which = self.defocus[place % width + self.margin], place // width
        columns = (score, mean, self.along[which], self.across[which])
        return [
            (
                value,
                RingParameters(
                    mean_angst=mean_angst,
                    along_angst=along_angst,
                    across_angst=across_angst,
                    phase_shift_deg=phase_shift_deg,
                ),
            )
            for value, mean_angst, along_angst, across_angst in zip(
                *(one.tolist() for one in columns), strict=True
            )
        ]


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
    count = torch.bincount(cell, weights=band.weight, minlength=_SECTORS * size)
    count = count.reshape(_SECTORS, size)
    total = torch.bincount(
        cell, weights=log_spectrum * band.weight, minlength=_SECTORS * size
    )
    ring_count = count.sum(dim=0)
    ring_total = total.reshape(_SECTORS, size).sum(dim=0)
    used = ring_count > 0
    ring_count, count = ring_count[used], count[:, used]
    ring_mean = ring_total[used] / ring_count
    mean = total.reshape(_SECTORS, size)[:, used] / count.clamp_min(1)
    profile = torch.where(count > 0, mean, ring_mean)
    g2 = torch.bincount(bins, weights=band.g2 * band.weight, minlength=size)
    g2 = g2[used] / ring_count
    return profile, g2, (ring_count / _SECTORS).sqrt()


def _orthonormal(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(rows.T).Q
    return basis.T


def _without(rows: Tensor, smooth: Tensor) -> Tensor:
    """Remove from each row what the orthonormal rows of ``smooth`` can explain."""
    return rows - (rows @ smooth.T) @ smooth
