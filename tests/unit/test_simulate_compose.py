"""Scenes hold the particles where and as the truth says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain.units import interaction_rad_per_volt_angst
from icestream.simulate.camera import take_micrograph
from icestream.simulate.compose import compose_scene
from icestream.simulate.exposure import Contaminant, FieldParticles
from icestream.simulate.film import FilmEdge
from icestream.simulate.ice import ice_phase_power, radial_frequency
from icestream.simulate.optics import Microscope, Optics, transfer
from icestream.simulate.orientations import rotation_matrices
from microscope import CAGE, camera, exposure, projector, recipe, seeded

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.simulate.exposure import Exposure, Recipe

PIXEL_ANGST = 2.0
OPTICS = Optics(defocus_u_angst=12_200, defocus_v_angst=11_800, defocus_angle_deg=30)
# No envelope, so that what differs by defocus alone shows.
SHARP = Microscope(energy_spread_ev=0, illumination_mrad=0, b_factor_angst2=0)


def field(**columns: list[float]) -> FieldParticles:
    count = len(columns["x_px"])
    names = ("x_px", "y_px", "z_angst", "rot_deg", "tilt_deg", "psi_deg")
    values = {name: np.array(columns.get(name, [0.0] * count), float) for name in names}
    return FieldParticles(
        species=np.zeros(count, np.int16), overlaps=np.zeros(count, bool), **values
    )


def setup(side: int = 160, **values: Any) -> tuple[Exposure, Recipe]:
    how = recipe(side, pixel_size_angst=PIXEL_ANGST, species=(CAGE,), microscope=SHARP)
    plain: dict[str, Any] = {
        "optics": OPTICS,
        "meniscus_angst": 0.0,
        "wedge_angst": (0.0, 0.0),
    }
    return exposure(how, **(plain | values)), how


def seen(one: Exposure, how: Recipe) -> Tensor:
    """Return the contrast of the particles in the image."""
    scene = compose_scene(
        one, how, [projector("cage", PIXEL_ANGST)], generator=seeded()
    ).scene
    start, (height, width) = scene.margin_px, how.shape
    return scene.fading[start : start + height, start : start + width]


def stamp(
    one: Exposure, how: Recipe, row: int = 0, further_angst: float = 0.0
) -> Tensor:
    """Return the contrast of one particle alone, as an image of the recipe's shape."""
    particles, side = one.particles, how.shape[0]
    angles = np.stack([particles.rot_deg, particles.tilt_deg, particles.psi_deg], 1)
    rotation = torch.as_tensor(rotation_matrices(angles[row : row + 1])).float()
    projection = projector("cage", PIXEL_ANGST).project(rotation)[0]
    phase = torch.zeros(how.shape)
    start = side // 2 - projection.shape[0] // 2
    inside = slice(start, start + projection.shape[0])
    phase[inside, inside] = projection * interaction_rad_per_volt_angst(300.0)
    lens = transfer(
        how.shape,
        microscope=how.microscope,
        optics=one.optics,
        pixel_size_angst=PIXEL_ANGST,
        further_defocus_angst=further_angst,
    )
    spectrum = torch.fft.rfft2(torch.fft.ifftshift(phase)) * lens.contrast
    image: Tensor = torch.fft.irfft2(spectrum, s=how.shape)
    return image


def correlation(image: Tensor, template: Tensor) -> Tensor:
    """Return how well the template fits with its centre at each pixel, -1 to 1."""
    product = torch.fft.rfft2(image - image.mean())
    product *= torch.fft.rfft2(template - template.mean()).conj()
    scale = float(image.std() * template.std()) * image.numel()
    fit: Tensor = torch.fft.irfft2(product, s=image.shape) / scale
    return fit


def test_a_particle_lies_where_the_truth_says() -> None:
    columns = {"x_px": [61.3], "y_px": [92.8], "rot_deg": [50.0], "tilt_deg": [65.0]}
    one, how = setup(particles=field(**columns, psi_deg=[130.0]))
    fit = correlation(seen(one, how), stamp(one, how))
    top, left = divmod(int(fit.argmax()), how.shape[1])
    assert (top, left) == (93, 61)
    # Half a pixel off, the stamp cannot fit entirely.
    assert float(fit.max()) > 0.9
    # And to a part of a pixel: the parabola through the peak.
    for axis, expected in ((0, 92.8), (1, 61.3)):
        line = fit[:, left] if axis == 0 else fit[top]
        place = (top, left)[axis]
        below, peak, above = (float(line[place + k]) for k in (-1, 0, 1))
        part = (above - below) / (2 * (2 * peak - above - below))
        assert place + part == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("z_angst", [300.0, -300.0])
def test_defocus_falls_with_height(z_angst: float) -> None:
    """What lies nearer to the source is less underfocused."""
    particles = field(x_px=[79.5], y_px=[80.0], z_angst=[z_angst])
    one, how = setup(particles=particles, thickness_angst=800.0)
    image = seen(one, how)
    fits = [
        float(correlation(image, stamp(one, how, further_angst=d)).max())
        for d in (-z_angst, 0.0, z_angst)
    ]
    assert fits[0] > fits[1] > fits[2]


@pytest.mark.parametrize("y_px", [80.0, 720.0])
def test_a_tilted_stage_changes_the_defocus_across_its_axis(y_px: float) -> None:
    """With the axis along x and positive tilt, larger y lies higher up the column."""
    one, how = setup(optics=replace(OPTICS, tilt_deg=40.0))
    tall = replace(how, shape=(800, 160))
    one = replace(
        exposure(tall, optics=one.optics), particles=field(x_px=[80.0], y_px=[y_px])
    )
    image = seen(one, tall)[int(y_px) - 80 : int(y_px) + 80]
    further_angst = -np.tan(np.radians(40.0)) * (y_px - 399.5) * PIXEL_ANGST
    assert np.sign(further_angst) == (1 if y_px < 400 else -1)
    fits = [
        float(correlation(image, stamp(one, how, further_angst=d)).max())
        for d in (further_angst, 0.0, -further_angst)
    ]
    assert fits[0] > fits[1] > fits[2]


def test_particles_are_found_in_a_micrograph_where_the_truth_says() -> None:
    how = recipe(
        512,
        pixel_size_angst=PIXEL_ANGST,
        species=(CAGE,),
        particle_count=16,
        touching_share=0.0,
    )
    one = exposure(how, is_still=False, optics=OPTICS)
    scene = compose_scene(
        one, how, [projector("cage", PIXEL_ANGST)], generator=seeded()
    )
    image = take_micrograph(scene, one, how, camera(), generator=seeded())
    found = 0
    particles = one.particles
    is_inside = (particles.x_px > 60) & (particles.x_px < 452)
    is_inside &= (particles.y_px > 60) & (particles.y_px < 452)
    for row in np.flatnonzero(is_inside):
        fit = correlation(image, stamp(one, how, int(row)))
        y, x = round(float(particles.y_px[row])), round(float(particles.x_px[row]))
        around = fit[y - 20 : y + 21, x - 20 : x + 21]
        top, left = divmod(int(around.argmax()), 41)
        found += max(abs(top - 20), abs(left - 20)) <= 1
    assert is_inside.sum() >= 5
    assert found >= 0.9 * is_inside.sum()


def test_film_and_dirt_are_in_the_mask_and_darken() -> None:
    dirt = Contaminant(kind="aggregate", y_px=40.0, x_px=100.0, diameter_angst=120.0)
    edge = FilmEdge(angle_deg=0.0, distance_angst=100.0, roughness_angst=0.0)
    # 150 Å of carbon let 0.92 through: its amplitude contrast is that loss itself.
    for film, least, most in (("carbon", 0.905, 0.935), ("gold", 0.0, 0.05)):
        one, how = setup(
            contaminants=(dirt,), film=film, film_edge=edge, particles=field(x_px=[])
        )
        composed = compose_scene(one, how, [], generator=seeded())
        start, (height, width) = composed.scene.margin_px, how.shape
        lasting = composed.scene.lasting
        assert lasting is not None
        light = 1 + lasting[start : start + height, start : start + width]
        # The film begins at 100 Å to the right of the middle.
        assert composed.mask[:, 132:].all()
        assert not composed.mask[100:, :128].any()
        assert composed.mask[40, 100]
        ratio = float(light[100:, 140:].mean() / light[100:, :120].mean())
        assert least < ratio < most


def test_ice_absorbs_and_its_noise_grows_with_thickness() -> None:
    images = []
    for thickness_angst in (200.0, 1000.0):
        one, how = setup(thickness_angst=thickness_angst, particles=field(x_px=[]))
        scene = compose_scene(one, how, [], generator=seeded())
        image = take_micrograph(scene, one, how, camera(), generator=seeded())
        images.append(image / image.mean())
        assert float(image.mean()) == pytest.approx(
            160 * np.exp(-thickness_angst / 3500), rel=0.01
        )
    thin, thick = (float(image.var()) * float(160) for image in images)
    # Beyond the noise of the counts, which rises as the electrons get fewer.
    assert thick - np.exp(1000 / 3500) > 2 * (thin - np.exp(200 / 3500))


def test_thin_ice_has_thon_rings_and_thick_ice_has_them_turned_over() -> None:
    """Ice of t Å is a stack of sheets: their mean, done here sheet by sheet."""
    for thickness_angst in (300.0, 2000.0):
        one, how = setup(thickness_angst=thickness_angst, particles=field(x_px=[]))
        scene = compose_scene(one, how, [], generator=seeded()).scene
        assert scene.ice is not None
        strength = scene.ice.contrast.T.double().square()
        canvas = (scene.ice.contrast.shape[1], 2 * (scene.ice.contrast.shape[0] - 1))
        sheets = torch.linspace(-0.5, 0.5, 202, dtype=torch.float64)
        sheets = (sheets[1:] + sheets[:-1]) / 2
        mean = sum(
            transfer(
                canvas,
                microscope=how.microscope,
                optics=one.optics,
                pixel_size_angst=PIXEL_ANGST,
                further_defocus_angst=float(height) * thickness_angst,
            )
            .contrast.double()
            .square()
            for height in sheets
        ) / len(sheets)
        assert isinstance(mean, torch.Tensor)
        frequency = radial_frequency(canvas, PIXEL_ANGST)
        phase = ice_phase_power(
            frequency, thickness_angst=thickness_angst, voltage_kv=300.0
        )
        expected = mean * phase / PIXEL_ANGST**2
        wrong = (strength - expected).abs().max() / expected.max()
        assert float(wrong) < 2e-3


def test_the_thickness_that_is_told_is_that_of_the_scene() -> None:
    """At places from the first to the last pixel of an image that is no square."""
    how = replace(recipe(pixel_size_angst=8.0), shape=(160, 480))
    one = exposure(
        how, thickness_angst=300.0, wedge_angst=(60.0, -40.0), meniscus_angst=100.0
    )
    told = compose_scene(one, how, [], generator=seeded()).thickness_angst
    assert told.shape == (9, 9)
    for row, column in ((0, 0), (0, 8), (8, 0), (4, 4), (4, 8), (2, 6)):
        # Pixels, from the middle, as parts of the sides; the hole has 6000 Å.
        y_px, x_px = round(row * 159 / 8), round(column * 479 / 8)
        y, x = y_px - 79.5, x_px - 239.5
        expected = 300 + 60 * y / 160 - 40 * x / 480
        expected += 100 * (((8 * y) ** 2 + (8 * x) ** 2) / 6_000**2) ** 2
        assert float(told[row, column]) == pytest.approx(expected, abs=0.01)


def test_a_seed_gives_the_same_scene() -> None:
    one, how = setup(particles=field(x_px=[50.0], y_px=[60.0]))
    volumes = [projector("cage", PIXEL_ANGST)]
    first, again = (
        compose_scene(one, how, volumes, generator=seeded()).scene for _ in range(2)
    )
    assert torch.equal(first.fading, again.fading)
