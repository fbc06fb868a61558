"""Take exposures: from an entry in the timetable to files and truth.

A studio is sent to the processes that work in it, so it holds nothing but data.
"""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes, write_mrc
from icestream.simulate.camera import Camera, take_events, take_frames, take_micrograph
from icestream.simulate.compose import ComposedScene, compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Exposure, Recipe, draw_exposure
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_mrc_movie,
    write_tiff_movie,
)
from icestream.simulate.layouts import finer_by
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor
from icestream.simulate.streams import Purpose, torch_stream
from icestream.simulate.truth import ExposureTruth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from icestream.simulate.layouts import Layout, Output
    from icestream.simulate.optics import Optics
    from icestream.simulate.projection import Projector
    from icestream.simulate.timetable import Entry

__all__ = [
    "Device",
    "DeviceChoice",
    "Studio",
    "Taken",
    "chosen_device",
    "draw_camera",
    "one_thread",
]

Device: TypeAlias = Literal["cpu", "cuda"]
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]

_MASK_PARTS = 32
_RAW_FRAMES_A_FRAME = 40
_COMA_MRAD = 0.04  # axial coma for each beam shift of a cluster's rim
_PICTURE_PX = 512
_FLAT_ELECTRONS_PER_PX = 400.0
_MOST_BYTES_OF_A_TIFF = 4_000_000_000


def chosen_device(choice: DeviceChoice) -> Device:
    """Return where images are computed.

    Parameters
    ----------
    choice
        ``auto`` is a GPU where there is one.

    Raises
    ------
    BadSettings
        There is no GPU that could be used.
    """
    has_gpu = torch.cuda.is_available()
    if choice == "cuda" and not has_gpu:
        raise BadSettings(
            f"There is no CUDA device that this PyTorch can use ({torch.__version__}).",
            hint="Leave the device out, or say cpu.",
        )
    return "cuda" if has_gpu and choice != "cpu" else "cpu"


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread, in which sums and draws have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw_camera(
    output: Output,
    shape: tuple[int, int],
    *,
    super_resolution: int,
    seed: int,
    device: Device,
) -> tuple[Camera, Tensor | None]:
    """Draw the camera of an acquisition, the same on each kind of device.

    Parameters
    ----------
    output
        Corrected micrographs need no sensor.
    shape
        ``(h, w)`` of the recipes.
    super_resolution, seed
        As `Acquisition` has them.
    device
        Where both lie.

    Returns
    -------
    Camera, Tensor or None
        And the gain reference as it was measured, where there is a sensor.
    """
    response = CountingResponse()
    if output == "micrograph":
        return Camera(response=response, sensor=None), None
    finer = finer_by(output, super_resolution)
    sensor = simulate_sensor(
        (shape[0] * finer, shape[1] * finer),
        generator=torch_stream(seed, Purpose.SENSOR),
    )
    gain = flat_field_gain(
        sensor,
        electrons_per_px=_FLAT_ELECTRONS_PER_PX,
        generator=torch_stream(seed, Purpose.FLAT_FIELD),
    )
    parts = {one.name: getattr(sensor, one.name).to(device) for one in fields(sensor)}
    camera = Camera(
        response=response, sensor=Sensor(**parts), super_resolution=super_resolution
    )
    return camera, gain.to(device)


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """An exposure that was taken: its truth, and the files beside its image."""

    truth: ExposureTruth
    beside: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Studio:
    """All that is needed to take any exposure of an acquisition.

    Parameters
    ----------
    staging
        Folder in which files are made; paths in it are those of the acquisition.
    recipes, projectors
        One recipe for each grid, and a projector for each of its species.
    output
        What is made.
    camera
        Takes all of them.
    gain
        Reference as it was measured; ``None`` for micrographs.
    is_gain_applied
        Frames are multiplied by the gain reference.
    layout
        Names the files.
    seed
        Of the acquisition.
    device
        Where images are computed; the volumes lie on the CPU until they are used.
    """

    staging: Path
    recipes: tuple[Recipe, ...]
    projectors: tuple[tuple[Projector, ...], ...]
    output: Output
    camera: Camera
    gain: Tensor | None
    is_gain_applied: bool
    layout: Layout
    seed: int
    device: Device

    @property
    def finer(self) -> int:
        """Pixels of a frame for each of the recipe, along an axis."""
        return finer_by(self.output, self.camera.super_resolution)

    def let_go(self) -> None:
        """Forget the volumes, once other processes have them; nothing is taken then."""
        for row in self.projectors:
            for one in row:
                one.let_go()

    def take(self, entry: Entry) -> Taken:
        """Take an exposure; its image and what stands beside it lie in `staging` then.

        In one thread: the order of sums and draws would differ with their number.

        Raises
        ------
        DiskFull, FolderUnavailable
            A file could not be written.
        """
        with one_thread():
            return self._take(entry)

    def _take(self, entry: Entry) -> Taken:
        recipe = self._recipe_of(entry)
        exposure = draw_exposure(
            recipe,
            number=entry.number,
            seed=self.seed,
            defect=entry.defect,
            filling=entry.filling,
            defocus_angst=entry.defocus_angst,
            phase_shift_deg=entry.phase_shift_deg,
        )
        exposure = replace(
            exposure,
            optics=_with_coma(exposure, entry),
            dose_share=exposure.dose_share * entry.beam_share,
        )
        generator = torch_stream(exposure.seed, Purpose.IMAGE, device=self.device)
        projectors = self.projectors[entry.grid - 1]
        for one in projectors:
            one.move_to(self.device)
        composed = compose_scene(exposure, recipe, projectors, generator=generator)
        path = self.staging / self.layout.image(entry)
        with guarding_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = self._write(path, composed, exposure, recipe, generator)
        truth = self._truth(entry, exposure, recipe, composed)
        beside = self.layout.write_companions(self.staging, entry, truth, picture)
        return Taken(truth, tuple(beside))

    def _recipe_of(self, entry: Entry) -> Recipe:
        recipe = self.recipes[entry.grid - 1]
        low, high = recipe.ice_range_angst
        factor = entry.ice_factor
        return replace(recipe, ice_range_angst=(low * factor, high * factor))

    def _write(
        self,
        path: Path,
        composed: ComposedScene,
        exposure: Exposure,
        recipe: Recipe,
        generator: Generator,
    ) -> NDArray[np.uint8]:
        """Write the image or movie; return a small picture of it."""
        camera, album = self.camera, _Album()
        pixel_angst = recipe.pixel_size_angst / self.finer
        if self.output == "micrograph":
            image = take_micrograph(
                composed, exposure, recipe, camera, generator=generator
            )
            album.add(image)
            write_mrc(
                path,
                image.cpu().numpy(),
                pixel_size_angst=recipe.pixel_size_angst,
                dtype=np.uint16,
            )
        elif self.output == "eer":
            write_eer(
                path,
                _event_frames(composed, exposure, recipe, camera, generator, album),
                exposure=EerExposure(
                    started_at=datetime(2026, 1, 5, 9, tzinfo=UTC),
                    frame_rate_hz=317.76,
                    pixel_size_angst=recipe.pixel_size_angst,
                    gain_reference="gain.gain",
                ),
            )
        else:
            frames = self._developed(
                album.add(one)
                for one in take_frames(
                    composed, exposure, recipe, camera, generator=generator
                )
            )
            if self.output == "tiff":
                self._write_tiff(path, frames, recipe)
            else:
                write_mrc_movie(path, frames, pixel_size_angst=pixel_angst)
        return album.picture()

    def _developed(self, frames: Iterator[Tensor]) -> Iterator[NDArray[np.generic]]:
        """Give counts as they are, or multiplied by the gain reference."""
        gain = self.gain if self.is_gain_applied else None
        for frame in frames:
            yield (frame if gain is None else frame * gain).cpu().numpy()

    def _write_tiff(
        self, path: Path, frames: Iterator[NDArray[np.generic]], recipe: Recipe
    ) -> None:
        # What was multiplied does not become smaller by LZW, but larger.
        pixels = self.finer**2 * math.prod(recipe.shape) * recipe.frame_count
        write_tiff_movie(
            path,
            frames,
            rows_per_strip=128,
            compression="none" if self.is_gain_applied else "lzw",
            is_big=self.is_gain_applied and 4 * pixels > _MOST_BYTES_OF_A_TIFF,
        )

    def _truth(
        self,
        entry: Entry,
        exposure: Exposure,
        recipe: Recipe,
        composed: ComposedScene,
    ) -> ExposureTruth:
        optics, microscope = exposure.optics, recipe.microscope
        _, motion_angst = exposure.motion.lattice()
        return ExposureTruth(
            number=entry.number,
            file=self.layout.image(entry).as_posix(),
            taken_at_s=entry.taken_at_s,
            grid=entry.grid,
            square=entry.square,
            hole=entry.hole,
            beam_group=entry.beam_group,
            defect=exposure.defect,
            faults=(),
            pixel_size_angst=recipe.pixel_size_angst,
            voltage_kv=microscope.voltage_kv,
            spherical_aberration_mm=microscope.spherical_aberration_mm,
            amplitude_contrast=microscope.amplitude_contrast,
            frame_count=recipe.frame_count,
            dose_e_per_angst2=recipe.dose_e_per_angst2 * exposure.dose_share,
            target_defocus_angst=entry.target_defocus_angst,
            defocus_u_angst=optics.defocus_u_angst,
            defocus_v_angst=optics.defocus_v_angst,
            defocus_angle_deg=optics.defocus_angle_deg,
            phase_shift_deg=optics.phase_shift_deg,
            tilt_deg=optics.tilt_deg,
            tilt_axis_deg=optics.tilt_axis_deg,
            beam_tilt_x_mrad=optics.beam_tilt_x_mrad,
            beam_tilt_y_mrad=optics.beam_tilt_y_mrad,
            thickness_angst=composed.thickness_angst.cpu().numpy(),
            motion_angst=motion_angst.astype(np.float32),
            masked=_shares(composed.mask),
            particles=exposure.particles,
        )


class _Album:
    """Adds up what a camera takes, for the small picture beside a movie."""

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None

    def add(self, image: torch.Tensor) -> torch.Tensor:
        side = min(_PICTURE_PX, *image.shape)
        small = torch.nn.functional.adaptive_avg_pool2d(image[None].float(), side)[0]
        self._sum = small if self._sum is None else self._sum + small
        return image

    def picture(self) -> NDArray[np.uint8]:
        """Return it in 8 bit, from the 1st to the 99th percentile."""
        if self._sum is None:
            return np.zeros((_PICTURE_PX, _PICTURE_PX), dtype=np.uint8)
        values = self._sum.cpu().numpy()
        low, high = np.percentile(values, [1, 99])
        scaled = (values - low) / max(float(high - low), 1e-6)
        picture: NDArray[np.uint8] = (255 * scaled.clip(0, 1)).astype(np.uint8)
        return picture


def _event_frames(
    composed: ComposedScene,
    exposure: Exposure,
    recipe: Recipe,
    camera: Camera,
    generator: Generator,
    album: _Album,
) -> Iterator[EventFrame]:
    """Give raw frames; their number differs by a few from one exposure to the next."""
    spare = int(torch.randint(0, 5, (1,), generator=generator, device=generator.device))
    batches = take_events(
        composed,
        exposure,
        recipe,
        camera,
        raw_frames_per_frame=_RAW_FRAMES_A_FRAME,
        generator=generator,
    )
    left = recipe.frame_count * _RAW_FRAMES_A_FRAME - spare
    for events in batches:
        counts = torch.bincount(events.pixel.long(), minlength=math.prod(recipe.shape))
        album.add(counts.reshape(recipe.shape))
        pixel = events.pixel.cpu().numpy()
        quarter = (4 * events.sub_y + events.sub_x).cpu().numpy()
        starts = events.starts.tolist()
        for first, last in itertools.pairwise(starts):
            if left <= 0:
                return
            left -= 1
            yield EventFrame(pixel[first:last], quarter[first:last])


def _with_coma(exposure: Exposure, entry: Entry) -> Optics:
    x_um, y_um = entry.image_shift_um
    return replace(
        exposure.optics,
        beam_tilt_x_mrad=_COMA_MRAD * x_um / 2.5,
        beam_tilt_y_mrad=_COMA_MRAD * y_um / 2.5,
    )


def _shares(mask: torch.Tensor) -> NDArray[np.float32]:
    parts = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), _MASK_PARTS)
    shares: NDArray[np.float32] = parts[0].cpu().numpy()
    return shares
