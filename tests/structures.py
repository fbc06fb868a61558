"""Real structures beside the repository, and spectra of atoms; for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.simulate.atoms import Atoms
from icestream.simulate.potential import atomic_potential, potential_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def real_structure(shared_data: Path, name: str) -> Atoms:
    path = shared_data / "structures" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"a real structure is absent: {path}")
    with np.load(path) as stored:
        return Atoms(
            xyz_angst=stored["xyz_angst"],
            element=stored["element"],
            b_factor_angst2=stored["b_factor"].astype(np.float32),
        )


def packing_spectrum(atoms: Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequency (1/Å) and mean power over that of as many atoms anywhere."""
    pixel_angst, b_angst2 = 1.5, 30.0
    atoms = with_equal_b_factors(atoms, b_angst2)
    box = 2 * int(np.ceil((np.abs(atoms.xyz_angst).max() + 12) / pixel_angst))
    volume = potential_volume(atoms, box_px=box, pixel_size_angst=pixel_angst)
    edges = np.arange(0.01, 0.32, 0.01)
    middle = edges[:-1] + 0.005
    kinds, counts = np.unique(atoms.element, return_counts=True)
    alone = sum(
        count
        * atomic_potential(
            int(kind), middle, b_factor_angst2=b_angst2, ice_potential_volt=0
        )
        ** 2
        for kind, count in zip(kinds, counts, strict=True)
    )
    return middle, shell_power(volume, pixel_angst, edges) / alone


def with_equal_b_factors(atoms: Atoms, b_angst2: float) -> Atoms:
    return replace(atoms, b_factor_angst2=np.full(len(atoms), b_angst2, np.float32))


def shell_power(
    volume: torch.Tensor, pixel_angst: float, edges_per_angst: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of the squared transform (of the unit of the volume times Å3) in shells."""
    box = len(volume)
    power = torch.fft.rfftn(volume).abs().square().double() * pixel_angst**6
    whole = torch.fft.fftfreq(box, pixel_angst).square()
    half = torch.fft.rfftfreq(box, pixel_angst).square()
    g = (whole[:, None, None] + whole[:, None] + half).sqrt().flatten().numpy()
    shell = np.digitize(g, edges_per_angst)
    mean = np.bincount(shell, power.flatten().numpy()) / np.bincount(shell)
    return np.asarray(mean[1 : len(edges_per_angst)])


def shell_correlation(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> NDArray[np.float64]:
    """FSC of two cubes, shells of one Fourier voxel, up to the Nyquist frequency."""
    side = len(first)
    a, b = np.fft.rfftn(first), np.fft.rfftn(second)
    whole, half = np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side)
    radius = np.sqrt(whole[:, None, None] ** 2 + whole[:, None] ** 2 + half**2)
    shell = np.rint(radius).astype(int).ravel()
    cross, power_a, power_b = (
        np.bincount(shell, values.ravel())
        for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    correlation: NDArray[np.float64] = cross / np.sqrt(power_a * power_b)
    return correlation[: side // 2]
