"""Micrographs with film, dirt and torn ice, for the tests of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain import MaskClass
from icestream.simulate import usual_acquisition
from icestream.simulate.micrograph import simulate_micrograph
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from icestream.engines.quality import Mask
    from icestream.simulate.exposure import Defect
    from icestream.simulate.micrograph import SimulatedMicrograph

PIXEL_ANGST = 3.0
SIDE_PX = 640
VACUUM_E_PER_PX = 40.0 * PIXEL_ANGST**2


def photographer() -> Callable[[int, Defect | None], SimulatedMicrograph]:
    """Return what takes a micrograph of a number, with a defect or without."""
    acquisition = usual_acquisition(
        1, shape=(SIDE_PX, SIDE_PX), pixel_size_angst=PIXEL_ANGST, particle_count=70
    )
    potential = potential_volume(
        acquisition.atoms[0], box_px=72, pixel_size_angst=PIXEL_ANGST
    )
    projectors = [Projector(potential, pixel_size_angst=PIXEL_ANGST)]

    def take(number: int, defect: Defect | None = None) -> SimulatedMicrograph:
        return simulate_micrograph(
            acquisition.recipes[0], projectors, number=number, seed=5, defect=defect
        )

    return take


def torn(image: torch.Tensor, place_px: tuple[float, float, float]) -> torch.Tensor:
    """Return an image with a disc (row, column, radius) without ice."""
    height, width = image.shape
    counts = np.random.default_rng(0).poisson(0.88 * VACUUM_E_PER_PX, image.shape)
    is_torn = torch.from_numpy(disc((height, width), place_px) > 0.5)
    return torch.where(is_torn, torch.from_numpy(counts.astype(np.float32)), image)


def drawn(
    *,
    shape: tuple[int, int] = (400, 440),
    dark_px: tuple[int, int, int] | None = None,
    thicker: float = 0.0,
    seed: int = 0,
) -> torch.Tensor:
    """Draw counts of ice with round particles at 3 Å/px: noise is Poisson's.

    Parameters
    ----------
    shape
        ``(h, w)``.
    dark_px
        Row, column and radius of a disc that is 20 % darker.
    thicker
        By which share light falls from the first row to the last.
    seed
        Of places and noise.
    """
    generator = np.random.default_rng(seed)
    y, x = (np.arange(side, dtype=float) for side in shape)
    light = VACUUM_E_PER_PX * 0.8 * (1 - thicker * y[:, None] / shape[0] + 0 * x)
    for row, column in generator.uniform(0, shape, (50, 2)):
        light *= 1 - 0.03 * disc(shape, (row, column, 20))
    if dark_px is not None:
        light *= 1 - 0.2 * disc(shape, dark_px)
    return torch.from_numpy(generator.poisson(light).astype(np.float32))


def disc(
    shape: tuple[int, int], place_px: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return 1 within a disc (row, column, radius) and 0 outside, softly."""
    row, column, radius = place_px
    y, x = (np.arange(side, dtype=float) for side in shape)
    return 1 / (1 + np.exp(np.hypot(y[:, None] - row, x - column) - radius))


def in_cells(mask: NDArray[np.bool_], like: Mask) -> NDArray[np.bool_]:
    """Return which cells of a mask are covered by more than half."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None]
    share = torch.nn.functional.adaptive_avg_pool2d(whole, like.classes.shape)
    covered: NDArray[np.bool_] = share[0, 0].numpy() > 0.5
    return covered


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return the intersection over the union."""
    return float((found & true).sum() / (found | true).sum())


def masked(mask: Mask) -> NDArray[np.bool_]:
    """Return which cells are not good."""
    is_masked: NDArray[np.bool_] = mask.classes != MaskClass.GOOD
    return is_masked
