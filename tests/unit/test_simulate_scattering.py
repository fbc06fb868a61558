"""Free atoms scatter as tabulated, and carry the hydrogens of proteins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from icestream.simulate.residues import RESIDUES
from icestream.simulate.scattering import (
    VOLT_ANGST2,
    atom_volt_angst3,
    riding_hydrogens,
)

# Glycine to tryptophan as in RESIDUES: hydrogens of the side chain and of CA and N.
HYDROGENS = (3, 5, 5, 5, 7, 9, 7, 11, 11, 9, 4, 6, 6, 8, 13, 13, 7.2, 9, 9, 10)


@pytest.mark.parametrize(
    ("element", "angst"),
    # International Tables C, table 4.3.2.2, sums of the five amplitudes.
    [(6, 2.5088), (7, 2.2135), (8, 1.9834), (15, 5.4876), (16, 5.1604), (26, 7.1637)],
)
def test_scattering_at_zero_angle(element: int, angst: float) -> None:
    found = atom_volt_angst3(element, torch.zeros(1, dtype=torch.float64))
    assert float(found[0]) / VOLT_ANGST2 == pytest.approx(angst, abs=1e-4)


def test_hydrogen_is_near_the_exact_one() -> None:
    # a0 at zero angle; by the Mott-Bethe formula from 1 / (1 + (pi a0 g)2)2.
    g = np.array([0.05, 0.2, 0.4])
    density = (1 + (np.pi * 0.529177 * g) ** 2) ** -2
    exact = 0.023934 * (1 - density) / (g / 2) ** 2
    found = atom_volt_angst3(1, torch.as_tensor(g)).numpy() / VOLT_ANGST2
    np.testing.assert_allclose(found, exact, rtol=0.01)


def test_constant_of_volts() -> None:
    planck, mass, charge = 6.62607015e-34, 9.1093837e-31, 1.602176634e-19
    assert (
        pytest.approx(planck**2 / (2 * np.pi * mass * charge) * 1e20, rel=1e-6)
        == VOLT_ANGST2
    )


def test_carbon_falls_off_as_tabulated() -> None:
    # Peng et al. (1996): at s = g / 2 = 0.25 1/Å from its five Gaussians.
    a = np.array([0.0893, 0.2563, 0.7570, 1.0487, 0.3575])
    b = np.array([0.2465, 1.7100, 6.4094, 18.6113, 50.2523])
    expected = (a * np.exp(-b * 0.25**2)).sum()
    found = atom_volt_angst3(6, torch.tensor([0.5], dtype=torch.float64))
    assert float(found[0]) / VOLT_ANGST2 == pytest.approx(expected, rel=1e-6)


def test_as_many_hydrogens_ride_as_residues_have() -> None:
    share = np.array([one.share for one in RESIDUES])
    number = riding_hydrogens()
    ridden = [
        number[[7, 6, 6, 8] + [6] * one.has_cb + [z for z, _, _ in one.branches]].sum()
        for one in RESIDUES
    ]
    expected = np.average(HYDROGENS, weights=share)
    assert np.average(ridden, weights=share) == pytest.approx(expected, rel=0.01)
    assert number[26] == 0
