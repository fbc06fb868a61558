"""One micrograph with known truth, as perfect correction would leave its movie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.simulate.camera import Camera, take_micrograph
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import draw_exposure
from icestream.simulate.streams import Purpose, torch_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from icestream.simulate.exposure import Defect, Exposure, Recipe
    from icestream.simulate.projection import Projector

__all__ = ["SimulatedMicrograph", "simulate_micrograph"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedMicrograph:
    """An image and the truth about it.

    Parameters
    ----------
    image
        ``(h, w)`` float32 electrons per pixel.
    exposure
        What it shows.
    mask
        ``(h, w)`` bool: film or contaminants.
    """

    image: Tensor
    exposure: Exposure
    mask: Tensor


def simulate_micrograph(
    recipe: Recipe,
    projectors: Sequence[Projector],
    *,
    number: int = 1,
    seed: int = 0,
    defect: Defect | None = None,
) -> SimulatedMicrograph:
    """Simulate a micrograph.

    Parameters
    ----------
    recipe
        How it is taken, and of what.
    projectors
        One for each species, at the recipe's pixel size.
    number, seed, defect
        As `draw_exposure` has them.

    Returns
    -------
    SimulatedMicrograph
        Protein is darker than ice in underfocus.
    """
    exposure = draw_exposure(recipe, number=number, seed=seed, defect=defect)
    generator = torch_stream(exposure.seed, Purpose.IMAGE)
    composed = compose_scene(exposure, recipe, projectors, generator=generator)
    camera = Camera(response=CountingResponse(), sensor=None)
    image = take_micrograph(composed, exposure, recipe, camera, generator=generator)
    return SimulatedMicrograph(image=image, exposure=exposure, mask=composed.mask)
