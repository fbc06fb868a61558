"""Export a session as STAR files that RELION (3.1 and later) opens as a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain import Coordinates, OpticsGroup, Particles
from icestream.domain.errors import BadSettings
from icestream.io.access import guarding_writes, replacing
from icestream.io.relion import (
    coordinate_columns,
    image_columns,
    image_optics_columns,
    micrograph_columns,
    micrograph_optics_columns,
    optics_columns,
    safe_name,
    seen_resolution_angst,
    seen_y_px,
)
from icestream.io.star import star_head, star_rows, star_table
from icestream.report.project import Project
from icestream.report.reading import read_results
from icestream.streaming.records import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from icestream.domain import Ctf, Micrograph
    from icestream.io.star import StarColumns
    from icestream.report.results import ExposureResult
    from icestream.streaming.plan import Plan
    from icestream.streaming.reader import LedgerReader
    from icestream.streaming.workflow import Port

__all__ = ["Exported", "export_star"]


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
    in ``coordinates/``; ``particles.star`` has one for every optics group, box and
    pixel size. Images are reached through links (see `Project`). Values stand as they
    are, but for TIFF micrographs: RELION flips their rows when it reads them, and so do
    row coordinates and angles here.
    """
    results = read_results(reader, plan)
    project = Project(folder, session_folder=session_folder, plan=plan)
    shots = [_shot(one, project) for one in results.exposures if one.ctf]
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


def _shot(exposure: ExposureResult, project: Project) -> _Shot:
    if exposure.group is None:
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
        group=exposure.group,
    )


def _write_micrographs(
    path: Path, shots: Sequence[_Shot], groups: Sequence[OpticsGroup]
) -> None:
    table = micrograph_columns(
        [one.name for one in shots],
        [one.ctf for one in shots],
        groups=[one.group.number for one in shots],
    )
    optics = star_table("optics", micrograph_optics_columns(groups))
    _write(path, [optics, star_table("micrographs", table)])


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
        table = coordinate_columns(
            one, micrograph=shot.name, height_px=shot.micrograph.height_px
        )
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
        table = optics_columns(self.groups)
        setups = [name for name, _, _ in self.numbers]
        table["rlnOpticsGroupName"] = [
            safe_name(
                name if setups.count(name) == 1 else f"{name}_{box}px_{pixel:.4g}A"
            )
            for name, box, pixel in self.numbers
        ]
        boxes_px = [box for _, box, _ in self.numbers]
        pixels_angst = [pixel for _, _, pixel in self.numbers]
        return (
            table
            | image_optics_columns(boxes_px, pixels_angst)
            | {"rlnCtfDataAreCtfPremultiplied": [0] * len(self.numbers)}
        )


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
    y_px = seen_y_px(
        block.y_px, micrograph=shot.name, height_px=shot.micrograph.height_px
    )
    number = optics.number(shot, block)
    images = image_columns(
        stack, micrograph=shot.name, x_px=block.x_px, y_px=y_px, group=number
    )
    # The stack's rows are those of the micrograph as stored, so its angles stay.
    return images | {
        "rlnDefocusU": block.defocus_u_angst,
        "rlnDefocusV": block.defocus_v_angst,
        "rlnDefocusAngle": block.defocus_angle_deg,
        "rlnPhaseShift": block.phase_shift_deg,
        "rlnAutopickFigureOfMerit": block.score,
        "rlnCtfFigureOfMerit": [shot.ctf.score] * count,
        "rlnCtfMaxResolution": [seen_resolution_angst(shot.ctf)] * count,
    }


def _write(path: Path, pieces: Sequence[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
