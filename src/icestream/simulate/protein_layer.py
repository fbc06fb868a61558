"""Protein as a random layer in ice: its potential over ice, and the power of its phase.

One source for spectra without an image and for clumps, and the same as a particle's own
(`icestream.simulate.potential`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.units import interaction_rad_per_volt_angst
from icestream.simulate.potential import atomic_potential

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PROTEIN_OVER_ICE_VOLT", "protein_phase_power"]

_ATOM_PER_ANGST3 = 0.058
# Shares of carbon, nitrogen, oxygen and sulphur among the atoms of a model, and their
# usual B factor, Å2.
_SHARES = {6: 0.635, 7: 0.17, 8: 0.19, 16: 0.005}
_B_ANGST2 = 45.0
# Power over that of as many atoms anywhere: a level, a trough at 6.8 Å and a peak at
# 4.5 Å, as (frequency, width, height).
_LEVEL, _PEAKS = 1.1, ((1 / 6.8, 0.02, -0.3), (1 / 4.5, 0.024, 0.85))
# Of the outlines of particles: how far from a point one comes out of the other phase.
_OUTLINE_ANGST = 25.0

PROTEIN_OVER_ICE_VOLT = _ATOM_PER_ANGST3 * float(
    sum(
        share * atomic_potential(element, np.zeros(1))[0]
        for element, share in _SHARES.items()
    )
)
"""Mean inner potential of protein less that of the ice in its place, V: 3.5."""


def protein_phase_power(
    frequency_per_angst: Tensor,
    *,
    thickness_angst: float,
    voltage_kv: float,
    packing: float = 0.0,
) -> Tensor:
    """Return the power spectrum of the phase of protein that lies as it falls.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    thickness_angst
        Å of protein along the beam; the power is in proportion to it.
    voltage_kv
        kV.
    packing
        Share of the space that is protein; where particles are close, what shows of
        their outlines are the gaps.

    Returns
    -------
    Tensor
        Same shape, rad2 Å2: its integral over the plane is the variance of the phase.

    Notes
    -----
    A curve through the spherical means of apoferritin, GroEL, Hsp90, RuBisCO and the
    20S proteasome, to a quarter from 25 to 3.5 Å; single particles differ from it by
    up to twice at longer waves, where a random medium (Debye, Anderson & Brumberger,
    J. Appl. Phys. 28 (1957) 679) stands for their outlines.
    """
    g = frequency_per_angst.double()
    flat = g.cpu().numpy()
    atoms = torch.zeros_like(g)
    for element, share in _SHARES.items():
        volt = atomic_potential(
            element, flat, b_factor_angst2=_B_ANGST2, ice_potential_volt=0
        )
        atoms += share * torch.as_tensor(volt, device=g.device).square()
    order = torch.full_like(g, _LEVEL)
    for centre, width, height in _PEAKS:
        order += height * torch.exp(-(((g - centre) / width) ** 2) / 2)
    length = _OUTLINE_ANGST * (1 - packing)
    height = 8 * math.pi * length**3 * (1 - packing) * PROTEIN_OVER_ICE_VOLT**2
    outline = height / (1 + (2 * math.pi * length * g) ** 2) ** 2
    power = _ATOM_PER_ANGST3 * order * atoms + outline
    sigma = interaction_rad_per_volt_angst(voltage_kv)
    return (sigma**2 * thickness_angst * power).to(frequency_per_angst.dtype)
