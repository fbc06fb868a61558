"""Take exposures: from an entry in the timetable to files and truth.

A studio is sent to the processes that work in it, so it holds nothing but data.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.simulate.camera import Camera
from icestream.simulate.compose import ComposedScene, compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Exposure, Recipe, draw_exposure
from icestream.simulate.outputs import finer_by
from icestream.simulate.recording import Recorder
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor
from icestream.simulate.streams import Purpose, torch_stream
from icestream.simulate.truth import ExposureTruth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.simulate.layouts import Layout
    from icestream.simulate.optics import Optics
    from icestream.simulate.outputs import Output
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
_COMA_MRAD_PER_UM = 0.016  # axial coma that a beam shift brings
_FLAT_ELECTRONS_PER_PX = 4000.0


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
        recorder = Recorder(
            composed=composed,
            exposure=exposure,
            recipe=recipe,
            camera=self.camera,
            output=self.output,
            gain=self.gain if self.is_gain_applied else None,
            taken_at=entry.taken_at,
            generator=generator,
        )
        told = recorder.write(path)
        truth = self._truth(entry, exposure, recipe, composed)
        beside = self.layout.write_companions(self.staging, entry, truth, told)
        return Taken(truth, tuple(beside))

    def _recipe_of(self, entry: Entry) -> Recipe:
        recipe = self.recipes[entry.grid - 1]
        low, high = recipe.ice_range_angst
        factor = entry.ice_factor
        return replace(recipe, ice_range_angst=(low * factor, high * factor))

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
            area=entry.area,
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


def _with_coma(exposure: Exposure, entry: Entry) -> Optics:
    x_um, y_um = entry.image_shift_um
    return replace(
        exposure.optics,
        beam_tilt_x_mrad=_COMA_MRAD_PER_UM * x_um,
        beam_tilt_y_mrad=_COMA_MRAD_PER_UM * y_um,
    )


def _shares(mask: torch.Tensor) -> NDArray[np.float32]:
    parts = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), _MASK_PARTS)
    shares: NDArray[np.float32] = parts[0].cpu().numpy()
    return shares
