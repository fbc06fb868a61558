"""Tables of contrast transfer functions that others have written."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import starfile

from icestream.domain import Ctf
from icestream.domain.errors import BadSettings
from icestream.domain.units import within_half_turn_deg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["read_ctf_table"]

_NAMES: Mapping[str, Sequence[str]] = {
    "file": ("rlnMicrographName", "micrograph_name", "file"),
    "u": ("rlnDefocusU", "defocus_u_angst"),
    "v": ("rlnDefocusV", "defocus_v_angst"),
    "angle": ("rlnDefocusAngle", "defocus_angle_deg", "angle_deg"),
    "phase": ("rlnPhaseShift", "phase_shift_deg"),
    "score": ("rlnCtfFigureOfMerit", "figure_of_merit", "score"),
    "resolution": (
        "rlnCtfMaxResolution",
        "max_resolution_angst",
        "resolution_angst",
        "fit_resolution_angst",
    ),
}
"""What a column may be called: RELION's name, or ours."""

_NEEDED = ("file", "u", "v", "angle")
_NO_RINGS_ANGST = 900.0
_NOT_A_TABLE = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError)


def read_ctf_table(path: Path) -> dict[str, list[tuple[str, Ctf]]]:
    """Read the contrast transfer functions of micrographs.

    Parameters
    ----------
    path
        A RELION STAR file, or a CSV file with a head line.

    Returns
    -------
    dict
        File names as they stand there, with their values, by the name without folders
        and ending. Angles are those of the image as that program reads it.

    Raises
    ------
    BadSettings
        It cannot be read, or lacks a column that is needed.
    """
    table = _read(path)
    columns = {
        field: next((name for name in names if name in table.columns), None)
        for field, names in _NAMES.items()
    }
    if lacking := [field for field in _NEEDED if columns[field] is None]:
        wanted = " or ".join(_NAMES[lacking[0]])
        raise BadSettings(
            f"{path} has no column {wanted}.",
            hint="A table of micrographs with their CTF is needed.",
        )
    values = {
        field: table[name].tolist() if name else [None] * len(table)
        for field, name in columns.items()
    }
    found: dict[str, list[tuple[str, Ctf]]] = {}
    for row in range(len(table)):
        name = str(values["file"][row])
        ctf = _ctf({field: some[row] for field, some in values.items()}, name, path)
        found.setdefault(PurePosixPath(name).stem, []).append((name, ctf))
    return found


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path)
        blocks: Mapping[str, Any] = starfile.read(path, always_dict=True)
    except _NOT_A_TABLE as error:
        raise BadSettings(
            f"{path} cannot be read as a table: {error}.",
            hint="Give a RELION STAR file or a CSV file.",
        ) from error
    for block in blocks.values():
        frame = pd.DataFrame([block]) if isinstance(block, dict) else block
        if "rlnDefocusU" in frame.columns:
            return frame
    raise BadSettings(
        f"{path} has no table with rlnDefocusU.",
        hint="Give the table of micrographs that a CTF job has written.",
    )


def _ctf(row: Mapping[str, Any], name: str, path: Path) -> Ctf:
    """Make a value of one row; what is no number names its file."""
    try:
        u, v, angle = (float(row[field]) for field in ("u", "v", "angle"))
        phase, score, resolution = (
            None if row[field] is None else float(row[field])
            for field in ("phase", "score", "resolution")
        )
    except (TypeError, ValueError) as error:
        raise BadSettings(f"{path}: the row of {name} holds no numbers.") from error
    if not np.isfinite([u, v, angle]).all():
        raise BadSettings(f"{path}: the row of {name} holds no finite defocus.")
    if u < v:
        u, v, angle = v, u, angle + 90.0
    has_rings = resolution is not None and 0 < resolution < _NO_RINGS_ANGST
    return Ctf(
        defocus_u_angst=u,
        defocus_v_angst=v,
        defocus_angle_deg=within_half_turn_deg(angle),
        phase_shift_deg=phase or 0.0,
        score=score if score is not None and math.isfinite(score) else 0.0,
        resolution_angst=resolution if has_rings else None,
    )
