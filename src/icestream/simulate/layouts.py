"""Where the files of an acquisition lie, and what stands beside each image.

Three ways: ``plain`` (numbered images), ``epu`` (an EPU session) and ``serialem``
(frame sets with an mdoc each). Several grids lie in folders of their own, whose
numbering starts anew: the same base name occurs twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from icestream.domain.units import micrometre_from_angst
from icestream.simulate.epu_layout import EpuLayout
from icestream.simulate.instrument import SerialemExposure, frame_set_name, write_mdoc
from icestream.simulate.outputs import ENDINGS, Output, Outputs, finer_by

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from icestream.simulate.exposure import Recipe
    from icestream.simulate.recording import Recording
    from icestream.simulate.timetable import Entry
    from icestream.simulate.truth import ExposureTruth

__all__ = ["Layout", "LayoutName", "Output", "finer_by", "make_layout"]

LayoutName: TypeAlias = Literal["plain", "epu", "serialem"]


class Layout(Protocol):
    """Names the files of exposures and writes what stands beside them."""

    def begin(self, root: Path, name: str) -> None:
        """Write what is there before the first exposure of a session of that name."""

    def image(self, entry: Entry) -> Path:
        """Return the path of an image or movie, relative to the acquisition."""

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, told: Recording
    ) -> list[Path]:
        """Write what stands beside an image; return its paths, relative to root.

        It holds what column and camera know: the target of the lens, the dose that was
        asked for or counted, the frames of the file; never what only the truth knows.
        """


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
    outputs = Outputs(
        output=output,
        recipes=recipes,
        firsts={one.grid: one.number for one in reversed(entries)},
        finer=finer_by(output, super_resolution),
        is_gain_applied=is_gain_applied or output == "micrograph",
    )
    match name:
        case "plain":
            return _Plain(outputs)
        case "epu":
            return EpuLayout(outputs, entries)
        case "serialem":
            return _Serialem(outputs)


class _Plain:
    """``FoilHole_0001.mrc`` and so on."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def begin(self, root: Path, name: str) -> None:
        """Nothing is there before."""

    def image(self, entry: Entry) -> Path:
        number = self._outputs.number_on_grid(entry)
        name = f"FoilHole_{number:04d}{ENDINGS[self._outputs.output]}"
        return self._outputs.grid_folder(entry) / name

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, told: Recording
    ) -> list[Path]:
        return []


class _Serialem:
    """Frame sets, each with an mdoc."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def begin(self, root: Path, name: str) -> None:
        """Nothing is there before."""

    def image(self, entry: Entry) -> Path:
        number = self._outputs.number_on_grid(entry)
        name = frame_set_name("frames", number, taken_at=entry.taken_at)
        ending = {"tiff": ".tif", "eer": ".eer"}.get(self._outputs.output, ".mrc")
        return self._outputs.grid_folder(entry) / "frames" / f"{name}{ending}"

    def write_companions(
        self, root: Path, entry: Entry, truth: ExposureTruth, told: Recording
    ) -> list[Path]:
        recipe, finer = self._outputs.recipe(entry), self._outputs.finer
        defocus_um = -micrometre_from_angst(entry.target_defocus_angst)
        image = self.image(entry)
        mdoc = image.with_name(f"{image.name}.mdoc")
        exposure = SerialemExposure(
            movie_path=f"X:\\frames\\{image.name}",
            taken_at=entry.taken_at,
            frame_count=told.frame_count,
            dose_e_per_angst2=recipe.dose_e_per_angst2,
            exposure_s=told.exposure_s,
            pixel_size_angst=recipe.pixel_size_angst / finer,
            shape=(finer * recipe.shape[0], finer * recipe.shape[1]),
            binning=1 / finer,
            gain_reference=self._outputs.gain_name,
            dose_rate_e_per_px_s=told.counted_e_per_px / told.exposure_s,
            # The lens shows what it was set to.
            defocus_um=defocus_um,
            target_defocus_um=defocus_um,
            stage_um=entry.stage_um,
            tilt_deg=truth.tilt_deg,
            image_shift_um=entry.image_shift_um,
            magnification=self._outputs.magnification(recipe.pixel_size_angst),
            hole_and_position=f"{entry.hole_in_cluster}-{entry.area}",
        )
        write_mdoc(root / mdoc, [exposure], voltage_kv=truth.voltage_kv)
        return [mdoc]
