"""Reading coordinates that `icestream pick` or RELION has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import starfile
from numpy.typing import NDArray

from icestream.domain.errors import BadSettings, NoParticles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Places", "Positions"]

Positions = tuple[NDArray[np.float32], NDArray[np.float32]]
"""``(n,)`` x and y in pixels."""

_X, _Y, _MICROGRAPH = "rlnCoordinateX", "rlnCoordinateY", "rlnMicrographName"


class Places:
    """Where the particles of some micrographs are.

    Parameters
    ----------
    path
        JSON of `icestream pick --json`; a STAR file of coordinates or particles; or a
        folder with a ``STEM_picks.star`` for each micrograph.

    Raises
    ------
    BadSettings
        It is none of these.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_name: dict[str, Positions] = {}
        self._nameless: Positions | None = None
        if path.suffix == ".json":
            self._by_name = _read_json(path)
        elif not path.is_dir():
            self._by_name, self._nameless = _read_star(path)

    @property
    def is_for_one(self) -> bool:
        """Whether no micrograph is named, so that there can be only one."""
        return self._nameless is not None

    def find(self, micrograph: Path) -> Positions:
        """Return what is known of a micrograph, by its name without folder.

        Raises
        ------
        NoParticles
            Nothing.
        """
        if self._nameless is not None:
            return self._nameless
        if self._path.is_dir():
            star = self._path / f"{micrograph.stem}_picks.star"
            found = _read_star(star)[1] if star.exists() else None
        else:
            found = self._by_name.get(micrograph.name)
        if found is None:
            raise NoParticles(
                f"{self._path} has no coordinates of {micrograph.name}.",
                hint="Pick this micrograph first.",
            )
        return found


def _read_json(path: Path) -> dict[str, Positions]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {
            Path(row["file"]).name: (_column(row["x_px"]), _column(row["y_px"]))
            for row in rows
            if "error" not in row
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, error) from error


def _read_star(path: Path) -> tuple[dict[str, Positions], Positions | None]:
    try:
        blocks: Mapping[str, Any] = starfile.read(path, always_dict=True)
    except (OSError, ValueError, IndexError) as error:
        raise _unreadable(path, error) from error
    table = next((one for one in blocks.values() if _X in one and _Y in one), None)
    if table is None:
        raise _unreadable(path, ValueError(f"it has no column {_X}"))
    if _MICROGRAPH not in table:
        return {}, (_column(table[_X]), _column(table[_Y]))
    names = [Path(str(one)).name for one in table[_MICROGRAPH]]
    rows = table.assign(**{_MICROGRAPH: names}).groupby(_MICROGRAPH)
    return {
        str(name): (_column(part[_X]), _column(part[_Y])) for name, part in rows
    }, None


def _column(values: Sequence[float]) -> NDArray[np.float32]:
    return np.atleast_1d(np.asarray(values, np.float32))


def _unreadable(path: Path, error: Exception) -> BadSettings:
    return BadSettings(
        f"{path} cannot be read as coordinates: {error}.",
        hint="Give the JSON of `icestream pick --json`, its --star folder, or a STAR "
        f"file with {_X} and {_Y}.",
    )
