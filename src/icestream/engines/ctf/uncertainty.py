"""Covariance of fitted parameters, from what regions and parts of a spectrum disagree.

Each cell of a spectrum (some pixels wide, a sector long) pulls at the parameters with
its residuals; cells are taken as independent samples, so speckle, its correlation among
neighbours, and what the model lacks count as they are. Each region of the micrograph
pulls too; where these pulls scatter clearly more than a tilt explains (carbon, bent
ice), that is the error. To first order this is the bootstrap over both, without fits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.linear import solve_normal

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band
    from icestream.engines.ctf.refine import Fit

__all__ = ["covariance_of"]

_ZONE_PX, _SECTORS = 4, 18
_MIN_REGIONS = 9  # fewer have tiles in common, and too few samples
_CLEARLY = 1.6  # variance of 9 to 16 samples may be so much more by chance
# What the first order lacks where rings are weak: fits of 380 simulated images of 768
# and 1024 px scatter by 1.25 times as much.
_BEYOND_FIRST_ORDER = 1.25


def covariance_of(
    fit: Fit,
    *,
    band: Band,
    blocks: Tensor,
    weight: Tensor,
    offset_angst: Tensor | None = None,
) -> Tensor:
    """Estimate the covariance of the parameters of a fit.

    Parameters
    ----------
    fit
        The fit to the mean of all regions.
    band
        Where its points lie.
    blocks
        ``(block, pixel)``, power of each region.
    weight
        ``(block,)``, its tiles.
    offset_angst
        ``(block,)``, defocus of each less the mean, Å, where a tilt explains that.

    Returns
    -------
    Tensor
        ``(parameter, parameter)``, Å^2 and radians.
    """
    free = fit.projected_slopes()
    information = fit.information()
    of_cells = _sandwich(information, _in_cells(free * fit.residual, band))
    found = of_cells
    if len(blocks) >= _MIN_REGIONS:
        pulls = free @ _residuals(fit, band=band, blocks=blocks).T
        if offset_angst is not None:
            pulls -= information[:, :1] * offset_angst
        share = (weight / weight.sum()).to(pulls)
        of_regions = _sandwich(information, pulls * share)
        if of_regions[:3, :3].trace() > _CLEARLY * of_cells[:3, :3].trace():
            found = of_regions
    return found * _BEYOND_FIRST_ORDER**2


def _in_cells(pulls: Tensor, band: Band) -> Tensor:
    """Sum ``(parameter, point)`` in the cells that hold a point."""
    zone = ((band.g - band.g_low) / (_ZONE_PX * band.g_step)).long()
    turn = (band.azimuth_rad + math.pi) * (_SECTORS / (2 * math.pi))
    place = zone * _SECTORS + turn.long().clamp(0, _SECTORS - 1)
    used, cell = torch.unique(place, return_inverse=True)
    return pulls.new_zeros(len(pulls), len(used)).index_add_(1, cell, pulls)


def _residuals(fit: Fit, *, band: Band, blocks: Tensor) -> Tensor:
    """Compare blocks with the model of their mean, ``(block, point)``, weighted.

    Relative to the measured mean it would be 10 % too small for 9 tiles, as speckle
    enters numerator and denominator.
    """
    relative = blocks / band.at_pixels((2 * fit.model).exp()) - 1
    residual: Tensor = band.at_points(relative) * band.weight.sqrt() / 2
    return residual


def _sandwich(information: Tensor, pulls: Tensor) -> Tensor:
    """Turn the pulls of independent samples, ``(parameter, sample)``, to covariance."""
    count = pulls.shape[1]
    spread = pulls - pulls.mean(dim=1, keepdim=True)
    half = solve_normal(information, spread)
    return half @ half.T * (count / max(count - 1, 1))
