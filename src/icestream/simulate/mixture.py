"""What lies in the ice: species in several conformations, and what has come apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import read_structure
from icestream.simulate.crowd import Species
from icestream.simulate.denatured import denatured
from icestream.simulate.orientations import ViewPreference
from icestream.simulate.proteins import SPECIMENS, make_specimen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.simulate.atoms import Atoms

__all__ = ["MOST_STATES", "Mixture", "make_mixture"]

MOST_STATES = 4
_SHEETS = 3
_AREA_DIAMETERS2 = 3.5  # of ice for each particle where they lie densely


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Species, and the atoms of each."""

    species: tuple[Species, ...]
    atoms: tuple[Atoms, ...]

    def dense_count(self, shape: tuple[int, int], pixel_size_angst: float) -> int:
        """Return how many particles lie densely in an image of ``(h, w)`` px."""
        if not self.species:
            return 0
        area_angst2 = shape[0] * shape[1] * pixel_size_angst**2
        each_angst2 = np.average(
            [one.diameter_angst**2 for one in self.species],
            weights=[one.share for one in self.species],
        )
        return round(area_angst2 / (_AREA_DIAMETERS2 * float(each_angst2)))


def make_mixture(
    specimens: Sequence[str] = (),
    structures: Sequence[Path] = (),
    *,
    state_count: int = 1,
    preferred_share: float = 0.0,
    denatured_share: float = 0.0,
) -> Mixture:
    """Make a mixture.

    Parameters
    ----------
    specimens
        Made-up particles by name, equally many of each; see `SPECIMENS`.
    structures
        mmCIF or PDB files of further species, named after them.
    state_count
        Conformations of each made-up particle, equally many of each: 1 to 4.
    preferred_share
        Share of the whole particles that are seen from their top or bottom.
    denatured_share
        Share of all that is no particle but a sheet at the surface of the ice: species
        of their own, called ``denatured_`` and the name, in several shapes.

    Raises
    ------
    BadSettings
        No such specimen, a file that is no structure, a name twice, or a number that
        cannot be.
    """
    _check(specimens, structures, state_count, denatured_share)
    kinds = [
        (name, [make_specimen(name, state=n).atoms for n in range(state_count)])
        for name in specimens
    ]
    kinds += [(_name_of(path), [read_structure(path)]) for path in structures]
    preference = ViewPreference(share=preferred_share) if preferred_share else None
    species: list[Species] = []
    atoms: list[Atoms] = []
    for name, states in kinds:
        for state, one in enumerate(states):
            species.append(
                Species(
                    name=name,
                    diameter_angst=_diameter_angst(one),
                    state=state,
                    share=(1 - denatured_share) / (len(kinds) * len(states)),
                    preference=preference,
                )
            )
            atoms.append(one)
    for name, states in kinds if denatured_share else []:
        for shape in range(_SHEETS):
            sheet = denatured(states[0], seed=shape)
            species.append(
                Species(
                    name=f"denatured_{name}",
                    diameter_angst=_diameter_angst(sheet),
                    state=shape,
                    share=denatured_share / (len(kinds) * _SHEETS),
                    sheet_angst=_thickness_angst(sheet),
                )
            )
            atoms.append(sheet)
    return Mixture(species=tuple(species), atoms=tuple(atoms))


def _check(
    specimens: Sequence[str],
    structures: Sequence[Path],
    state_count: int,
    denatured_share: float,
) -> None:
    unknown = [name for name in specimens if name not in SPECIMENS]
    if unknown:
        raise BadSettings(
            f"There is no specimen {unknown[0]!r}.",
            hint=f"There are {', '.join(SPECIMENS)}; or give a structure file.",
        )
    names = [*specimens, *map(_name_of, structures)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadSettings(
            f"Two species would be called {twice[0]}.",
            hint="Give each specimen once, and structure files of different names.",
        )
    if not 1 <= state_count <= MOST_STATES:
        raise BadSettings(
            f"A specimen in {state_count} conformations cannot be made.",
            hint=f"There are 1 to {MOST_STATES}.",
        )
    if state_count > 1 and structures and not specimens:
        raise BadSettings(
            f"A structure file has one conformation, not {state_count}.",
            hint="Give a file for each: several are a mixture.",
        )
    if not 0 <= denatured_share <= 1:
        raise BadSettings(
            f"A share of {denatured_share:g} denatured protein cannot be.",
            hint="It is from 0 to 1.",
        )


def _name_of(path: Path) -> str:
    return "".join(path.stem.split())


def _diameter_angst(atoms: Atoms) -> float:
    return _twice_reach_angst(np.linalg.norm(atoms.xyz_angst, axis=1))


def _thickness_angst(atoms: Atoms) -> float:
    return _twice_reach_angst(np.abs(atoms.xyz_angst[:, 2]))


def _twice_reach_angst(distance_angst: NDArray[np.floating]) -> float:
    """Twice the distance within which 99 % of the atoms are, and a side chain."""
    return round(2 * float(np.quantile(distance_angst, 0.99)) + 3.0, 1)
