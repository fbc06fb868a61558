from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings, CtfNotFound, UnusableImage
from icestream.engines.ctf import CtfSearch, estimate_ctf, estimate_ctf_of_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_estimate = partial(
    estimate_ctf,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    amplitude_contrast=0.07,
)
_estimate_of_spectrum = partial(
    estimate_ctf_of_spectrum,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    amplitude_contrast=0.07,
)


def _centred_power(image: Tensor) -> Tensor:
    """Average the tiles of 256 px of a square image."""
    n = 256
    tiles = image.unfold(0, n, n).unfold(1, n, n)
    power = torch.fft.fft2(tiles).abs().square().mean(dim=(0, 1))
    centred: Tensor = torch.fft.fftshift(power)
    return centred


@pytest.mark.parametrize(
    ("defocus", "astigmatism", "angle"),
    [(5000, 0, 0), (8000, 600, 100), (12000, 300, 45), (25000, 150, 170)],
)
def test_simulated_rings_give_their_defocus(
    thon_rings: Callable[..., Tensor], defocus: int, astigmatism: int, angle: int
) -> None:
    image = thon_rings(
        (1024, 1024),
        defocus_u_angst=defocus + astigmatism / 2,
        defocus_v_angst=defocus - astigmatism / 2,
        defocus_angle_deg=angle,
    )
    ctf = _estimate(image, pixel_size_angst=1.4).ctf
    # standard error of the mean 7 Å and of U - V 20 Å at this size and noise
    assert ctf.defocus_angst == pytest.approx(defocus, abs=30)
    assert ctf.astigmatism_angst == pytest.approx(astigmatism, abs=70)
    if astigmatism:
        wrong = (ctf.defocus_angle_deg - angle + 90) % 180 - 90
        assert abs(math.radians(wrong)) * astigmatism < 50
    assert ctf.score > 0.2
    assert ctf.resolution_angst is not None
    assert ctf.resolution_angst < 4


def test_very_high_defocus_of_fine_pixels(thon_rings: Callable[..., Tensor]) -> None:
    image = thon_rings(
        (1200, 1100),
        defocus_u_angst=40000,
        defocus_v_angst=39800,
        pixel_size_angst=0.8,
    )
    ctf = _estimate(image, pixel_size_angst=0.8).ctf
    assert ctf.defocus_angst == pytest.approx(39900, rel=0.005)  # the field's target


def test_known_phase_shift_is_kept(thon_rings: Callable[..., Tensor]) -> None:
    image = thon_rings(phase_shift_deg=90)
    search = CtfSearch(phase_shift_deg=90)
    ctf = _estimate(image, pixel_size_angst=1.4, search=search).ctf
    assert ctf.phase_shift_deg == 90
    assert ctf.defocus_angst == pytest.approx(12000, abs=40)


def test_spectrum_may_be_power_or_amplitude(thon_rings: Callable[..., Tensor]) -> None:
    power = _centred_power(thon_rings((1024, 1024)))
    of_power = _estimate_of_spectrum(power, pixel_size_angst=1.4).ctf
    of_amplitude = _estimate_of_spectrum(power.sqrt(), pixel_size_angst=1.4).ctf
    assert of_power.defocus_angst == pytest.approx(12000, abs=30)
    # neighbours are averaged before the logarithm; a standard error is 10 Å
    assert of_power.defocus_u_angst == pytest.approx(
        of_amplitude.defocus_u_angst, abs=3
    )
    assert of_power.score == pytest.approx(of_amplitude.score, abs=0.01)
    assert of_power.defocus_u_error_angst is not None
    assert 2 < of_power.defocus_u_error_angst < 40


@pytest.mark.parametrize("box", [256, 2048])
def test_curves_follow_each_other(thon_rings: Callable[..., Tensor], box: int) -> None:
    rings = _estimate(thon_rings(), pixel_size_angst=1.4, box_px=box).rings
    curves = (rings.frequency_per_angst, rings.profile, rings.model, rings.agreement)
    assert all(np.isfinite(curve).all() for curve in curves)
    assert all(curve.dtype == np.float32 for curve in curves)
    assert len(rings.profile) <= 256
    assert (np.diff(rings.frequency_per_angst) > 0).all()
    inner = rings.frequency_per_angst < 1 / 6
    assert np.corrcoef(rings.profile[inner], rings.model[inner])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("shape", "pixel_size_angst"),
    [((1024, 1024), 0.8), ((1024, 1024), 1.4), ((512, 700), 2.5), ((200, 256), 1.0)],
)
def test_white_noise_has_no_ctf(
    thon_rings: Callable[..., Tensor], shape: tuple[int, int], pixel_size_angst: float
) -> None:
    for seed in range(2):
        noise = thon_rings(shape, seed=seed + 50, signal_to_noise=0)
        with pytest.raises(CtfNotFound):
            _estimate(noise, pixel_size_angst=pixel_size_angst)


def test_smooth_image_has_no_ctf() -> None:
    noise = torch.randn(600, 600, generator=torch.Generator().manual_seed(2))
    y, x = torch.meshgrid(torch.arange(600), torch.arange(600), indexing="ij")
    with pytest.raises(CtfNotFound):
        _estimate(noise + x / 10 + y / 20, pixel_size_angst=1.4)


def test_constant_image_is_unusable() -> None:
    with pytest.raises(UnusableImage):
        _estimate(torch.ones(512, 512), pixel_size_angst=1.4)
    with pytest.raises(UnusableImage):
        _estimate_of_spectrum(torch.ones(512, 512), pixel_size_angst=1.4)


def test_ice_ring_disturbs_neither_defocus_nor_score(
    thon_rings: Callable[..., Tensor],
) -> None:
    power = _centred_power(thon_rings((1024, 1024)))
    line = torch.fft.fftshift(torch.fft.fftfreq(256, 1.4))
    g = (line[:, None].square() + line.square()).sqrt()
    icy = power * (1 + 3 * torch.exp(-(((g - 1 / 3.7) / 0.004) ** 2)))
    search = CtfSearch(high_resolution_angst=3.2)
    clean, iced = (
        _estimate_of_spectrum(spectrum, pixel_size_angst=1.4, search=search).ctf
        for spectrum in (power, icy)
    )
    assert iced.defocus_angst == pytest.approx(clean.defocus_angst, abs=1)
    assert iced.score == pytest.approx(clean.score, abs=0.01)


def test_coarse_pixels_are_refused() -> None:
    with pytest.raises(BadSettings, match="unbinned"):
        _estimate(torch.rand(256, 256), pixel_size_angst=9.0)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"low_resolution_angst": 4.0, "high_resolution_angst": 5.0},
        {"defocus_min_angst": 9000.0, "defocus_max_angst": 8000.0},
        {"defocus_min_angst": -100.0},
        {"astigmatism_max_angst": 7000.0},
    ],
)
def test_search_that_cannot_be_is_refused(nonsense: dict[str, float]) -> None:
    with pytest.raises(BadSettings):
        CtfSearch(**nonsense)
