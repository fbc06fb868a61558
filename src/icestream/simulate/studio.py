"""Take exposures: from an entry in the timetable to files and truth.

A studio is sent to the processes that work in it, so it holds nothing but data.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.io import guarding_writes, write_mrc
from icestream.simulate.camera import Camera, take_events, take_frames, take_micrograph
from icestream.simulate.compose import ComposedScene, compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Exposure, Recipe, draw_exposure
from icestream.simulate.ice import ice_thickness_map
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_mrc_movie,
    write_tiff_movie,
)
from icestream.simulate.sensor import Sensor, simulate_sensor
from icestream.simulate.truth import ExposureTruth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Generator

    from icestream.simulate.layouts import Layout, Output
    from icestream.simulate.optics import Optics
    from icestream.simulate.projection import Projector
    from icestream.simulate.timetable import Entry

__all__ = ["Studio", "Taken"]

_LATTICE, _MASK_PARTS = 9, 32
_RAW_FRAMES_A_FRAME = 40
_COMA_MRAD = 0.04  # axial coma for each beam shift of a cluster's rim
_PICTURE_PX = 512


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
    layout
        Names the files.
    seed
        Of the acquisition.
    """

    staging: Path
    recipes: tuple[Recipe, ...]
    projectors: tuple[tuple[Projector, ...], ...]
    output: Output
    super_resolution: int
    layout: Layout
    seed: int

    def share_memory(self) -> None:
        """Let processes on this machine use the volumes without a copy."""
        for one in {id(p): p for row in self.projectors for p in row}.values():
            one.share_memory()

    def sensor(self) -> Sensor | None:
        """Return the sensor of all movies; corrected micrographs need none."""
        if self.output == "micrograph":
            return None
        height, width = self.recipes[0].shape
        size = (height * self.super_resolution, width * self.super_resolution)
        return _sensor(size, self.seed)

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
        )
        exposure = replace(
            exposure,
            optics=_with_coma(exposure, entry),
            dose_share=exposure.dose_share * entry.beam_share,
        )
        generator = torch.Generator().manual_seed(exposure.seed)
        composed = compose_scene(
            exposure, recipe, self.projectors[entry.grid - 1], generator=generator
        )
        path = self.staging / self.layout.image(entry)
        with guarding_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = self._write(path, composed, exposure, recipe, generator)
        truth = self._truth(entry, exposure, recipe, composed.mask)
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
        camera = Camera(
            response=CountingResponse(),
            sensor=self.sensor(),
            super_resolution=self.super_resolution,
        )
        pixel_angst = recipe.pixel_size_angst / self.super_resolution
        album = _Album()
        if self.output == "micrograph":
            image = take_micrograph(
                composed, exposure, recipe, camera, generator=generator
            )
            album.add(image)
            write_mrc(
                path,
                image.numpy(),
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
            frames = (
                album.add(one).numpy()
                for one in take_frames(
                    composed, exposure, recipe, camera, generator=generator
                )
            )
            if self.output == "tiff":
                write_tiff_movie(path, frames, rows_per_strip=128)
            else:
                write_mrc_movie(path, frames, pixel_size_angst=pixel_angst)
        return album.picture()

    def _truth(
        self, entry: Entry, exposure: Exposure, recipe: Recipe, mask: torch.Tensor
    ) -> ExposureTruth:
        optics, microscope = exposure.optics, recipe.microscope
        _, motion_angst = exposure.motion.lattice(side=_LATTICE)
        return ExposureTruth(
            number=entry.number,
            file=self.layout.image(entry).as_posix(),
            taken_at_s=entry.taken_at_s,
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
        values = self._sum.numpy()
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
    spare = int(torch.randint(0, 5, (1,), generator=generator))
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
        counts = torch.bincount(
            events.pixel.long(), minlength=int(np.prod(recipe.shape))
        )
        album.add(counts.reshape(recipe.shape))
        pixel = events.pixel.numpy()
        quarter = (4 * events.sub_y + events.sub_x).numpy()
        starts = events.starts.tolist()
        for first, last in itertools.pairwise(starts):
            if left <= 0:
                return
            left -= 1
            yield EventFrame(pixel[first:last], quarter[first:last])


@functools.lru_cache(maxsize=2)
def _sensor(shape: tuple[int, int], seed: int) -> Sensor:
    return simulate_sensor(shape, generator=torch.Generator().manual_seed(seed))


def _with_coma(exposure: Exposure, entry: Entry) -> Optics:
    x_um, y_um = entry.image_shift_um
    return replace(
        exposure.optics,
        beam_tilt_x_mrad=_COMA_MRAD * x_um / 2.5,
        beam_tilt_y_mrad=_COMA_MRAD * y_um / 2.5,
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
    shares: NDArray[np.float32] = parts[0].numpy()
    return shares
