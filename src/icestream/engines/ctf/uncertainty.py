"""Covariance of fitted parameters, from blocks of tiles or sectors of one spectrum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from icestream.engines.ctf.linear import solve_normal

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band
    from icestream.engines.ctf.refine import Fit

__all__ = ["jackknife_covariance", "sector_covariance"]

_SECTORS = 36


def jackknife_covariance(
    fit: Fit, without_each: Tensor, *, band: Band, power: Tensor
) -> Tensor:
    """Leave out one block at a time, to first order around the fit.

    Parameters
    ----------
    fit
        The fit to all blocks.
    band
        Where its points lie.
    without_each
        ``(block, pixel)``, mean power of all blocks but one.
    power
        ``(pixel,)``, mean power of all blocks.

    Returns
    -------
    Tensor
        ``(parameter, parameter)``, Å^2 and radians. Blocks are regions, so a defocus
        that varies over the image (tilt) counts as uncertainty of its mean.

    Notes
    -----
    A change of power is taken relative to the model: relative to the measured power it
    would be 10 % too small for 9 tiles, as speckle enters numerator and denominator.
    """
    relative = (without_each - power).double() * band.at_pixels((-2 * fit.model).exp())
    change = fit.step((band.at_points(relative) * band.weight.sqrt()).T / 2)
    spread = change - change.mean(dim=1, keepdim=True)
    count = change.shape[1]
    return spread @ spread.T * ((count - 1) / count)


def sector_covariance(fit: Fit, *, band: Band) -> Tensor:
    """Take sectors of azimuth as independent samples of the residual (sandwich).

    Parameters
    ----------
    fit
        The fit.
    band
        Where its pixels lie.

    Returns
    -------
    Tensor
        ``(parameter, parameter)``, Å^2 and radians. Neighbouring pixels of a spectrum
        are correlated, so the curvature of the cost alone would promise too much.
    """
    turn = (band.azimuth_rad + math.pi) * (_SECTORS / (2 * math.pi))
    sector = turn.long().clamp(0, _SECTORS - 1)
    pulls = fit.projected_slopes() * fit.residual
    summed = pulls.new_zeros(len(pulls), _SECTORS).index_add_(1, sector, pulls)
    half = solve_normal(fit.information(), summed)
    return half @ half.T * (_SECTORS / (_SECTORS - 1))
