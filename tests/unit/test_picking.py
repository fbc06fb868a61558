"""Picking of particles that were drawn at known places, and of nothing at all."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings, UnusableImage
from icestream.engines.picking import match_coordinates, pick_particles
from picking_scene import (
    DIAMETER_PX,
    GRID_PX,
    SHAPE_PX,
    coloured_noise,
    coordinates,
    particles,
)

# 3 Å/px: particles of 120 Å. A pixel of the search is then about 2.5 px.
_pick = partial(pick_particles, pixel_size_angst=3.0, diameter_angst=(110.0, 130.0))


@pytest.mark.parametrize("hole", [0.0, 0.6], ids=["full", "hollow"])
@pytest.mark.parametrize(
    ("noise", "error_px"),
    # A fifth of a pixel of the search; the noise of a disc's rim moves it further.
    [(0.1, 0.5), (0.5, 0.5), (2.0, 1.2), (3.0, 2.0)],
)
def test_particles_are_found_where_they_are(
    hole: float, noise: float, error_px: float
) -> None:
    found = _pick(particles(hole=hole, noise=noise))
    matches = match_coordinates(found, coordinates(GRID_PX), max_distance_px=10)
    # Of 25, three may be lost in noise three times their depth; one may be false.
    assert matches.recall is not None
    assert matches.recall >= (1.0 if noise < 3 else 0.88)
    assert matches.precision is not None
    assert matches.precision >= 0.96
    assert np.median(matches.distance_px) < error_px
    offset_px = found.x_px[matches.found_index].mean() - np.mean(
        [GRID_PX[index][1] for index in matches.true_index]
    )
    # The mean of 25 errors of up to 2 px.
    assert abs(offset_px) < 0.8


def test_crowded_particles_are_found() -> None:
    places = [(y, x) for y in range(40, 370, 46) for x in range(40, 420, 46)]
    found = _pick(particles(places, noise=1.5))
    matches = match_coordinates(found, coordinates(places), max_distance_px=8)
    # The ice between four particles looks like a bright particle, which costs some.
    assert matches.f1 is not None
    assert matches.f1 > 0.9


def test_picks_are_best_first_and_have_scores_below_one() -> None:
    found = _pick(particles(noise=0.1))
    assert len(found) == len(GRID_PX)
    assert (np.diff(found.score) <= 0).all()
    assert found.score.max() <= 1
    # A clear disc on clear ice leaves only its soft edge unexplained.
    assert found.score.min() > 0.85


def test_diameter_tells_large_from_small() -> None:
    fine = particles(noise=0.3)
    small = pick_particles(fine, pixel_size_angst=3.0, diameter_angst=(90, 240))
    large = pick_particles(fine, pixel_size_angst=6.0, diameter_angst=(90, 260))
    # Templates stand 12 % apart, and a disc fits its own size best.
    assert np.median(small.diameter_angst) == pytest.approx(120, rel=0.13)
    assert np.median(large.diameter_angst) == pytest.approx(240, rel=0.13)


@pytest.mark.parametrize("count", [1, 3])
def test_few_particles_are_found_in_much_ice(count: int) -> None:
    places = GRID_PX[7 : 7 + count]
    found = _pick(particles(places, noise=1.5))
    matches = match_coordinates(found, coordinates(places), max_distance_px=10)
    assert matches.recall == 1
    assert len(found) <= count + 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ring", [0.0, 20.0, 90.0])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_of_any_colour_gives_hardly_a_pick(
    exponent: float, ring: float, seed: int
) -> None:
    noise = coloured_noise((512, 480), exponent=exponent, ring=ring, seed=seed)
    assert len(_pick(noise)) <= 2
    assert len(pick_particles(noise, pixel_size_angst=1, diameter_angst=(80, 120))) <= 2


def test_electron_counts_of_empty_ice_give_hardly_a_pick() -> None:
    for dose in (0.3, 1.0, 40.0):
        generator = torch.Generator().manual_seed(int(dose))
        counts = torch.poisson(torch.full((600, 500), dose), generator=generator)
        assert len(_pick(counts.to(torch.uint8))) <= 2


def test_hot_pixels_and_gradient_change_little() -> None:
    image = particles(noise=1.0)
    hot = image + 10 * torch.linspace(-1, 1, SHAPE_PX[1])
    generator = torch.Generator().manual_seed(1)
    hot[torch.rand(SHAPE_PX, generator=generator) > 0.999] = 1e4
    found = _pick(hot)
    matches = match_coordinates(found, coordinates(GRID_PX), max_distance_px=5)
    # The gradient is worth 20 particles across; those at its two ends may suffer.
    assert matches.recall is not None
    assert matches.recall >= 0.9
    assert matches.precision is not None
    assert matches.precision >= 0.9


@pytest.mark.parametrize(("depth", "noise"), [(5.0, 1.0), (12.0, 1.0), (12.0, 2.5)])
def test_a_dark_contaminant_is_not_picked(depth: float, noise: float) -> None:
    image = particles(noise=noise)
    rows, columns = torch.arange(400.0)[:, None], torch.arange(440.0)
    image[torch.hypot(rows - 230, columns - 260) < 90] -= depth
    found = _pick(image)
    # There are particles behind it, too: one may be seen through.
    assert (np.hypot(found.y_px - 230, found.x_px - 260) < 100).sum() <= 1
    far = [place for place in GRID_PX if np.hypot(place[0] - 230, place[1] - 260) > 140]
    matches = match_coordinates(found, coordinates(far), max_distance_px=10)
    assert matches.recall is not None
    assert matches.recall >= 0.9


def test_neighbours_keep_their_distance() -> None:
    found = _pick(particles(noise=2.0), false_fraction=1.0)
    places = np.stack([found.y_px, found.x_px], axis=1)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    apart += 1e9 * np.eye(len(places))
    # Half of 0.9 times the smallest diameter, less one search pixel of interpolation.
    assert apart.min() > 0.5 * 0.9 * 110 / 3 - 2.5


def test_the_edge_of_the_image_has_no_picks() -> None:
    found = _pick(particles(noise=2.0), false_fraction=1.0, border_fraction=0.5)
    low_px = 0.5 * 0.9 * 110 / 3
    assert found.x_px.min() >= low_px
    assert found.y_px.max() <= SHAPE_PX[0] - low_px


def test_half_particles_at_the_edge_are_found() -> None:
    places = [(6.0, 200.0), (200.0, 434.0), (200.0, 200.0)]
    found = _pick(particles(places, noise=0.7))
    matches = match_coordinates(found, coordinates(places), max_distance_px=8)
    assert matches.recall == 1


def test_threshold_and_share_set_how_much_is_kept() -> None:
    image = particles(noise=5.0)
    usual, all_peaks = _pick(image), _pick(image, false_fraction=1.0, threshold=0.0)
    assert len(all_peaks) > len(usual)
    assert len(_pick(image, threshold=0.99)) == 0
    careful = _pick(image, false_fraction=0.0)
    assert len(careful) <= len(usual)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_size_angst": 0.0},
        {"diameter_angst": (140.0, 110.0)},
        {"diameter_angst": (0.0, 110.0)},
        {"diameter_angst": (10.0, float("nan"))},
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSettings):
        _pick(particles(), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(100, 100),
        torch.full((100, 100), float("nan")),
        torch.randn(100, 100).index_fill(0, torch.tensor([3]), float("inf")),
        torch.randn(3, 100, 100),
        torch.randn(100, 4),
    ],
    ids=["constant", "nan", "infinite", "stack", "narrow"],
)
def test_unusable_images_are_refused(image: torch.Tensor) -> None:
    with pytest.raises(UnusableImage):
        _pick(image)


def test_an_image_smaller_than_a_particle_has_no_picks() -> None:
    generator = torch.Generator().manual_seed(0)
    assert len(_pick(torch.randn(16, 20, generator=generator))) <= 2


def test_a_blank_corner_is_no_particle() -> None:
    image = particles(noise=2.0)
    image[:150, :150] = 0
    found = _pick(image)
    assert not ((found.y_px < 130) & (found.x_px < 130)).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same() -> None:
    image = particles()
    on_cpu, on_gpu = _pick(image), _pick(image.cuda())
    assert len(on_cpu) == len(on_gpu)
    matches = match_coordinates(on_gpu, on_cpu, max_distance_px=0.1)
    assert matches.recall == 1


def test_the_scene_is_as_it_says() -> None:
    image = particles([(100.0, 120.0)], noise=0.0)
    assert float(image[100, 120]) == pytest.approx(-1, abs=1e-3)
    assert int((image < -0.5).sum()) == pytest.approx(
        np.pi * DIAMETER_PX**2 / 4, rel=0.05
    )
