from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icestream.engines.ctf import contrast_transfer, estimate_ctf
from icestream.engines.ctf.spectrum import power_spectra

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_estimate = partial(
    estimate_ctf,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    amplitude_contrast=0.07,
)
_FEW = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_MORE = settings(_FEW, max_examples=40)


@_MORE
@given(
    h=st.integers(2, 40),
    w=st.integers(2, 40),
    u=st.floats(-5e3, 6e4),
    astigmatism=st.floats(0, 3e3),
    angle=st.floats(0, 180),
    phase=st.floats(0, 180),
    voltage=st.sampled_from([100.0, 200.0, 300.0]),
)
def test_transfer_is_bounded_and_has_the_layout_of_rfft2(
    h: int,
    w: int,
    u: float,
    astigmatism: float,
    angle: float,
    phase: float,
    voltage: float,
) -> None:
    ctf = contrast_transfer(
        (h, w),
        defocus_u_angst=u,
        defocus_v_angst=u - astigmatism,
        defocus_angle_deg=angle,
        phase_shift_deg=phase,
        pixel_size_angst=1.1,
        voltage_kv=voltage,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
    )
    assert ctf.shape == torch.fft.rfft2(torch.zeros(h, w)).shape
    assert bool((ctf.abs() <= 1).all())


@_MORE
@given(n=st.integers(4, 40), angle=st.floats(0, 180))
def test_transfer_turns_with_its_angle(n: int, angle: float) -> None:
    transfer = partial(
        contrast_transfer,
        (n, n),
        defocus_u_angst=15000,
        defocus_v_angst=14000,
        pixel_size_angst=1.4,
        voltage_kv=300,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
        dtype=torch.float64,
    )
    ctf = transfer(defocus_angle_deg=angle)
    turned = transfer(defocus_angle_deg=angle + 90)
    # a quarter turn maps (gy, gx) = (0, k) to (k, 0)
    inner = (n + 1) // 2
    torch.testing.assert_close(ctf[0, :inner], turned[:inner, 0], atol=1e-7, rtol=0)


@_MORE
@given(
    h=st.integers(64, 150),
    w=st.integers(64, 150),
    pixel=st.sampled_from([0.6, 1.0, 1.4, 3.0]),
    box=st.sampled_from([64, 100, 128]),
)
def test_spectra_of_any_size_are_finite_and_positive(
    h: int, w: int, pixel: float, box: int
) -> None:
    image = torch.randn(h, w, generator=torch.Generator().manual_seed(h * w))
    before = image.clone()
    spectra = power_spectra(image, pixel_size_angst=pixel, box_px=box)
    assert torch.equal(image, before), "the input was changed"
    n = spectra.power.shape[1]
    assert spectra.power.shape[2] == n // 2 + 1
    assert n <= box
    assert bool(spectra.power.isfinite().all())
    assert bool((spectra.power >= 0).all())
    # the frequency of the spectrum's edge is never beyond that of the image
    assert spectra.pixel_size_angst >= pixel * (1 - 1e-12)


@_FEW
@given(scale=st.floats(1e-3, 1e4), offset=st.floats(-1e2, 1e2))
def test_scale_and_offset_change_nothing(
    thon_rings: Callable[..., Tensor], scale: float, offset: float
) -> None:
    image = thon_rings((640, 600))
    before = image.clone()
    first = _estimate(image, pixel_size_angst=1.4).ctf
    other = _estimate((image + offset) * scale, pixel_size_angst=1.4).ctf
    assert torch.equal(image, before), "the input was changed"
    # float32 rounds an offset of 100 to 1e-5 of the noise
    assert other.defocus_u_angst == pytest.approx(first.defocus_u_angst, abs=0.5)
    assert other.defocus_v_angst == pytest.approx(first.defocus_v_angst, abs=0.5)


@_FEW
@given(
    angle=st.floats(0, 180),
    side=st.sampled_from([(640, 640), (601, 640), (610, 555)]),
    flipped=st.booleans(),
)
def test_fit_turns_with_the_image(
    thon_rings: Callable[..., Tensor],
    angle: float,
    side: tuple[int, int],
    flipped: bool,
) -> None:
    image = thon_rings(
        side,
        defocus_u_angst=12600,
        defocus_v_angst=11400,
        defocus_angle_deg=angle,
        signal_to_noise=4,
    )
    first = _estimate(image, pixel_size_angst=1.4).ctf
    changed = image.flip(0) if flipped else image.rot90()
    expected = -first.defocus_angle_deg if flipped else first.defocus_angle_deg + 90
    other = _estimate(changed, pixel_size_angst=1.4).ctf
    turn = (other.defocus_angle_deg - expected + 90) % 180 - 90
    # tiles lie alike in both up to a pixel; 1 degree of 1,200 Å is 40 Å
    assert abs(turn) < 1.5
    assert other.defocus_angst == pytest.approx(first.defocus_angst, abs=10)


@_FEW
@given(u=st.floats(6000, 30000), astigmatism=st.floats(0, 1500))
def test_result_is_a_valid_ctf_near_the_truth(
    thon_rings: Callable[..., Tensor], u: float, astigmatism: float
) -> None:
    image = thon_rings(
        (600, 640),
        defocus_u_angst=u,
        defocus_v_angst=u - astigmatism,
        signal_to_noise=4,
    )
    fit = _estimate(image, pixel_size_angst=1.4)
    mean = u - astigmatism / 2
    assert fit.ctf.defocus_angst == pytest.approx(mean, abs=max(60, 0.01 * mean))
    assert fit.ctf.resolution_angst is None or math.isfinite(fit.ctf.resolution_angst)
    rings = fit.rings
    for curve in (rings.frequency_per_angst, rings.profile, rings.agreement):
        assert np.isfinite(curve).all()
