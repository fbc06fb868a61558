"""Rings and spots of ice against spectra that are known, and simulated crystals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.engines.quality import ice_order, ice_path_angst
from icestream.simulate.exposure import Recipe
from icestream.simulate.ice import ice_transmission
from icestream.simulate.micrograph import simulate_micrograph

if TYPE_CHECKING:
    from icestream.simulate.exposure import Defect


def noise(*, ring: float = 0.0, slope: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Noise at 1 Å/px whose power has a ring at 3.4-4.0 Å and falls with frequency."""
    side = 1024
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.randn(side, side, generator=generator))
    g = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side))
    is_ring = (g > 1 / 4.0) & (g < 1 / 3.4)
    power = torch.exp(-slope * g) * (1 + ring * is_ring)
    image: torch.Tensor = torch.fft.irfft2(spectrum * power.sqrt(), s=(side, side))
    return 50 + 7 * image


@pytest.mark.parametrize("ring", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("slope", [0.0, 4.0])
def test_the_ratio_is_that_of_the_power(ring: float, slope: float) -> None:
    found = ice_order(noise(ring=ring, slope=slope), pixel_size_angst=1.0)
    assert found is not None
    # 70,000 coefficients in the ring, as many beside; the window blurs its ends.
    assert found.ring_ratio == pytest.approx(1 + ring, abs=0.015 + 0.05 * ring)


def test_noise_has_no_spots() -> None:
    ratios = [
        one.crystal_ratio
        for seed in range(10)
        if (one := ice_order(noise(seed=seed), pixel_size_angst=1.0))
    ]
    # exp(-0.5 ln n), n the number of coefficients: once in 300 images beyond 1.5.
    assert len(ratios) == 10
    assert max(ratios) < 1.5
    assert min(ratios) > 0.75


def test_a_weak_wave_of_ice_is_a_spot() -> None:
    y, x = torch.meshgrid(torch.arange(1024.0), torch.arange(1024.0), indexing="ij")
    along = 0.8 * x + 0.6 * y
    patch = torch.exp(-((x - 300) ** 2 + (y - 600) ** 2) / (2 * 200**2))
    wave = 2.0 * patch * torch.cos(2 * math.pi * along / 3.66)
    plain, waved = (
        ice_order(image, pixel_size_angst=1.0) for image in (noise(), noise() + wave)
    )
    assert plain is not None
    assert waved is not None
    assert waved.crystal_ratio > 5 > 2 > plain.crystal_ratio
    # It is one wave: the mean power of the ring hardly changes.
    assert waved.ring_ratio == pytest.approx(plain.ring_ratio, rel=0.15)


def test_an_edge_is_no_crystal() -> None:
    image = noise()
    image[:, 500:] -= 40
    found = ice_order(image, pixel_size_angst=1.0)
    assert found is not None
    assert found.crystal_ratio < 1.5


def test_what_is_masked_does_not_count() -> None:
    x = torch.arange(1024.0)
    image = noise()
    image[:512] += 3 * torch.cos(2 * math.pi * x / 3.9)
    classes = np.zeros((32, 32), np.uint8)
    classes[:17] = 2
    everywhere, spared = (
        ice_order(image, pixel_size_angst=1.0, classes=one) for one in (None, classes)
    )
    assert everywhere is not None
    assert spared is not None
    assert everywhere.crystal_ratio > 10
    assert spared.crystal_ratio < 1.5


@pytest.mark.parametrize(("pixel_angst", "side"), [(1.6, 1024), (1.0, 200)])
def test_nothing_is_said_where_nothing_can_be(pixel_angst: float, side: int) -> None:
    image = noise()[:side, :side]
    assert ice_order(image, pixel_size_angst=pixel_angst) is None


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_crystals_of_ice_stand_out(number: int) -> None:
    recipe = Recipe(shape=(640, 640), pixel_size_angst=1.2)

    def order(defect: Defect | None) -> tuple[float, float]:
        taken = simulate_micrograph(recipe, [], number=number, seed=1, defect=defect)
        found = ice_order(taken.image, pixel_size_angst=1.2)
        assert found is not None
        return found.ring_ratio, found.crystal_ratio

    good, bad = order(None), order("crystalline")
    assert good[0] < 1.3 < 1.5 < bad[0]
    assert good[1] < 1.5 < 4 < bad[1]


def test_more_amorphous_ice_has_more_of_a_ring() -> None:
    recipe = Recipe(shape=(1024, 1024), pixel_size_angst=1.0)
    ratios = []
    for thickness_angst in (50.0, 1500.0):
        taken = simulate_micrograph(
            replace(recipe, ice_range_angst=(thickness_angst,) * 2), [], seed=2
        )
        found = ice_order(taken.image, pixel_size_angst=1.0)
        assert found is not None
        ratios.append(found.ring_ratio)
    assert ratios[1] > ratios[0] + 0.05


@pytest.mark.parametrize("voltage_kv", [100.0, 200.0, 300.0])
def test_the_path_is_what_the_simulator_takes(voltage_kv: float) -> None:
    """Both follow the square of the velocity; to be within the spread of literature."""
    through = float(ice_transmission(torch.tensor(500.0), voltage_kv=voltage_kv))
    thickness_angst = -math.log(through) * ice_path_angst(voltage_kv)
    assert thickness_angst == pytest.approx(500.0, rel=0.15)
