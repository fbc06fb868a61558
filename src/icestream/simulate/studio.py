"""Take exposures: from an entry in the timetable to files and truth.

A studio is sent to the processes that work in it, so it holds nothing but data.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.simulate.camera import Camera
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Exposure, Recipe, draw_exposure
from icestream.simulate.ice import ice_thickness_map
from icestream.simulate.outputs import finer_by
from icestream.simulate.recording import Recorder
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor
from icestream.simulate.streams import Purpose, torch_stream
from icestream.simulate.truth import ExposureTruth

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.simulate.layouts import Layout
    from icestream.simulate.optics import Optics
    from icestream.simulate.outputs import Output
    from icestream.simulate.projection import Projector
    from icestream.simulate.timetable import Entry

__all__ = ["Device", "DeviceChoice", "Studio", "Taken", "chosen_device"]

Device: TypeAlias = Literal["cpu", "cuda"]
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]

_LATTICE, _MASK_PARTS = 9, 32
_COMA_MRAD_PER_UM = 0.016  # axial coma that a beam shift brings
_FLAT_ELECTRONS_PER_PX = 400.0


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
    super_resolution
        1 or 2.
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
    super_resolution: int
    is_gain_applied: bool
    layout: Layout
    seed: int
    device: Device

    @property
    def finer(self) -> int:
        """Pixels of a frame for each of the recipe, along an axis."""
        return finer_by(self.output, self.super_resolution)

    def share_memory(self) -> None:
        """Let processes on this machine use the volumes without a copy."""
        for one in {id(p): p for row in self.projectors for p in row}.values():
            one.move_to("cpu")
            one.share_memory()

    def sensor(self) -> Sensor | None:
        """Return the sensor of all movies; corrected micrographs need none."""
        if self.output == "micrograph":
            return None
        height, width = self.recipes[0].shape
        size = (height * self.finer, width * self.finer)
        return _sensor(size, self.seed, self.device)

    def gain(self) -> Tensor | None:
        """Return the measured gain reference; none where there is no sensor."""
        sensor = self.sensor()
        if sensor is None:
            return None
        return _gain(tuple(sensor.sensitivity.shape), self.seed, self.device)

    def take(self, entry: Entry) -> Taken:
        """Take an exposure; its image and what stands beside it lie in `staging` then.

        Raises
        ------
        DiskFull, FolderUnavailable
            A file could not be written.
        """
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
            camera=self._camera(),
            output=self.output,
            gain=self.gain() if self.is_gain_applied else None,
            taken_at=entry.taken_at,
            generator=generator,
        )
        told = recorder.write(path)
        truth = self._truth(entry, exposure, recipe, composed.mask)
        beside = self.layout.write_companions(self.staging, entry, truth, told)
        return Taken(truth, tuple(beside))

    def _recipe_of(self, entry: Entry) -> Recipe:
        recipe = self.recipes[entry.grid - 1]
        low, high = recipe.ice_range_angst
        factor = entry.ice_factor
        return replace(recipe, ice_range_angst=(low * factor, high * factor))

    def _camera(self) -> Camera:
        return Camera(
            response=CountingResponse(),
            sensor=self.sensor(),
            super_resolution=self.super_resolution,
        )

    def _truth(
        self, entry: Entry, exposure: Exposure, recipe: Recipe, mask: torch.Tensor
    ) -> ExposureTruth:
        optics, microscope = exposure.optics, recipe.microscope
        _, motion_angst = exposure.motion.lattice(side=_LATTICE)
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
            thickness_angst=_thickness_lattice(exposure, recipe),
            motion_angst=motion_angst.astype(np.float32),
            masked=_shares(mask),
            particles=exposure.particles,
        )


@functools.lru_cache(maxsize=2)
def _sensor(shape: tuple[int, int], seed: int, device: Device) -> Sensor:
    """Return the same sensor, whatever the device."""
    sensor = simulate_sensor(shape, generator=torch_stream(seed, Purpose.SENSOR))
    return Sensor(
        **{one.name: getattr(sensor, one.name).to(device) for one in fields(sensor)}
    )


@functools.lru_cache(maxsize=2)
def _gain(shape: tuple[int, int], seed: int, device: Device) -> Tensor:
    reference = flat_field_gain(
        _sensor(shape, seed, "cpu"),
        electrons_per_px=_FLAT_ELECTRONS_PER_PX,
        generator=torch_stream(seed, Purpose.FLAT_FIELD),
    )
    return reference.to(device)


def _with_coma(exposure: Exposure, entry: Entry) -> Optics:
    x_um, y_um = entry.image_shift_um
    return replace(
        exposure.optics,
        beam_tilt_x_mrad=_COMA_MRAD_PER_UM * x_um,
        beam_tilt_y_mrad=_COMA_MRAD_PER_UM * y_um,
    )


def _thickness_lattice(exposure: Exposure, recipe: Recipe) -> NDArray[np.float32]:
    """``(9, 9)`` thickness from the first to the last pixel, Å."""
    height, width = recipe.shape
    pixel_angst = max(height, width) * recipe.pixel_size_angst / (_LATTICE - 1)
    return ice_thickness_map(
        (_LATTICE, _LATTICE),
        pixel_size_angst=pixel_angst,
        thickness_angst=exposure.thickness_angst,
        wedge_angst=exposure.wedge_angst,
        meniscus_angst=exposure.meniscus_angst,
    ).numpy()


def _shares(mask: torch.Tensor) -> NDArray[np.float32]:
    parts = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), _MASK_PARTS)
    shares: NDArray[np.float32] = parts[0].cpu().numpy()
    return shares
