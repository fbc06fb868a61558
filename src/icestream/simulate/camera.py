"""Take an exposure: what a scene becomes in the files of a camera.

Three ways: frames of counts (TIFF, MRC), single electrons (EER), and one micrograph as
perfect correction would leave the movie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.corrected import render_corrected
from icestream.simulate.detector import (
    CountingResponse,
    ElectronEvents,
    draw_events,
    draw_poisson,
    expose,
    recorded,
    transfer_function,
)
from icestream.simulate.render import render_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from icestream.simulate.compose import ComposedScene
    from icestream.simulate.exposure import Exposure, Recipe
    from icestream.simulate.sensor import Sensor

__all__ = ["Camera", "take_events", "take_frames", "take_micrograph"]

_REACH_PX = 2
_BLEND_PX = 32
_MOST_SHARED = 0.9  # share of raw frames in which a pixel can have an electron


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Camera:
    """A camera and how it is read.

    Parameters
    ----------
    response
        How well it counts.
    sensor
        Its flaws, on the pixels of the file (of the camera for EER); ``None`` for a
        perfect one.
    super_resolution
        1, or 2 for pixels half as large as those of the recipe: four times as many.
    """

    response: CountingResponse
    sensor: Sensor | None
    super_resolution: int = 1

    def __post_init__(self) -> None:
        if self.super_resolution not in (1, 2):
            raise BadSettings(
                f"A camera cannot have super-resolution {self.super_resolution}.",
                hint="Give 1 or 2.",
            )


def take_frames(
    composed: ComposedScene,
    exposure: Exposure,
    recipe: Recipe,
    camera: Camera,
    *,
    generator: Generator,
) -> Iterator[Tensor]:
    """Give the frames of a movie as the camera counts them.

    Parameters
    ----------
    composed, exposure, recipe
        What is seen, how it moves, how many electrons come.
    camera
        What counts them.
    generator
        The source of all randomness; lives where the scene lives.

    Yields
    ------
    Tensor
        ``(h, w)`` uint8 counts, not corrected for the gain; ``(2 h, 2 w)`` in
        super-resolution.

    Raises
    ------
    BadSettings
        The sensor has another shape than the file.

    Notes
    -----
    In super-resolution the expected intensity is band-limited to what the recipe's
    pixel holds; the places of counts within that pixel, their noise and the camera's
    MTF are those of the finer one.
    """
    fine = camera.super_resolution
    _check_sensor(camera.sensor, tuple(fine * side for side in recipe.shape))
    dose = recipe.frame_dose_e_per_angst2 * exposure.dose_share
    for intensity in render_frames(
        composed.scene,
        exposure.motion,
        **_rendering(composed, exposure, recipe, camera),
        generator=generator,
    ):
        yield expose(
            intensity if fine == 1 else _doubled(intensity),
            electrons_per_px=dose * (recipe.pixel_size_angst / fine) ** 2,
            sensor=camera.sensor,
            response=camera.response,
            generator=generator,
        )


def take_events(
    composed: ComposedScene,
    exposure: Exposure,
    recipe: Recipe,
    camera: Camera,
    *,
    raw_frames_per_frame: int,
    generator: Generator,
) -> Iterator[ElectronEvents]:
    """Give the electrons of a movie one by one, as EER files hold them.

    Parameters
    ----------
    composed, exposure, recipe, camera
        As `take_frames` has them; the sensor has the recipe's shape. With
        super-resolution 2, halves of a pixel differ as the image does; quarters are
        even within them.
    raw_frames_per_frame
        Raw frames that share one frame of the recipe: between those nothing moves. They
        and the dose say how many electrons crowd a raw frame, whatever the response
        says of that.
    generator
        The source of all randomness.

    Yields
    ------
    ElectronEvents
        Those of ``raw_frames_per_frame`` raw frames; one for each frame of the recipe.

    Raises
    ------
    BadSettings
        The sensor has another shape than the recipe.
    """
    _check_sensor(camera.sensor, recipe.shape)
    fine = camera.super_resolution
    dose = recipe.frame_dose_e_per_angst2 * exposure.dose_share
    per_px = dose * recipe.pixel_size_angst**2
    response = replace(
        camera.response, electrons_per_px_per_raw_frame=per_px / raw_frames_per_frame
    )
    for intensity in render_frames(
        composed.scene,
        exposure.motion,
        **_rendering(composed, exposure, recipe, camera),
        generator=generator,
    ):
        expected = recorded(
            intensity if fine == 1 else _doubled(intensity),
            electrons_per_px=per_px / fine**2,
            response=response,
        )
        if response.crowding:
            _add_doubles(expected, fine, raw_frames_per_frame)
        if camera.sensor is not None:
            _add_flaws(expected, camera.sensor, fine, generator)
        yield draw_events(
            expected,
            raw_frame_count=raw_frames_per_frame,
            physical_shape=recipe.shape,
            generator=generator,
        )


def take_micrograph(
    composed: ComposedScene,
    exposure: Exposure,
    recipe: Recipe,
    camera: Camera,
    *,
    generator: Generator,
) -> Tensor:
    """Return the micrograph that perfect correction would make of the movie.

    Parameters
    ----------
    composed, exposure, recipe, camera
        As `take_frames` has them; super-resolution is binned.
    generator
        The source of all randomness.

    Returns
    -------
    Tensor
        ``(h, w)`` float32 electrons that were found in a pixel in all frames, corrected
        for the gain. Dead and noisy pixels hold the value of a good neighbour.

    Raises
    ------
    BadSettings
        The sensor has another shape than the micrograph.

    Notes
    -----
    The shifts are gone; the blur within frames, damage, moving ice, MTF and the noise
    of the counts are there. One draw for the whole exposure is exact: see
    `icestream.simulate.corrected`. A flaw of the sensor stays in its pixel here, while
    the shifts of a real correction spread it.
    """
    _check_sensor(camera.sensor, recipe.shape)
    intensity = render_corrected(
        composed.scene,
        exposure.motion,
        **_rendering(composed, exposure, recipe, camera),
        generator=generator,
    )
    dose = recipe.dose_e_per_angst2 * exposure.dose_share
    expected = recorded(
        intensity,
        electrons_per_px=dose * recipe.pixel_size_angst**2,
        response=camera.response,
    )
    sensor = camera.sensor
    if sensor is None:
        return draw_poisson(expected, generator=generator)
    expected *= sensor.sensitivity
    counts = draw_poisson(expected, generator=generator) * sensor.gain
    _replace_bad(counts, sensor, generator)
    return counts


def _check_sensor(sensor: Sensor | None, shape: tuple[int, ...]) -> None:
    if sensor is not None and tuple(sensor.sensitivity.shape) != shape:
        raise BadSettings(
            f"A sensor of {tuple(sensor.sensitivity.shape)} px takes no image of "
            f"{shape} px.",
            hint="Simulate the sensor with the shape of the file.",
        )


def _rendering(
    composed: ComposedScene, exposure: Exposure, recipe: Recipe, camera: Camera
) -> dict[str, Any]:
    """Return what both ways of rendering want to know."""
    height, width = composed.scene.fading.shape
    fine = camera.super_resolution
    y, x = transfer_function(
        (fine * height, fine * width),
        camera.response,
        pixels_per_physical=fine,
        device=composed.scene.fading.device,
    )
    # On the coarse canvas, the frequencies of the fine one that it has.
    along_y = torch.cat([y[: height // 2], y[len(y) - height // 2 :]])
    return {
        "voltage_kv": recipe.microscope.voltage_kv,
        "dose_e_per_angst2": recipe.frame_dose_e_per_angst2 * exposure.dose_share,
        "camera_transfer": (along_y, x[: width // 2 + 1]),
    }


def _add_doubles(expected: Tensor, fine: int, raw_frame_count: int) -> None:
    """Add the electrons that share a pixel with another one in a raw frame.

    `draw_events` loses them, and `recorded` has taken them off already.
    """
    height, width = expected.shape
    cells = expected.view(height // fine, fine, width // fine, fine)
    share = cells.sum(dim=(1, 3), keepdim=True) / raw_frame_count
    share = share.clamp_(1e-6, _MOST_SHARED)
    cells *= torch.log1p(-share).neg_() / share


def _add_flaws(
    expected: Tensor, sensor: Sensor, fine: int, generator: Generator
) -> None:
    """Thin the electrons, and add those that noisy pixels count by themselves."""
    height, width = sensor.sensitivity.shape
    cells = expected.view(height, fine, width, fine)
    cells *= sensor.sensitivity[:, None, :, None]
    draw = torch.rand(
        sensor.noisy_share.shape, generator=generator, device=expected.device
    )
    rate = sensor.noisy_rate * (draw < sensor.noisy_share) / fine**2
    row, column = sensor.noisy_index // width, sensor.noisy_index % width
    cells[row, :, column] += rate[:, None, None]


def _replace_bad(counts: Tensor, sensor: Sensor, generator: Generator) -> None:
    """Put the value of a good pixel nearby into each that is dead or noisy.

    One value, not a mean, which would have less noise than its surroundings.
    """
    is_bad = sensor.sensitivity == 0
    is_bad.view(-1)[sensor.noisy_index] = True
    row, column = is_bad.nonzero(as_tuple=True)
    side = 2 * _REACH_PX + 1
    order = torch.rand(
        len(row), side * side, generator=generator, device=counts.device
    ).argsort(dim=1)
    height, width = counts.shape
    y = (row[:, None] + order // side - _REACH_PX).clamp(0, height - 1)
    x = (column[:, None] + order % side - _REACH_PX).clamp(0, width - 1)
    first_good = (~is_bad[y, x]).int().argmax(dim=1, keepdim=True)
    counts[row, column] = counts[y, x].gather(1, first_good).squeeze(1)


def _doubled(image: Tensor) -> Tensor:
    """Interpolate to half the pixel, ``(2 h, 2 w)``, by the image's own frequencies.

    The image goes on into a blend of its own reflections, so that opposite borders meet
    without a step. Pixel k of the result lies at k / 2 - 1 / 4.
    """
    height, width = image.shape
    wide = _blended(image, 1)
    whole = _blended(wide, 0)
    spectrum = torch.fft.rfft2(whole)
    rows, columns = whole.shape
    half_row, half_column = rows // 2, columns // 2
    for frequency, axis, side in (
        (torch.fft.fftfreq(rows, device=image.device), 0, half_row),
        (torch.fft.rfftfreq(columns, device=image.device), 1, half_column),
    ):
        turn = torch.polar(torch.ones_like(frequency), frequency * (-math.pi / 2))
        spectrum *= turn[:, None] if axis == 0 else turn
        spectrum.select(axis, side).mul_(0.5)
    fine = spectrum.new_zeros(2 * rows, columns + 1)
    fine[:half_row, : half_column + 1] = spectrum[:half_row]
    fine[-half_row:, : half_column + 1] = spectrum[half_row:]
    doubled = torch.fft.irfft2(fine, s=(2 * rows, 2 * columns))
    inside: Tensor = doubled[: 2 * height, : 2 * width]
    return 4 * inside


def _blended(image: Tensor, axis: int) -> Tensor:
    side = image.shape[axis]
    count = _BLEND_PX + side % 2
    share = (torch.arange(count, device=image.device) + 0.5) / count
    share = share if axis == 1 else share[:, None]
    end = image.narrow(axis, side - count, count).flip(axis)
    start = image.narrow(axis, 0, count).flip(axis)
    return torch.cat([image, end * (1 - share) + start * share], dim=axis)
