"""An acquisition as most people would want it, from a few choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.simulate.acquisition import Acquisition
from icestream.simulate.atoms import read_structure
from icestream.simulate.exposure import Recipe, Species
from icestream.simulate.optics import Microscope
from icestream.simulate.proteins import SPECIMENS, make_specimen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from icestream.simulate.atoms import Atoms
    from icestream.simulate.layouts import LayoutName, Output
    from icestream.simulate.timetable import FaultRates, Timing

__all__ = ["usual_acquisition"]

_AREA_DIAMETERS2 = 3.5  # of ice for each particle where they lie densely


class _Passed(TypedDict, total=False):
    output: Output
    layout: LayoutName
    super_resolution: int
    timing: Timing
    defect_share: float
    faults: FaultRates
    seed: int


def usual_acquisition(
    count: int,
    *,
    shape: tuple[int, int] = (1024, 1024),
    pixel_size_angst: float = 1.5,
    frame_count: int = 24,
    dose_e_per_angst2: float = 40.0,
    voltage_kv: float = 300.0,
    specimens: Sequence[str] = ("cage",),
    structures: Sequence[Path] = (),
    particle_count: int | None = None,
    tilt_deg: float = 0.0,
    grids: int = 1,
    **passed: Unpack[_Passed],
) -> Acquisition:
    """Choose an acquisition.

    Parameters
    ----------
    count
        Exposures.
    shape, pixel_size_angst, frame_count, dose_e_per_angst2, voltage_kv, tilt_deg
        As `Recipe` and `Microscope` have them.
    specimens
        Made-up particles by name, equally many of each; see `SPECIMENS`.
    structures
        mmCIF or PDB files of further species.
    particle_count
        In a well-filled image; ``None`` for as many as lie densely.
    grids
        How many, each of this kind.
    passed
        As `Acquisition` has them.

    Returns
    -------
    Acquisition
        For `simulate_acquisition`.

    Raises
    ------
    BadSettings
        No such specimen, a file that is no structure, or a value that cannot be.
    """
    unknown = [name for name in specimens if name not in SPECIMENS]
    if unknown:
        raise BadSettings(
            f"There is no specimen {unknown[0]!r}.",
            hint=f"There are {', '.join(SPECIMENS)}; or give a structure file.",
        )
    atoms = {name: make_specimen(name).atoms for name in specimens}
    atoms |= {"".join(path.stem.split()): read_structure(path) for path in structures}
    species = tuple(
        Species(name=name, diameter_angst=_diameter_angst(one))
        for name, one in atoms.items()
    )
    if particle_count is None:
        particle_count = _dense_count(species, shape, pixel_size_angst)
    recipe = Recipe(
        shape=shape,
        pixel_size_angst=pixel_size_angst,
        microscope=Microscope(voltage_kv=voltage_kv),
        dose_e_per_angst2=dose_e_per_angst2,
        frame_count=frame_count,
        species=species,
        particle_count=particle_count,
        tilt_deg=tilt_deg,
    )
    return Acquisition(
        recipes=(recipe,) * grids, atoms=tuple(atoms.values()), count=count, **passed
    )


def _diameter_angst(atoms: Atoms) -> float:
    """Twice the radius that holds 99 % of the atoms, and a side chain."""
    radius_angst = np.linalg.norm(atoms.xyz_angst, axis=1)
    return round(2 * float(np.quantile(radius_angst, 0.99)) + 3.0, 1)


def _dense_count(
    species: Sequence[Species], shape: tuple[int, int], pixel_size_angst: float
) -> int:
    if not species:
        return 0
    area_angst2 = shape[0] * shape[1] * pixel_size_angst**2
    each_angst2 = np.mean([one.diameter_angst**2 for one in species])
    return round(area_angst2 / (_AREA_DIAMETERS2 * float(each_angst2)))
