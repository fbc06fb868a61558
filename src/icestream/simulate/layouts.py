"""Where the files of an acquisition lie, and what stands beside each image.

Three ways: ``plain`` (numbered images), ``epu`` (an EPU session) and ``serialem``
(frame sets with an mdoc each). Several grids lie in folders of their own, whose
numbering starts anew: the same base name occurs twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np

from icestream.domain.units import micrometre_from_angst
from icestream.simulate.instrument import (
    FALCON_4I,
    K3,
    EpuHole,
    EpuImage,
    EpuSession,
    EpuSquare,
    SerialemExposure,
    draw_atlas,
    draw_grid_square,
    exposure_name,
    frame_set_name,
    picture_path,
    square_image_name,
    write_atlas,
    write_mdoc,
    write_picture,
    write_session,
    write_square,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from icestream.simulate.exposure import Recipe
    from icestream.simulate.timetable import Entry
    from icestream.simulate.truth import ExposureTruth

__all__ = [
    "GAIN_NAMES",
    "Layout",
    "LayoutName",
    "Output",
    "finer_by",
    "make_layout",
]

LayoutName: TypeAlias = Literal["plain", "epu", "serialem"]
Output: TypeAlias = Literal["micrograph", "tiff", "eer", "mrc"]

GAIN_NAMES: dict[Output, str] = {
    "tiff": "gain.mrc",
    "mrc": "gain.mrc",
    "eer": "gain.gain",
}
"""Name of the gain reference of movies."""

_STARTED_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_SECONDS_A_MOVIE = 2.5
_ENDINGS: dict[Output, str] = {
    "micrograph": ".mrc",
    "tiff": "_fractions.tiff",
    "eer": "_EER.eer",
    "mrc": "_frames.mrc",
}
_PICTURE_PX = 512
# Nominal magnifications of a column, and what each times the pixel size is.
_MAGNIFICATIONS = (
    *(8_700, 11_500, 15_000, 19_500, 26_000, 33_000, 42_000, 53_000, 64_000),
    *(81_000, 105_000, 130_000, 165_000, 215_000, 270_000, 350_000),
)
_NOMINAL_ANGST = {"K3": 87_000.0, "Falcon": 121_000.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    output: Output
    recipes: tuple[Recipe, ...]
    firsts: dict[int, int]
    finer: int
    is_gain_applied: bool

    @property
    def gain_name(self) -> str:
        """Name of the gain's file; empty where the images are corrected."""
        return "" if self.is_gain_applied else GAIN_NAMES.get(self.output, "")

    def magnification(self, recipe: Recipe) -> int:
        """Return the nominal magnification that comes nearest to the pixel size."""
        nominal_angst = _NOMINAL_ANGST["Falcon" if self.output == "eer" else "K3"]
        exact = nominal_angst / recipe.pixel_size_angst
        return min(_MAGNIFICATIONS, key=lambda step: abs(math.log(step / exact)))

    def grid_folder(self, entry: Entry) -> Path:
        """Return the folder of its grid; several grids have one each."""
        return Path(f"grid{entry.grid}") if len(self.recipes) > 1 else Path()

    def number_on_grid(self, entry: Entry) -> int:
        """Return its number on its grid, from 1."""
        return entry.number - self.firsts[entry.grid] + 1


class Layout(Protocol):
    """Names the files of exposures and writes what stands beside them."""

    def begin(self, root: Path, name: str) -> None:
        """Write what is there before the first exposure of a session of that name."""

    def image(self, entry: Entry) -> Path:
        """Return the path of an image or movie, relative to the acquisition."""

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, picture: NDArray[np.uint8]
    ) -> list[Path]:
        """Write what stands beside an image; return its paths, relative to root."""


def finer_by(output: Output, super_resolution: int) -> int:
    """Return how many pixels a file has for each of the recipe, along an axis.

    Parameters
    ----------
    output
        Movies alone keep it: single electrons have places within a pixel, and a
        micrograph is binned.
    super_resolution
        1 or 2.
    """
    return super_resolution if output in ("tiff", "mrc") else 1


def make_layout(
    name: LayoutName,
    *,
    output: Output,
    recipes: tuple[Recipe, ...],
    entries: Sequence[Entry],
    super_resolution: int = 1,
    is_gain_applied: bool = False,
) -> Layout:
    """Make a layout.

    Parameters
    ----------
    name
        Which.
    output
        What the images are.
    recipes
        One for each grid.
    entries
        The whole timetable.
    super_resolution
        2 for frames on a grid twice as fine.
    is_gain_applied
        Whether movies are corrected and have no gain reference.
    """
    common = _Common(
        output=output,
        recipes=recipes,
        firsts={one.grid: one.number for one in reversed(entries)},
        finer=finer_by(output, super_resolution),
        is_gain_applied=is_gain_applied or output == "micrograph",
    )
    match name:
        case "plain":
            return _Plain(common)
        case "epu":
            return _Epu(common, entries)
        case "serialem":
            return _Serialem(common)


def _taken_at(entry: Entry) -> datetime:
    return _STARTED_AT + timedelta(seconds=entry.taken_at_s)


class _Plain:
    """``FoilHole_0001.mrc`` and so on."""

    def __init__(self, common: _Common) -> None:
        self._common = common

    def begin(self, root: Path, name: str) -> None:
        """Nothing is there before."""

    def image(self, entry: Entry) -> Path:
        number = self._common.number_on_grid(entry)
        name = f"FoilHole_{number:04d}{_ENDINGS[self._common.output]}"
        return self._common.grid_folder(entry) / name

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, picture: NDArray[np.uint8]
    ) -> list[Path]:
        return []


class _Serialem:
    """Frame sets, each with an mdoc."""

    def __init__(self, common: _Common) -> None:
        self._common = common

    def begin(self, root: Path, name: str) -> None:
        """Nothing is there before."""

    def image(self, entry: Entry) -> Path:
        number = self._common.number_on_grid(entry)
        name = frame_set_name("frames", number, taken_at=_taken_at(entry))
        ending = {"tiff": ".tif", "eer": ".eer"}.get(self._common.output, ".mrc")
        return self._common.grid_folder(entry) / "frames" / f"{name}{ending}"

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, picture: NDArray[np.uint8]
    ) -> list[Path]:
        recipe = self._common.recipes[entry.grid - 1]
        finer, defocus_um = self._common.finer, _target_um(entry)
        image = self.image(entry)
        mdoc = image.with_name(f"{image.name}.mdoc")
        x_um, y_um, z_um = entry.stage_um
        exposure = SerialemExposure(
            movie_path=f"X:\\frames\\{image.name}",
            taken_at=_taken_at(entry),
            frame_count=truth.frame_count,
            dose_e_per_angst2=truth.dose_e_per_angst2,
            exposure_s=_SECONDS_A_MOVIE,
            pixel_size_angst=recipe.pixel_size_angst / finer,
            shape=(finer * recipe.shape[0], finer * recipe.shape[1]),
            binning=1 / finer,
            gain_reference=self._common.gain_name,
            dose_rate_e_per_px_s=truth.dose_e_per_angst2
            * recipe.pixel_size_angst**2
            / _SECONDS_A_MOVIE,
            # The lens shows what it was set to.
            defocus_um=-defocus_um,
            target_defocus_um=-defocus_um,
            stage_um=(x_um, y_um, z_um),
            tilt_deg=truth.tilt_deg,
            image_shift_um=entry.image_shift_um,
            magnification=self._common.magnification(recipe),
            hole_and_position=f"{entry.hole}-{entry.area}",
        )
        write_mdoc(root / mdoc, [exposure], voltage_kv=truth.voltage_kv)
        return [mdoc]


def _target_um(entry: Entry) -> float:
    return micrometre_from_angst(entry.target_defocus_angst)


class _Epu:
    """An EPU session a grid: squares, pictures, XML."""

    def __init__(self, common: _Common, entries: Sequence[Entry]) -> None:
        self._common, self._entries = common, entries
        self._camera = FALCON_4I if common.output == "eer" else K3

    def begin(self, root: Path, name: str) -> None:
        for grid in sorted({one.grid for one in self._entries}):
            entries = [one for one in self._entries if one.grid == grid]
            folder = self._common.grid_folder(entries[0])
            self._begin_grid(root / folder, entries, (Path(name) / folder).name)

    def image(self, entry: Entry) -> Path:
        folder, name = self._common.grid_folder(entry), self._name(entry)
        stem = picture_path(folder, _square_id(entry), name)
        return stem.with_name(stem.name + _ENDINGS[self._common.output])

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, picture: NDArray[np.uint8]
    ) -> list[Path]:
        stem = picture_path(
            root / self._common.grid_folder(entry), _square_id(entry), self._name(entry)
        )
        made = write_picture(stem, self._about(entry, truth), picture)
        return [one.relative_to(root) for one in made]

    def _name(self, entry: Entry) -> str:
        return exposure_name(
            2_000_000 + entry.hole,
            3_000_000 + entry.area,
            self._common.number_on_grid(entry),
            taken_at=_taken_at(entry),
        )

    def _about(self, entry: Entry, truth: ExposureTruth | None) -> EpuImage:
        recipe = self._common.recipes[entry.grid - 1]
        is_movie = self._common.output in ("tiff", "mrc")
        dose = recipe.dose_e_per_angst2
        return EpuImage(
            camera=self._camera,
            taken_at=_taken_at(entry),
            pixel_size_angst=recipe.pixel_size_angst,
            exposure_s=_SECONDS_A_MOVIE,
            dose_e_per_angst2=dose,
            dose_on_camera_e_per_px=dose * recipe.pixel_size_angst**2,
            fraction_count=recipe.frame_count if is_movie else None,
            applied_defocus_angst=entry.target_defocus_angst if truth else 0.0,
            is_phase_plate_used=any(recipe.phase_shift_range_deg),
            is_gain_applied=self._common.is_gain_applied,
            gain_reference=self._common.gain_name
            if self._common.output == "eer"
            else "",
            stage_um=entry.stage_um,
            stage_tilt_deg=(truth.tilt_deg if truth else 0.0, 0.0),
            beam_shift=(
                entry.image_shift_um[0] / 100,
                entry.image_shift_um[1] / 100,
            ),
            image_shift=entry.image_shift_um,
            voltage_kv=recipe.microscope.voltage_kv,
            magnification=self._common.magnification(recipe),
        )

    def _begin_grid(self, folder: Path, entries: Sequence[Entry], name: str) -> None:
        squares = [
            self._square(folder, [one for one in entries if one.square == square])
            for square in sorted({one.square for one in entries})
        ]
        atlas = draw_atlas(
            [(one.atlas_xy_px[1], one.atlas_xy_px[0]) for one in squares],
            side_px=30,
            shape=(_PICTURE_PX, _PICTURE_PX),
        )
        write_atlas(
            folder / "atlas" / "Sample1",
            1,
            squares,
            image=self._about(entries[0], None),
            picture=atlas,
            storage_folder="Z:\\Atlas\\Sample1",
        )
        session = EpuSession(
            session_id=1,
            name=name,
            started_at=_STARTED_AT,
            square_ids=tuple(one.square_id for one in squares),
        )
        write_session(folder, session)

    def _square(self, folder: Path, entries: Sequence[Entry]) -> EpuSquare:
        """Write a square's picture and record, with all its holes."""
        first = entries[0]
        names: dict[int, list[str]] = {}
        for one in entries:
            names.setdefault(one.hole, []).append(self._name(one))
        side = int(np.ceil(np.sqrt(len(names))))
        pitch_px = _PICTURE_PX / (side + 1)
        holes = tuple(
            EpuHole(
                hole_id=2_000_000 + hole,
                stage_um=first.stage_um,
                centre_xy_px=(
                    (index % side + 1) * pitch_px,
                    (index // side + 1) * pitch_px,
                ),
                diameter_px=pitch_px / 2,
                exposures=tuple(taken),
            )
            for index, (hole, taken) in enumerate(names.items())
        )
        name = square_image_name(taken_at=_taken_at(first))
        square = EpuSquare(
            square_id=_square_id(first),
            stage_um=first.stage_um,
            image_name=name,
            atlas_xy_px=(
                60.0 + 40 * ((first.square - 1) % 10),
                60.0 + 40 * ((first.square - 1) // 10 % 10),
            ),
            atlas_size_px=30.0,
            holes=holes,
        )
        picture = draw_grid_square(
            np.array([(one.centre_xy_px[1], one.centre_xy_px[0]) for one in holes]),
            hole_radius_px=pitch_px / 4,
            shape=(_PICTURE_PX, _PICTURE_PX),
            seed=first.square,
        )
        stem = picture_path(folder, square.square_id, name)
        write_picture(stem, self._about(first, None), picture)
        write_square(folder, square, image_folder="Z:\\Images-Disc1")
        return square


def _square_id(entry: Entry) -> int:
    return 1_000_000 + entry.square
