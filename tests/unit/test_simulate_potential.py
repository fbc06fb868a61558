from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import ndimage

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import Atoms
from icestream.simulate.ice import (
    ICE_POTENTIAL_VOLT,
    WATER_PER_ANGST3,
    water_volt_angst3,
)
from icestream.simulate.potential import atomic_potential, potential_volume
from icestream.simulate.proteins import make_specimen
from icestream.simulate.scattering import atom_volt_angst3
from structures import real_structure, shell_power, with_equal_b_factors
from transforms import CountedTransforms

if TYPE_CHECKING:
    from pathlib import Path


def scattered_atoms(count: int = 40, reach_angst: float = 20.0) -> Atoms:
    generator = np.random.default_rng(7)
    return Atoms(
        xyz_angst=generator.uniform(-reach_angst, reach_angst, (count, 3)).astype("f4"),
        element=generator.choice([6, 7, 8, 16], count).astype(np.uint8),
        b_factor_angst2=generator.uniform(0, 90, count).astype("f4"),
    )


def total_volt_angst3(atoms: Atoms, ice_potential_volt: float) -> float:
    zero = np.zeros(1)
    return sum(
        float(atomic_potential(int(z), zero, ice_potential_volt=ice_potential_volt)[0])
        for z in atoms.element
    )


def test_hydrogens_ride_on_the_atoms_of_a_model() -> None:
    # At s = g / 2 = 0.25 1/Å: 1.22 of them about a carbon, 1.05 Å away.
    g = torch.tensor([0.5], dtype=torch.float64)
    expected = atom_volt_angst3(6, g) + 1.22 * atom_volt_angst3(1, g) * np.sinc(1.05)
    found = atomic_potential(6, g.numpy(), b_factor_angst2=30, ice_potential_volt=0)
    assert found[0] == pytest.approx(float(expected) * np.exp(-30 * 0.25**2), rel=1e-6)
    # None on what has none.
    iron = atomic_potential(26, g.numpy(), ice_potential_volt=0)
    assert iron[0] == pytest.approx(float(atom_volt_angst3(26, g)))


def test_the_ice_around_is_the_ice_that_is_displaced() -> None:
    molecule = float(water_volt_angst3(torch.zeros(1))[0])
    assert pytest.approx(WATER_PER_ANGST3 * molecule, rel=1e-6) == ICE_POTENTIAL_VOLT
    zero = np.zeros(1)
    default, explicit = (
        atomic_potential(6, zero),
        atomic_potential(6, zero, ice_potential_volt=ICE_POTENTIAL_VOLT),
    )
    assert default == explicit


@pytest.mark.parametrize("ice_potential_volt", [0.0, ICE_POTENTIAL_VOLT])
def test_the_integral_is_that_of_the_atoms(ice_potential_volt: float) -> None:
    atoms = scattered_atoms()
    volume = potential_volume(
        atoms,
        box_px=40,
        pixel_size_angst=1.5,
        ice_potential_volt=ice_potential_volt,
    )
    total = float(volume.double().sum()) * 1.5**3
    # float32, and profiles kept to 2e-4 of the largest
    assert total == pytest.approx(
        total_volt_angst3(atoms, ice_potential_volt), rel=1e-3
    )


@pytest.mark.parametrize(("box", "pixel"), [(48, 1.0), (30, 2.0)])
def test_transform_is_the_sum_over_atoms(box: int, pixel: float) -> None:
    atoms = scattered_atoms()
    volume = potential_volume(
        atoms, box_px=box, pixel_size_angst=pixel, b_extra_angst2=20
    )
    found = torch.fft.fftn(torch.fft.ifftshift(volume)).numpy() * pixel**3
    generator = np.random.default_rng(0)
    index = generator.integers(-box // 2 + 1, box // 2, size=(400, 3))
    g_zyx = index / (box * pixel)
    g = np.linalg.norm(g_zyx, axis=1)
    direct = np.zeros(len(g), dtype=complex)
    for xyz, z, b in zip(
        atoms.xyz_angst, atoms.element, atoms.b_factor_angst2, strict=True
    ):
        turn = np.exp(-2j * np.pi * (g_zyx @ xyz[::-1].astype(float)))
        direct += turn * atomic_potential(int(z), g, b_factor_angst2=float(b) + 20)
    error = np.abs(found[tuple(index.T)] - direct)
    scale = np.sqrt((np.abs(direct) ** 2).mean())
    highest = np.abs(index).max(axis=1) / (box / 2)
    assert error[highest < 2 / 3].max() < 4e-3 * scale  # the spline's copies
    assert error.max() < 3e-2 * scale


def test_protein_in_ice_has_the_potential_of_protein() -> None:
    """8.05 V with its hydrogens in 1.21 Å3 a Da, less 4.57 V of ice."""
    atoms = make_specimen("small").atoms
    volume_angst3 = atoms.mass_da * 0.73 * 1.66054
    assert total_volt_angst3(atoms, 0) / volume_angst3 == pytest.approx(8.05, abs=0.15)
    contrast_volt = total_volt_angst3(atoms, ICE_POTENTIAL_VOLT) / volume_angst3
    assert contrast_volt == pytest.approx(3.48, abs=0.15)
    smooth = potential_volume(
        atoms, box_px=48, pixel_size_angst=3.0, b_extra_angst2=1000
    )
    # Inside, smoothed over 8 Å, and not beyond it: protein is packed with few holes;
    # real ones have 3.8 to 3.95 V at most.
    assert 2.4 < float(smooth.max()) < 4.6
    assert float(smooth.min()) > -0.1


def flat_power(atoms: Atoms, box: int, edges: np.ndarray) -> np.ndarray:
    """Power where the ice that is displaced is even within an outline.

    The outline is what a probe of 1.4 Å does not reach, with an edge of 0.8 Å; its
    volume is made that of the mass.
    """
    cells = np.rint(atoms.xyz_angst[:, ::-1]).astype(int) + box // 2
    away = np.ones((box,) * 3, dtype=bool)
    away[tuple(cells.T)] = False
    near = ndimage.distance_transform_edt(away) < 1.75 + 1.4
    body = ndimage.distance_transform_edt(near) > 1.4
    level = atoms.mass_da * 0.73 * 1.66054 / body.sum()
    smooth = ndimage.gaussian_filter(body.astype(float), 0.8)
    vacuum = potential_volume(
        atoms, box_px=box, pixel_size_angst=1.0, ice_potential_volt=0
    )
    ice = ICE_POTENTIAL_VOLT * level * torch.as_tensor(smooth).float()
    return shell_power(vacuum - ice, 1.0, edges)


@pytest.mark.parametrize("name", ["rubisco_1bxn", "small"])
def test_displaced_ice_has_no_texture_of_its_own(name: str, shared_data: Path) -> None:
    """At 14 to 9 Å it took a quarter of the power away; 60 to 5 Å agree to a sixth."""
    atoms = (
        make_specimen(name).atoms
        if name == "small"
        else real_structure(shared_data, name)
    )
    atoms = with_equal_b_factors(atoms, 30.0)
    box = 160
    edges = 1 / np.array([60, 40, 25, 18, 14, 11, 9, 8, 7, 6, 5])
    volume = potential_volume(atoms, box_px=box, pixel_size_angst=1.0)
    ratio = shell_power(volume, 1.0, edges) / flat_power(atoms, box, edges)
    np.testing.assert_allclose(ratio, 1, atol=0.17)


def test_place_of_one_atom() -> None:
    atoms = Atoms(
        xyz_angst=np.array([[4.0, -2.0, 6.0]], np.float32),
        element=np.array([8], np.uint8),
        b_factor_angst2=np.array([40.0], np.float32),
    )
    volume = potential_volume(
        atoms, box_px=16, pixel_size_angst=2.0, ice_potential_volt=0
    )
    place = np.unravel_index(int(volume.argmax()), volume.shape)
    assert [int(one) for one in place] == [11, 7, 10]


@pytest.mark.parametrize("box", [31, 20, 0])
def test_a_box_too_small_or_odd_is_refused(box: int) -> None:
    with pytest.raises(BadSettings, match="box"):
        potential_volume(scattered_atoms(), box_px=box, pixel_size_angst=1.5)


def test_only_what_is_kept_is_transformed() -> None:
    """Work in numbers times axes; six whole transforms of the finer cube it was."""
    box = 118  # 2 x 59: the finer cube has a quicker side than twice this
    with CountedTransforms() as counted:
        potential_volume(make_specimen("small").atoms, box_px=box, pixel_size_angst=1.2)
    assert 0 < counted.work < 0.25 * 6 * 3 * (2 * box) ** 3
    assert 240 in counted.sides
    assert 236 not in counted.sides


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu() -> None:
    atoms = scattered_atoms()
    one, other = (
        potential_volume(atoms, box_px=40, pixel_size_angst=1.5, device=device)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(one, other.cpu(), atol=1e-3, rtol=1e-3)
