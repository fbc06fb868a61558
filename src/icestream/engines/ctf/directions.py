"""Is a spectrum the same in all directions? Drift takes the rings along its way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.band import band_position
from icestream.engines.ctf.linear import smooth_weights, solve_normal, spline_basis

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics
    from icestream.engines.ctf.refine import RingParameters

__all__ = ["DirectionalFit", "directional_fit"]

_SECTORS = 12  # of 15 degrees, on half a turn
_BACKGROUND_SPLINES, _ENVELOPE_SPLINES, _SECTOR_SPLINES = 12, 8, 6
_STIFFNESS = 1.0
_LEAST_PER_SPLINE = 4
_ZONE_PX = 4
_SURE_OF_LOSS_SIGMA, _SURE_OF_SMEAR_SIGMA = 2.5, 3.0
# Longer waves are few; beyond, counts hide what a drift does to the specimen.
_SMEAR_ANGST = (60.0, 25.0)
# Neighbouring pixels of tapered tiles share what they see.
_NEIGHBOURS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionalFit:
    """How a spectrum differs from one direction to another.

    Parameters
    ----------
    directional_loss
        Share of the rings' mean strength that is lost along one axis, and gained across
        it: so much at least, 2.5 standard errors below what is found; 0 to 1.
    smear_angst
        Way that the image drifted along one axis, by how its power falls from 60 to 25
        Å: so much at least, 3 standard errors below; 0 where that is nothing, about 15
        at most. ``None`` where the spectrum is too small to tell.
    smear_axis_deg
        Axis of that way, from +x towards increasing row index, degrees in [0, 180).
    """

    directional_loss: float
    smear_angst: float | None
    smear_axis_deg: float


def directional_fit(
    data: Tensor, *, band: Band, optics: Optics, parameters: RingParameters
) -> DirectionalFit:
    """Compare a spectrum with its fit, direction by direction.

    Parameters
    ----------
    data
        ``(pixel,)``, log amplitude.
    band, optics
        Where the pixels lie, and the microscope; from 60 Å or more for the smear.
    parameters
        The fitted defocus.

    Returns
    -------
    DirectionalFit
        Rings that are only stretched, by astigmatism, are not lost.

    Notes
    -----
    Rings: each sector has a background of its own, and the part that is left of it goes
    as so many times the rings that all directions have in the mean; to these strengths
    ``mean + c cos 2 phi + s sin 2 phi`` is fitted.

    Smear: a way D takes ``sinc(D g cos(phi))`` of the amplitude, whose logarithm begins
    as ``-(pi D g)^2 / 12 (1 + cos 2 phi)``. Longer ways are told too short, as the
    power along them comes to its end.
    """
    phase, equal_g2 = _phase(band, optics=optics, parameters=parameters)
    smear_angst, axis_deg = _smear(data, band=band, equal_g2=equal_g2)
    return DirectionalFit(
        directional_loss=_loss(data, band=band, rings=torch.sin(phase).square()),
        smear_angst=smear_angst,
        smear_axis_deg=axis_deg,
    )


def _phase(
    band: Band, *, optics: Optics, parameters: RingParameters
) -> tuple[Tensor, Tensor]:
    """Return the phase, and about the ``g^2`` where the mean defocus has it."""
    p = parameters
    tilted = p.along_angst * band.along + p.across_angst * band.across
    phase = optics.slope * (p.mean_angst * band.g2 + tilted) + optics.fixed_phase_rad(
        band.g2, phase_shift_deg=p.phase_shift_deg
    )
    return phase, band.g2 + tilted / p.mean_angst


def _loss(data: Tensor, *, band: Band, rings: Tensor) -> float:
    """Return the share of the rings that is surely lost along one axis."""
    position = band_position(band.g2, band=band)
    shapes = spline_basis(position, count=_ENVELOPE_SPLINES)
    _, height = smooth_weights(
        [spline_basis(position, count=_BACKGROUND_SPLINES), shapes * rings],
        data,
        weight=band.weight,
        stiffness=_STIFFNESS,
    )
    expected = (height @ shapes).clamp_min(0) * rings
    found = [
        _strength(data[inside], expected[inside], band=band, inside=inside)
        for inside in _sectors(band)
    ]
    if any(one is None for one in found):
        return 0.0
    strength, variance = torch.tensor([one for one in found if one]).to(data).T
    return _second_harmonic(strength, float(variance.mean()))


def _sectors(band: Band) -> list[Tensor]:
    turn = (band.azimuth_rad + math.pi) * (_SECTORS / (2 * math.pi))
    sector = turn.long().clamp(0, _SECTORS - 1)
    return [sector == number for number in range(_SECTORS)]


def _strength(
    data: Tensor, expected: Tensor, *, band: Band, inside: Tensor
) -> tuple[float, float] | None:
    """Return how many times the expected rings are there, and the variance of that."""
    if len(data) < _LEAST_PER_SPLINE * _SECTOR_SPLINES:
        return None
    smooth = spline_basis(
        band_position(band.g2[inside], band=band), count=_SECTOR_SPLINES
    )
    seen, rings = _without(smooth, torch.stack((data, expected)))
    power = float(rings @ rings)
    if power <= 0:
        return None
    strength = float(seen @ rings) / power
    # Zones of frequency are taken as independent, as neighbours are not.
    zone = (band.g[inside] / (_ZONE_PX * band.g_step)).long()
    pulls = rings.new_zeros(int(zone.max()) + 1)
    pulls.index_add_(0, zone, (seen - strength * rings) * rings)
    return strength, float(pulls.square().sum()) / power**2


def _second_harmonic(strength: Tensor, variance: float) -> float:
    """Return its amplitude over the mean, less what chance may have given to it."""
    twice = 2 * math.pi * (torch.arange(_SECTORS).to(strength) + 0.5) / _SECTORS
    rows = torch.stack((torch.ones_like(twice), torch.cos(twice), torch.sin(twice)))
    normal = rows @ rows.T
    found = solve_normal(normal, (rows @ strength)[:, None])[:, 0]
    mean, c, s = found.tolist()
    scatter = float((strength - found @ rows).square().sum()) / (_SECTORS - len(rows))
    error = math.sqrt(max(variance, scatter) * 2 / _SECTORS)
    if mean <= 0:
        return 0.0
    sure = max(math.hypot(c, s) - _SURE_OF_LOSS_SIGMA * error, 0.0)
    return float(min(sure / mean, 1.0))


def _smear(data: Tensor, *, band: Band, equal_g2: Tensor) -> tuple[float | None, float]:
    """Return the way of a drift, Å, and its axis, degrees."""
    low, high = (1 / limit for limit in _SMEAR_ANGST)
    inside = (band.g2 >= low**2) & (band.g2 < high**2)
    count = max(_SECTOR_SPLINES, round((high - low) / (3 * band.g_step)))
    if int(inside.sum()) < _LEAST_PER_SPLINE * count:
        return None, 0.0
    position = (equal_g2[inside].clamp_min(0).sqrt() - low) / (high - low)
    x, y, seen = _without(
        spline_basis(position, count=count),
        torch.stack((band.along[inside], band.across[inside], data[inside])),
    )
    rows = torch.stack((x, y))
    inverse = torch.linalg.inv(rows @ rows.T)
    found = inverse @ (rows @ seen)
    noise = float((seen - found @ rows).square().mean())
    error = _NEIGHBOURS * math.sqrt(noise * float(inverse.diagonal().mean()))
    sure = max(float(found.norm()) - _SURE_OF_SMEAR_SIGMA * error, 0.0)
    along = math.degrees(math.atan2(float(found[1]), float(found[0]))) / 2
    return math.sqrt(12 * sure) / math.pi, (along + 90) % 180


def _without(smooth: Tensor, rows: Tensor) -> Tensor:
    """Take out of rows, ``(n, point)``, what a sum of splines explains."""
    left: Tensor = rows - (solve_normal(smooth @ smooth.T, smooth @ rows.T).T @ smooth)
    return left
