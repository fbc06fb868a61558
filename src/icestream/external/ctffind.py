"""CTFFIND, versions 4.1 and 5: its dialogue, and what it writes."""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.domain import Ctf
from icestream.domain.errors import BadSettings, CtfNotFound, ProgramFailed
from icestream.domain.units import within_half_turn_deg
from icestream.external.process import ProgramRun, find_program, run_program
from icestream.io import guarding_writes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CtffindFit",
    "CtffindImage",
    "CtffindOptions",
    "ctffind_version",
    "estimate_ctf_with_ctffind",
    "read_ctffind",
]

_HINT = (
    "Install CTFFIND 4.1 or 5 where icestream runs and name it with `program`, or "
    "choose icestream's own estimation."
)
_VERSION_S = 60.0
_TILT_SINCE, _THICKNESS_SINCE = (4, 1, 15), (5, 0, 0)
_COLUMNS = 7
_MOST_RESOLUTION_ANGST = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CtffindImage:
    """What it shall look at, and how that was taken.

    Parameters
    ----------
    path
        An MRC file of mode 2: an image, or a centred amplitude spectrum.
    is_spectrum
        Which of them.
    pixel_size_angst, voltage_kv, spherical_aberration_mm, amplitude_contrast
        Å/px of that file, kV, mm, and a fraction.
    """

    path: Path
    is_spectrum: bool
    pixel_size_angst: float
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CtffindOptions:
    """How it shall search.

    Parameters
    ----------
    box_px
        Side of the amplitude spectrum, px.
    low_resolution_angst, high_resolution_angst
        Limits of the fit, Å.
    defocus_min_angst, defocus_max_angst, defocus_step_angst
        Of its search, Å.
    fits_phase
        Whether it searches a phase shift, 0 to 180 degrees.
    program
        Name on the PATH, or path.
    timeout_s
        Longest time for an image.
    """

    box_px: int = 512
    low_resolution_angst: float = 30.0
    high_resolution_angst: float = 5.0
    defocus_min_angst: float = 3000.0
    defocus_max_angst: float = 50000.0
    defocus_step_angst: float = 100.0
    fits_phase: bool = False
    program: str = "ctffind"
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CtffindFit:
    """What it found, with its version and its run."""

    ctf: Ctf
    version: str
    run: ProgramRun


def ctffind_version(program: str) -> str:
    """Return the version of the CTFFIND that is installed, e.g. ``5.0.2``.

    Raises
    ------
    BadSettings
        There is none, or it does not tell.
    """
    path = find_program(program, hint=_HINT)
    try:
        # It greets with its version before it asks, and ends when nobody answers.
        told = subprocess.run(
            [path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_S,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadSettings(f"{path} does not run: {error}.", hint=_HINT) from error
    found = re.search(r"Version\s*:\s*(\d+\.\d+[\w.-]*)", told)
    if found is None or not "4.1" <= found[1] < "6":
        raise BadSettings(
            f"{path} is no CTFFIND 4.1 or 5; it says {told.strip()[:200]!r}.",
            hint=_HINT,
        )
    return found[1]


def estimate_ctf_with_ctffind(
    image: CtffindImage, folder: Path, *, options: CtffindOptions
) -> CtffindFit:
    """Let CTFFIND fit the contrast transfer function of an image.

    Parameters
    ----------
    image
        Its file and optics.
    folder
        An empty folder for its files.
    options
        How to search.

    Raises
    ------
    BadSettings
        It is not installed.
    ProgramFailed
        It failed, took too long, or wrote no table.
    CtfNotFound
        Its fit is no number.

    Notes
    -----
    Rohou & Grigorieff, J. Struct. Biol. 192 (2015); Elferich et al., eLife 13 (2024).
    A question that it has not asked before makes it read the wrong answers and fail.
    """
    version = ctffind_version(options.program)
    diagnostic = folder / "diagnostic.mrc"
    answers = folder / "answers.txt"
    with guarding_writes(answers):
        lines = _answers(image, diagnostic, options, version=version)
        answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [find_program(options.program, hint=_HINT)]
    if image.is_spectrum:
        command.append("--amplitude-spectrum-input")
    run = run_program(
        command,
        folder=folder,
        log=folder / "ctffind.log",
        timeout_s=options.timeout_s,
        answers=answers,
    )
    table = diagnostic.with_suffix(".txt")
    if not table.is_file():
        raise ProgramFailed(
            "CTFFIND ended well, but wrote no table of its fit.",
            hint=f"Its output is in {run.log}; the command was: {run.command}",
        )
    return CtffindFit(
        ctf=read_ctffind(table.read_text(encoding="utf-8", errors="replace")),
        version=version,
        run=run,
    )


def _answers(
    image: CtffindImage, diagnostic: Path, options: CtffindOptions, *, version: str
) -> list[str]:
    """Answer its questions in the order in which this version asks them."""
    numbers = (
        image.pixel_size_angst,
        image.voltage_kv,
        image.spherical_aberration_mm,
        image.amplitude_contrast,
        options.box_px,
        options.low_resolution_angst,
        options.high_resolution_angst,
        options.defocus_min_angst,
        options.defocus_max_angst,
        options.defocus_step_angst,
    )
    is_known, is_exhaustive, is_restrained = "no", "yes", "no"
    lines = [str(image.path), str(diagnostic), *(f"{one:.10g}" for one in numbers)]
    lines += [is_known, is_exhaustive, is_restrained]
    number = _number(version)
    if options.fits_phase:
        lines += ["yes", "0", f"{math.pi:.6f}", "0.2"]
    else:
        lines.append("no")
        if number >= _TILT_SINCE:
            lines.append("no")
    if number >= _THICKNESS_SINCE:
        lines.append("no")
    expert = "no"
    return [*lines, expert]


def _number(version: str) -> tuple[int, ...]:
    parts = [int(one) for one in re.findall(r"\d+", version)[:3]]
    return tuple(parts + [0] * (3 - len(parts)))


def read_ctffind(text: str) -> Ctf:
    """Read the table that it writes for one image.

    Parameters
    ----------
    text
        Comments, and one row: number, defocus U, V, Å, azimuth, degrees, phase shift,
        rad, score, resolution of the fit, Å; newer versions add more.

    Raises
    ------
    ProgramFailed
        There is no such row.
    CtfNotFound
        Defocus or score is no number.
    """
    rows = [one.split() for one in text.splitlines() if one.strip()]
    rows = [one for one in rows if not one[0].startswith("#")]
    try:
        values = [float(one) for one in rows[-1]]
        u, v, angle, phase, score, resolution = values[1:_COLUMNS]
    except (IndexError, ValueError) as error:
        raise ProgramFailed(
            f"The table of CTFFIND holds no fit: {text[-200:]!r}.",
            hint="Is it CTFFIND 4.1 or 5?",
        ) from error
    if not all(map(math.isfinite, (u, v, angle, phase, score))):
        raise CtfNotFound(
            "CTFFIND's fit is no number.", hint="Look at the image: is it empty?"
        )
    if u < v:
        u, v, angle = v, u, angle + 90.0
    has_rings = 0 < resolution < _MOST_RESOLUTION_ANGST
    return Ctf(
        defocus_u_angst=u,
        defocus_v_angst=v,
        defocus_angle_deg=within_half_turn_deg(angle),
        phase_shift_deg=within_half_turn_deg(math.degrees(phase)),
        score=score,
        resolution_angst=resolution if has_rings else None,
    )
