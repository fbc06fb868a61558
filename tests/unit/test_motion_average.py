"""Sums of moved frames against what they must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain import MotionField
from icestream.domain.errors import BadSettings, UnusableImage
from icestream.engines.fourier import fourier_crop
from icestream.engines.motion.average import Averages, average_frames
from icestream.engines.motion.dose import critical_dose_e_per_angst2, dose_weights
from icestream.engines.motion.groups import frame_groups
from icestream.engines.motion.interpolation import add_moved, shift_lattice
from microscope import seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ANGST = 0.8
SHAPE = (150, 212)
FREQUENCY = np.linspace(0, 0.5 / ANGST, 129)


def whole(*shifts_px: tuple[float, float]) -> MotionField:
    return MotionField(shape_px=SHAPE, shift_angst=ANGST * np.array(shifts_px))


def doming(frames: int) -> MotionField:
    chance = np.random.default_rng(5)
    nodes = np.linspace(-1, 1, 5)
    local = np.zeros((frames, 5, 5, 2))
    local[..., 0], local[..., 1] = nodes[:, None], -0.7 * nodes
    return MotionField(
        shape_px=SHAPE,
        shift_angst=ANGST * chance.normal(size=(frames, 2)) * 4,
        local_angst=local * np.linspace(0, 1.5, frames)[:, None, None, None],
    )


def counts(frames: int, dtype: type = np.uint8) -> NDArray[Any]:
    mean = torch.full((frames, *SHAPE), 6.0)
    return torch.poisson(mean, generator=seeded(3)).numpy().astype(dtype)


def averaged(frames: NDArray[Any] | torch.Tensor, **how: Any) -> Averages:
    return average_frames(frames, pixel_size_angst=ANGST, **how)


def image(found: torch.Tensor | None) -> NDArray[np.float32]:
    assert found is not None
    values: NDArray[np.float32] = found.numpy()
    return values


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.float32])
def test_whole_pixels_are_moved_as_they_are(dtype: type) -> None:
    frames = counts(3, dtype)
    gain = 1 + 0.05 * np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    field = whole((0, 0), (4, -7), (-3, 11))
    plain = image(averaged(frames, field=field, gain=gain).plain)
    wanted = sum(
        np.roll(frame * gain, (-dy, -dx), axis=(0, 1))
        for frame, (dy, dx) in zip(frames, [(0, 0), (4, -7), (-3, 11)], strict=True)
    )
    np.testing.assert_allclose(plain[8:-8, 14:-14], wanted[8:-8, 14:-14], atol=1e-3)


@pytest.mark.parametrize("as_kept", [np.asarray, torch.from_numpy])
def test_what_lies_beyond_the_edge_is_the_mean(as_kept: Callable[..., Any]) -> None:
    frames = as_kept(np.full((2, *SHAPE), 5, np.uint8))
    field = whole((20.0, 9.3), (-31.7, 0.0))
    np.testing.assert_allclose(
        image(averaged(frames, field=field).plain), 10, atol=1e-3
    )
    gain = np.full(SHAPE, 2, np.float32)
    plain = image(averaged(frames, field=field, gain=gain).plain)
    np.testing.assert_allclose(plain, 20, atol=1e-3)


@pytest.mark.parametrize("as_kept", [np.asarray, torch.from_numpy])
def test_half_a_pixel_takes_the_finest_away_for_good(
    as_kept: Callable[..., Any],
) -> None:
    """What no frame has kept cannot be given back: nothing is divided by next to 0."""
    frames = as_kept(counts(2))
    plain = image(averaged(frames, field=whole((0.5, 0.5), (-0.5, -0.5))).plain)
    usual = image(averaged(frames, field=whole((0.3, 0.3), (-0.3, -0.3))).plain)
    assert 0.5 < plain.std() / usual.std() < 2


def test_a_smooth_scene_comes_back_through_a_field() -> None:
    """Up to half of Nyquist: each frame is drawn where the field puts it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    field = doming(6)
    local = field.local_angst
    assert local is not None
    waves = [(0.11, 0.05), (0.02, -0.17), (0.25, 0.0), (0.17, 0.18)]

    def scene(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full(y.shape, 9.0)
        for a, b in waves:
            found += np.cos(2 * math.pi * (a * y + b * x))
        return found

    frames = []
    for shift, part in zip(field.shift_angst, local, strict=True):
        # r + d(r) = place: a few steps find r.
        at_y, at_x = y, x
        for _ in range(20):
            dy = shift[0] + part[-1, 0, 0] * (2 * at_y / (SHAPE[0] - 1) - 1)
            dx = shift[1] + part[0, -1, 1] * (2 * at_x / (SHAPE[1] - 1) - 1)
            at_y, at_x = y - dy / ANGST, x - dx / ANGST
        frames.append(scene(at_y, at_x))
    stack = np.stack(frames).astype(np.float32)
    found = image(averaged(stack, field=field).plain) / 6
    inner = (slice(24, -24), slice(24, -24))
    difference = (found - scene(y, x))[inner]
    assert np.sqrt(np.mean(difference**2)) < 0.02 * scene(y, x)[inner].std()


def test_threads_bands_and_devices_agree() -> None:
    frames, field = counts(9), doming(9)
    gain = np.random.default_rng(1).uniform(0.9, 1.1, SHAPE).astype(np.float32)
    weights = dose_weights(
        FREQUENCY, frame_count=9, dose_e_per_angst2=3.0, voltage_kv=300.0
    )
    how = {"field": field, "gain": gain, "weights": weights, "with_halves": True}
    one = averaged(frames, **how)
    four = averaged(frames, threads=4, **how)
    torch_one = averaged(torch.from_numpy(frames), **how)
    for name in ("plain", "dose_weighted", "odd", "even"):
        wanted = image(getattr(one, name))
        for other in (four, torch_one):
            np.testing.assert_allclose(image(getattr(other, name)), wanted, atol=2e-2)
    band = np.zeros(SHAPE, np.float32)
    all_rows = np.zeros(SHAPE, np.float32)
    lattice = shift_lattice(field, pixel_size_angst=ANGST)
    for rows in (range(71), range(71, SHAPE[0])):
        add_moved(frames[4], gain, lattice, 4, out=band, rows=rows, beyond=6.0)
    rows = range(SHAPE[0])
    add_moved(frames[4], gain, lattice, 4, out=all_rows, rows=rows, beyond=6.0)
    np.testing.assert_array_equal(band, all_rows)


def test_halves_add_up_and_binning_cuts_the_transform() -> None:
    frames, field = counts(7), doming(7)
    halves = averaged(frames, field=field, with_halves=True)
    plain = image(halves.plain)
    np.testing.assert_allclose(image(halves.odd) + image(halves.even), plain, atol=1e-3)
    assert abs(image(halves.odd).mean() / image(halves.even).mean() - 4 / 3) < 1e-2
    for shape in ((75, 106), (100, 140)):
        small = averaged(frames, field=field, shape=shape).plain
        wanted = fourier_crop(torch.from_numpy(plain), shape=shape)
        np.testing.assert_allclose(image(small), wanted.numpy(), atol=2e-3)
        on_device = averaged(torch.from_numpy(frames), field=field, shape=shape).plain
        np.testing.assert_allclose(image(on_device), wanted.numpy(), atol=2e-2)


def test_weights_follow_the_critical_dose() -> None:
    """Ne of 3 Å at 300 kV is 0.24499 * 3^1.6649 + 2.8141 = 4.340 e/Å2."""
    third = np.array([1 / 3])
    assert critical_dose_e_per_angst2(third, voltage_kv=300.0)[0] == pytest.approx(
        4.340, abs=2e-3
    )
    assert critical_dose_e_per_angst2(third, voltage_kv=200.0)[0] == pytest.approx(
        0.8 * 4.340, abs=2e-3
    )
    weights = dose_weights(
        third,
        frame_count=4,
        dose_e_per_angst2=2.0,
        voltage_kv=300.0,
        before_e_per_angst2=1.0,
    )
    assert weights[1, 0] / weights[0, 0] == pytest.approx(
        math.exp(-1 / 4.340), rel=1e-3
    )
    assert (weights**2).sum() == pytest.approx(4)
    still = dose_weights(
        np.zeros(1), frame_count=4, dose_e_per_angst2=2.0, voltage_kv=300.0
    )
    np.testing.assert_allclose(still, 1)


def test_weighted_noise_has_the_power_of_plain_noise() -> None:
    frames = counts(16)
    weights = dose_weights(
        FREQUENCY, frame_count=16, dose_e_per_angst2=3.0, voltage_kv=300.0
    )
    both = averaged(frames, field=whole(*[(0, 0)] * 16), weights=weights)
    ratio = image(both.dose_weighted).std() / image(both.plain).std()
    # Neighbours share their mean weight: a little less than 1.
    assert ratio == pytest.approx(0.99, abs=0.02)
    assert image(both.dose_weighted).mean() == pytest.approx(96, rel=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"field": MotionField(shape_px=(9, 9), shift_angst=np.zeros((3, 2)))},
        {"field": MotionField(shape_px=SHAPE, shift_angst=np.zeros((2, 2)))},
        {"gain": np.ones((3, 3), np.float32)},
        {"weights": np.ones((2, 9))},
        {"shape": (400, 20)},
        {"with_plain": False},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    right = {"field": whole(*[(0, 0)] * 3)}
    with pytest.raises(BadSettings):
        averaged(counts(3), **{**right, **wrong})


def test_content_that_leaves_the_frame_is_the_movies_fault() -> None:
    field = MotionField(shape_px=SHAPE, shift_angst=np.full((3, 2), 900.0))
    with pytest.raises(UnusableImage, match="moves by 1125 px"):
        averaged(counts(3), field=field)


@pytest.mark.parametrize(("frames", "dose"), [(24, 1.67), (40, 1.5), (80, 0.75)])
def test_groups_of_frames_lose_next_to_no_signal(frames: int, dose: float) -> None:
    """At 8 to 3 Å: what exact weights give, less 1 % of the power."""
    frequency = np.linspace(0, 0.5 / ANGST, 513)
    weights = dose_weights(
        frequency, frame_count=frames, dose_e_per_angst2=dose, voltage_kv=300.0
    )
    groups = frame_groups(frames, weights, with_halves=False)
    assert sum((group.frames for group in groups), ()) == tuple(range(frames))
    given = np.empty_like(weights)
    for group in groups:
        given[list(group.frames)] = group.weights
    # What is left of the signal goes as the exact weights do.
    share = (weights * given).sum(0) ** 2 / (given**2).sum(0) / (weights**2).sum(0)
    band = (frequency > 1 / 8) & (frequency < 1 / 3)
    assert share[band].min() > 0.985
    assert share[band].mean() > 0.99
