from __future__ import annotations

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import Atoms
from icestream.simulate.orientations import draw_orientations, rotation_matrices
from icestream.simulate.potential import atomic_potential, potential_volume
from icestream.simulate.projection import Projector, shifted
from transforms import CountedTransforms

BOX, PIXEL_ANGST = 48, 2.5


def ball_of_carbon(count: int = 1500, radius_angst: float = 38.0) -> Atoms:
    generator = np.random.default_rng(2)
    xyz = generator.standard_normal((count, 3))
    xyz *= (
        radius_angst
        * generator.random((count, 1)) ** (1 / 3)
        / np.linalg.norm(xyz, axis=1, keepdims=True)
    )
    return Atoms(
        xyz_angst=xyz.astype(np.float32),
        element=np.full(count, 6, np.uint8),
        b_factor_angst2=np.full(count, 150, np.float32),
    )


def direct_projection(atoms: Atoms, rotation: np.ndarray) -> np.ndarray:
    """Its rfft2 by summing over atoms, V Å3; the centre is pixel [0, 0]."""
    xy = (atoms.xyz_angst.astype(float) @ rotation.T)[:, :2]
    gy = np.fft.fftfreq(BOX, PIXEL_ANGST)
    gx = np.fft.rfftfreq(BOX, PIXEL_ANGST)
    rows = np.exp(-2j * np.pi * np.outer(gy, xy[:, 1]))
    columns = np.exp(-2j * np.pi * np.outer(gx, xy[:, 0]))
    g = np.hypot(gy[:, None], gx)
    spectrum: np.ndarray = (rows @ columns.T) * atomic_potential(
        6, g, b_factor_angst2=150
    )
    return spectrum


@pytest.mark.parametrize(("padding", "tolerance"), [(2.0, 0.04), (4.0, 0.018)])
def test_slices_are_projections_of_the_atoms(padding: float, tolerance: float) -> None:
    """Relative error by shell up to 2/3 of Nyquist.

    It falls with the padding, but for the 1 % that the box cuts off.
    """
    atoms = ball_of_carbon()
    volume = potential_volume(atoms, box_px=BOX, pixel_size_angst=PIXEL_ANGST)
    projector = Projector(volume, pixel_size_angst=PIXEL_ANGST, padding=padding)
    angles = draw_orientations(np.random.default_rng(0), 5)
    rotations = rotation_matrices(angles)
    found = projector.slices(torch.as_tensor(rotations)).numpy() * PIXEL_ANGST**3
    g = np.hypot(np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX)) / 0.5
    for one, rotation in zip(found, rotations, strict=True):
        direct = direct_projection(atoms, rotation)
        for low in np.arange(0, 0.66, 0.11):
            shell = (g >= low) & (g < low + 0.11)
            error = np.linalg.norm((one - direct)[shell])
            assert error < tolerance * np.linalg.norm(direct[shell])


def test_an_atom_is_seen_where_the_matrix_takes_it() -> None:
    place = np.array([10.0, -15.0, 20.0])
    atoms = Atoms(
        xyz_angst=place[None].astype(np.float32),
        element=np.array([26], np.uint8),
        b_factor_angst2=np.array([900.0], np.float32),
    )
    volume = potential_volume(
        atoms, box_px=BOX, pixel_size_angst=PIXEL_ANGST, ice_potential_volt=0
    )
    projector = Projector(volume, pixel_size_angst=PIXEL_ANGST)
    angles = np.array([[0.0, 0, 0], [90, 0, 0], [0, 90, 0], [35, 110, -60]])
    images = projector.project(torch.as_tensor(rotation_matrices(angles)))
    line = (torch.arange(BOX) - BOX // 2) * PIXEL_ANGST
    for image, rotation in zip(images, rotation_matrices(angles), strict=True):
        x = float((image.sum(dim=0) * line).sum() / image.sum())
        y = float((image.sum(dim=1) * line).sum() / image.sum())
        np.testing.assert_allclose([x, y], (rotation @ place)[:2], atol=0.2)
    # rot of 90 degrees brings what lay on +y to +x
    np.testing.assert_allclose(
        rotation_matrices(angles[1]) @ [0, 1, 0], [1, 0, 0], atol=1e-12
    )


def test_projection_keeps_the_integral() -> None:
    volume = potential_volume(
        ball_of_carbon(), box_px=BOX, pixel_size_angst=PIXEL_ANGST
    )
    image = Projector(volume, pixel_size_angst=PIXEL_ANGST).project(torch.eye(3)[None])
    total = float(volume.sum()) * PIXEL_ANGST
    assert float(image.sum()) == pytest.approx(total, rel=0.02)


def test_only_what_is_not_padding_is_transformed() -> None:
    volume = torch.randn(58, 58, 58, generator=torch.Generator().manual_seed(0))
    with CountedTransforms() as counted:
        Projector(volume, pixel_size_angst=1.0, padding=2.0)
    assert max(counted.sides) == 120  # 116 has a factor 29
    assert 0 < counted.work < 0.6 * 3 * 116**3


def test_whole_and_half_pixels_of_shift() -> None:
    image = torch.zeros(1, 16, 16)
    image[0, 8, 8] = 1
    moved = torch.fft.irfft2(
        shifted(torch.fft.rfft2(image), torch.tensor([[3.0, -2.0]])), s=(16, 16)
    )
    assert int(moved.argmax()) == 6 * 16 + 11
    smooth = torch.exp(-((torch.arange(16)[:, None] - 8.0) ** 2) / 8)
    smooth = smooth * torch.exp(-((torch.arange(16) - 8.0) ** 2) / 8)
    half = torch.fft.irfft2(
        shifted(torch.fft.rfft2(smooth[None]), torch.tensor([[0.5, 0.0]])), s=(16, 16)
    )
    assert float(half[0, 8, 8]) == pytest.approx(float(half[0, 8, 9]), abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 8, 6), (7, 7, 7)])
def test_what_is_no_even_cube_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(BadSettings, match="cube"):
        Projector(torch.zeros(shape), pixel_size_angst=1.0)
