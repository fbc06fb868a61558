"""How much free atoms scatter electrons, and the hydrogens that models leave out.

Five Gaussians an element, of Peng, Ren, Dudarev & Whelan, Acta Cryst. A52 (1996) 257
(International Tables C, 4.3.2.2). By the Mott-Bethe relation a scattering factor in Å
is the transform of a potential in V Å3 once multiplied by h2 / (2 pi m e).

Ice and protein are made of free atoms alike. Bonds lower the mean inner potential of
each by up to a volt; what is seen is the difference, which needs one convention.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import gemmi
import numpy as np
import torch

from icestream.domain.units import ELECTRON_REST_KEV

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "ELEMENT_COUNT",
    "HYDROGEN_BOND_ANGST",
    "VOLT_ANGST2",
    "atom_volt_angst3",
    "riding_hydrogens",
    "scattering_factors",
    "velocity_squared",
]

VOLT_ANGST2 = 47.877645
"""h2 / (2 pi m e): V Å3 of integrated potential per Å of scattering factor."""

HYDROGEN_BOND_ANGST = 1.05
"""From the nucleus of a hydrogen to that of its carbon (1.09 Å) or nitrogen (1.01)."""

ELEMENT_COUNT = 99
"""Up to Es, the last one with a scattering factor; 0 stands for none."""

# Hydrogens on each C, N, O and S of proteins: of the twenty residues as Swiss-Prot has
# them, at pH 7. 7.8 in a residue of 7.8 other atoms.
_RIDING = {6: 1.22, 7: 1.18, 8: 0.10, 16: 0.37}


@functools.cache
def scattering_factors() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Gaussians of all elements.

    Returns
    -------
    amplitudes, widths
        ``(99, 5)`` by atomic number, Å and Å2: f = sum of a exp(-b g2 / 4).
    """
    amplitudes, widths = np.zeros((2, ELEMENT_COUNT, 5))
    for number in range(1, ELEMENT_COUNT):
        factor = gemmi.Element(number).c4322
        amplitudes[number], widths[number] = factor.a, factor.b
    return amplitudes, widths


def atom_volt_angst3(element: int, frequency_per_angst: Tensor) -> Tensor:
    """Return the transform of the potential of one free atom at rest.

    Parameters
    ----------
    element
        Atomic number.
    frequency_per_angst
        1/Å, any shape.

    Returns
    -------
    Tensor
        Same shape and type, V Å3; at 0 the integral of the potential.
    """
    g2 = frequency_per_angst.double().square()
    total = torch.zeros_like(g2)
    for amplitude, width in zip(
        *(table[element].tolist() for table in scattering_factors()), strict=True
    ):
        total += VOLT_ANGST2 * amplitude * torch.exp(g2 * (-width / 4))
    return total.to(frequency_per_angst.dtype)


def riding_hydrogens() -> NDArray[np.float64]:
    """Return how many hydrogens an atom of a model stands for, ``(99,)`` by element.

    The means over proteins for C, N, O and S, and none on others. Nucleic acids have a
    third fewer on carbon and half as many on nitrogen: their potential comes out 5 %
    too high.
    """
    number = np.zeros(ELEMENT_COUNT)
    for element, mean in _RIDING.items():
        number[element] = mean
    return number


def velocity_squared(voltage_kv: float) -> float:
    """Return the square of the electrons' velocity over that of light.

    What an electron does to matter, and matter to its energy, goes with the inverse.

    Parameters
    ----------
    voltage_kv
        kV.

    Returns
    -------
    float
        0.60 at 300 kV, 0.30 at 100 kV.
    """
    return 1 - (1 + voltage_kv / ELECTRON_REST_KEV) ** -2
