"""An EPU session a grid: atlas, squares and holes with pictures, XML and records.

All of it comes from the timetable, the recipe and what the camera told, so that files
do not contradict each other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icestream.simulate.instrument import (
    FALCON_4I,
    K3,
    EpuHole,
    EpuImage,
    EpuSession,
    EpuSquare,
    draw_atlas,
    draw_grid_square,
    draw_hole,
    exposure_name,
    hole_image_name,
    picture_path,
    square_image_name,
    thumbnail_shape,
    write_atlas,
    write_picture,
    write_session,
    write_square,
)
from icestream.simulate.outputs import ENDINGS
from icestream.simulate.places import HOLE_SIZE_UM, HOLE_SPACING_UM, SQUARE_SIZE_UM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from icestream.simulate.instrument import EpuCamera
    from icestream.simulate.outputs import Output, Outputs
    from icestream.simulate.recording import Recording
    from icestream.simulate.timetable import Entry
    from icestream.simulate.truth import ExposureTruth

__all__ = ["EpuLayout"]

_STORAGE = "Z:\\DoseFractions"
# The longer side of each picture at low magnification, as a K3 at 470 and 11,500 times
# has it, and how long before the exposure that follows it is taken, s.
_ATLAS_UM, _SQUARE_UM, _HOLE_UM = 2_000.0, 120.0, 4.7
_SESSION_BEFORE_S, _ATLAS_BEFORE_S = 400.0, 300.0
_SQUARE_BEFORE_S, _HOLE_BEFORE_S = 60.0, 10.0
_SEARCH_S, _SEARCH_E_PER_PX = 1.0, 15.0
_BEAM_SHIFT_PER_UM = 0.03


class EpuLayout:
    """Names the files of exposures as EPU does, and writes what it has beside them.

    Parameters
    ----------
    outputs
        What the files have in common.
    entries
        The whole timetable.
    """

    def __init__(self, outputs: Outputs, entries: Sequence[Entry]) -> None:
        self._outputs, self._entries = outputs, entries
        self._camera = _camera(outputs)

    def begin(self, root: Path, name: str) -> None:
        """Write what is there before the first exposure of a session of that name."""
        for grid in sorted({one.grid for one in self._entries}):
            entries = [one for one in self._entries if one.grid == grid]
            folder = self._outputs.grid_folder(entries[0])
            self._begin_grid(root / folder, entries, Path(name) / folder)

    def image(self, entry: Entry) -> Path:
        """Return the path of an image or movie, relative to the acquisition."""
        stem = self._stem(self._outputs.grid_folder(entry), entry)
        return stem.with_name(stem.name + ENDINGS[self._outputs.output])

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, told: Recording
    ) -> list[Path]:
        """Write picture and XML of an exposure, and of its hole where it is centred."""
        folder = root / self._outputs.grid_folder(entry)
        made = list(
            write_picture(
                self._stem(folder, entry),
                self._about(entry, truth, told),
                told.picture,
            )
        )
        if _is_centred(entry):
            stem = picture_path(folder, _square_id(entry), _hole_name(entry))
            about = self._search(
                entry, entry.hole_um, _HOLE_UM, before_s=_HOLE_BEFORE_S
            )
            made += write_picture(stem, about, self._draw_hole(entry))
        return [one.relative_to(root) for one in made]

    def _stem(self, folder: Path, entry: Entry) -> Path:
        return picture_path(folder, _square_id(entry), self._name(entry))

    def _name(self, entry: Entry) -> str:
        return exposure_name(
            _hole_id(entry),
            3_000_000 + entry.area,
            self._outputs.number_on_grid(entry),
            taken_at=entry.taken_at,
        )

    def _about(self, entry: Entry, truth: ExposureTruth, told: Recording) -> EpuImage:
        recipe, output = self._outputs.recipe(entry), self._outputs.output
        x_um, y_um = entry.image_shift_um
        return EpuImage(
            camera=self._camera,
            taken_at=entry.taken_at,
            pixel_size_angst=recipe.pixel_size_angst,
            exposure_s=told.exposure_s,
            dose_e_per_angst2=told.counted_e_per_px / recipe.pixel_size_angst**2,
            fraction_count=told.frame_count if output in ("tiff", "mrc") else None,
            applied_defocus_angst=entry.target_defocus_angst,
            is_phase_plate_used=any(recipe.phase_shift_range_deg),
            is_gain_applied=self._outputs.is_gain_applied,
            gain_reference=self._outputs.gain_name if output == "eer" else "",
            stage_um=entry.stage_um,
            stage_tilt_deg=(truth.tilt_deg, 0.0),
            # EPU leaves the image shift at 0: it is compensated.
            beam_shift=(_BEAM_SHIFT_PER_UM * x_um, _BEAM_SHIFT_PER_UM * y_um),
            voltage_kv=recipe.microscope.voltage_kv,
            magnification=self._outputs.magnification(recipe.pixel_size_angst),
        )

    def _search(
        self,
        entry: Entry,
        stage_um: tuple[float, float, float],
        field_um: float,
        *,
        before_s: float,
    ) -> EpuImage:
        """Return what is said of a picture at low magnification before an exposure."""
        pixel_angst = 1e4 * field_um / max(self._camera.shape)
        return EpuImage(
            camera=replace(self._camera, super_resolution_factor=1),
            taken_at=_before(entry, before_s),
            pixel_size_angst=pixel_angst,
            exposure_s=_SEARCH_S,
            dose_e_per_angst2=_SEARCH_E_PER_PX / pixel_angst**2,
            stage_um=stage_um,
            voltage_kv=self._outputs.recipe(entry).microscope.voltage_kv,
            magnification=self._outputs.magnification(pixel_angst),
        )

    def _draw_hole(self, entry: Entry) -> NDArray[np.uint8]:
        shape = thumbnail_shape(self._camera.shape)
        radius_px = HOLE_SIZE_UM / 2 / _HOLE_UM * max(shape)
        return draw_hole(radius_px=radius_px, shape=shape, seed=entry.hole)

    def _begin_grid(self, folder: Path, entries: Sequence[Entry], name: Path) -> None:
        first, slot = entries[0], f"Sample{entries[0].grid}"
        home = "\\".join([_STORAGE, *name.parts])
        image = self._search(
            first, (0.0, 0.0, 0.0), _ATLAS_UM, before_s=_ATLAS_BEFORE_S
        )
        view = _View(image)
        squares = [
            self._write_square(
                folder, [one for one in entries if one.square == number], home, view
            )
            for number in sorted({one.square for one in entries})
        ]
        write_atlas(
            folder / "atlas" / slot,
            1,
            squares,
            image=image,
            picture=draw_atlas(
                [view.row_and_column(one.atlas_xy_px) for one in squares],
                side_px=view.drawn_px(SQUARE_SIZE_UM),
                shape=view.shape,
                seed=first.grid,
            ),
            storage_folder=f"{home}\\atlas\\{slot}",
        )
        session = EpuSession(
            session_id=1,
            name=name.name,
            started_at=_before(first, _SESSION_BEFORE_S),
            storage_folder="\\".join([_STORAGE, *name.parent.parts]),
            atlas_path=f"{home}\\atlas\\{slot}\\Atlas\\Atlas.dm",
            square_ids=tuple(one.square_id for one in squares),
            autoloader_slot=first.grid,
            hole_size_um=HOLE_SIZE_UM,
            hole_spacing_um=HOLE_SPACING_UM,
            movie_format=_movie_format(self._outputs),
        )
        write_session(folder, session)

    def _write_square(
        self, folder: Path, entries: Sequence[Entry], home: str, atlas: _View
    ) -> EpuSquare:
        """Write a square's picture and record, with all its holes."""
        first = entries[0]
        image = self._search(
            first, first.square_um, _SQUARE_UM, before_s=_SQUARE_BEFORE_S
        )
        view, name = _View(image), square_image_name(taken_at=image.taken_at)
        square = EpuSquare(
            square_id=_square_id(first),
            stage_um=first.square_um,
            hole_spacing_um=HOLE_SPACING_UM,
            image_name=name,
            atlas_xy_px=atlas.place_px(first.square_um),
            atlas_size_px=atlas.length_px(SQUARE_SIZE_UM),
            holes=self._holes(entries, view),
        )
        picture = draw_grid_square(
            np.array([view.row_and_column(one.centre_xy_px) for one in square.holes]),
            hole_radius_px=view.drawn_px(HOLE_SIZE_UM / 2),
            shape=view.shape,
            seed=first.square,
        )
        write_picture(picture_path(folder, square.square_id, name), image, picture)
        write_square(folder, square, image_folder=f"{home}\\Images-Disc1")
        return square

    def _holes(self, entries: Sequence[Entry], view: _View) -> tuple[EpuHole, ...]:
        taken: dict[int, list[Entry]] = {}
        for one in entries:
            taken.setdefault(one.hole, []).append(one)
        return tuple(
            EpuHole(
                hole_id=_hole_id(shots[0]),
                stage_um=shots[0].hole_um,
                centre_xy_px=view.place_px(shots[0].hole_um),
                diameter_px=view.length_px(HOLE_SIZE_UM),
                image_name=_hole_name(shots[0]) if _is_centred(shots[0]) else "",
                exposures=tuple(self._name(one) for one in shots),
            )
            for shots in taken.values()
        )


class _View:
    """Where places of the stage lie on a picture: as read out, and as it is kept."""

    def __init__(self, image: EpuImage) -> None:
        height_px, width_px = image.readout_shape
        self._middle_px = (width_px / 2, height_px / 2)
        self._middle_um = image.stage_um
        self._px_per_um = 1e4 / (image.pixel_size_angst * image.camera.binning)
        self.shape = thumbnail_shape(image.camera.shape)
        self._scale = max(self.shape) / max(height_px, width_px)

    def length_px(self, length_um: float) -> float:
        """Return a length in pixels that were read out."""
        return length_um * self._px_per_um

    def place_px(self, stage_um: tuple[float, float, float]) -> tuple[float, float]:
        """Return x and y in pixels that were read out."""
        x_px, y_px = (
            middle_px + self.length_px(at_um - middle_um)
            for middle_px, at_um, middle_um in zip(
                self._middle_px, stage_um[:2], self._middle_um[:2], strict=True
            )
        )
        return x_px, y_px

    def drawn_px(self, length_um: float) -> float:
        """Return a length in pixels of the picture that is kept."""
        return self._scale * self.length_px(length_um)

    def row_and_column(self, xy_px: tuple[float, float]) -> tuple[float, float]:
        """Return where a place that was read out lies on the picture that is kept."""
        return self._scale * xy_px[1], self._scale * xy_px[0]


def _camera(outputs: Outputs) -> EpuCamera:
    """Return the camera; where no movie is kept, the image itself is the picture."""
    shape = outputs.recipes[0].shape
    if outputs.output == "eer":
        return replace(FALCON_4I, shape=shape)
    binning = 1 if outputs.output == "micrograph" else K3.binning
    return replace(
        K3, shape=shape, binning=binning, super_resolution_factor=outputs.finer
    )


def _movie_format(outputs: Outputs) -> str:
    """Return how EPU calls the format of movies; empty without."""
    is_raw = not outputs.is_gain_applied
    formats: dict[Output, str] = {
        "tiff": "Tiff Lzw Non-Gain normalized" if is_raw else "Tiff Gain normalized",
        "mrc": "Mrc Non-Gain normalized" if is_raw else "Mrc Gain normalized",
        "eer": "Eer",
    }
    return formats.get(outputs.output, "")


def _before(entry: Entry, seconds: float) -> datetime:
    return entry.taken_at - timedelta(seconds=seconds)


def _is_centred(entry: Entry) -> bool:
    """Whether EPU takes a picture of its hole first, to centre a whole cluster by."""
    return entry.beam_group == 1


def _square_id(entry: Entry) -> int:
    return 1_000_000 + entry.square


def _hole_id(entry: Entry) -> int:
    return 2_000_000 + entry.hole


def _hole_name(entry: Entry) -> str:
    taken_at = _before(entry, _HOLE_BEFORE_S)
    return hole_image_name(_hole_id(entry), taken_at=taken_at)
