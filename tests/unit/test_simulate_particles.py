from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import starfile

from icestream.domain.acquisition import AcquisitionSetup
from icestream.domain.errors import BadSettings
from icestream.engines.ctf import contrast_transfer
from icestream.io import read_stack
from icestream.simulate.orientations import ViewPreference
from icestream.simulate.particle_files import write_particles
from icestream.simulate.particles import Component, Imaging, simulate_particles
from icestream.simulate.potential import potential_volume
from icestream.simulate.proteins import make_specimen
from structures import shell_correlation

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from icestream.simulate.particles import ParticleStack, ParticleTruth

BOX, PIXEL_ANGST = 40, 4.0
SETUP = AcquisitionSetup(name="k3", pixel_size_angst=PIXEL_ANGST, voltage_kv=300.0)
IMAGING = Imaging(
    setup=SETUP, defocus_range_angst=(6_000, 18_000), particles_per_micrograph=50
)


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    # No symmetry: a wrong hand or angle cannot hide.
    atoms = make_specimen("small").atoms
    return potential_volume(atoms, box_px=BOX, pixel_size_angst=PIXEL_ANGST)


@pytest.fixture(scope="module")
def stack(volume: torch.Tensor) -> ParticleStack:
    component = Component(species="small", volume=volume)
    return simulate_particles([component], imaging=IMAGING, count=1500, box_px=BOX)


def reconstruct(stack: ParticleStack, *, origin_sign: float = 1.0) -> np.ndarray:
    """Insert Fourier slices linearly, weighted by the CTF (Wiener), at true poses."""
    truth, side = stack.truth, 2 * BOX
    g = np.fft.fftfreq(side, 1 / side)
    inside = np.hypot(g[:, None], g) < side / 2 - 2
    gy, gx = (one[inside] for one in np.meshgrid(g, g, indexing="ij"))
    total = np.zeros((3, side**3))  # real and imaginary part, weight
    for first in range(0, len(stack.images), 50):  # a micrograph
        rows = slice(first, first + 50)
        padded = np.pad(stack.images[rows], ((0, 0), *[(BOX // 2, BOX // 2)] * 2))
        spectra = np.fft.fft2(np.fft.ifftshift(padded, axes=(1, 2)))[:, inside]
        ctf = bright_transfer(truth, first, side)[inside]
        x, y = truth.origin_x_angst[rows, None], truth.origin_y_angst[rows, None]
        # An image that is moved by its origin is centred.
        turn = -2j * np.pi * origin_sign * (gx * x + gy * y) / (side * PIXEL_ANGST)
        values = spectra * np.exp(turn) * ctf
        place = np.stack([gx, gy], axis=1) @ truth.rotations[rows, :2]
        corner = np.floor(place).astype(int)
        part = place - corner
        for step in np.ndindex(2, 2, 2):
            share = np.prod(np.where(np.array(step), part, 1 - part), axis=2)
            i, j, k = np.moveaxis((corner + step) % side, 2, 0)
            cell = ((k * side + j) * side + i).ravel()
            for row, numbers in enumerate((values.real, values.imag, ctf**2)):
                weights = (share * numbers).ravel()
                total[row] += np.bincount(cell, weights, side**3)
    spectrum = (total[0] + 1j * total[1]) / (total[2] + 0.1 * total[2].mean())
    whole = np.fft.fftshift(np.fft.ifftn(spectrum.reshape((side,) * 3)).real)
    cut = slice(side // 2 - BOX // 2, side // 2 + BOX // 2)
    return whole[cut, cut, cut]


def bright_transfer(truth: ParticleTruth, row: int, side: int) -> np.ndarray:
    """Transfer function of inverted images on the grid of fft2."""
    half = -contrast_transfer(
        (side, side),
        defocus_u_angst=float(truth.defocus_u_angst[row]),
        defocus_v_angst=float(truth.defocus_v_angst[row]),
        defocus_angle_deg=float(truth.defocus_angle_deg[row]),
        pixel_size_angst=PIXEL_ANGST,
        voltage_kv=SETUP.voltage_kv,
        spherical_aberration_mm=SETUP.spherical_aberration_mm,
        amplitude_contrast=SETUP.amplitude_contrast,
    ).numpy()
    other = half[(-np.arange(side)) % side][:, side // 2 - 1 : 0 : -1]
    return np.concatenate([half, other], axis=1)


def test_true_poses_give_the_potential_back(
    volume: torch.Tensor, stack: ParticleStack
) -> None:
    small = simulate_particles(stack.components, imaging=IMAGING, count=400, box_px=BOX)
    found = shell_correlation(reconstruct(small), volume.numpy())
    # Shells of 160 Å: 8 is 20 Å, 12 is 13 Å, where 400 particles end.
    assert found[1:8].min() > 0.9
    assert found[8:13].min() > 0.5
    wrong = shell_correlation(reconstruct(small, origin_sign=-1), volume.numpy())
    assert wrong[12] < found[12] - 0.2


@pytest.mark.relion
@pytest.mark.skipif(
    shutil.which("relion_reconstruct") is None,
    reason="RELION is not installed (apt install relion)",
)
def test_relion_reconstructs_the_potential(
    volume: torch.Tensor, stack: ParticleStack, tmp_path: Path
) -> None:
    """Angles, origins, contrast transfer function, sign and hand as RELION has them."""
    write_particles(tmp_path, stack)
    command = "relion_reconstruct --i particles.star --o map.mrc --ctf --verb 0"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    found = read_stack(tmp_path / "map.mrc")
    right = shell_correlation(found, volume.numpy())
    assert right[1:9].min() > 0.95  # to 18 Å
    assert right[9:16].min() > 0.7  # to 10 Å
    mirrored = shell_correlation(found[::-1], volume.numpy())
    assert mirrored[6:12].max() < 0.6


def test_protein_is_dark_as_recorded_and_bright_when_inverted(
    volume: torch.Tensor,
) -> None:
    component = Component(species="small", volume=volume)
    imaging = replace(IMAGING, largest_shift_angst=0.0)
    dark, bright = (
        simulate_particles(
            [component], imaging=imaging, count=50, box_px=BOX, is_inverted=inverted
        )
        for inverted in (False, True)
    )
    np.testing.assert_array_equal(dark.images, -bright.images)
    middle = slice(BOX // 2 - 5, BOX // 2 + 5)
    assert dark.images[:, middle, middle].mean() < dark.images[:, :4].mean() - 0.01


def test_noise_is_that_of_the_dose() -> None:
    imaging = replace(IMAGING, ice_power_rad2_angst2=0.0, dose_e_per_angst2=25.0)
    empty = Component(species="ice", volume=None)
    found = simulate_particles([empty], imaging=imaging, count=100, box_px=BOX).images
    expected = 1 / (25.0 * PIXEL_ANGST**2)
    assert found.var() == pytest.approx(expected, rel=0.02)
    assert abs(float(found.mean())) < 4 * np.sqrt(expected / found.size)


def test_ice_adds_thon_rings() -> None:
    imaging = replace(IMAGING, ice_power_rad2_angst2=0.02, b_factor_angst2=0.0)
    empty = Component(species="ice", volume=None)
    stack = simulate_particles([empty], imaging=imaging, count=50, box_px=BOX)
    power = (np.abs(np.fft.rfft2(stack.images)) ** 2).mean(axis=0) / BOX**2
    truth = stack.truth
    ctf = bright_transfer(truth, 0, BOX)[:, : BOX // 2 + 1]
    model = (1 / 40 + 4 * 0.02 * ctf**2) / PIXEL_ANGST**2
    inner = np.s_[2:12, 2:12]  # coarse shells blur the rings further out
    assert np.corrcoef(power[inner].ravel(), model[inner].ravel())[0, 1] > 0.8
    assert power[inner].mean() == pytest.approx(model[inner].mean(), rel=0.1)


def test_the_same_seed_gives_the_same_and_first_micrographs_stay(
    volume: torch.Tensor,
) -> None:
    component = Component(species="small", volume=volume)
    make = {"imaging": IMAGING, "box_px": BOX}
    one = simulate_particles([component], count=130, seed=3, **make)  # type: ignore[arg-type]
    two = simulate_particles([component], count=60, seed=3, **make)  # type: ignore[arg-type]
    other = simulate_particles([component], count=60, seed=4, **make)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one.truth.rot_deg[:60], two.truth.rot_deg)
    np.testing.assert_array_equal(one.images[:50], two.images[:50])
    assert np.abs(two.images - other.images).max() > 0
    assert one.truth.micrograph.tolist() == [0] * 50 + [1] * 50 + [2] * 30
    assert len(np.unique(one.truth.defocus_u_angst)) == 3
    astigmatism = one.truth.defocus_u_angst - one.truth.defocus_v_angst
    assert (astigmatism >= 50 - 1e-6).all()
    assert np.abs(one.truth.origin_x_angst).max() <= IMAGING.largest_shift_angst


def test_mixture_and_files(volume: torch.Tensor, tmp_path: Path) -> None:
    top = ViewPreference(share=1, concentration=500, rot_tilt_deg=((0, 0),))
    mixture = [
        Component(species="small", volume=volume, share=6, preference=top),
        Component(species="small", volume=volume.flip(0), state=1, share=3),
        Component(species="ice", volume=None, share=1),
    ]
    stack = simulate_particles(
        mixture, imaging=IMAGING, count=500, box_px=BOX, background_radius_angst=70
    )
    kinds = np.bincount(stack.truth.component, minlength=3)
    np.testing.assert_allclose(kinds, [300, 150, 50], atol=45)
    assert stack.truth.tilt_deg[stack.truth.component == 0].max() < 15
    line = np.arange(BOX) - BOX // 2
    outside = np.hypot(line[:, None], line) > 70 / PIXEL_ANGST
    background = stack.images[:, outside]
    np.testing.assert_allclose(background.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(background.std(axis=1), 1, atol=5e-3)
    path = write_particles(tmp_path / "new", stack)
    np.testing.assert_array_equal(read_stack(path.with_suffix(".mrcs")), stack.images)
    tables = starfile.read(path, always_dict=True)
    particles, optics = tables["particles"], tables["optics"]
    assert optics.rlnImageSize[0] == BOX
    assert particles.rlnImageName[499] == "000500@particles.mrcs"
    np.testing.assert_array_equal(particles.rlnClassNumber, stack.truth.component + 1)
    np.testing.assert_allclose(particles.rlnAngleTilt, stack.truth.tilt_deg, atol=1e-5)
    labels = list(
        zip(particles.icestreamSpecies, particles.icestreamState, strict=True)
    )
    assert set(labels) == {("small", 0), ("small", 1), ("ice", 0)}


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"box_px": 39},
        {"box_px": 32},
        {"components": []},
        {"background_radius_angst": 500.0},
    ],
)
def test_nonsense_is_refused(volume: torch.Tensor, change: dict[str, object]) -> None:
    values: dict[str, object] = {
        "components": [Component(species="small", volume=volume)],
        "imaging": IMAGING,
        "count": 5,
        "box_px": BOX,
    }
    with pytest.raises(BadSettings):
        simulate_particles(**(values | change))  # type: ignore[arg-type]
    with pytest.raises(BadSettings):
        Component(species="small", volume=None, share=0)
    with pytest.raises(BadSettings):
        replace(IMAGING, dose_e_per_angst2=0)
