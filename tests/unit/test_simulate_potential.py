from __future__ import annotations

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import Atoms
from icestream.simulate.potential import (
    ICE_POTENTIAL_VOLT,
    VOLT_ANGST2,
    atomic_potential,
    potential_volume,
)
from icestream.simulate.proteins import make_specimen
from transforms import CountedTransforms


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


@pytest.mark.parametrize(
    ("element", "angst"),
    # International Tables C, table 4.3.2.2, sums of the five amplitudes.
    [(6, 2.5088), (7, 2.2135), (8, 1.9834), (15, 5.4876), (16, 5.1604), (26, 7.1637)],
)
def test_scattering_at_zero_angle(element: int, angst: float) -> None:
    found = atomic_potential(element, np.zeros(1), ice_potential_volt=0)
    assert found[0] / VOLT_ANGST2 == pytest.approx(angst, abs=1e-4)


def test_constant_of_volts() -> None:
    planck, mass, charge = 6.62607015e-34, 9.1093837e-31, 1.602176634e-19
    assert (
        pytest.approx(planck**2 / (2 * np.pi * mass * charge) * 1e20, rel=1e-6)
        == VOLT_ANGST2
    )


def test_carbon_falls_off_as_tabulated() -> None:
    # Peng et al. (1996): at s = g / 2 = 0.25 1/Å and exactly from its five Gaussians.
    a = np.array([0.0893, 0.2563, 0.7570, 1.0487, 0.3575])
    b = np.array([0.2465, 1.7100, 6.4094, 18.6113, 50.2523])
    expected = (a * np.exp(-b * 0.25**2)).sum() * np.exp(-30 * 0.25**2)
    found = atomic_potential(
        6, np.array([0.5]), b_factor_angst2=30, ice_potential_volt=0
    )
    assert found[0] / VOLT_ANGST2 == pytest.approx(expected, rel=1e-6)


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
    """6.5 V without hydrogens, less 3.6 V of ice, in 1.21 Å3 a Da."""
    atoms = make_specimen("small").atoms
    volume_angst3 = atoms.mass_da * 0.73 * 1.66054
    assert total_volt_angst3(atoms, 0) / volume_angst3 == pytest.approx(6.55, abs=0.15)
    assert total_volt_angst3(atoms, 3.6) / volume_angst3 == pytest.approx(
        2.95, abs=0.15
    )
    smooth = potential_volume(
        atoms, box_px=48, pixel_size_angst=3.0, b_extra_angst2=1000
    )
    # Inside, smoothed over 8 Å, and not beyond it: protein is packed with few holes.
    assert 2.0 < float(smooth.max()) < 3.9
    assert float(smooth.min()) > -0.1


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
