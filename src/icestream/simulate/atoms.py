"""Atoms of a specimen: a model of the PDB, or made by `icestream.simulate.proteins`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.simulate.scattering import ELEMENT_COUNT, riding_hydrogens

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Atoms", "centred", "heavy_atom_mass_da", "read_structure"]

_HYDROGEN_DA = 1.008
_MOST_B_FACTOR_ANGST2, _MOST_PLACE_ANGST = 1e5, 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atoms:
    """Atoms without hydrogens, as columns.

    Parameters
    ----------
    xyz_angst
        ``(n, 3)`` float32 positions as x, y, z, Å; the origin is the particle's centre.
    element
        ``(n,)`` uint8 atomic numbers, 2 to 98.
    b_factor_angst2
        ``(n,)`` float32 isotropic B factors, Å2, 0 or more.

    Raises
    ------
    BadSettings
        No atom, columns of different lengths, or values that cannot be.
    """

    xyz_angst: NDArray[np.float32]
    element: NDArray[np.uint8]
    b_factor_angst2: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.element)
        shapes = self.xyz_angst.shape, self.element.shape, self.b_factor_angst2.shape
        if count == 0 or shapes != ((count, 3), (count,), (count,)):
            raise BadSettings(
                f"Columns of shapes {shapes} are no atoms.",
                hint="Give (n, 3) positions and (n,) elements and B factors, n > 0.",
            )
        b = self.b_factor_angst2
        if not (
            np.isfinite(self.xyz_angst).all()
            and ((self.element > 1) & (self.element < ELEMENT_COUNT)).all()
            and ((b >= 0) & (b < _MOST_B_FACTOR_ANGST2)).all()
        ):
            raise BadSettings(
                "A position is not a number, an element is hydrogen or unknown, or a B"
                " factor is negative or huge.",
                hint="Leave such atoms out.",
            )

    def __len__(self) -> int:
        return len(self.element)

    @property
    def mass_da(self) -> float:
        """Mass with the hydrogens of a protein, Da."""
        return float(heavy_atom_mass_da()[self.element].sum(dtype=np.float64))

    @property
    def radius_of_gyration_angst(self) -> float:
        """Root mean square distance from the centroid, weighted by mass, Å."""
        mass_da = heavy_atom_mass_da()[self.element].astype(np.float64)
        centroid = np.average(self.xyz_angst, axis=0, weights=mass_da)
        squares = ((self.xyz_angst - centroid) ** 2).sum(axis=1)
        return float(np.sqrt(np.average(squares, weights=mass_da)))


def heavy_atom_mass_da() -> NDArray[np.float32]:
    """Return the mass of each atomic number with its riding hydrogens, Da, ``(99,)``.

    What hydrogens a model of a protein lacks are so made up for to 1 %.
    """
    weights = [0.0] + [gemmi.Element(z).weight for z in range(1, ELEMENT_COUNT)]
    masses = np.array(weights) + _HYDROGEN_DA * riding_hydrogens()
    return masses.astype(np.float32)


def read_structure(path: Path) -> Atoms:
    """Read a model of the PDB: mmCIF or PDB, also compressed (``.gz``).

    Parameters
    ----------
    path
        The file; its name tells the format.

    Returns
    -------
    Atoms
        The first biological assembly if the file gives one, else all of model 1,
        centred on the centroid weighted by atomic number. Hydrogens, waters, unknown
        elements and all but the first of alternative positions are left out; for
        hydrogens stand those that ride (`icestream.simulate.scattering`), so that a
        file gives the same with its own as without.

    Raises
    ------
    UnreadableFile
        The file is absent, damaged or has no atom.
    """
    try:
        structure = gemmi.read_structure(str(path))
        model = _whole_particle(structure)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise UnreadableFile(
            f"{path} was not read as a model: {error}.",
            hint="Give an mmCIF or PDB file (.cif, .pdb, .ent, also with .gz).",
        ) from error
    model.remove_alternative_conformations()
    model.remove_hydrogens()
    model.remove_waters()
    columns = _columns(model)
    table = columns[(columns[:, 3] > 1) & (columns[:, 3] < ELEMENT_COUNT)]
    can_be = np.isfinite(table).all() and (np.abs(table) < _MOST_PLACE_ANGST)[:, :3]
    if not len(table) or not np.all(can_be):
        raise UnreadableFile(
            f"{path} has no atoms, or one whose place cannot be: it is no number, or"
            f" {_MOST_PLACE_ANGST:.0e} Å or more.",
            hint="Give a file with atomic coordinates, not a map or structure factors.",
        )
    return centred(
        Atoms(
            xyz_angst=table[:, :3].astype(np.float32),
            element=table[:, 3].astype(np.uint8),
            b_factor_angst2=np.clip(table[:, 4], 0, 999).astype(np.float32),
        )
    )


def _columns(model: gemmi.Model) -> NDArray[np.float64]:
    """Return ``(n, 5)``: x, y, z, atomic number, B factor."""
    alone = gemmi.Structure()
    alone.add_model(model)
    flat = gemmi.FlatStructure(alone)
    return np.column_stack([flat.pos, flat.elements, flat.b_iso])


def _whole_particle(structure: gemmi.Structure) -> gemmi.Model:
    model = structure[0]
    if not len(structure.assemblies):
        return model
    return gemmi.make_assembly(
        structure.assemblies[0], model, gemmi.HowToNameCopiedChain.Dup
    )


def centred(atoms: Atoms, *, is_on_axis: bool = False) -> Atoms:
    """Move the centroid, weighted by atomic number, to the origin.

    Parameters
    ----------
    atoms
        What to move.
    is_on_axis
        Whether z is an axis of symmetry: then they move along z only.

    Returns
    -------
    Atoms
        The same in a new place.
    """
    weights = atoms.element.astype(np.float64)
    centroid = np.average(atoms.xyz_angst.astype(np.float64), axis=0, weights=weights)
    if is_on_axis:
        centroid[:2] = 0
    return replace(atoms, xyz_angst=(atoms.xyz_angst - centroid).astype(np.float32))
