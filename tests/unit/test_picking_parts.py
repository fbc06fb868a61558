"""The parts of the picker: smaller image, templates, correlation, peaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from icestream.engines.picking.correlate import ResponseMaps, correlate_bank
from icestream.engines.picking.peaks import find_peaks, outshone
from icestream.engines.picking.reduce import ReducedImage, blur, reduce_image
from icestream.engines.picking.template import diameters_angst, make_templates


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _maps(score: torch.Tensor, diameter_angst: float = 10.0) -> ResponseMaps:
    return ResponseMaps(
        score=score,
        contrast=2 * score,
        diameter_angst=torch.full_like(score, diameter_angst),
    )


def test_a_reduced_image_knows_its_pixels() -> None:
    reduced = reduce_image(
        _random(301, 400),
        pixel_size_angst=1.0,
        target_pixel_angst=2.5,
        background_angst=50.0,
        is_dark=True,
    )
    assert reduced.values.shape == (120, 160)
    assert reduced.step_y_px == pytest.approx(301 / 120)
    assert reduced.step_x_px == 2.5
    assert reduced.pixel_size_angst == pytest.approx(2.5, rel=0.01)


def test_a_coarse_image_keeps_its_pixels() -> None:
    image = _random(60, 50)
    reduced = reduce_image(
        image,
        pixel_size_angst=8.0,
        target_pixel_angst=4.0,
        background_angst=1e4,
        is_dark=False,
    )
    assert reduced.step_x_px == 1
    correlation = torch.corrcoef(torch.stack([reduced.values, image]).flatten(1))
    assert correlation[0, 1] > 0.9999


def test_blur_keeps_a_constant_up_to_the_edge() -> None:
    assert torch.allclose(
        blur(torch.full((30, 40), 3.0), sigma_px=5), torch.tensor(3.0)
    )


def test_blur_is_a_gaussian() -> None:
    point = torch.zeros(41, 41)
    point[20, 20] = 1
    spread = blur(point, sigma_px=3)
    assert float(spread[20, 23] / spread[20, 20]) == pytest.approx(np.exp(-0.5), 1e-4)


def test_diameters_rise_in_equal_ratios() -> None:
    sizes = diameters_angst((100.0, 200.0))
    assert sizes[0] == pytest.approx(90)
    assert sizes[-1] == pytest.approx(200)
    ratios = np.divide(sizes[1:], sizes[:-1])
    assert np.ptp(ratios) < 1e-9
    assert ratios.max() <= 1.12
    assert diameters_angst((100.0, 100.0)) == pytest.approx([90, 100])


def test_templates_are_balanced_and_normalised() -> None:
    template = make_templates(
        (90, 96), diameter_px=16, diameter_angst=1.0, like=torch.zeros(1).double()
    )
    assert float(template.window.sum()) == pytest.approx(1)
    assert template.shapes.sum(dim=(1, 2)).abs().max() < 1e-12
    norm = (template.shapes.square() / template.window).sum(dim=(1, 2))
    assert torch.allclose(norm, torch.ones(2).double())


def test_correlation_is_the_coefficient_computed_by_hand() -> None:
    values = _random(64, 70).double()
    image = ReducedImage(values=values, step_y_px=1, step_x_px=1, pixel_size_angst=1.0)
    particles, decoys = correlate_bank(image, limits_angst=(12.0, 12.0))
    found = []
    for diameter in diameters_angst((12.0, 12.0)):
        template = make_templates(
            (64, 70), diameter_px=diameter, diameter_angst=diameter, like=values
        )
        for shape in template.shapes:
            window = torch.roll(template.window, (30, 33), (0, 1))
            weighted = torch.roll(shape, (30, 33), (0, 1))
            mean = (window * values).sum()
            sigma = (window * (values - mean).square()).sum().sqrt()
            found.append(float((weighted * (values - mean)).sum() / sigma))
    assert float(particles.score[30, 33]) == pytest.approx(max(found), abs=1e-6)
    assert float(decoys.score[30, 33]) == pytest.approx(-min(found), abs=1e-6)
    assert particles.score.max() <= 1


def test_peaks_are_found_between_pixels() -> None:
    y, x = torch.arange(40.0)[:, None], torch.arange(50.0)
    score = 1 - ((y - 20.3).square() + (x - 30.4).square()) / 1000
    peaks = find_peaks(
        _maps(score), pixel_size_angst=1, distance_fraction=0.5, border_fraction=0
    )
    assert len(peaks) == 1
    assert peaks.y_px[0] == pytest.approx(20.3, abs=1e-3)
    assert peaks.x_px[0] == pytest.approx(30.4, abs=1e-3)
    assert peaks.contrast[0] == pytest.approx(2 * peaks.score[0])


def test_a_better_peak_removes_its_neighbours_only() -> None:
    score = torch.zeros(40, 40)
    for column, value in ((5, 0.5), (9, 0.9), (13, 0.6), (20, 0.4)):
        score[20, column] = value
    peaks = find_peaks(
        _maps(score), pixel_size_angst=1, distance_fraction=0.5, border_fraction=0
    )
    assert peaks.x_px.tolist() == [9, 20]


def test_a_worse_peak_of_a_large_particle_removes_no_better_one() -> None:
    maps = _maps(torch.zeros(40, 40))
    maps.score[20, 10], maps.score[20, 22] = 0.9, 0.5
    maps.diameter_angst[20, 22] = 30
    peaks = find_peaks(
        maps, pixel_size_angst=1, distance_fraction=0.5, border_fraction=0
    )
    assert peaks.x_px.tolist() == [10, 22]


def test_the_better_of_two_maps_outshines_the_other_nearby() -> None:
    first, second = torch.zeros(40, 40), torch.zeros(40, 40)
    first[20, 10], first[20, 30], second[20, 14], second[20, 35] = 0.5, 0.9, 0.6, 0.3
    one, other = (
        find_peaks(
            _maps(score), pixel_size_angst=1, distance_fraction=0.5, border_fraction=0
        )
        for score in (first, second)
    )
    assert outshone(one, other, pixel_size_angst=1, reach=0.75).tolist() == [
        False,
        True,
    ]
    assert outshone(other, one, pixel_size_angst=1, reach=0.75).tolist() == [
        False,
        True,
    ]
