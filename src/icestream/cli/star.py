"""STAR files of the steps that run alone on files, as RELION reads them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from icestream.io import write_star

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.domain import AcquisitionSetup, Coordinates, Ctf
    from icestream.io.star import StarColumns

__all__ = [
    "is_flipped",
    "write_coordinates_star",
    "write_ctf_star",
    "write_particles_star",
]

_NO_RINGS_ANGST = 999.0
"""What RELION itself writes where CTFFIND finds no resolution."""


def is_flipped(path: Path | str) -> bool:
    """Whether RELION reads the file upside down: so it does with every TIFF."""
    return os.fspath(path).lower().endswith((".tif", ".tiff"))


def _optics_columns(setup: AcquisitionSetup) -> dict[str, list[Any]]:
    """Return the columns of one optics group."""
    return {
        "rlnOpticsGroupName": [setup.name],
        "rlnOpticsGroup": [1],
        "rlnMicrographOriginalPixelSize": [setup.pixel_size_angst],
        "rlnVoltage": [setup.voltage_kv],
        "rlnSphericalAberration": [setup.spherical_aberration_mm],
        "rlnAmplitudeContrast": [setup.amplitude_contrast],
    }


def write_ctf_star(
    path: Path, fits: Mapping[str, Ctf], setup: AcquisitionSetup
) -> None:
    """Write micrographs with their CTF, by file name."""
    table: StarColumns = {
        "rlnMicrographName": list(fits),
        "rlnOpticsGroup": [1] * len(fits),
        "rlnDefocusU": [one.defocus_u_angst for one in fits.values()],
        "rlnDefocusV": [one.defocus_v_angst for one in fits.values()],
        "rlnDefocusAngle": [
            (180 - one.defocus_angle_deg) % 180
            if is_flipped(name)
            else one.defocus_angle_deg
            for name, one in fits.items()
        ],
        "rlnPhaseShift": [one.phase_shift_deg for one in fits.values()],
        "rlnCtfFigureOfMerit": [one.score for one in fits.values()],
        "rlnCtfMaxResolution": [
            _NO_RINGS_ANGST if one.resolution_angst is None else one.resolution_angst
            for one in fits.values()
        ],
    }
    optics = _optics_columns(setup) | {
        "rlnMicrographPixelSize": [setup.pixel_size_angst]
    }
    write_star(path, {"optics": optics, "micrographs": table})


def write_coordinates_star(
    path: Path, found: Coordinates, *, micrograph: Path, height_px: int
) -> None:
    """Write the picks of one micrograph."""
    flipped = is_flipped(micrograph)
    table: StarColumns = {
        "rlnCoordinateX": found.x_px,
        "rlnCoordinateY": height_px - 1 - found.y_px if flipped else found.y_px,
        "rlnAutopickFigureOfMerit": found.score,
    }
    write_star(path, {"": table})


def write_particles_star(
    path: Path,
    stacks: Sequence[tuple[str, str, Sequence[float], Sequence[float]]],
    *,
    box_px: int,
    pixel_size_angst: tuple[float, float],
) -> None:
    """Write particles: of each stack its name, its micrograph, x and y.

    Parameters
    ----------
    path
        The file; names of stacks are relative to its folder.
    stacks
        One for each micrograph.
    box_px
        Side of the stored images.
    pixel_size_angst
        Of the micrographs, and of the stored images.
    """
    optics: StarColumns = {
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": [1],
        "rlnMicrographOriginalPixelSize": [pixel_size_angst[0]],
        "rlnImagePixelSize": [pixel_size_angst[1]],
        "rlnImageSize": [box_px],
        "rlnImageDimensionality": [2],
    }
    rows = [
        (float(x), float(y), f"{number:06d}@{stack}", micrograph, 1)
        for stack, micrograph, x_px, y_px in stacks
        for number, (x, y) in enumerate(zip(x_px, y_px, strict=True), start=1)
    ]
    names = ("CoordinateX", "CoordinateY", "ImageName", "MicrographName", "OpticsGroup")
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    table = {f"rln{n}": list(one) for n, one in zip(names, columns, strict=True)}
    write_star(path, {"optics": optics, "particles": table})
