"""STAR files of the steps that run alone on files, as RELION reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain import OpticsGroup
from icestream.io import write_star
from icestream.io.relion import (
    coordinate_columns,
    image_columns,
    image_optics_columns,
    micrograph_columns,
    micrograph_optics_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.domain import AcquisitionSetup, Column, Coordinates, Ctf
    from icestream.io.star import StarColumns

__all__ = [
    "write_coordinates_star",
    "write_ctf_star",
    "write_particles_star",
]


def write_ctf_star(
    path: Path, fits: Mapping[str, Ctf], setup: AcquisitionSetup
) -> None:
    """Write micrographs with their CTF, by file name."""
    group = OpticsGroup(number=1, setup=setup)
    names, ctfs = list(fits), list(fits.values())
    optics = micrograph_optics_columns([group])
    table = micrograph_columns(names, ctfs, groups=[group.number] * len(names))
    write_star(path, {"optics": optics, "micrographs": table})


def write_coordinates_star(
    path: Path, found: Coordinates, *, micrograph: Path, height_px: int
) -> None:
    """Write the picks of one micrograph."""
    table = coordinate_columns(found, micrograph=micrograph, height_px=height_px)
    write_star(path, {"": table})


def write_particles_star(
    path: Path,
    stacks: Sequence[tuple[str, str, Column, Column]],
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
        One for each micrograph; y as RELION counts rows.
    box_px
        Side of the stored images.
    pixel_size_angst
        Of the micrographs, and of the stored images.
    """
    original_angst, stored_angst = pixel_size_angst
    optics: StarColumns = {
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": [1],
        "rlnMicrographOriginalPixelSize": [original_angst],
        **image_optics_columns([box_px], [stored_angst]),
    }
    none = np.empty(0, np.float32)
    columns = _images("", "", none, none)
    for one in stacks:
        for name, column in _images(*one).items():
            columns[name] += column
    write_star(path, {"optics": optics, "particles": columns})


def _images(
    stack: str, micrograph: str, x_px: Column, y_px: Column
) -> dict[str, list[Any]]:
    table = image_columns(stack, micrograph=micrograph, x_px=x_px, y_px=y_px, group=1)
    return {name: np.asarray(column).tolist() for name, column in table.items()}
