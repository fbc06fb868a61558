"""How high rings stand far out, where carbon has some and ice hardly any."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.linear import solve_normal, spline_basis

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics
    from icestream.engines.ctf.refine import RingParameters

__all__ = ["ring_contrast"]

_RANGE_ANGST = (8.0, 4.5)
_SPLINES, _LEAST_PER_SPLINE = 6, 4


def ring_contrast(
    data: Tensor, *, band: Band, optics: Optics, parameters: RingParameters
) -> float | None:
    """Measure how much power the rings have at their maxima over that at their zeros.

    Parameters
    ----------
    data
        ``(pixel,)``, log amplitude.
    band, optics
        Where the pixels lie, and the microscope; from 8 Å or more to 4.5 Å or less.
    parameters
        The fitted defocus.

    Returns
    -------
    float or None
        The ratio less 1, at 8-4.5 Å: 0 without rings. It grows with the dose; at 40
        e/Å2 it is 0.02-0.1 of protein in ice, as water moves and protein is damaged,
        and 0.4-0.7 of carbon film. ``None`` where the band is too small.
    """
    low, high = (1 / limit for limit in _RANGE_ANGST)
    inside = (band.g2 >= low**2) & (band.g2 < high**2)
    if int(inside.sum()) < _LEAST_PER_SPLINE * _SPLINES or band.g_high < high:
        return None
    p, g2 = parameters, band.g2[inside]
    path = (
        p.mean_angst * g2
        + p.along_angst * band.along[inside]
        + p.across_angst * band.across[inside]
    )
    fixed = optics.fixed_phase_rad(g2, phase_shift_deg=p.phase_shift_deg)
    rings = torch.sin(optics.slope * path + fixed).square()
    smooth = spline_basis((g2.sqrt() - low) / (high - low), count=_SPLINES)
    both = torch.stack((data[inside], rings))
    seen, wave = both - (solve_normal(smooth @ smooth.T, smooth @ both.T).T @ smooth)
    return math.expm1(2 * float(seen @ wave) / float(wave @ wave))
