"""Small linear least squares shared by the search, the fit and the profile."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["smooth_weights", "solve_normal", "spline_basis"]


def solve_normal(normal: Tensor, right: Tensor) -> Tensor:
    """Solve normal equations that may be close to singular.

    Parameters
    ----------
    normal
        ``(n, n)``, symmetric, not negative.
    right
        ``(n, batch)``.

    Returns
    -------
    Tensor
        ``(n, batch)``; a row without data gives 0.
    """
    scale = normal.diagonal().clamp_min(1e-30).rsqrt()
    scaled = scale[:, None] * normal * scale
    ridge = torch.eye(len(scale), device=normal.device, dtype=normal.dtype) * 1e-9
    solved: Tensor = torch.linalg.solve(scaled + ridge, scale[:, None] * right)
    return scale[:, None] * solved


def smooth_weights(
    groups: list[Tensor], data: Tensor, *, weight: Tensor, stiffness: float
) -> list[Tensor]:
    """Fit sums of splines by weighted least squares, each sum kept from bending.

    Parameters
    ----------
    groups
        Rows of splines, ``(n, point)`` each.
    data, weight
        ``(point,)``.
    stiffness
        Weight of the squared second differences of neighbouring coefficients.

    Returns
    -------
    list of Tensor
        ``(n,)`` for each group.
    """
    rows = torch.cat(groups)
    weighted = rows * weight
    normal = weighted @ rows.T
    stops = list(accumulate(len(group) for group in groups))
    parts = [slice(b - len(g), b) for g, b in zip(groups, stops, strict=True)]
    for part in parts:
        identity = torch.eye(part.stop - part.start).to(rows)
        bend = identity.diff(n=2, dim=0)
        normal[part, part] += stiffness * (bend.T @ bend)
    found = solve_normal(normal, (weighted @ data)[:, None])[:, 0]
    return [found[part] for part in parts]


def spline_basis(position: Tensor, *, count: int) -> Tensor:
    """Evaluate uniform cubic B-splines on [0, 1].

    Parameters
    ----------
    position
        ``(point,)``, clamped to [0, 1].
    count
        Number of splines, at least 4.

    Returns
    -------
    Tensor
        ``(count, point)``, columns that sum to 1.
    """
    scaled = position.clamp(0, 1) * (count - 3)
    centre = torch.arange(count, device=position.device, dtype=position.dtype) - 1
    distance = (scaled - centre[:, None]).abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)
