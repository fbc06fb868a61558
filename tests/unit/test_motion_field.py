"""The motion of parts of an image, and what stays in place, against what is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain import MotionField
from icestream.engines.motion import (
    CorrectionRecipe,
    Motion,
    correct_movie,
    estimate_motion,
    field_on_grid,
)
from icestream.engines.motion.spectra import frame_spectra, tile_spectra
from icestream.engines.motion.surface import node_places, surfaces
from icestream.engines.motion.tiles import Tiles
from icestream.engines.motion.track import track_whole
from icestream.simulate.score import motion_rmsd_angst
from icestream.simulate.warp import sharpening, warp
from microscope import seeded
from movie_scene import PIXEL_ANGST, seen, still_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE, MARGIN, ANGST = 384, 16, 5.0
FRAMES = 12


def path() -> NDArray[np.float64]:
    """Content that jumps, then drifts, ``(frames, 2)`` Å."""
    frame = np.arange(FRAMES)[:, None]
    found: NDArray[np.float64] = (1 - np.exp(-frame / 2)) * [12.0, -7.0] - 0.3 * frame
    return found


def doming(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(*places, 2)``: away from a point off the middle; places from -1 to 1."""
    return np.stack(np.broadcast_arrays(y - 0.2, x + 0.1), axis=-1)


def field_px(
    shift: NDArray[np.float64], local_angst: float
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """Return what `warp` asks for."""

    def at(y_px: NDArray[np.float64], x_px: NDArray[np.float64]) -> NDArray[np.float64]:
        y, x = (2 * (one + 0.5) / SIDE - 1 for one in (y_px, x_px))
        moved: NDArray[np.float64] = (shift + local_angst * doming(y, x)) / ANGST
        return moved

    return at


def moving(
    *, local_angst: float, counts: float, pattern: float = 0.0
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Return frames of a moving grain, and its shifts at 9 x 9 places."""
    whole = SIDE + 2 * MARGIN
    y, x = torch.fft.fftfreq(whole), torch.fft.rfftfreq(whole)
    grain = torch.fft.rfft2(torch.randn(whole, whole, generator=seeded(1)))
    band = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * 0.12**2))
    spectrum = grain * band * sharpening(y)[:, None] * sharpening(x)
    scene = torch.fft.irfft2(spectrum, s=(whole, whole))
    scale = 0.1 / float(torch.fft.irfft2(grain * band, s=(whole, whole)).std())
    gain_error = 1 + pattern * torch.randn(SIDE, SIDE, generator=seeded(2))
    growth = 1 - np.exp(-np.arange(FRAMES) / 3)
    frames: list[torch.Tensor] = []
    for shift, grown in zip(path(), growth, strict=True):
        at = field_px(shift, grown * local_angst)
        seen = warp(scene, at, shape=(SIDE, SIDE), margin_px=MARGIN)
        mean = counts * (1 + scale * seen) * gain_error
        frames.append(torch.poisson(mean.clamp(min=0), generator=seeded(len(frames))))
    grid = np.linspace(-1, 1, 9)
    local = doming(grid[:, None], grid[None, :]) * local_angst
    truth = path()[:, None, None] + growth[:, None, None, None] * local
    return torch.stack(frames), truth


def estimated(frames: torch.Tensor) -> Motion:
    return estimate_motion(frames, pixel_size_angst=ANGST, dose_e_per_angst2=2.0)


def error(motion: Motion, truth: NDArray[np.float64]) -> float:
    grid = np.linspace(-0.5, SIDE - 0.5, 9)
    return motion_rmsd_angst(truth, field_on_grid(motion.field, grid, grid))


def whole_error(motion: Motion, truth: NDArray[np.float64]) -> float:
    whole = motion.field.shift_angst[:, None, None]
    return motion_rmsd_angst(truth, np.broadcast_to(whole, truth.shape))


def test_doming_is_found_and_its_error_known() -> None:
    frames, truth = moving(local_angst=3.0, counts=25)
    motion = estimated(frames)
    assert motion.local_gain is not None
    assert motion.local_gain > 3
    assert whole_error(motion, truth) > 0.5
    assert error(motion, truth) < 0.25
    foretold = math.sqrt(float(np.mean(motion.error_angst**2)))
    assert 0.4 < error(motion, truth) / foretold < 2.5


def test_without_doming_the_parts_do_no_harm() -> None:
    for counts in (25, 4):
        frames, truth = moving(local_angst=0.0, counts=counts)
        motion = estimated(frames)
        assert error(motion, truth) < whole_error(motion, truth) + 0.05


def test_a_pattern_that_stays_does_not_draw_the_content_back() -> None:
    """A gain 5 % wrong at every pixel, a grain of 10 %, 12 Å of motion."""
    frames, truth = moving(local_angst=0.0, counts=25, pattern=0.05)
    motion = estimated(frames)
    # 5 % of 25 counts over the noise of 25 counts.
    assert motion.still_fraction == pytest.approx(0.05 * math.sqrt(25), rel=0.3)
    assert whole_error(motion, truth) < 0.15


@pytest.mark.parametrize("dark", [0.0, 0.5, 0.75])
def test_what_stays_is_taken_from_tiles_beside_what_is_dark(dark: float) -> None:
    """Foil has no pattern; where light is, all of it is there."""
    lit = torch.where(torch.arange(SIDE) < dark * SIDE, 0.03, 1.0)
    wrong = 1 + 0.1 * torch.randn(SIDE, SIDE, generator=seeded(4))
    mean = (25 * lit * wrong).clamp(min=0).expand(FRAMES, -1, -1)
    frames = torch.poisson(mean, generator=seeded(5))
    whole = frame_spectra(frames, pixel_size_angst=ANGST)
    rest = torch.zeros(FRAMES, 2)
    tiles = tile_spectra(whole, rest, tiles=(4, 4))
    nothing = replace(tiles, still_power=torch.zeros_like(tiles.still_power))
    kept, all_of_it = (
        float(one.with_others(rest.expand(16, -1, -1)).real.sum())
        for one in (tiles, nothing)
    )
    assert abs(kept / all_of_it) < 0.2


def test_tiles_are_foretold_from_all_around() -> None:
    """No turn holds out a whole row or column of them."""
    frames, _ = moving(local_angst=0.0, counts=25)
    whole = frame_spectra(frames, pixel_size_angst=ANGST * 2)
    tiles = Tiles(whole, track_whole(whole, dose_e_per_angst2=1.0))
    turns = tiles.turns(8).reshape(len(set(tiles.y)), len(set(tiles.x)))
    assert turns.shape == (9, 9)
    for line in (*turns, *turns.T):
        assert np.bincount(line, minlength=8).max() <= 2


def test_small_movies_have_no_parts_and_short_ones_may() -> None:
    frames, truth = moving(local_angst=3.0, counts=25)
    assert estimated(frames[:, :80, :80]).local_gain is None
    motion = estimated(frames[:4])
    assert error(motion, truth[:4]) < 0.5 * whole_error(motion, truth[:4])


def test_a_field_on_a_grid_is_what_its_nodes_say() -> None:
    """Surfaces of degree two go through the splines unchanged, edges included."""
    weights = np.random.default_rng(1).normal(size=(3, 6, 2))
    shape = (120, 200)
    nodes = np.meshgrid(*(node_places(side) for side in shape), indexing="ij")
    field = MotionField(
        shape_px=shape,
        shift_angst=np.ones((3, 2)),
        local_angst=np.einsum("yxk,tka->tyxa", surfaces(*nodes), weights),
    )
    y, x = np.array([-5.0, 0.0, 33.3, 119.0]), np.array([0.0, 77.7, 199.0, 210.0])
    places = np.meshgrid(
        2 * (y + 0.5) / 120 - 1, 2 * (x + 0.5) / 200 - 1, indexing="ij"
    )
    wanted = 1 + np.einsum("yxk,tka->tyxa", surfaces(*places), weights)
    np.testing.assert_allclose(field_on_grid(field, y, x), wanted, atol=1e-9)


def test_surfaces_have_mean_square_one_and_do_not_mix() -> None:
    place = 2 * (np.arange(200) + 0.5) / 200 - 1
    y, x = np.meshgrid(place, place, indexing="ij")
    basis = surfaces(y, x).reshape(-1, 6)
    np.testing.assert_allclose(basis.T @ basis / len(basis), np.eye(6), atol=1e-3)


def test_faint_frames_are_added_up() -> None:
    """A tenth of an electron a pixel and frame: none is seen alone."""
    frames, truth = moving(local_angst=0.0, counts=25)
    faint = torch.poisson(
        frames.repeat_interleave(8, dim=0) / 25 * 0.4, generator=seeded(9)
    )
    motion = estimate_motion(faint, pixel_size_angst=ANGST, dose_e_per_angst2=0.25)
    shift = motion.field.shift_angst[:, None, None]
    known = np.repeat(truth, 8, axis=0)
    still = motion_rmsd_angst(known, np.zeros_like(known))
    assert motion_rmsd_angst(known, np.broadcast_to(shift, known.shape)) < 0.5 * still


def test_sums_of_faint_frames_lie_where_their_frames_do() -> None:
    """An even drift, 47 frames that are followed to side lobes if alone."""
    frame = np.arange(47)[:, None]
    truth = (frame - 23) * [0.4, -0.25]
    moved = np.stack([seen(*shift) for shift in truth / PIXEL_ANGST])
    faint = torch.poisson(torch.from_numpy(0.3 * moved), generator=seeded(2))
    motion = estimate_motion(faint, pixel_size_angst=PIXEL_ANGST)
    assert motion.was_seen.all()
    np.testing.assert_allclose(motion.field.shift_angst, truth, atol=2.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same_field() -> None:
    frames, _ = moving(local_angst=3.0, counts=25)
    on_cpu, on_gpu = estimated(frames).field, estimated(frames.cuda()).field
    grid = np.linspace(0, SIDE - 1, 9)
    np.testing.assert_allclose(
        field_on_grid(on_gpu, grid, grid), field_on_grid(on_cpu, grid, grid), atol=0.03
    )


def test_the_edge_of_what_is_dark_draws_nothing() -> None:
    """It moves with the rest, and would tell only how far it goes across itself."""
    frames, truth = moving(local_angst=0.0, counts=25)
    place = torch.arange(SIDE)
    edge = place[:, None] + place < 0.8 * SIDE
    shaded = torch.where(edge, 0.03, 1.0)
    moved = [
        torch.roll(shaded, (round(y), round(x)), (0, 1))
        for y, x in (path() / ANGST).tolist()
    ]
    motion = estimated(torch.stack(moved) * frames)
    assert whole_error(motion, truth) < 0.3
    assert motion.field.local_angst is None


def test_tiles_that_see_nothing_say_nothing() -> None:
    """Faint and at rest: the whole is seen just so, most tiles are not."""
    draw, scene = np.random.default_rng(0), still_scene()
    frames = np.stack([draw.random(scene.shape) < 0.4 * scene for _ in range(10)])
    recipe = CorrectionRecipe(pixel_size_angst=PIXEL_ANGST, dose_e_per_angst2=2.0)
    motion = correct_movie(frames.astype(np.uint8), recipe=recipe).motion
    assert motion.was_seen.any()
    assert motion.field.local_angst is None
    shift, error = motion.field.shift_angst, motion.error_angst
    assert np.square(shift).mean() < 4 * np.square(error).mean()
