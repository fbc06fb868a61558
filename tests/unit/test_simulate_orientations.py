from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.optics import Optics, defocus_at_angst
from icestream.simulate.orientations import (
    ViewPreference,
    draw_orientations,
    on_tilted_stage,
    rotation_matrices,
)


def test_matrix_is_the_one_of_relion() -> None:
    """The elements as RELION 3.1 writes them out (Euler_angles2matrix)."""
    rot, tilt, psi = 25.0, 70.0, -130.0
    ca, cb, cg = (math.cos(math.radians(a)) for a in (rot, tilt, psi))
    sa, sb, sg = (math.sin(math.radians(a)) for a in (rot, tilt, psi))
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    found = rotation_matrices(np.array([rot, tilt, psi]))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_uniform_views_cover_the_sphere_evenly() -> None:
    angles = draw_orientations(np.random.default_rng(3), 40_000)
    matrices = rotation_matrices(angles)
    # Each element of a random rotation has mean 0 and variance 1/3.
    assert np.abs(matrices.mean(axis=0)).max() < 4 * math.sqrt(1 / 3 / 40_000)
    np.testing.assert_allclose((matrices**2).mean(axis=0), 1 / 3, atol=0.008)
    counts, _ = np.histogram(np.cos(np.radians(angles[:, 1])), bins=10, range=(-1, 1))
    assert np.abs(counts - 4000).max() < 4.5 * math.sqrt(4000)
    assert angles[:, 1].min() >= 0
    assert angles[:, 1].max() <= 180


@pytest.mark.parametrize("kappa", [0.0, 2.0, 25.0])
def test_preferred_views_have_the_mean_of_their_law(kappa: float) -> None:
    centre = (40.0, 75.0)
    preference = ViewPreference(share=1, concentration=kappa, rot_tilt_deg=(centre,))
    angles = draw_orientations(np.random.default_rng(4), 20_000, preference=preference)
    mean = rotation_matrices(angles)[:, 2].mean(axis=0)
    axis = rotation_matrices(np.array([*centre, 0.0]))[2]
    # The mean resultant length of von Mises and Fisher: coth k - 1 / k.
    expected = 1 / math.tanh(kappa) - 1 / kappa if kappa else 0.0
    np.testing.assert_allclose(mean, expected * axis, atol=0.02)
    counts, _ = np.histogram(angles[:, 2], bins=8, range=(-180, 180))
    assert np.abs(counts - 2500).max() < 4.5 * math.sqrt(2500)


def test_share_says_how_many_prefer() -> None:
    preference = ViewPreference(share=0.7, concentration=200)
    angles = draw_orientations(np.random.default_rng(5), 20_000, preference=preference)
    from_axis = np.minimum(angles[:, 1], 180 - angles[:, 1])
    # 95 % lie within 14 degrees; of uniform ones 3 %.
    assert (from_axis < 14).mean() == pytest.approx(0.7 + 0.3 * 0.03, abs=0.02)


@pytest.mark.parametrize(
    "values", [{"share": 1.5}, {"share": 0.5, "concentration": -1.0}]
)
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(BadSettings):
        ViewPreference(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis_deg", [0.0, 35.0, 150.0])
def test_a_tilted_stage_turns_what_lies_in_the_ice(axis_deg: float) -> None:
    """A patch of ice with a particle in it is a plane: both tilt by the same sign."""
    optics = Optics(
        defocus_u_angst=1e4, defocus_v_angst=1e4, tilt_deg=40.0, tilt_axis_deg=axis_deg
    )
    level = draw_orientations(np.random.default_rng(2), 50)
    tilted = on_tilted_stage(level, tilt_deg=40.0, tilt_axis_deg=axis_deg)
    axis = np.radians(axis_deg)
    along = np.array([np.cos(axis), np.sin(axis), 0.0])
    across = np.array([-np.sin(axis), np.cos(axis), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    back = rotation_matrices(level).transpose(0, 2, 1)
    # Points of the particles which in level ice lie 1 Å from the centre.
    seen = {
        name: np.einsum("nij,njk,k->ni", rotation_matrices(tilted), back, place)
        for name, place in (("along", along), ("across", across), ("up", up))
    }
    assert np.allclose(seen["along"], along)
    height = seen["across"][:, 2]
    place = torch.as_tensor(seen["across"][:, :2])
    further = defocus_at_angst(
        optics, x_angst=place[:, 0], y_angst=place[:, 1], z_angst=torch.zeros(50)
    )
    assert np.allclose(height, -further.numpy())
    assert np.allclose(seen["up"], np.cos(np.radians(40)) * up - 0.642788 * across)


def test_preferred_views_lean_with_the_stage() -> None:
    preference = ViewPreference(share=1.0, concentration=500.0)
    drawn = draw_orientations(np.random.default_rng(3), 400, preference=preference)
    for tilt_deg in (0.0, 40.0):
        angles = on_tilted_stage(drawn, tilt_deg=tilt_deg, tilt_axis_deg=20.0)
        from_axis = np.minimum(angles[:, 1], 180 - angles[:, 1])
        assert float(np.median(from_axis)) == pytest.approx(tilt_deg, abs=4)
