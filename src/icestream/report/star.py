"""Export a session as STAR files that RELION (3.1 and later) opens as a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain import Coordinates, OpticsGroup, Particles
from icestream.domain.errors import BadSettings
from icestream.io.access import guarding_writes, replacing
from icestream.io.star import star_head, star_rows, star_table
from icestream.report.project import Project, safe_name
from icestream.report.reading import read_results
from icestream.streaming.records import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from icestream.domain import Column, Ctf, Micrograph
    from icestream.io.star import StarColumns
    from icestream.report.results import ExposureResult
    from icestream.streaming.plan import Plan
    from icestream.streaming.reader import LedgerReader
    from icestream.streaming.workflow import Port

__all__ = ["Exported", "export_star"]

_NO_RINGS_ANGST = 999.0
"""What RELION itself writes where CTFFIND finds no resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """How many of each were written."""

    accepted_count: int
    rejected_count: int
    coordinate_file_count: int
    particle_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shot:
    """An exposure with a CTF, as the tables need it."""

    exposure: ExposureResult
    micrograph: Micrograph
    ctf: Ctf
    name: str
    group: OpticsGroup

    @property
    def is_flipped(self) -> bool:
        """Whether RELION turns the file upside down: so it does with every TIFF."""
        return self.micrograph.path.lower().endswith((".tif", ".tiff"))

    @property
    def angle_deg(self) -> float:
        """Angle of U from +x as RELION sees the micrograph."""
        angle = self.ctf.defocus_angle_deg
        return (180.0 - angle) % 180.0 if self.is_flipped else angle

    @property
    def resolution_angst(self) -> float:
        """Fit resolution."""
        found = self.ctf.resolution_angst
        return _NO_RINGS_ANGST if found is None else found

    def y_px(self, y_px: Column) -> Column:
        """Rows as RELION counts them."""
        return self.micrograph.height_px - 1 - y_px if self.is_flipped else y_px


def export_star(
    reader: LedgerReader, plan: Plan, *, session_folder: Path, folder: Path
) -> Exported:
    """Write a session's results so that RELION, started in ``folder``, opens them.

    Parameters
    ----------
    reader
        A fresh reader of the session's ledger.
    plan
        The session's runs.
    session_folder
        Where the products lie.
    folder
        Where to export; made if need be, and safe to export into again.

    Returns
    -------
    Exported
        How many micrographs, coordinate files and particles were written.

    Raises
    ------
    BadSettings
        An exposure's voltage or pixel size is not known.
    DiskFull, FolderUnavailable
        A file or link could not be written.

    Notes
    -----
    ``micrographs_ctf.star`` holds the accepted exposures, ``..._rejected.star`` the
    others that have a CTF; ``coordinates.star`` names the accepted ones' files of picks
    in ``coordinates/``; ``particles.star`` has an optics group for every setup, box and
    pixel size. Images are reached through links (see `Project`). Values stand as they
    are, but for TIFF micrographs: RELION flips their rows when it reads them, and so do
    row coordinates and angles here.
    """
    results = read_results(reader, plan)
    project = Project(folder, session_folder=session_folder, plan=plan)
    groups = {one.name: one for one in results.groups}
    shots = [_shot(one, project, groups) for one in results.exposures if one.ctf]
    accepted = [one for one in shots if one.exposure.accepted is not False]
    rejected = [one for one in shots if one.exposure.accepted is False]
    _write_micrographs(folder / "micrographs_ctf.star", accepted, results.groups)
    _write_micrographs(
        folder / "micrographs_ctf_rejected.star", rejected, results.groups
    )
    by_key = {one.exposure.key: one for one in accepted}
    picks = _items(reader, plan, results.roles.coordinates)
    files = _write_coordinates(folder, by_key, picks)
    particles = _items(reader, plan, results.roles.particles)
    count = _write_particles(
        folder / "particles.star", by_key, particles, project=project
    )
    return Exported(
        accepted_count=len(accepted),
        rejected_count=len(rejected),
        coordinate_file_count=files,
        particle_count=count,
    )


def _items(
    reader: LedgerReader, plan: Plan, port: Port | None
) -> Iterable[tuple[str, Any]]:
    """Yield what stands on an output by key; decoded one by one to save memory."""
    if port is None:
        return
    kind = plan.workflow.kind(port)
    for key, record in reader.records(port.run, port.output).items():
        yield key, decode(record, kind)


def _shot(
    exposure: ExposureResult, project: Project, groups: Mapping[str, OpticsGroup]
) -> _Shot:
    if exposure.setup not in groups:
        raise BadSettings(
            f"The voltage or the pixel size of {exposure.key} is not known.",
            hint="Give its source a setup with both, then start the session again.",
        )
    if exposure.micrograph is None or exposure.ctf is None:
        raise BadSettings(f"{exposure.key} has a CTF but no micrograph.")
    return _Shot(
        exposure=exposure,
        micrograph=exposure.micrograph,
        ctf=exposure.ctf,
        name=project.name_of(exposure.micrograph.path, key=exposure.key),
        group=groups[exposure.setup],
    )


def _write_micrographs(
    path: Path, shots: Sequence[_Shot], groups: Sequence[OpticsGroup]
) -> None:
    pixels = [one.setup.pixel_size_angst for one in groups]
    optics = _optics(groups) | {"rlnMicrographPixelSize": pixels}
    table: StarColumns = {
        "rlnMicrographName": [one.name for one in shots],
        "rlnOpticsGroup": [one.group.number for one in shots],
        "rlnDefocusU": [one.ctf.defocus_u_angst for one in shots],
        "rlnDefocusV": [one.ctf.defocus_v_angst for one in shots],
        "rlnDefocusAngle": [one.angle_deg for one in shots],
        "rlnPhaseShift": [one.ctf.phase_shift_deg for one in shots],
        "rlnCtfFigureOfMerit": [one.ctf.score for one in shots],
        "rlnCtfMaxResolution": [one.resolution_angst for one in shots],
    }
    _write(path, [star_table("optics", optics), star_table("micrographs", table)])


def _optics(groups: Sequence[OpticsGroup]) -> dict[str, Sequence[Any]]:
    setups = [one.setup for one in groups]
    return {
        "rlnOpticsGroupName": [safe_name(one.name) for one in groups],
        "rlnOpticsGroup": [one.number for one in groups],
        "rlnMicrographOriginalPixelSize": [one.pixel_size_angst for one in setups],
        "rlnVoltage": [one.voltage_kv for one in setups],
        "rlnSphericalAberration": [one.spherical_aberration_mm for one in setups],
        "rlnAmplitudeContrast": [one.amplitude_contrast for one in setups],
    }


def _write_coordinates(
    folder: Path, shots: Mapping[str, _Shot], picks: Iterable[tuple[str, Coordinates]]
) -> int:
    names: list[str] = []
    files: list[str] = []
    for key, one in picks:
        if key not in shots or not len(one):
            continue
        shot = shots[key]
        name = f"coordinates/{safe_name(key)}.star"
        path = folder / name
        with guarding_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "rlnCoordinateX": one.x_px,
            "rlnCoordinateY": shot.y_px(one.y_px),
            "rlnAutopickFigureOfMerit": one.score,
        }
        _write(path, [star_table("", table)])
        names.append(shot.name)
        files.append(name)
    listed: StarColumns = {
        "rlnMicrographName": names,
        "rlnMicrographCoordinates": files,
    }
    _write(folder / "coordinates.star", [star_table("coordinate_files", listed)])
    return len(files)


@dataclass(slots=True)
class _ParticleOptics:
    """Optics groups of particles, numbered as they are met."""

    numbers: dict[tuple[str, int, float], int]
    groups: list[OpticsGroup]

    def number(self, shot: _Shot, block: Particles) -> int:
        """Return the number of a block's group."""
        identity = (shot.group.name, block.box_px, block.pixel_size_angst)
        if identity not in self.numbers:
            number = len(self.numbers) + 1
            self.numbers[identity] = number
            self.groups.append(OpticsGroup(number=number, setup=shot.group.setup))
        return self.numbers[identity]

    def table(self) -> StarColumns:
        """Return the block of optics groups."""
        table = _optics(self.groups)
        setups = [name for name, _, _ in self.numbers]
        table["rlnOpticsGroupName"] = [
            safe_name(
                name if setups.count(name) == 1 else f"{name}_{box}px_{pixel:.4g}A"
            )
            for name, box, pixel in self.numbers
        ]
        return table | {
            "rlnImagePixelSize": [pixel for _, _, pixel in self.numbers],
            "rlnImageSize": [box for _, box, _ in self.numbers],
            "rlnImageDimensionality": [2] * len(self.numbers),
            "rlnCtfDataAreCtfPremultiplied": [0] * len(self.numbers),
        }


def _write_particles(
    path: Path,
    shots: Mapping[str, _Shot],
    particles: Iterable[tuple[str, Particles]],
    *,
    project: Project,
) -> int:
    optics = _ParticleOptics({}, [])
    pieces: list[str] = []
    count = 0
    for key, block in particles:
        if key not in shots or block.path is None or not len(block):
            continue
        stack = project.name_of(block.path, key=key)
        table = _particle_rows(shots[key], block, stack=stack, optics=optics)
        if not pieces:
            pieces.append(star_head("particles", table))
        pieces.append(star_rows(table))
        count += len(block)
    if not pieces:
        pieces.append(star_head("particles", ("rlnImageName", "rlnOpticsGroup")))
    _write(path, [star_table("optics", optics.table()), *pieces, "\n"])
    return count


def _particle_rows(
    shot: _Shot, block: Particles, *, stack: str, optics: _ParticleOptics
) -> StarColumns:
    count = len(block)
    # The stack's rows are those of the micrograph as stored, so its angles stay.
    return {
        "rlnCoordinateX": block.x_px,
        "rlnCoordinateY": shot.y_px(block.y_px),
        "rlnImageName": [f"{number:06d}@{stack}" for number in range(1, count + 1)],
        "rlnMicrographName": [shot.name] * count,
        "rlnOpticsGroup": [optics.number(shot, block)] * count,
        "rlnDefocusU": block.defocus_u_angst,
        "rlnDefocusV": block.defocus_v_angst,
        "rlnDefocusAngle": block.defocus_angle_deg,
        "rlnPhaseShift": block.phase_shift_deg,
        "rlnAutopickFigureOfMerit": block.score,
        "rlnCtfFigureOfMerit": [shot.ctf.score] * count,
        "rlnCtfMaxResolution": [shot.resolution_angst] * count,
    }


def _write(path: Path, pieces: Sequence[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
