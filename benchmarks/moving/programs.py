"""icestream and RELION, each one process for all movies of a kind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from icestream.domain import AcquisitionSetup, OpticsGroup
from icestream.io import write_star
from icestream.io.relion import micrograph_optics_columns
from moving.movies import recipe_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icestream.simulate.exposure import Recipe
    from moving.movies import Exposed, Size

_LAUNCH = Path(__file__).with_name("launch.py")
_ICESTREAM = Path(sys.executable).with_name("icestream")
_RELION = "relion_run_motioncorr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process took from its start to its end.

    Seconds, user and system seconds of all threads, the peak of its resident memory.
    """

    wall_s: float
    cpu_s: float
    peak_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What a program made of a movie.

    Content lies in its images where it is in frame 0, or on the mean over time.
    """

    plain: Path
    weighted: Path
    star: Path
    is_as_in_first_frame: bool


Program: TypeAlias = "Callable[[Batch, Path, int], tuple[Usage, list[Corrected]]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Movies of one kind, which a program corrects in one process."""

    exposed: tuple[Exposed, ...]
    is_damaged: bool

    @property
    def size(self) -> Size:
        """Of all of them."""
        return self.exposed[0].size

    @property
    def movies(self) -> list[Path]:
        """Their files."""
        return [one.movie(is_damaged=self.is_damaged) for one in self.exposed]


def programs() -> dict[str, Program]:
    """Return the programs that are there, by name."""
    found: dict[str, Program] = {"icestream": run_icestream}
    if shutil.which(_RELION):
        found["RELION"] = run_relion
    return found


def run_icestream(
    batch: Batch, folder: Path, threads: int
) -> tuple[Usage, list[Corrected]]:
    """Correct movies; also writes a spectrum and a thumbnail of each."""
    usage = _run(_icestream_command(batch, folder, threads), folder)
    stems = [folder / movie.stem for movie in batch.movies]
    return usage, [
        Corrected(
            plain=stem.with_name(f"{stem.name}_noDW.mrc"),
            weighted=stem.with_suffix(".mrc"),
            star=stem.with_suffix(".star"),
            is_as_in_first_frame=False,
        )
        for stem in stems
    ]


def start_icestream(batch: Batch, folder: Path) -> Usage:
    """Start, read the movies' headers and end: what a process spends on itself."""
    return _run([*_icestream_command(batch, folder, 1), "--dry-run"], folder)


def _icestream_command(batch: Batch, folder: Path, threads: int) -> list[str]:
    recipe = recipe_of(batch.size)
    return [
        *(str(_ICESTREAM), "motion", *map(str, batch.movies), "--out", str(folder)),
        *("--pixel-size-angst", f"{recipe.pixel_size_angst:g}"),
        *("--voltage-kv", f"{recipe.microscope.voltage_kv:g}"),
        *("--dose-e-per-angst2", f"{recipe.dose_e_per_angst2:g}"),
        *("--gain", str(batch.exposed[0].gain), "--threads", str(threads)),
        *("--keep-plain", "--number-format", "float32"),
    ]


def run_relion(
    batch: Batch, folder: Path, threads: int
) -> tuple[Usage, list[Corrected]]:
    """Correct movies by RELION's own algorithm."""
    recipe = recipe_of(batch.size)
    for movie in batch.movies:
        (folder / movie.name).symlink_to(movie.absolute())
    (folder / "gain.mrc").symlink_to(batch.exposed[0].gain.absolute())
    write_star(
        folder / "movies.star",
        {
            "optics": micrograph_optics_columns([_optics(recipe)]),
            "movies": {
                "rlnMicrographMovieName": [movie.name for movie in batch.movies],
                "rlnOpticsGroup": [1 for _ in batch.movies],
            },
        },
    )
    command = [_RELION, "--i", "movies.star", "--o", "corrected/", "--use_own"]
    command += ["--patch_x", "5", "--patch_y", "5", "--bfactor", "150"]
    command += ["--dose_weighting", "--save_noDW", "--gainref", "gain.mrc"]
    command += ["--dose_per_frame", f"{recipe.frame_dose_e_per_angst2:.6f}"]
    usage = _run([*command, "--j", str(threads)], folder)
    stems = [folder / "corrected" / movie.stem for movie in batch.movies]
    return usage, [
        Corrected(
            plain=stem.with_name(f"{stem.name}_noDW.mrc"),
            weighted=stem.with_suffix(".mrc"),
            star=stem.with_suffix(".star"),
            is_as_in_first_frame=True,
        )
        for stem in stems
    ]


def _optics(recipe: Recipe) -> OpticsGroup:
    setup = AcquisitionSetup(
        name="opticsGroup1",
        pixel_size_angst=recipe.pixel_size_angst,
        voltage_kv=recipe.microscope.voltage_kv,
        spherical_aberration_mm=recipe.microscope.spherical_aberration_mm,
        amplitude_contrast=recipe.microscope.amplitude_contrast,
    )
    return OpticsGroup(number=1, setup=setup)


def _run(command: Sequence[str], folder: Path) -> Usage:
    told, log = folder / "usage.json", folder / "program.log"
    launch = [sys.executable, "-S", str(_LAUNCH), str(told), str(log)]
    if subprocess.call([*launch, *command], cwd=folder):
        sys.exit(f"{command[0]} failed:\n{log.read_text(errors='replace')[-2000:]}")
    return Usage(**json.loads(told.read_text()))
