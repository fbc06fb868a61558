"""Protein that has come apart at the surface of the ice.

What meets the air unfolds and spreads (D'Imprima et al., eLife 8 (2019) e42747): flat
patches of short stretches that keep their helices and strands but not their places. In
images they are flakes that a picker must pass over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icestream.simulate.atoms import Atoms
from icestream.simulate.orientations import draw_orientations, rotation_matrices

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["denatured"]

# Size of a stretch that stays together, and the places that stretches come to: three
# layers make a sheet of some 30 Å; a place has about the volume of a stretch.
_STRETCH_ANGST, _PLACE_ANGST, _LAYER_ANGST, _LAYERS = 11.0, 12.0, 8.5, 3
_JITTER_ANGST = 2.5
_LOBES = ((2, 0.25), (3, 0.15), (5, 0.1))
_FURTHER_B_ANGST2 = 60.0


def denatured(atoms: Atoms, seed: int = 0) -> Atoms:
    """Unfold a particle into a flat sheet.

    Parameters
    ----------
    atoms
        A particle; its mass stays.
    seed
        The same atoms and seed give the same sheet.

    Returns
    -------
    Atoms
        About 30 Å thick along z, with an irregular outline some 1.5 times as wide as a
        globular particle; stretches of 11 Å are turned anyhow. The centroid is 0.
    """
    generator = np.random.default_rng(seed)
    xyz = atoms.xyz_angst.astype(np.float64)
    cells = np.floor((xyz - xyz.min(axis=0)) / _STRETCH_ANGST).astype(np.int64)
    _, stretch = np.unique(cells, axis=0, return_inverse=True)
    count = int(stretch.max()) + 1
    number = np.bincount(stretch, minlength=count)
    centres = np.stack(
        [np.bincount(stretch, xyz[:, axis], count) / number for axis in range(3)], 1
    )
    turns = rotation_matrices(draw_orientations(generator, count))
    # The fullest stretches would pile up where they were neighbours.
    places = generator.permuted(_places(generator, count), axis=0)
    inside = np.einsum("nij,nj->ni", turns[stretch], xyz - centres[stretch])
    spread = inside + places[stretch]
    spread -= spread.mean(axis=0)
    return Atoms(
        xyz_angst=spread.astype(np.float32),
        element=atoms.element,
        b_factor_angst2=atoms.b_factor_angst2 + np.float32(_FURTHER_B_ANGST2),
    )


def _places(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return ``(n, 3)`` places in a sheet with lobes, the innermost of a lattice."""
    side = int(np.ceil(np.sqrt(count / _LAYERS))) + 2
    line = np.arange(-side, side + 1) * _PLACE_ANGST
    layers = (np.arange(_LAYERS) - (_LAYERS - 1) / 2) * _LAYER_ANGST
    lattice = np.stack(np.meshgrid(line, line, layers, indexing="ij"), -1)
    places = lattice.reshape(-1, 3)
    angle = np.arctan2(places[:, 1], places[:, 0])
    reach = 1 + sum(
        height * np.cos(fold * angle + generator.uniform(0, 2 * np.pi))
        for fold, height in _LOBES
    )
    nearest = np.argsort(np.hypot(places[:, 0], places[:, 1]) / reach, kind="stable")
    jitter = generator.normal(0, _JITTER_ANGST, size=(count, 3)) * [1, 1, 0.5]
    chosen: NDArray[np.float64] = places[nearest[:count]] + jitter
    return chosen
