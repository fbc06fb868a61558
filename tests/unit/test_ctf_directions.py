from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.engines.ctf.band import Optics, select_band
from icestream.engines.ctf.contrast import ring_contrast
from icestream.engines.ctf.directions import directional_fit
from icestream.engines.ctf.refine import RingParameters

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.directions import DirectionalFit

OPTICS = Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.07)
BAND = select_band(
    320,
    pixel_size_angst=1.5,
    resolution_angst=(60.0, 4.0),
    skip_ice=False,
    device=torch.device("cpu"),
)
NOISE = 0.15  # of the log amplitude: a mean of some 11 tiles


def _parameters(defocus_angst: float, astigmatism: float, deg: float) -> RingParameters:
    twice = math.radians(2 * deg)
    return RingParameters(
        mean_angst=defocus_angst,
        along_angst=astigmatism / 2 * math.cos(twice),
        across_angst=astigmatism / 2 * math.sin(twice),
    )


def _spectrum(
    parameters: RingParameters,
    *,
    height: float = 0.3,
    loss: float = 0.0,
    way_angst: float = 0.0,
    axis_deg: float = 30.0,
    seed: int = 0,
) -> Tensor:
    """Rings of known height, lost by a share along an axis, or by the sinc of a way."""
    p, b = parameters, BAND
    path = p.mean_angst * b.g2 + p.along_angst * b.along + p.across_angst * b.across
    rings = torch.sin(OPTICS.slope * path + OPTICS.fixed_phase_rad(b.g2)).square()
    turned = b.azimuth_rad - math.radians(2 * axis_deg)
    envelope = height * torch.exp(-20 * b.g2) * (1 - loss * torch.cos(turned))
    way = way_angst * b.g * torch.cos(turned / 2)
    background = -0.5 * b.g2.log() + torch.sinc(way).abs().clamp_min(0.05).log()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(b.g2), generator=generator, dtype=torch.float64)
    return background + envelope * rings + NOISE * noise


def _fit(data: Tensor, parameters: RingParameters) -> DirectionalFit:
    return directional_fit(data, band=BAND, optics=OPTICS, parameters=parameters)


def _turn_deg(one: float, other: float) -> float:
    return abs((one - other + 90) % 180 - 90)


def test_a_share_that_is_lost_along_one_axis_is_told() -> None:
    parameters = _parameters(12_000, 200, 70)
    found = [
        _fit(_spectrum(parameters, loss=loss), parameters).directional_loss
        for loss in (0.3, 0.6, 0.9)
    ]
    # Told is what is sure: 2.5 standard errors, of 0.06 here, less than the truth.
    for loss, told in zip((0.3, 0.6, 0.9), found, strict=True):
        assert loss - 0.3 < told < loss + 0.05


@pytest.mark.parametrize("axis_deg", [0.0, 45.0, 100.0, 170.0])
def test_a_drift_is_told_with_its_way_and_axis(axis_deg: float) -> None:
    parameters = _parameters(12_000, 200, 70)
    drifted = partial(_spectrum, parameters, axis_deg=axis_deg)
    told = [_fit(drifted(way_angst=way), parameters) for way in (10.0, 15.0)]
    # Of 10 Å, 3 standard errors are 3 Å; the next term of the logarithm adds a little.
    for way_angst, one in zip((10.0, 15.0), told, strict=True):
        assert one.smear_angst is not None
        assert way_angst - 4.5 < one.smear_angst < way_angst + 1
        assert _turn_deg(one.smear_axis_deg, axis_deg) < 8


@settings(max_examples=25, deadline=None)
@given(
    defocus_angst=st.floats(6_000, 25_000),
    astigmatism=st.floats(0, 1_200),
    deg=st.floats(0, 180),
    height=st.floats(0, 0.5),
    seed=st.integers(0, 2**31),
)
def test_astigmatic_or_weak_rings_are_not_lost(
    defocus_angst: float, astigmatism: float, deg: float, height: float, seed: int
) -> None:
    parameters = _parameters(defocus_angst, astigmatism, deg)
    told = _fit(_spectrum(parameters, height=height, seed=seed), parameters)
    # A real drift, above, tells 0.5 and 8 Å or more.
    assert height < 0.05 or told.directional_loss < 0.15
    assert told.smear_angst is not None
    assert told.smear_angst < 5


def test_it_is_the_same_at_any_scale_and_leaves_its_input() -> None:
    parameters = _parameters(15_000, 400, 20)
    data = _spectrum(parameters, loss=0.4, way_angst=8.0)
    before = data.clone()
    told, louder = _fit(data, parameters), _fit(data + 7.0, parameters)
    assert torch.equal(data, before)
    assert louder.directional_loss == pytest.approx(told.directional_loss, abs=1e-6)
    assert louder.smear_angst == pytest.approx(told.smear_angst, abs=1e-4)


def test_a_small_spectrum_has_no_smear_to_tell() -> None:
    band = select_band(
        48,
        pixel_size_angst=1.5,
        resolution_angst=(60.0, 4.0),
        skip_ice=False,
        device=torch.device("cpu"),
    )
    data = torch.zeros_like(band.g2)
    told = directional_fit(
        data, band=band, optics=OPTICS, parameters=_parameters(12_000, 0, 0)
    )
    assert told.smear_angst is None
    assert told.directional_loss == 0


@pytest.mark.parametrize("contrast", [0.0, 0.1, 0.6])
def test_the_contrast_of_rings_is_that_of_their_power(contrast: float) -> None:
    parameters = _parameters(12_000, 300, 70)
    flat = math.log1p(contrast) / 2  # of the log amplitude
    data = (
        _spectrum(parameters, height=0.0)
        + flat
        * torch.sin(
            OPTICS.slope
            * (
                parameters.mean_angst * BAND.g2
                + parameters.along_angst * BAND.along
                + parameters.across_angst * BAND.across
            )
            + OPTICS.fixed_phase_rad(BAND.g2)
        ).square()
    )
    found = ring_contrast(data, band=BAND, optics=OPTICS, parameters=parameters)
    # 9000 pixels of this noise: a standard error of 0.01
    assert found == pytest.approx(contrast, abs=0.04)


def test_coarse_pixels_have_no_contrast_to_tell() -> None:
    band = select_band(
        128,
        pixel_size_angst=3.0,
        resolution_angst=(60.0, 6.0),
        skip_ice=False,
        device=torch.device("cpu"),
    )
    found = ring_contrast(
        torch.zeros_like(band.g2),
        band=band,
        optics=OPTICS,
        parameters=_parameters(12_000, 0, 0),
    )
    assert found is None
