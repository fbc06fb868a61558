"""A counting camera: from expected intensity to the counts in its files.

What is honest for a camera that counts. Each electron that is found gives one count, at
its place plus an error of localisation. A Poisson process whose points are moved, each
on its own, is a Poisson process again, of the blurred density. So blurring the events
one by one *is* blurring the expected intensity and then drawing Poisson counts: the
signal falls with the MTF, the noise stays white, DQE = DQE(0) MTF^2. (A camera that
integrates blurs the noise too; this is none.) The blur is a factor in Fourier space,
`transfer_function`, which `render` applies for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.compiled import compiled
from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from icestream.simulate.sensor import Sensor

__all__ = [
    "CountingResponse",
    "ElectronEvents",
    "draw_events",
    "draw_poisson",
    "expose",
    "recorded",
    "transfer_function",
]

# Pixels of a block that stay in a processor's cache with all that is made of them.
_BLOCK_PX = 1 << 17
# Above this many electrons in a pixel the library's own sampler is quicker.
_MOST_FOR_INVERSION = 16.0
# Counts below this come from a loop without branches.
_USUAL_COUNT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingResponse:
    """How well a camera counts.

    Parameters
    ----------
    detective_efficiency
        Share of electrons found when they are rare: DQE(0), 0 to 1.
    localisation_px
        Standard deviation of the error of an event's place along an axis, physical px.
    electrons_per_px_per_raw_frame
        Dose rate; 0 for no loss by coincidence. About 0.005 at 8 e/px/s and 1500 Hz.
    coincidence_area_px
        In one raw frame, electrons in the same area this large count as one.

    Raises
    ------
    BadSettings
        A value that cannot be.
    """

    detective_efficiency: float = 0.9
    localisation_px: float = 0.15
    electrons_per_px_per_raw_frame: float = 0.005
    coincidence_area_px: float = 10.0

    def __post_init__(self) -> None:
        least = min(
            self.localisation_px,
            self.electrons_per_px_per_raw_frame,
            self.coincidence_area_px,
        )
        if not (0 < self.detective_efficiency <= 1 and least >= 0):
            raise BadSettings(
                f"{self} cannot be.",
                hint="The efficiency is in (0, 1], nothing else is below 0.",
            )

    @property
    def crowding(self) -> float:
        """Electrons found in one coincidence area in one raw frame, on average."""
        return (
            self.coincidence_area_px
            * self.electrons_per_px_per_raw_frame
            * self.detective_efficiency
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectronEvents:
    """Single electrons, raw frame by raw frame, each frame in row order.

    Parameters
    ----------
    pixel
        ``(n,)`` int32, place in the camera's pixels in row order; no pixel twice in a
        raw frame.
    sub_y, sub_x
        ``(n,)`` uint8, place within the pixel, 0 to ``upsampling - 1``.
    starts
        ``(raw_frames + 1,)`` int64; raw frame i has the events from ``starts[i]`` up to
        ``starts[i + 1]``.
    """

    pixel: Tensor
    sub_y: Tensor
    sub_x: Tensor
    starts: Tensor


def transfer_function(
    shape: tuple[int, int],
    response: CountingResponse,
    *,
    pixels_per_physical: float = 1.0,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Return the camera's MTF along both axes; their outer product is the MTF.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image, px.
    response
        Gives the error of localisation.
    pixels_per_physical
        2 where the image is a super-resolution image.
    device
        Where the result lies.

    Returns
    -------
    y, x
        ``(h,)`` and ``(w // 2 + 1,)`` float32: sinc of the image's own pixel times
        exp(-2 pi^2 s^2 f^2).
    """
    spread_px = response.localisation_px * pixels_per_physical
    y, x = (
        torch.sinc(f) * torch.exp(-2 * (math.pi * spread_px * f) ** 2)
        for f in (
            torch.fft.fftfreq(shape[0], device=device),
            torch.fft.rfftfreq(shape[1], device=device),
        )
    )
    return y, x


def expose(
    intensity: Tensor,
    *,
    electrons_per_px: float,
    sensor: Sensor | None,
    response: CountingResponse,
    generator: Generator,
    out: Tensor | None = None,
) -> Tensor:
    """Draw the counts of one frame.

    Parameters
    ----------
    intensity
        ``(h, w)`` float32, 1 where nothing is in the way; already blurred by the MTF.
    electrons_per_px
        Electrons that arrive at a pixel of this image in this frame, where it is 1.
    sensor
        Its flaws; ``None`` for a perfect one.
    response
        Efficiency and loss by coincidence.
    generator
        The source of randomness.
    out
        ``(h, w)`` uint8 to write to; made if absent.

    Returns
    -------
    Tensor
        ``out``: whole counts, clipped to 255.

    Notes
    -----
    Of n electrons expected in one area and raw frame, 1 - exp(-n) are counted (a dead
    time in space): fewer, and less contrast. That counts are then a little more even
    than Poisson below 1 / (3 px), by about n, is left out.
    """
    if out is None:
        out = torch.empty(intensity.shape, dtype=torch.uint8, device=intensity.device)

    def expected_in(rows: slice) -> Tensor:
        expected = recorded(
            intensity[rows], electrons_per_px=electrons_per_px, response=response
        )
        return expected if sensor is None else expected.mul_(sensor.sensitivity[rows])

    _draw_rows(expected_in, out, generator)
    if sensor is not None and len(sensor.noisy_index):
        _add_noisy(out.view(-1), sensor, generator)
    return out


def recorded(
    intensity: Tensor, *, electrons_per_px: float, response: CountingResponse
) -> Tensor:
    """Return how many electrons a camera is expected to find.

    Parameters
    ----------
    intensity
        Any shape, 1 where nothing is in the way.
    electrons_per_px
        Electrons that arrive where it is 1.
    response
        Efficiency and loss by coincidence.

    Returns
    -------
    Tensor
        Same shape, 0 or more, before the sensor's flaws.
    """
    found = electrons_per_px * response.detective_efficiency
    crowding = response.crowding
    if crowding == 0:
        return (intensity * found).clamp_(min=0)
    # Crowding is some hundredths: 1 - exp(-n) loses no more than five digits of seven.
    missed = (intensity * -crowding).clamp_(max=0).exp_()
    missed -= 1
    missed *= -found / crowding
    return missed


def draw_poisson(expected: Tensor, *, generator: Generator) -> Tensor:
    """Draw Poisson counts, a mean for each pixel; quick where the means are small.

    Parameters
    ----------
    expected
        ``(h, *rest)`` float32, 0 or more.
    generator
        The source of randomness.

    Returns
    -------
    Tensor
        Same shape, float32, whole numbers.

    Notes
    -----
    One uniform number is compared with the cumulative distribution, term by term, in
    memory that stays in the cache; the few pixels above the usual range are done again.
    Exact up to the 31 bits of the uniform number and float32.
    """
    expected = expected.contiguous()
    counts = torch.empty_like(expected)
    _draw_rows(lambda rows: expected[rows], counts, generator)
    return counts


def draw_events(
    expected: Tensor,
    *,
    raw_frame_count: int,
    upsampling: int = 4,
    physical_shape: tuple[int, int] | None = None,
    generator: Generator,
) -> ElectronEvents:
    """Draw single electrons over some raw frames, as EER files hold them.

    Parameters
    ----------
    expected
        ``(h, w)`` float32 electrons that all these raw frames together find in a pixel,
        on the camera's grid or one 2 or 4 times as fine.
    raw_frame_count
        How many raw frames share them.
    upsampling
        Places within a pixel, along an axis.
    physical_shape
        The camera's rows and columns; ``None`` where that is the shape of ``expected``.
    generator
        The source of randomness.

    Returns
    -------
    ElectronEvents
        A second electron in the same pixel and raw frame is lost, as in the camera.

    Raises
    ------
    BadSettings
        The grid of ``expected`` is not 1, 2 or ``upsampling`` times as fine.

    Notes
    -----
    A Poisson count dealt out at random to frames (and places) is an independent Poisson
    count in each, so one draw does for all raw frames. Where ``expected`` is no finer
    than the camera, places within a pixel are even.
    """
    height, width = physical_shape or (expected.shape[0], expected.shape[1])
    fine = expected.shape[0] // height
    if tuple(expected.shape) != (height * fine, width * fine) or upsampling % fine:
        raise BadSettings(
            f"Electrons of {tuple(expected.shape)} px for {height} x {width} px.",
            hint="The sides are those of the camera, or an even part of its places.",
        )
    # Fine pixels of one camera pixel follow each other: sorted by camera pixel then.
    cells = expected.reshape(height, fine, width, fine).permute(0, 2, 1, 3).contiguous()
    counts = draw_poisson(cells, generator=generator)
    cell = torch.repeat_interleave(counts.view(-1).to(torch.int32))
    # Half the memory of what is sorted, where it does.
    kind = torch.int16 if raw_frame_count < 1 << 15 else torch.int32
    raw_frame = torch.empty(cell.shape, dtype=kind, device=cell.device)
    raw_frame.random_(0, raw_frame_count, generator=generator)
    raw_frame, order = torch.sort(raw_frame, stable=True)
    cell = cell[order]
    pixel = torch.div(cell, fine**2, rounding_mode="floor") if fine > 1 else cell
    is_first = torch.ones_like(pixel, dtype=torch.bool)
    is_first[1:] = (pixel[1:] != pixel[:-1]) | (raw_frame[1:] != raw_frame[:-1])
    cell, pixel, raw_frame = cell[is_first], pixel[is_first], raw_frame[is_first]
    sub_y, sub_x = _places_within(cell, fine, upsampling // fine, generator)
    edges = torch.arange(raw_frame_count + 1, dtype=kind, device=cell.device)
    return ElectronEvents(
        pixel=pixel,
        sub_y=sub_y,
        sub_x=sub_x,
        starts=torch.searchsorted(raw_frame, edges),
    )


def _places_within(
    cell: Tensor, fine: int, places: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return y and x in a camera pixel: the cell's own, and an even one within it."""
    draw = torch.empty(cell.shape, dtype=torch.uint8, device=cell.device)
    draw.random_(0, places**2, generator=generator)
    y, x = draw // places, draw % places
    if fine > 1:
        own = (cell % fine**2).to(torch.uint8)
        y, x = y + own // fine * places, x + own % fine * places
    return y, x


def _draw_rows(
    expected_in: Callable[[slice], Tensor], out: Tensor, generator: Generator
) -> None:
    """Draw counts block by block, whole rows each; 255 is the most in uint8."""
    most = 255.0 if out.dtype == torch.uint8 else math.inf
    step = _rows_at_once(out)
    for start in range(0, out.shape[0], step):
        rows = slice(start, start + step)
        expected = expected_in(rows)
        if not out.is_cpu or float(expected.max()) > _MOST_FOR_INVERSION:
            out[rows] = torch.poisson(expected, generator=generator).clamp_(max=most)
            continue
        uniform = _uniform(expected, generator)
        _invert(
            uniform.view(-1).numpy(),
            expected.view(-1).numpy(),
            torch.exp(-expected).view(-1).numpy(),
            out[rows].view(-1).numpy(),
            most,
        )


@compiled
def _invert(
    uniform: NDArray[np.float32],
    expected: NDArray[np.float32],
    none: NDArray[np.float32],
    out: NDArray[np.float32],
    most: float,
) -> None:
    """Count the terms of the distribution, from ``none`` on, that a number is above.

    The first loop has no branches, so that it runs on whole vectors; the few pixels
    that it leaves are done again.
    """
    for i in range(len(out)):
        term = below = none[i]
        counts = np.uint8(uniform[i] >= below)
        for number in range(1, _USUAL_COUNT):
            term = term * (expected[i] * (np.float32(1) / np.float32(number)))
            below += term
            counts += np.uint8(uniform[i] >= below)
        out[i] = counts
    for i in range(len(out)):
        if out[i] == _USUAL_COUNT:
            term = below = none[i]
            number = 0
            while uniform[i] >= below:
                number += 1
                term *= expected[i] / np.float32(number)
                if below + term == below:  # as near to 1 as it comes
                    break
                below += term
            out[i] = min(number, most)


def _rows_at_once(image: Tensor) -> int:
    """Return how many rows fit a processor's cache; all of them elsewhere."""
    if image.device.type != "cpu":
        return image.shape[0]
    return max(_BLOCK_PX * image.shape[0] // image.numel(), 1)


def _uniform(like: Tensor, generator: Generator) -> Tensor:
    """Return numbers in [0, 1) of 31 bits; two from each draw, which is quicker."""
    count = like.numel()
    draw = torch.empty((count + 1) // 2, dtype=torch.int64, device=like.device)
    bits = draw.random_(generator=generator).view(torch.int32)[:count]
    bits &= 0x7FFFFFFF
    # The largest float below 1, where rounding would give 1.
    return (bits * 2.0**-31).clamp_(max=1 - 2.0**-24).view(like.shape)


def _add_noisy(flat: Tensor, sensor: Sensor, generator: Generator) -> None:
    is_on = torch.rand(
        sensor.noisy_share.shape, generator=generator, device=flat.device
    )
    rate = sensor.noisy_rate * (is_on < sensor.noisy_share)
    own = torch.poisson(rate, generator=generator)
    index = sensor.noisy_index
    flat[index] = (flat[index] + own).clamp(max=255).to(torch.uint8)
