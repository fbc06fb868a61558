"""RELION's own motion correction, ``relion_run_motioncorr --use_own``."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import starfile

from icestream.domain import OpticsGroup
from icestream.domain.errors import (
    BadSettings,
    IncompleteFile,
    InternalError,
    ProgramFailed,
)
from icestream.external.process import ProgramRun, find_program, run_program
from icestream.io import guarding_writes, reading, write_star
from icestream.io.relion import micrograph_optics_columns
from icestream.io.relion_motion import RelionMotion, read_relion_motion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from icestream.domain import AcquisitionSetup

__all__ = [
    "RelionCorrection",
    "RelionMovie",
    "RelionOptions",
    "correct_motion_with_relion",
    "relion_version",
]

_PROGRAM = "relion_run_motioncorr"
_HINT = (
    "Install RELION 3.1 or later (Debian: apt install relion) or load its module where "
    "icestream runs, or choose icestream's own motion correction."
)
_VERSION_S = 60.0
_PARTS = ("Total", "Early", "Late")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelionMovie:
    """A movie, and what is known of it.

    Parameters
    ----------
    path
        TIFF, MRC or EER.
    frame_count
        Frames (EER: groups of raw frames) that it must have. RELION itself takes what
        it finds, also where a file is cut short.
    setup
        Optics, and the pixel size of the movie as stored.
    dose_e_per_angst2
        Of each frame (EER: of each group), e/Å2; ``None`` where not known: then the
        image is not dose-weighted.
    pre_exposure_e_per_angst2
        Before the first frame, e/Å2.
    gain
        The gain reference; rows and values as RELION wants them for this kind of movie.
    eer_grouping
        Raw frames in a group; EER only.

    Raises
    ------
    BadSettings
        An EER movie without grouping, or a dose or number of frames that cannot be.
    """

    path: Path
    frame_count: int
    setup: AcquisitionSetup
    dose_e_per_angst2: float | None = None
    pre_exposure_e_per_angst2: float = 0.0
    gain: Path | None = None
    eer_grouping: int | None = None

    def __post_init__(self) -> None:
        if self.path.suffix.lower() == ".eer" and not self.eer_grouping:
            raise BadSettings(
                f"{self.path}: it is not said how many raw frames make a frame.",
                hint="Give the grouping of EER frames, at least 1.",
            )
        dose, before = self.dose_e_per_angst2, self.pre_exposure_e_per_angst2
        if self.frame_count < 2 or before < 0 or (dose is not None and not dose > 0):
            raise BadSettings(
                f"{self.path}: {self.frame_count} frames of {dose} e/Å2 after {before} "
                "e/Å2 cannot be corrected.",
                hint="Give 2 frames at least, and a dose above 0 or none.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelionOptions:
    """How RELION shall work.

    Parameters
    ----------
    patch_count
        Patches along y and x; fewer than 3 along either: no local motion.
    b_factor_px2
        B factor of the correlation, px2.
    binning
        Pixel size of the image over that of the movie.
    keeps_unweighted
        Whether the image without dose weighting is written too.
    threads
        Threads.
    timeout_s
        Longest time for a movie.
    """

    patch_count: tuple[int, int] = (5, 5)
    b_factor_px2: float = 150.0
    binning: float = 1.0
    keeps_unweighted: bool = False
    threads: int = 1
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelionCorrection:
    """What RELION made of a movie.

    Parameters
    ----------
    image
        The corrected image, MRC float32, dose-weighted where the dose is known; rows in
        RELION's order, upside down against a TIFF movie.
    unweighted_image
        The same without dose weighting, where it was asked for besides.
    motion
        How the content moved, against this image: RELION's is the first frame. Places
        and hot pixels have its rows.
    total_angst, early_angst, late_angst
        Length of the way of the whole frame, Å: all, up to 4 e/Å2, and after; ``None``
        where the dose is not known.
    version
        Of RELION.
    run
        The command, its time and its log.
    """

    image: Path
    unweighted_image: Path | None
    motion: RelionMotion
    total_angst: float
    early_angst: float | None
    late_angst: float | None
    version: str
    run: ProgramRun


def relion_version() -> str:
    """Return the version of the RELION that is installed, e.g. ``3.1.3``.

    Raises
    ------
    BadSettings
        There is none, or it does not tell.
    """
    program = find_program(_PROGRAM, hint=_HINT)
    try:
        told = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_S,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadSettings(f"{program} does not run: {error}.", hint=_HINT) from error
    found = re.search(r"RELION version:\s*(\S+)", told)
    if found is None:
        raise BadSettings(
            f"{program} --version tells no version of RELION, but {told[:200]!r}.",
            hint=_HINT,
        )
    return found[1]


def correct_motion_with_relion(
    movie: RelionMovie, folder: Path, *, options: RelionOptions
) -> RelionCorrection:
    """Correct the motion of a movie by RELION's own algorithm.

    Parameters
    ----------
    movie
        The movie; it is linked, never written.
    folder
        To be made; holds all that RELION reads and writes, and ``relion.log``.
    options
        How.

    Returns
    -------
    RelionCorrection
        Images, motion in our conventions, and what was run.

    Raises
    ------
    BadSettings
        RELION is not installed.
    ProgramFailed
        It broke off, took too long or wrote nothing.
    UnreadableFile
        Movie or gain cannot be read; as `IncompleteFile` where the movie has fewer
        frames than it must have.
    DiskFull, FolderUnavailable
        The folder could not be written.

    Notes
    -----
    Zivanov, Nakane & Scheres, IUCrJ 6 (2019), for the algorithm.
    """
    version = relion_version()
    arguments = _prepare(movie, folder, options)
    run = run_program(
        [find_program(_PROGRAM, hint=_HINT), *arguments],
        folder=folder,
        log=folder / "relion.log",
        timeout_s=options.timeout_s,
    )
    output = folder / "corrected"
    names = ("movie.mrc", "movie.star", "corrected_micrographs.star")
    if absent := [name for name in names if not (output / name).is_file()]:
        raise ProgramFailed(
            f"{_PROGRAM} ended well, but wrote no {' and no '.join(absent)}.",
            hint=f"Its output is in {run.log}; the command was: {run.command}",
        )
    motion = _read_motion(movie, output / "movie.star")
    total, early, late = (
        pixels * movie.setup.pixel_size_angst
        for pixels in _way_px(output / "corrected_micrographs.star")
    )
    is_weighted = movie.dose_e_per_angst2 is not None
    unweighted = output / "movie_noDW.mrc"
    return RelionCorrection(
        image=output / "movie.mrc",
        unweighted_image=unweighted if unweighted.is_file() else None,
        motion=motion,
        total_angst=total,
        early_angst=early if is_weighted else None,
        late_angst=late if is_weighted else None,
        version=version,
        run=run,
    )


def _prepare(movie: RelionMovie, folder: Path, options: RelionOptions) -> list[str]:
    """Fill the folder with what RELION reads; return its arguments."""
    if folder.exists():
        raise InternalError(f"{folder} exists: RELION's results would mix with others.")
    link = _link_name("movie", movie.path)
    links = {link: movie.path}
    if movie.gain is not None:
        links[_link_name("gain", movie.gain)] = movie.gain
    for path in links.values():
        with reading(path):
            pass
    with guarding_writes(folder):
        folder.mkdir(parents=True)
        for name, path in links.items():
            (folder / name).symlink_to(path.absolute())
    group = OpticsGroup(number=1, setup=movie.setup)
    write_star(
        folder / "movies.star",
        {
            "optics": micrograph_optics_columns([group]),
            "movies": {"rlnMicrographMovieName": [link], "rlnOpticsGroup": [1]},
        },
    )
    return _arguments(movie, options)


def _arguments(movie: RelionMovie, options: RelionOptions) -> list[str]:
    rows, columns = options.patch_count
    values: dict[str, object] = {
        "i": "movies.star",
        "o": "corrected/",
        "j": options.threads,
        "patch_x": columns,
        "patch_y": rows,
        "bfactor": options.b_factor_px2,
        "bin_factor": options.binning,
    }
    if movie.gain is not None:
        values["gainref"] = _link_name("gain", movie.gain)
    if movie.eer_grouping is not None:
        values["eer_grouping"] = movie.eer_grouping
    words = ["--use_own"]
    if movie.dose_e_per_angst2 is not None:
        words.append("--dose_weighting")
        values["dose_per_frame"] = movie.dose_e_per_angst2
        values["preexposure"] = movie.pre_exposure_e_per_angst2
        if options.keeps_unweighted:
            words.append("--save_noDW")
    return words + [
        word for name in values for word in (f"--{name}", f"{values[name]}")
    ]


def _read_motion(movie: RelionMovie, path: Path) -> RelionMotion:
    """Return the motion under the movie's own names; the movie must be whole."""
    motion = read_relion_motion(path)
    if motion.frame_count != movie.frame_count:
        raise IncompleteFile(
            f"RELION found {motion.frame_count} frames in {movie.path}, not "
            f"{movie.frame_count}.",
            hint="Transfer it again; or is it still being written?",
        )
    return replace(
        motion,
        movie=os.fspath(movie.path),
        gain=None if movie.gain is None else os.fspath(movie.gain),
        dose_e_per_angst2=movie.dose_e_per_angst2,
    )


def _way_px(path: Path) -> list[float]:
    """Return the whole way, the early and the late part; RELION gives pixels."""
    blocks: Mapping[str, Any] = starfile.read(path, always_dict=True)
    rows = blocks["micrographs"]
    return [float(rows[f"rlnAccumMotion{one}"].iloc[0]) for one in _PARTS]


def _link_name(stem: str, path: Path) -> str:
    """Return a name without what RELION cannot have in a STAR file."""
    return f"{stem}{path.suffix.lower()}"
