"""STAR files of the steps that run alone on files, as RELION reads them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from icestream.io import replacing
from icestream.report.star_text import star_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from icestream.domain import AcquisitionSetup, Coordinates, Ctf
    from icestream.report.star_text import StarColumns

__all__ = ["is_flipped", "optics_block", "write_coordinates_star", "write_ctf_star"]

_NO_RINGS_ANGST = 999.0
"""What RELION itself writes where CTFFIND finds no resolution."""


def is_flipped(path: Path | str) -> bool:
    """Whether RELION reads the file upside down: so it does with every TIFF."""
    return os.fspath(path).lower().endswith((".tif", ".tiff"))


def optics_block(setup: AcquisitionSetup) -> dict[str, list[Any]]:
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
    optics = optics_block(setup) | {"rlnMicrographPixelSize": [setup.pixel_size_angst]}
    _write(path, star_table("optics", optics), star_table("micrographs", table))


def write_coordinates_star(
    path: Path, found: Coordinates, *, micrograph: Path, height_px: int
) -> None:
    """Write the picks of one micrograph."""
    flipped = is_flipped(micrograph)
    table = {
        "rlnCoordinateX": found.x_px,
        "rlnCoordinateY": height_px - 1 - found.y_px if flipped else found.y_px,
        "rlnAutopickFigureOfMerit": found.score,
    }
    _write(path, star_table("", table))


def _write(path: Path, *pieces: str) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
