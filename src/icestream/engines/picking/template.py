"""Round templates over a range of diameters, each with the window it is judged in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Template", "diameters_angst", "make_templates"]

_STEP = 1.12  # ratio of neighbouring diameters: a pixel of radius each
_WINDOW_RADII = 1.4  # particle, its bright fringe and some ice
_HOLE_RADII = 0.7  # of a hollow particle: the hole, and how much lighter it is
_HOLE_DEPTH = 0.8
_LEAST_RATIO = 0.9  # underfocus brightens the rim: particles look smaller than they are
_EDGE_PX = 0.8  # softness of all edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Templates of one diameter, bright on dark, and their common window.

    Parameters
    ----------
    diameter_angst
        Å.
    window
        ``(h, w)`` weights of the neighbourhood, sum 1, centred on ``[0, 0]``.
    shapes
        ``(kind, h, w)`` disc and ring, with ``sum(shape) = 0`` and
        ``sum(shape ** 2 / window) = 1``.
    """

    diameter_angst: float
    window: Tensor
    shapes: Tensor


def diameters_angst(limits_angst: tuple[float, float]) -> list[float]:
    """Return diameters from a little below the least to the greatest, in equal ratios.

    Parameters
    ----------
    limits_angst
        Least and greatest, Å.
    """
    low, high = _LEAST_RATIO * limits_angst[0], limits_angst[1]
    steps = math.ceil(math.log(high / low) / math.log(_STEP) - 1e-9)
    return [low * (high / low) ** (i / steps) for i in range(steps + 1)]


def make_templates(
    shape: tuple[int, int], *, diameter_px: float, diameter_angst: float, like: Tensor
) -> Template:
    """Draw disc and ring of one diameter.

    Parameters
    ----------
    shape
        ``(h, w)``, px; the centre is ``[0, 0]``, distances wrap around.
    diameter_px, diameter_angst
        Outer diameter, in both units.
    like
        Says device and dtype.

    Returns
    -------
    Template
        The ring is weak in its middle, as hollow particles are.
    """
    y, x = (
        torch.fft.fftfreq(n, 1 / n, device=like.device, dtype=like.dtype) for n in shape
    )
    radius_px = torch.hypot(y[:, None], x)

    def inside(edge_px: float) -> Tensor:
        return torch.sigmoid((edge_px - radius_px) / _EDGE_PX)

    outer_px = diameter_px / 2
    window = inside(_WINDOW_RADII * outer_px)
    window = window / window.sum()
    disc = inside(outer_px)
    raw = torch.stack([disc, disc - _HOLE_DEPTH * inside(_HOLE_RADII * outer_px)])
    mean = (window * raw).sum(dim=(-2, -1), keepdim=True)
    deviation = raw - mean
    norm = (window * deviation.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    return Template(
        diameter_angst=diameter_angst,
        window=window,
        shapes=window * deviation / norm,
    )
