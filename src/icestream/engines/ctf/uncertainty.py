"""Covariance of fitted parameters from what regions and azimuths contribute."""

from __future__ import annotations

import math, os
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.linear import solve_normal

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band
    from icestream.engines.ctf.refine import Fit

__all__ = ["covariance_of"]

_SECTORS = 36


def all_cov(fit, *, band, blocks, weight, sectors=18):
    share = (weight / weight.sum()).double()
    relative = blocks / band.at_pixels(torch.exp(2 * fit.model)) - 1
    residual = band.at_points(relative) * band.weight.sqrt() / 2 * share[:, None]
    turn = (band.azimuth_rad + math.pi) * (sectors / (2 * math.pi))
    sector = turn.long().clamp(0, sectors - 1)
    free = fit.projected_slopes()
    k = len(free)
    pulls = torch.einsum("kp,bp->kbp", free, residual)
    cells = pulls.new_zeros(k, len(share), sectors).index_add_(2, sector, pulls)
    info = fit.information()

    def cov(u):
        n = u.shape[1]
        if n < 2:
            return torch.zeros(k, k).double()
        u = u - u.mean(1, keepdim=True)
        h = solve_normal(info, u)
        return h @ h.T * (n / (n - 1))

    return dict(
        block=cov(cells.sum(2)), sector=cov(cells.sum(1)), both=cov(cells.flatten(1))
    )


def covariance_of(fit, *, band, blocks, weight):
    a = all_cov(fit, band=band, blocks=blocks, weight=weight)
    v = os.environ.get("V", "both")
    if v == "max":
        return max(a.values(), key=lambda c: float(c[:3, :3].trace()))
    return a[v] if v in a else (a["block"] + a["sector"]) / 2
