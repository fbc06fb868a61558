"""A layer of protein scatters as the particles that could make it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain.units import interaction_rad_per_volt_angst
from icestream.simulate.potential import potential_volume
from icestream.simulate.protein_layer import PROTEIN_OVER_ICE_VOLT, protein_phase_power
from icestream.simulate.proteins import make_specimen
from structures import real_structure, shell_power, with_equal_b_factors

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.simulate.atoms import Atoms

REAL = ("apoferritin_6z6u", "groel_1mnf", "hsp90_2cg9", "rubisco_1bxn", "t20s_3j9i")
ANGST = np.array([25.0, 18, 14, 11.5, 9.2, 8, 7, 6, 5.2, 4.4, 4, 3.5])


def ratio_of_powers(atoms: Atoms) -> np.ndarray:
    """The layer's over that of particles turned anyhow, of one volume."""
    volume = potential_volume(
        with_equal_b_factors(atoms, 45.0), box_px=140, pixel_size_angst=1.4
    )
    mean = shell_power(volume, 1.4, 1 / ANGST) / (atoms.mass_da * 0.73 * 1.66054)
    g = torch.as_tensor((1 / ANGST[1:] + 1 / ANGST[:-1]) / 2)
    layer = protein_phase_power(g, thickness_angst=100.0, voltage_kv=300.0)
    sigma = interaction_rad_per_volt_angst(300.0)
    return layer.numpy() / (100 * sigma**2 * mean)


def test_the_layer_is_real_protein(shared_data: Path) -> None:
    ratios = [ratio_of_powers(real_structure(shared_data, name)) for name in REAL]
    # Each differs from their mean by up to a third.
    np.testing.assert_allclose(np.mean(np.log(ratios), axis=0), 0, atol=0.25)


def test_the_layer_is_the_simulator_s_own_protein() -> None:
    ratio = ratio_of_powers(make_specimen("small").atoms)
    at_10 = (ANGST[:-1] < 14.5) & (ANGST[1:] > 9)
    np.testing.assert_allclose(ratio[at_10], 1, atol=0.3)


def test_packed_particles_show_their_gaps_only() -> None:
    """The surface of both phases stays, and what outlines do at short waves."""
    g = torch.tensor([0.002, 0.1, 0.2])
    loose, packed = (
        protein_phase_power(g, thickness_angst=1.0, voltage_kv=300.0, packing=share)
        for share in (0.0, 0.64)
    )
    assert float(packed[0]) < 0.05 * float(loose[0])
    torch.testing.assert_close(packed[1:], loose[1:], rtol=0.02, atol=0)


def test_the_layer_is_as_thick_as_it_is_and_denser_than_ice() -> None:
    g = torch.tensor([0.0, 0.1, 0.2])
    one, two = (
        protein_phase_power(g, thickness_angst=t, voltage_kv=300.0)
        for t in (10.0, 20.0)
    )
    torch.testing.assert_close(2 * one, two)
    assert pytest.approx(3.48, abs=0.1) == PROTEIN_OVER_ICE_VOLT
