"""What RELION (3.1 and later) wants to find in STAR tables: names, rows, angles, units.

RELION turns every TIFF upside down when it reads it, and no other format. Rows and
angles of what was found on a micrograph are turned here likewise; see
``docs/explanation/conventions.md``.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain import Column, Coordinates, Ctf, OpticsGroup
    from icestream.io.star import StarColumns

__all__ = [
    "NO_RINGS_ANGST",
    "coordinate_columns",
    "image_columns",
    "image_optics_columns",
    "is_flipped",
    "micrograph_columns",
    "micrograph_optics_columns",
    "optics_columns",
    "safe_name",
    "seen_angle_deg",
    "seen_resolution_angst",
    "seen_y_px",
]

NO_RINGS_ANGST = 999.0
"""What RELION itself writes where CTFFIND finds no resolution."""


def safe_name(text: str) -> str:
    """Replace what RELION cannot have in a name; letters of any script stay."""
    return re.sub(r"[^\w.+/-]", "_", text).lstrip("_") or "unnamed"


def is_flipped(path: os.PathLike[str] | str) -> bool:
    """Whether RELION reads the file upside down: so it does with every TIFF."""
    return os.fspath(path).lower().endswith((".tif", ".tiff"))


def seen_y_px(
    y_px: Column, *, micrograph: os.PathLike[str] | str, height_px: int
) -> Column:
    """Return rows as RELION counts them in a micrograph.

    Parameters
    ----------
    y_px
        Rows in the order of the file; with RELION's rows it gives back ours.
    micrograph
        Its file name, which tells the format.
    height_px
        Its height.
    """
    return height_px - 1 - y_px if is_flipped(micrograph) else y_px


def seen_resolution_angst(ctf: Ctf) -> float:
    """Return the fit resolution, Å, also where there is none."""
    found = ctf.resolution_angst
    return NO_RINGS_ANGST if found is None else found


def optics_columns(groups: Sequence[OpticsGroup]) -> dict[str, Sequence[Any]]:
    """Return the columns that every table of optics groups has."""
    setups = [one.setup for one in groups]
    return {
        "rlnOpticsGroupName": [safe_name(one.name) for one in groups],
        "rlnOpticsGroup": [one.number for one in groups],
        "rlnMicrographOriginalPixelSize": [one.pixel_size_angst for one in setups],
        "rlnVoltage": [one.voltage_kv for one in setups],
        "rlnSphericalAberration": [one.spherical_aberration_mm for one in setups],
        "rlnAmplitudeContrast": [one.amplitude_contrast for one in setups],
    }


def micrograph_optics_columns(groups: Sequence[OpticsGroup]) -> StarColumns:
    """Return the optics groups of micrographs."""
    pixels = [one.setup.pixel_size_angst for one in groups]
    return optics_columns(groups) | {"rlnMicrographPixelSize": pixels}


def micrograph_columns(
    names: Sequence[str], ctfs: Sequence[Ctf], *, groups: Sequence[int]
) -> StarColumns:
    """Return micrographs with their CTF.

    Parameters
    ----------
    names
        File names as RELION shall open them.
    ctfs
        Of each, as it lies in the file: the angle is turned here.
    groups
        Number of each one's optics group.
    """
    return {
        "rlnMicrographName": names,
        "rlnOpticsGroup": groups,
        "rlnDefocusU": [one.defocus_u_angst for one in ctfs],
        "rlnDefocusV": [one.defocus_v_angst for one in ctfs],
        "rlnDefocusAngle": [
            seen_angle_deg(ctf.defocus_angle_deg, micrograph=name)
            for name, ctf in zip(names, ctfs, strict=True)
        ],
        "rlnPhaseShift": [one.phase_shift_deg for one in ctfs],
        "rlnCtfFigureOfMerit": [one.score for one in ctfs],
        "rlnCtfMaxResolution": [seen_resolution_angst(one) for one in ctfs],
    }


def coordinate_columns(
    found: Coordinates, *, micrograph: os.PathLike[str] | str, height_px: int
) -> StarColumns:
    """Return the picks of one micrograph; rows are turned here."""
    return {
        "rlnCoordinateX": found.x_px,
        "rlnCoordinateY": seen_y_px(
            found.y_px, micrograph=micrograph, height_px=height_px
        ),
        "rlnAutopickFigureOfMerit": found.score,
    }


def image_optics_columns(
    box_px: Sequence[int], pixel_size_angst: Sequence[float]
) -> dict[str, Sequence[Any]]:
    """Return the columns that optics groups of extracted images have besides."""
    return {
        "rlnImagePixelSize": pixel_size_angst,
        "rlnImageSize": box_px,
        "rlnImageDimensionality": [2] * len(box_px),
    }


def image_columns(
    stack: str, *, micrograph: str, x_px: Column, y_px: Column, group: int
) -> dict[str, Any]:
    """Return the extracted images of one stack.

    Parameters
    ----------
    stack, micrograph
        File names as RELION shall open them.
    x_px, y_px
        Where each image was in the micrograph, as RELION counts rows.
    group
        Number of their optics group.
    """
    count = len(x_px)
    return {
        "rlnCoordinateX": x_px,
        "rlnCoordinateY": y_px,
        "rlnImageName": [f"{number:06d}@{stack}" for number in range(1, count + 1)],
        "rlnMicrographName": [micrograph] * count,
        "rlnOpticsGroup": [group] * count,
    }


def seen_angle_deg(angle_deg: float, *, micrograph: str) -> float:
    """Return the angle of U from +x as RELION sees the micrograph."""
    return (180.0 - angle_deg) % 180.0 if is_flipped(micrograph) else angle_deg
