"""A tilted field shows at each place what a flat one shows at that defocus."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from icestream.simulate.film import Layer
from icestream.simulate.ice_contrast import even_ice
from icestream.simulate.imaging import Imaging
from icestream.simulate.optics import Optics, defocus_at_angst, transfer
from microscope import exposure, recipe

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.simulate.exposure import Exposure, Recipe

PIXEL_ANGST, SIDE_PX, TILT_DEG, AXIS_DEG = 1.5, 384, 25.0, 35.0
OPTICS = Optics(
    defocus_u_angst=12_300,
    defocus_v_angst=11_900,
    defocus_angle_deg=70,
    tilt_deg=TILT_DEG,
    tilt_axis_deg=AXIS_DEG,
)
CANVAS = (SIDE_PX + 40, SIDE_PX + 40)
PLACES_PX = ((20, 20), (20, 403), (211, 212), (403, 20), (403, 403))


def setup() -> tuple[Exposure, Recipe]:
    how = recipe(SIDE_PX, pixel_size_angst=PIXEL_ANGST)
    one = exposure(how, optics=OPTICS, thickness_angst=600.0)
    return one, how


def imaging(one: Exposure, how: Recipe) -> Imaging:
    return Imaging(one, how, CANVAS, 20, torch.device("cpu"))


def flat_at(y_px: int, x_px: int) -> Optics:
    """Return the optics of a flat field with the defocus of a place on the canvas."""
    middle = 20 + (SIDE_PX - 1) / 2
    y, x, z = (
        torch.tensor([value], dtype=torch.float64)
        for value in ((y_px - middle) * PIXEL_ANGST, (x_px - middle) * PIXEL_ANGST, 0)
    )
    further = float(defocus_at_angst(OPTICS, x_angst=x, y_angst=y, z_angst=z))
    return replace(
        OPTICS,
        defocus_u_angst=OPTICS.defocus_u_angst + further,
        defocus_v_angst=OPTICS.defocus_v_angst + further,
        tilt_deg=0.0,
    )


def test_film_has_the_defocus_of_its_place() -> None:
    one, how = setup()
    phase = 0.3 * torch.randn(CANVAS, generator=torch.Generator().manual_seed(0))
    layer = Layer(
        phase_rad=phase,
        texture_rad=phase,
        transmission=torch.full(CANVAS, 0.8),
        mask=torch.ones(CANVAS, dtype=torch.bool),
    )
    image = imaging(one, how).intensity_of(layer)
    contrast = float(image.std())
    for y_px, x_px in PLACES_PX:
        flat = replace(one, optics=flat_at(y_px, x_px))
        expected = imaging(flat, how).intensity_of(layer)
        # The envelope of the illumination's angles is that of the middle.
        wrong = float(image[y_px, x_px] - expected[y_px, x_px])
        assert abs(wrong) < 0.02 * contrast
    # Not so at the defocus of the middle.
    flat = replace(one, optics=replace(OPTICS, tilt_deg=0.0))
    corner = (slice(20, 60), slice(360, 400))
    middle = imaging(flat, how).intensity_of(layer)
    assert float((image - middle)[corner].std()) > 0.3 * contrast


def test_a_weak_film_has_the_contrast_of_the_transfer_function() -> None:
    """Sine and cosine, amplitude contrast and envelope: as of a weak phase object."""
    one, how = setup()
    flat = replace(one, optics=replace(OPTICS, tilt_deg=0.0))
    phase = 1e-3 * torch.randn(CANVAS, generator=torch.Generator().manual_seed(0))
    layer = Layer(
        phase_rad=phase + 1.0,
        texture_rad=phase,
        transmission=torch.full(CANVAS, 0.9),
        mask=torch.ones(CANVAS, dtype=torch.bool),
    )
    lens = imaging(flat, how)
    image = lens.intensity_of(layer)
    expected = torch.fft.irfft2(
        torch.fft.rfft2(phase) * lens.transfer.contrast, s=CANVAS
    )
    assert float(image.mean()) == pytest.approx(0.9, rel=1e-3)
    wrong = image / 0.9 - 1 - expected
    assert float(wrong.std()) < 0.01 * float(expected.std())


def test_ice_has_the_thon_rings_of_its_place() -> None:
    one, how = setup()
    ice = imaging(one, how).ice(torch.ones(CANVAS))
    assert ice.tilted is not None
    whole = slice(None)
    filters = [ice.filter(term, whole) for term in range(ice.term_count)]
    for y_px, x_px in PLACES_PX:
        weights = [
            float(weight)
            for weight in ice.weights(slice(y_px, y_px + 1), slice(x_px, x_px + 1))
            if weight is not None
        ]
        real = sum(w * re for w, (re, _) in zip(weights, filters, strict=True))
        imaginary = filters[0][1]
        assert isinstance(real, torch.Tensor)
        assert imaginary is not None
        found = real.square() + imaginary.square()
        expected = flat_ice(flat_at(y_px, x_px), one, how).square()
        # The coefficients that are their own mirror images stay out.
        wrong = (found - expected).abs()[1:-1].max() / expected.max()
        assert float(wrong) < 2e-3


def flat_ice(optics: Optics, one: Exposure, how: Recipe) -> Tensor:
    lens = transfer(
        CANVAS,
        microscope=how.microscope,
        optics=optics,
        pixel_size_angst=PIXEL_ANGST,
    )
    return even_ice(
        lens,
        CANVAS,
        pixel_size_angst=PIXEL_ANGST,
        thickness_angst=one.thickness_angst / math.cos(math.radians(TILT_DEG)),
        voltage_kv=300.0,
    ).contrast


def test_what_has_no_rings_stays_real() -> None:
    """Noise filtered with an odd imaginary factor is a real image."""
    one, how = setup()
    _, odd = imaging(one, how).ice(torch.ones(CANVAS)).filter(0, slice(None))
    assert odd is not None
    for column in (odd[0], odd[-1]):
        assert torch.allclose(column[1:212], -column[213:].flip(0))
        assert float(column[0]) == 0
    assert float(odd.abs().max()) > 0.001
