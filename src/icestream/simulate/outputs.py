"""What is written of exposures, and what every layout knows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from icestream.simulate.exposure import Recipe
    from icestream.simulate.timetable import Entry

__all__ = ["ENDINGS", "GAIN_NAMES", "Output", "Outputs", "finer_by"]

Output: TypeAlias = Literal["micrograph", "tiff", "eer", "mrc"]

ENDINGS: dict[Output, str] = {
    "micrograph": ".mrc",
    "tiff": "_fractions.tiff",
    "eer": "_EER.eer",
    "mrc": "_frames.mrc",
}
"""How names of images end, after those of EPU."""

GAIN_NAMES: dict[Output, str] = {
    "tiff": "gain.mrc",
    "mrc": "gain.mrc",
    "eer": "gain.gain",
}
"""Name of the gain reference of movies."""

# Nominal magnifications of a column, and what each times the pixel size is.
_MAGNIFICATIONS = (
    *(50, 62, 85, 100, 135, 185, 260, 320, 470, 740, 1_200, 2_250, 3_400, 4_800),
    *(6_500, 8_700, 11_500, 15_000, 19_500, 26_000, 33_000, 42_000, 53_000, 64_000),
    *(81_000, 105_000, 130_000, 165_000, 215_000, 270_000, 350_000),
)
_NOMINAL_ANGST = {"K3": 87_000.0, "Falcon": 121_000.0}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the files of an acquisition have in common.

    Parameters
    ----------
    output
        What is written.
    recipes
        One for each grid.
    firsts
        Grid to the number of its first exposure.
    finer
        As `finer_by` returns it.
    is_gain_applied
        Whether the images are corrected.
    """

    output: Output
    recipes: tuple[Recipe, ...]
    firsts: dict[int, int]
    finer: int
    is_gain_applied: bool

    @property
    def gain_name(self) -> str:
        """Name of the gain's file; empty where the images are corrected."""
        return "" if self.is_gain_applied else GAIN_NAMES.get(self.output, "")

    def recipe(self, entry: Entry) -> Recipe:
        """Return the recipe of its grid."""
        return self.recipes[entry.grid - 1]

    def magnification(self, pixel_size_angst: float) -> int:
        """Return the nominal magnification that comes nearest to a pixel size."""
        nominal_angst = _NOMINAL_ANGST["Falcon" if self.output == "eer" else "K3"]
        exact = nominal_angst / pixel_size_angst
        return min(_MAGNIFICATIONS, key=lambda step: abs(math.log(step / exact)))

    def grid_folder(self, entry: Entry) -> Path:
        """Return the folder of its grid; several grids have one each."""
        return Path(f"grid{entry.grid}") if len(self.recipes) > 1 else Path()

    def number_on_grid(self, entry: Entry) -> int:
        """Return its number on its grid, from 1."""
        return entry.number - self.firsts[entry.grid] + 1
