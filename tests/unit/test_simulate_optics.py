"""The microscope's optics, against averages over what they stand for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.domain.units import electron_wavelength_angst
from icestream.engines.ctf import contrast_transfer
from icestream.simulate.optics import Microscope, Optics, defocus_at_angst, transfer

SHAPE = (256, 256)
PIXEL_ANGST = 1.0
IDEAL = Microscope(energy_spread_ev=0, illumination_mrad=0, b_factor_angst2=0)
OPTICS = Optics(defocus_u_angst=12_300, defocus_v_angst=11_700, defocus_angle_deg=30)


def _transfer(
    microscope: Microscope, optics: Optics = OPTICS, further_angst: float = 0.0
) -> torch.Tensor:
    return transfer(
        SHAPE,
        microscope=microscope,
        optics=optics,
        pixel_size_angst=PIXEL_ANGST,
        further_defocus_angst=further_angst,
    ).contrast


def test_an_ideal_microscope_has_twice_the_contrast_transfer() -> None:
    expected = contrast_transfer(
        SHAPE,
        defocus_u_angst=12_800,
        defocus_v_angst=12_200,
        defocus_angle_deg=30,
        pixel_size_angst=PIXEL_ANGST,
        voltage_kv=300,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.07,
    )
    found = _transfer(IDEAL, further_angst=500.0)
    assert torch.allclose(found, 2 * expected, atol=1e-6)


def test_the_focal_spread_grows_at_lower_voltages() -> None:
    """Cc dE / E with the relativistic factor: 1.23, 1.16 and 1.09."""
    found = [Microscope(voltage_kv=kv).focal_spread_angst for kv in (300, 200, 100)]
    assert found == pytest.approx([38.6, 55.0, 102.9], rel=5e-3)


def test_a_wave_goes_through_the_lens_as_its_phase_does() -> None:
    """A weak phase alone has the contrast of `transfer` without amplitude contrast."""
    microscope = Microscope(amplitude_contrast=0.1)
    lens = transfer(
        SHAPE, microscope=microscope, optics=OPTICS, pixel_size_angst=PIXEL_ANGST
    )
    real, imaginary = lens.of_wave()
    without = _transfer(replace(microscope, amplitude_contrast=0.0))
    # Of exp(i p) = 1 + i p, what interferes with 1 is -2 I p.
    assert torch.allclose(-2 * imaginary, without, atol=1e-5)
    assert float(real[0, 0]) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(
        real.square() + imaginary.square(), lens.envelope_squared() / 4, atol=1e-5
    )


def test_spread_of_energy_is_an_average_over_defocus() -> None:
    spread_angst = 80.0
    steps = torch.linspace(-4, 4, 81, dtype=torch.float64)
    weights = torch.exp(-steps.square() / 2)
    average = sum(
        float(weight / weights.sum())
        * _transfer(IDEAL, further_angst=float(step) * spread_angst)
        for step, weight in zip(steps, weights, strict=True)
    )
    usual = Microscope()
    energy_ev = usual.energy_spread_ev * spread_angst / usual.focal_spread_angst
    found = _transfer(replace(IDEAL, energy_spread_ev=energy_ev))
    assert isinstance(average, torch.Tensor)
    assert torch.allclose(found, average, atol=2e-3)


def test_spread_of_angle_is_an_average_over_shifts() -> None:
    """A tilt by a moves frequency g's part by a (d - Cs L^2 g^2): no astigmatism."""
    angle_mrad, defocus_angst = 0.1, 12_000.0
    optics = Optics(defocus_u_angst=defocus_angst, defocus_v_angst=defocus_angst)
    g = torch.fft.rfftfreq(SHAPE[1], PIXEL_ANGST, dtype=torch.float64)
    wavelength = electron_wavelength_angst(300)
    shift = defocus_angst - 2.7e7 * wavelength**2 * g.square()
    steps = torch.linspace(-5, 5, 201, dtype=torch.float64)
    weights = torch.exp(-steps.square() / 2)
    phases = 2 * math.pi * 1e-3 * angle_mrad * steps[:, None] * g * shift
    average = (weights[:, None] * torch.cos(phases)).sum(0) / weights.sum()
    ideal = _transfer(IDEAL, optics)[0]
    found = _transfer(replace(IDEAL, illumination_mrad=angle_mrad), optics)[0]
    assert torch.allclose(found, ideal * average.float(), atol=1e-4)


def test_the_rest_falls_with_the_b_factor() -> None:
    ratio = _transfer(replace(IDEAL, b_factor_angst2=60.0)) / _transfer(IDEAL)
    # At 1/4 Å: column 64 of 256 pixels of 1 Å.
    assert float(ratio[0, 64]) == pytest.approx(math.exp(-60 / 4 / 16), rel=1e-5)


def test_a_tilted_beam_moves_high_frequencies_and_keeps_their_strength() -> None:
    tilted = _transfer(IDEAL, replace(OPTICS, beam_tilt_x_mrad=1.0))
    straight = _transfer(IDEAL)
    assert torch.allclose(tilted.abs(), straight.abs(), atol=1e-6)
    wavelength = electron_wavelength_angst(300)
    at = 64 / 256
    expected = -2 * math.pi * 2.7e7 * wavelength**2 * 1e-3 * at**3
    phase = torch.angle(tilted[0, 64] / straight[0, 64])
    assert math.cos(float(phase) - expected) == pytest.approx(1, abs=1e-4)
    # Along the other axis nothing happens, and the image stays real.
    assert torch.allclose(tilted[:, 0].imag, torch.zeros(256), atol=1e-6)


def test_what_is_nearer_to_the_source_is_less_underfocused() -> None:
    zero, one = torch.zeros(1), torch.full((1,), 100.0)
    flat = defocus_at_angst(OPTICS, x_angst=one, y_angst=one, z_angst=one)
    assert float(flat) == pytest.approx(-100)
    tilted = replace(OPTICS, tilt_deg=45.0, tilt_axis_deg=0.0)
    up = defocus_at_angst(tilted, x_angst=one, y_angst=one, z_angst=zero)
    assert float(up) == pytest.approx(-100)
    turned = replace(tilted, tilt_axis_deg=90.0)
    down = defocus_at_angst(turned, x_angst=one, y_angst=zero, z_angst=zero)
    assert float(down) == pytest.approx(100)


def test_u_is_the_larger_defocus() -> None:
    with pytest.raises(BadSettings, match="smaller than V"):
        Optics(defocus_u_angst=1000, defocus_v_angst=2000)
