"""Gold foil: a film of grains that lets next to nothing through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from icestream.simulate.film import FilmEdge, Layer, edge_distance_angst

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["gold_foil"]

_FOIL_TRANSMISSION, _FOIL_GRAIN_ANGST = 0.03, 150.0
# Spacings of gold's (111) and (200) planes, Å, and the share of grains in which one of
# their 4 or 3 stands along the beam, within spacing over thickness (250 Å) of it.
_GOLD_LATTICE = ((2.355, 4 * 2.355 / 250), (2.039, 3 * 2.039 / 250))
# Two beams interfere at most as if a weak phase had this amplitude, rad.
_MOST_FRINGE_RAD = 0.5


def gold_foil(
    shape: tuple[int, int],
    edge: FilmEdge,
    *,
    pixel_size_angst: float,
    generator: Generator,
) -> Layer:
    """Return a gold foil up to an edge: all but opaque, with grains.

    Parameters
    ----------
    shape
        ``(h, w)``, px.
    edge
        Where it ends.
    pixel_size_angst
        Å/px.
    generator
        The source of randomness; its device is where the result lies.

    Returns
    -------
    Layer
        0.03 of the electrons on average, in fringes of 2.35 and 2.04 Å in some grains;
        spacings below two pixels are left out, and no other phase comes through.

    Notes
    -----
    Gold of some 500 Å is thicker than the extinction lengths of its reflections (250
    and 280 Å): the strength of fringes is drawn as that of two beams that exchange
    intensity, whatever the voltage.
    """
    depth = edge_distance_angst(
        shape, edge, pixel_size_angst=pixel_size_angst, generator=generator
    )
    grain, count = _grains(shape, _FOIL_GRAIN_ANGST / pixel_size_angst, generator)
    leak = torch.rand(count, generator=generator, device=generator.device)
    cover = torch.sigmoid(depth / 5.0)
    through = 2 * _FOIL_TRANSMISSION * leak[grain]
    fringes = _gold_fringes(grain, count, pixel_size_angst, generator) * cover
    return Layer(
        phase_rad=fringes,
        texture_rad=fringes,
        transmission=1 - cover * (1 - through),
        mask=depth > 0,
    )


def _grains(
    shape: tuple[int, int], size_px: float, generator: Generator
) -> tuple[Tensor, int]:
    """Return the number of the grain that each pixel lies in, and how many there are.

    A grain is what lies nearest to its own point of a disturbed lattice.
    """
    device = generator.device
    cells = [math.ceil(side / size_px) + 2 for side in shape]
    strays = torch.rand(2, *cells, generator=generator, device=device)
    y, x = (torch.arange(side, device=device) / size_px + 1 for side in shape)
    row, column = y.long()[:, None], x.long()[None, :]
    nearest = torch.full(shape, math.inf, device=device)
    grain = torch.zeros(shape, dtype=torch.int64, device=device)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            i = (row + down).clamp(max=cells[0] - 1)
            j = (column + right).clamp(max=cells[1] - 1)
            off_y = y[:, None] - (i + strays[0][i, j])
            off_x = x[None, :] - (j + strays[1][i, j])
            distance = off_y.square() + off_x.square()
            is_nearer = distance < nearest
            nearest = torch.where(is_nearer, distance, nearest)
            grain = torch.where(is_nearer, i * cells[1] + j, grain)
    return grain, cells[0] * cells[1]


def _gold_fringes(
    grain: Tensor, count: int, pixel_size_angst: float, generator: Generator
) -> Tensor:
    """Return waves of the lattice, rad, one for each family in some of the grains."""
    device = generator.device
    phase = torch.zeros(grain.shape, device=device)
    y, x = (
        torch.arange(side, device=device) * pixel_size_angst for side in grain.shape
    )
    for spacing_angst, share in _GOLD_LATTICE:
        draws = torch.rand(4, count, generator=generator, device=device)
        if spacing_angst < 2 * pixel_size_angst:
            continue
        depth, chance, angle, start = 2 * math.pi * draws
        strength = _MOST_FRINGE_RAD * depth.sin().abs() * (chance < 2 * math.pi * share)
        wave = 2 * math.pi / spacing_angst
        phase += strength[grain] * torch.cos(
            (wave * angle.sin())[grain] * y[:, None]
            + (wave * angle.cos())[grain] * x
            + start[grain]
        )
    return phase
