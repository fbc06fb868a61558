"""Small cameras with flaws, and what they count under light that is not even."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from icestream.engines.gain import CountSums
from icestream.simulate.detector import CountingResponse, expose
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor
from microscope import seeded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAMES = 24
ELECTRONS_PER_PX = 1.25


@cache
def sensor(side: int = 512, *, seed: int = 1, noisy_count: int = 20) -> Sensor:
    return simulate_sensor(
        (side, side),
        generator=seeded(seed),
        hot_count=noisy_count,
        flickering_count=noisy_count // 2,
    )


@cache
def measured_gain(side: int = 512, *, seed: int = 1) -> NDArray[np.float32]:
    """The gain as a flat exposure of 10,000 e/px gives it."""
    gain: NDArray[np.float32] = flat_field_gain(
        sensor(side, seed=seed), electrons_per_px=10_000, generator=seeded(9)
    ).numpy()
    return gain


def light(side: int, number: int) -> torch.Tensor:
    """Uneven light, with a dark round thing that is elsewhere in each movie."""
    y, x = torch.meshgrid(*[torch.arange(side) / side] * 2, indexing="ij")
    even = 1 + 0.2 * torch.sin(2.5 * x + number) + 0.2 * y
    radius = torch.hypot(y - (0.37 * number) % 1, x - (0.61 * number) % 1)
    return torch.where(radius < 0.1, 0.5 * even, even).float()


def frames(
    number: int, what: Sensor | None, *, side: int = 512, dose: float = ELECTRONS_PER_PX
) -> NDArray[np.uint8]:
    generator = seeded(100 + number)
    stack = torch.empty((FRAMES, side, side), dtype=torch.uint8)
    for frame in stack:
        expose(
            light(side, number),
            electrons_per_px=dose,
            sensor=what,
            response=CountingResponse(),
            generator=generator,
            out=frame,
        )
    return stack.numpy()


@cache
def counts(number: int, *, seed: int = 1) -> NDArray[np.float32]:
    """The sum of a movie of the usual sensor; of a perfect one with seed 0."""
    generator = seeded(100 + number)
    expected = light(512, number) * (FRAMES * ELECTRONS_PER_PX)
    if seed:
        what = sensor(seed=seed)
        expected *= what.sensitivity
        rate = FRAMES * what.noisy_rate * what.noisy_share
        expected.view(-1)[what.noisy_index] += rate
    total: NDArray[np.float32] = torch.poisson(expected, generator=generator).numpy()
    return total


def sums(*movies: NDArray[np.float32]) -> CountSums:
    made = CountSums.empty(movies[0].shape)
    for movie in movies:
        made = made.plus(movie)
    return made
