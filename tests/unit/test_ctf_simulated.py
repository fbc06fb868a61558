"""The fit against what the simulator knows, beyond one microscope."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from icestream.engines.ctf import estimate_ctf, estimate_ctf_of_spectrum
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.spectra import simulate_spectrum

if TYPE_CHECKING:
    from icestream.domain import Ctf


def _fit(
    *,
    defocus_angst: float,
    voltage_kv: float = 300.0,
    cs_mm: float = 2.7,
    pixel_size_angst: float = 1.4,
    box_px: int = 512,
) -> Ctf:
    microscope = Microscope(voltage_kv=voltage_kv, spherical_aberration_mm=cs_mm)
    spectrum = simulate_spectrum(
        Optics(
            defocus_u_angst=defocus_angst + 200,
            defocus_v_angst=defocus_angst - 200,
            defocus_angle_deg=70,
        ),
        microscope=microscope,
        pixel_size_angst=pixel_size_angst,
        box_px=box_px,
        generator=torch.Generator().manual_seed(5),
    )
    return estimate_ctf_of_spectrum(
        spectrum,
        pixel_size_angst=pixel_size_angst,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=cs_mm,
        amplitude_contrast=microscope.amplitude_contrast,
    ).ctf


@pytest.mark.parametrize(
    ("voltage", "cs", "pixel", "box", "defocus"),
    [
        (80.0, 2.0, 1.4, 512, 12000.0),
        (100.0, 1.6, 1.0, 720, 9000.0),
        (120.0, 2.7, 2.0, 384, 15000.0),
        (200.0, 0.01, 1.4, 512, 8000.0),
        (300.0, 2.7, 0.5, 1024, 8000.0),
        (300.0, 2.7, 3.0, 256, 15000.0),
        (300.0, 2.7, 1.4, 512, 30000.0),
    ],
)
def test_voltages_pixels_and_boxes(
    voltage: float, cs: float, pixel: float, box: int, defocus: float
) -> None:
    ctf = _fit(
        defocus_angst=defocus,
        voltage_kv=voltage,
        cs_mm=cs,
        pixel_size_angst=pixel,
        box_px=box,
    )
    # the field's targets
    assert ctf.defocus_angst == pytest.approx(defocus, abs=max(20, 0.005 * defocus))
    assert ctf.astigmatism_angst == pytest.approx(400, abs=50)
    assert abs((ctf.defocus_angle_deg - 70 + 90) % 180 - 90) < 5


def test_aliasing_limit_is_where_a_ring_is_two_pixels_wide() -> None:
    ctf = _fit(defocus_angst=20000.0, box_px=256, cs_mm=0.0)
    # of U: period 1 / (2 L df g), pixel 1 / (256 x 1.4 Å), L = 0.0196875 Å
    expected = 4 * 0.0196875 * ctf.defocus_u_angst / (256 * 1.4)
    assert ctf.aliasing_angst == pytest.approx(expected, rel=0.01)
    assert _fit(defocus_angst=5000.0).aliasing_angst is None


def test_high_defocus_of_an_image_takes_longer_tiles() -> None:
    side, pixel = 1536, 1.0
    microscope = Microscope(voltage_kv=300.0)
    optics = Optics(defocus_u_angst=40000.0, defocus_v_angst=39800.0)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(side, side, generator=generator)
    power = simulate_spectrum(
        optics,
        microscope=microscope,
        pixel_size_angst=pixel,
        box_px=side,
        tile_count=100_000,
        generator=generator,
    )
    half = torch.fft.ifftshift(power)[:, : side // 2 + 1]
    image = torch.fft.irfft2(torch.fft.rfft2(noise) * half.sqrt(), s=(side, side))
    ctf = estimate_ctf(
        image,
        pixel_size_angst=pixel,
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.07,
    ).ctf
    assert ctf.aliasing_angst is None or ctf.aliasing_angst < 4
    assert ctf.defocus_error_angst is not None
    wrong = abs(ctf.defocus_angst - 39900.0)
    assert wrong < 4 * ctf.defocus_error_angst
    assert math.isfinite(wrong)
    assert wrong < 200
