"""A small microscope for tests: recipes, exposures at rest, flat and made-up scenes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.simulate.camera import Camera
from icestream.simulate.compose import ComposedScene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Exposure, Recipe, Species, draw_exposure
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.proteins import make_specimen
from icestream.simulate.render import Scene, canvas_shape, least_margin_px

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.simulate.sensor import Sensor

CAGE = Species(name="cage", diameter_angst=130)
PERFECT = CountingResponse(
    detective_efficiency=1.0, localisation_px=0.0, coincidence_area_px=0.0
)


@cache
def projector(
    name: str, pixel_size_angst: float, box_angst: float = 160.0
) -> Projector:
    box_px = 2 * round(box_angst / pixel_size_angst / 2)
    volume = potential_volume(
        make_specimen(name).atoms, box_px=box_px, pixel_size_angst=pixel_size_angst
    )
    return Projector(volume, pixel_size_angst=pixel_size_angst)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recipe(side: int = 256, **values: Any) -> Recipe:
    defaults: dict[str, Any] = {
        "shape": (side, side),
        "pixel_size_angst": 1.0,
        "frame_count": 4,
        "particle_count": 0,
    }
    return Recipe(**(defaults | values))


def exposure(recipe: Recipe, *, is_still: bool = True, **values: Any) -> Exposure:
    one = draw_exposure(recipe, number=1, seed=3)
    if is_still:
        nothing = {
            name: np.zeros_like(getattr(one.motion, name))
            for name in ("global_angst", "modes", "blur_angst")
        }
        one = replace(one, motion=replace(one.motion, **nothing))
    return replace(one, **values)


def composed(exposure: Exposure, recipe: Recipe, **parts: Any) -> ComposedScene:
    """Make a scene of given parts, by default of nothing in the way."""
    margin_px = least_margin_px(exposure.motion)
    canvas = canvas_shape(recipe.shape, margin_px)
    return ComposedScene(
        scene=Scene(
            pixel_size_angst=recipe.pixel_size_angst,
            margin_px=margin_px,
            **({"fading": torch.zeros(canvas)} | parts),
        ),
        mask=torch.zeros(recipe.shape, dtype=torch.bool),
    )


def canvas(exposure: Exposure, recipe: Recipe) -> tuple[int, int]:
    return canvas_shape(recipe.shape, least_margin_px(exposure.motion))


def camera(
    sensor: Sensor | None = None,
    response: CountingResponse = PERFECT,
    super_resolution: int = 1,
) -> Camera:
    return Camera(response=response, sensor=sensor, super_resolution=super_resolution)


def radial_power(image: Tensor, bins: int) -> Tensor:
    """Return the mean power in rings up to Nyquist; that of white noise is 1 a pixel.

    Tapered at the borders.
    """
    spectrum, inside, number = _rings(image, bins)
    power = spectrum.abs().square()[inside]
    return _ring_means(power, number, bins)


def radial_share(image: Tensor, reference: Tensor, bins: int) -> Tensor:
    """Return how much of a reference's amplitude an image holds, in rings."""
    seen, inside, number = _rings(image, bins)
    clean, _, _ = _rings(reference, bins)
    common = (seen * clean.conj()).real[inside]
    own = clean.abs().square()[inside]
    return _ring_means(common, number, bins) / _ring_means(own, number, bins)


def ring_frequencies(pixel_size_angst: float, bins: int) -> Tensor:
    return (torch.arange(bins) + 0.5) / (2 * bins * pixel_size_angst)


def _rings(image: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = image.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    spectrum = torch.fft.rfft2((image - image.mean()) * window)
    spectrum /= window.square().sum().sqrt()
    gy, gx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    place = torch.hypot(gy, gx) * 2 * bins
    inside = place < bins
    return spectrum, inside, place[inside].long()


def _ring_means(values: Tensor, number: Tensor, bins: int) -> Tensor:
    total = torch.bincount(number, values.double(), minlength=bins)
    return (total / torch.bincount(number, minlength=bins)).float()
