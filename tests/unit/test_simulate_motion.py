"""The motion is what it says, and damage follows the published curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.motion import (
    MotionField,
    critical_dose_e_per_angst2,
    damage_filter,
    simulate_motion,
)


def simulate(seed: int = 1, **values: Any) -> MotionField:
    defaults: dict[str, Any] = {
        "shape": (400, 600),
        "pixel_size_angst": 0.9,
        "frame_count": 24,
        "dose_e_per_angst2": 1.5,
    }
    return simulate_motion(np.random.default_rng(seed), **(defaults | values))


def test_frame_0_does_not_move() -> None:
    motion = simulate()
    assert motion.frame_count == 24
    assert not motion.shift_angst(0, np.arange(400)[:, None], np.arange(600)).any()
    assert motion.shift_angst(5, np.arange(400)[:, None], np.arange(600)).shape == (
        400,
        600,
        2,
    )


def test_the_jump_dies_out_with_dose() -> None:
    motion = simulate(
        jump_angst=10.0,
        jump_dose_e_per_angst2=3.0,
        drift_angst=0.0,
        jitter_angst=0.0,
        doming_angst=0.0,
    )
    length = np.linalg.norm(motion.global_angst, axis=1)
    # Means over frames of 1.5 e/Å2, against the mean of frame 0.
    dose = (np.arange(24)[:, None] + np.linspace(0, 1, 2001)) * 1.5
    expected = (10 * (1 - np.exp(-dose / 3))).mean(axis=1)
    np.testing.assert_allclose(length, expected - expected[0], atol=1e-3)
    blur = np.linalg.norm(motion.blur_angst, axis=1)
    assert blur[0] == pytest.approx(10 * (1 - math.exp(-0.5)))
    np.testing.assert_allclose(blur[1:] / blur[:-1], math.exp(-0.5))


def test_drift_is_steady_and_jitter_a_random_walk() -> None:
    steady = simulate(jump_angst=0.0, drift_angst=6.0, jitter_angst=0.0)
    steps = np.diff(steady.global_angst, axis=0)
    np.testing.assert_allclose(steps, steps[:1].repeat(23, axis=0))
    assert np.linalg.norm(steps[0]) == pytest.approx(6 / 24)
    np.testing.assert_allclose(steady.blur_angst, steps[:1].repeat(24, axis=0))

    walk = simulate(jump_angst=0.0, drift_angst=0.0, jitter_angst=0.5, frame_count=900)
    assert np.diff(walk.global_angst, axis=0).std() == pytest.approx(0.5, rel=0.06)


def test_doming_is_as_large_as_asked_and_points_from_off_the_middle() -> None:
    for seed in range(5):
        motion = simulate(seed, doming_angst=3.0)
        y, x = np.meshgrid(
            np.linspace(0, 400, 41), np.linspace(0, 600, 41), indexing="ij"
        )
        local = motion.local_angst(23, y, x)
        assert np.linalg.norm(local, axis=-1).max() == pytest.approx(3.0, rel=0.1)
        # Radial: the divergence of a dome has one sign on average.
        divergence = np.gradient(local[..., 0], axis=0) + np.gradient(
            local[..., 1], axis=1
        )
        assert divergence.mean() > 0
        # Most of it comes early.
        early = np.linalg.norm(motion.local_angst(8, y, x), axis=-1).max()
        assert early > 1.5


def test_the_lattice_is_the_field() -> None:
    motion = simulate()
    places, shifts = motion.lattice(side=5, margin_px=50)

    assert places.shape == (5, 5, 2)
    assert shifts.shape == (24, 5, 5, 2)
    np.testing.assert_allclose(places[0, 0], [50, 50])
    np.testing.assert_allclose(places[-1, -1], [349, 549])
    np.testing.assert_allclose(shifts[7, 2, 3], motion.shift_angst(7, *places[2, 3]))


def test_motion_comes_from_its_generator() -> None:
    one, same, other = simulate(3), simulate(3), simulate(4)
    np.testing.assert_array_equal(one.lattice()[1], same.lattice()[1])
    assert np.abs(one.lattice()[1] - other.lattice()[1]).max() > 1


def test_motion_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings, match="do not move"):
        simulate(frame_count=0)
    with pytest.raises(BadSettings, match="do not move"):
        simulate(dose_e_per_angst2=0.0)
    good = simulate()
    for change in ({"global_angst": good.global_angst + 1}, {"modes": good.modes[1:]}):
        values: dict[str, Any] = {
            "shape": good.shape,
            "pixel_size_angst": 1.0,
            "global_angst": good.global_angst,
            "modes": good.modes,
            "coefficients": good.coefficients,
            "blur_angst": good.blur_angst,
        }
        with pytest.raises(BadSettings, match="do not fit"):
            MotionField(**(values | change))


def test_the_critical_dose_is_that_of_grant_and_grigorieff() -> None:
    g = torch.tensor([1 / 3.0, 1 / 10.0])
    at_300 = critical_dose_e_per_angst2(g, voltage_kv=300.0)

    # 0.24499 3^1.6649 + 2.8141 and the same with 10.
    torch.testing.assert_close(
        at_300, torch.tensor([4.3398, 14.1394]), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        critical_dose_e_per_angst2(g, voltage_kv=200.0), 0.8 * at_300
    )


@pytest.mark.parametrize(
    ("voltage_kv", "share"),
    # Measured at 100, 200 and 300 kV; beyond, the squares of the velocities:
    # 0.2524 / 0.3005 at 80 kV, 0.6854 / 0.6030 at 400 kV.
    [(100.0, 0.64), (150.0, 0.72), (200.0, 0.8), (80.0, 0.538), (400.0, 1.1366)],
)
def test_slow_electrons_damage_more(voltage_kv: float, share: float) -> None:
    g = torch.tensor([0.1, 0.3])
    found, at_300 = (
        critical_dose_e_per_angst2(g, voltage_kv=kv) for kv in (voltage_kv, 300.0)
    )
    torch.testing.assert_close(found, share * at_300, rtol=2e-3, atol=0)


def test_damage_is_the_curve_averaged_over_the_frame() -> None:
    g = torch.tensor([0.0, 0.1, 1 / 3])
    narrow = damage_filter(
        g, start_e_per_angst2=20.0, stop_e_per_angst2=20.0, voltage_kv=300.0
    )
    expected = torch.exp(-20 / (2 * critical_dose_e_per_angst2(g, voltage_kv=300.0)))
    torch.testing.assert_close(narrow, expected, rtol=1e-5, atol=0)
    assert float(narrow[0]) == pytest.approx(1, abs=1e-6)

    wide = damage_filter(
        g, start_e_per_angst2=2.0, stop_e_per_angst2=8.0, voltage_kv=300.0
    )
    doses = torch.linspace(2, 8, 1001)[:, None]
    curve = torch.exp(-doses / (2 * critical_dose_e_per_angst2(g, voltage_kv=300.0)))
    torch.testing.assert_close(wide, curve.mean(dim=0), rtol=1e-4, atol=0)
