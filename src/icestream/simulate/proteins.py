"""Specimens made from a seed: assemblies that look like protein at every resolution.

No structure of the PDB is needed. The shape, symmetry and mass of each are like those
of a well-known specimen; the fold is made up (`icestream.simulate.folding`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.spatial import cKDTree

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import Atoms, centred
from icestream.simulate.folding import DomainFold, FoldedAtoms, fold_domains
from icestream.simulate.point_groups import point_group_rotations
from icestream.simulate.regions import label_domains, spread_centres

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["SPECIMENS", "Blueprint", "ProteinSpecimen", "make_specimen"]

_DOMAIN_RADIUS_ANGST = 23.0
_HINGE_STEP_DEG = 15.0
_B_RIGID_ANGST2, _B_STEP_ANGST2 = 25.0, 7.0
_BELT_B_ANGST2 = 250.0
_MEMBRANE_HALF_ANGST, _BELT_WIDTH_ANGST = 16.0, 20.0
# Carbons a cubic Å. Over ice they make 1.4 V in the middle of a belt of lipid or
# detergent, as CH2 does at 0.8 g/cm3, and 3.5 V, as protein does, in the head groups.
_TAIL_PER_ANGST3, _HEAD_PER_ANGST3 = 0.018, 0.045


@dataclass(frozen=True, slots=True, kw_only=True)
class ProteinSpecimen:
    """A made-up particle.

    Parameters
    ----------
    name
        Of its kind, as in `SPECIMENS`.
    atoms
        All copies, in the standard frame of the symmetry; centred where it leaves
        that open.
    symmetry
        RELION's name of the point group.
    state
        Number of the conformation.
    """

    name: str
    atoms: Atoms
    symmetry: str
    state: int


class _Layout(Protocol):
    """Chooses where an asymmetric unit's domains lie, and what space they may fill."""

    def __call__(
        self, generator: np.random.Generator, rotations: NDArray[np.float64]
    ) -> Layout: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Domains of an asymmetric unit.

    Parameters
    ----------
    centres
        ``(d, 3)`` Å.
    inside
        Which of ``(n, 3)`` points lie in the particle; has its symmetry.
    radius_angst
        No domain reaches further from its centre.
    folds
        How single domains are folded, by index; the others as it falls.
    """

    centres: NDArray[np.float64]
    inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    radius_angst: float = _DOMAIN_RADIUS_ANGST
    folds: dict[int, DomainFold] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """How to make one kind of specimen.

    Parameters
    ----------
    symmetry
        RELION's name of the point group.
    mass_kda, diameter_angst
        About; they vary by some per cent with the seed.
    helix_share
        Share of domains made of helices; the others are sheets.
    layout
        Chooses the domains.
    belt_radius_angst
        Inner radius of a belt of detergent about the z axis, Å; ``None`` for none.
    """

    symmetry: str
    mass_kda: float
    diameter_angst: float
    helix_share: float
    layout: _Layout
    belt_radius_angst: float | None = None


@functools.lru_cache(maxsize=8)
def make_specimen(name: str, seed: int = 0, *, state: int = 0) -> ProteinSpecimen:
    """Make a specimen.

    Parameters
    ----------
    name
        One of `SPECIMENS`.
    seed
        The same name and seed give the same atoms.
    state
        Conformation: the outermost domain of the asymmetric unit is turned about its
        hinge by 15 degrees times this; 0 is the relaxed one.

    Returns
    -------
    ProteinSpecimen
        Ready for `potential_volume`.

    Raises
    ------
    BadSettings
        No such specimen.
    """
    if name not in SPECIMENS:
        raise BadSettings(
            f"There is no specimen {name!r}.", hint=f"Choose of {', '.join(SPECIMENS)}."
        )
    blueprint = SPECIMENS[name]
    generator = np.random.default_rng([seed, list(SPECIMENS).index(name)])
    rotations = point_group_rotations(blueprint.symmetry)
    layout = blueprint.layout(generator, rotations)
    labels = label_domains(
        layout.centres,
        layout.inside,
        rotations=rotations,
        radius_angst=layout.radius_angst,
    )
    folds = [
        layout.folds.get(index) or _any_fold(generator, blueprint.helix_share)
        for index in range(len(layout.centres))
    ]
    unit = fold_domains(generator, labels, folds, rotations)
    unit = _turned_domain(unit, state)
    atoms = _all_copies(unit, rotations)
    if blueprint.belt_radius_angst is not None:
        atoms = _joined(atoms, _belt(generator, atoms, blueprint.belt_radius_angst))
    if blueprint.symmetry[0] == "C":
        atoms = centred(atoms, is_on_axis=blueprint.symmetry != "C1")
    return ProteinSpecimen(
        name=name, atoms=atoms, symmetry=blueprint.symmetry, state=state
    )


def _any_fold(generator: np.random.Generator, helix_share: float) -> DomainFold:
    return DomainFold(kind="helix" if generator.random() < helix_share else "sheet")


def _turned_domain(unit: FoldedAtoms, state: int) -> FoldedAtoms:
    """Turn the outermost domain about the atom by which it hangs on the others."""
    if state == 0:
        return unit
    xyz = unit.xyz_angst.copy()
    count = int(unit.domain.max()) + 1
    centres = np.stack([xyz[unit.domain == one].mean(axis=0) for one in range(count)])
    distance = np.linalg.norm(centres - centres.mean(axis=0), axis=1)
    moved = unit.domain == distance.argmax()
    rest = xyz[~moved].mean(axis=0) if (~moved).any() else np.zeros(3)
    hinge = xyz[moved][np.linalg.norm(xyz[moved] - rest, axis=1).argmin()]
    outwards = centres[distance.argmax()] - hinge
    axis = np.cross(outwards, [0.3, -0.5, 0.81])
    turn = _about(axis / np.linalg.norm(axis), np.radians(_HINGE_STEP_DEG * state))
    xyz[moved] = (xyz[moved] - hinge) @ turn.T + hinge
    return FoldedAtoms(
        xyz_angst=xyz, element=unit.element, domain=unit.domain, mobility=unit.mobility
    )


def _about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Return the matrix that turns about an axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: NDArray[np.float64] = np.sin(angle) * cross + (1 - np.cos(angle)) * (
        cross @ cross
    )
    return np.eye(3) + turn


def _all_copies(unit: FoldedAtoms, rotations: NDArray[np.float64]) -> Atoms:
    xyz = np.einsum("gij,nj->gni", rotations, unit.xyz_angst).reshape(-1, 3)
    b = _B_RIGID_ANGST2 + _B_STEP_ANGST2 * unit.mobility
    return Atoms(
        xyz_angst=xyz.astype(np.float32),
        element=np.tile(unit.element, len(rotations)),
        b_factor_angst2=np.tile(b, len(rotations)).astype(np.float32),
    )


def _joined(first: Atoms, second: Atoms) -> Atoms:
    return Atoms(
        xyz_angst=np.concatenate([first.xyz_angst, second.xyz_angst]),
        element=np.concatenate([first.element, second.element]),
        b_factor_angst2=np.concatenate([first.b_factor_angst2, second.b_factor_angst2]),
    )


def _belt(generator: np.random.Generator, protein: Atoms, radius_angst: float) -> Atoms:
    """Make a smooth ring of detergent about the membrane part, where protein is not."""
    height = _MEMBRANE_HALF_ANGST + 7
    outer = radius_angst + _BELT_WIDTH_ANGST
    count = int((2 * outer) ** 2 * 2 * height * _HEAD_PER_ANGST3)
    points = generator.uniform(-1, 1, size=(count, 3)) * [outer, outer, height]
    r, z = np.hypot(points[:, 0], points[:, 1]), np.abs(points[:, 2])
    bulge = np.sqrt(np.clip(1 - (z / (height + 4)) ** 2, 0, None))
    is_belt = r < radius_angst + _BELT_WIDTH_ANGST * bulge
    is_tail = (z < _MEMBRANE_HALF_ANGST) & (r < outer - 6)
    is_kept = generator.random(count) < _TAIL_PER_ANGST3 / _HEAD_PER_ANGST3
    is_belt &= ~is_tail | is_kept
    points = points[is_belt]
    distance, _ = cKDTree(protein.xyz_angst).query(points)
    points = points[distance > 4.0]
    return Atoms(
        xyz_angst=points.astype(np.float32),
        element=np.full(len(points), 6, dtype=np.uint8),
        b_factor_angst2=np.full(len(points), _BELT_B_ANGST2, dtype=np.float32),
    )


def _cage(generator: np.random.Generator, rotations: NDArray[np.float64]) -> Layout:
    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        r = np.linalg.norm(points, axis=1)
        # Flatter towards the 4-folds, as the real one is.
        cubic = (np.abs(points) ** 4).sum(axis=1) / np.maximum(r, 1) ** 4
        is_in: NDArray[np.bool_] = (r > 39) & (r < 64 - 4 * cubic)
        return is_in

    centres = spread_centres(
        generator, inside, reach_angst=65, rotations=rotations, domain_count=1
    )
    return Layout(centres=centres, inside=inside, radius_angst=25)


def _barrel(generator: np.random.Generator, rotations: NDArray[np.float64]) -> Layout:
    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        r, z = np.hypot(points[:, 0], points[:, 1]), np.abs(points[:, 2])
        # Chambers at the height of the rings' gaps, gates between them.
        bore = 22 + 11 * np.cos(2 * np.pi * z / 41)
        lobes = np.cos(7 * np.arctan2(points[:, 1], points[:, 0]))
        end = 73 - 4 * lobes - 8 * (np.maximum(r - 36, 0) / 20) ** 2
        outer = 55 - 2 * np.cos(2 * np.pi * z / 38) + lobes
        is_in: NDArray[np.bool_] = (r < outer) & (r > bore) & (z < end)
        return is_in

    centres = spread_centres(
        generator, inside, reach_angst=80, rotations=rotations, domain_count=2
    )
    return Layout(centres=centres, inside=inside, radius_angst=26)


class _Cluster:
    """Domains grown one on another into a lump without symmetry."""

    def __init__(self, count: int, half_axes_angst: tuple[float, float, float]) -> None:
        self._count = count
        self._half_axes = np.array(half_axes_angst)

    def __call__(
        self, generator: np.random.Generator, rotations: NDArray[np.float64]
    ) -> Layout:
        centres = np.zeros((1, 3))
        while len(centres) < self._count:
            step = generator.standard_normal((64, 3))
            step *= 28 / np.linalg.norm(step, axis=1, keepdims=True)
            tries = centres[generator.integers(len(centres), size=64)] + step
            gaps = np.linalg.norm(tries[:, None] - centres, axis=2).min(axis=1)
            is_free = (gaps > 25) & (((tries / self._half_axes) ** 2).sum(axis=1) < 1)
            centres = np.concatenate([centres, tries[is_free][:1]])
        return Layout(centres=centres, inside=_everywhere, radius_angst=19)


def _everywhere(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ones(len(points), dtype=bool)


def _channel(generator: np.random.Generator, rotations: NDArray[np.float64]) -> Layout:
    """Four bundles across a membrane about a pore, and a head on one side."""

    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        r, z = np.hypot(points[:, 0], points[:, 1]), points[:, 2]
        lobes = np.cos(4 * (np.arctan2(points[:, 1], points[:, 0]) - turn))
        is_membrane = (r > 4) & (r < 35 + 3 * lobes) & (np.abs(z) < 22)
        top = 74 - 12 * (r / 40) ** 2 + 4 * lobes
        is_head = (r > 9) & (r < 41 + 5 * lobes) & (z >= 22) & (z < top)
        is_in: NDArray[np.bool_] = is_membrane | is_head
        return is_in

    turn = generator.uniform(0, 2 * np.pi)
    ring = np.array([np.cos(turn), np.sin(turn), 0.0])
    spread = np.array([np.cos(turn + 0.5), np.sin(turn + 0.5), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    centres = np.stack([22 * ring, 28 * spread + 34 * up, 27 * ring + 60 * up])
    membrane = DomainFold(kind="helix", direction=(0, 0, 1), tilt_deg=12)
    return Layout(centres=centres, inside=inside, radius_angst=29, folds={0: membrane})


SPECIMENS: dict[str, Blueprint] = {
    "cage": Blueprint(
        symmetry="O",
        mass_kda=500,
        diameter_angst=125,
        helix_share=1.0,
        layout=_cage,
    ),
    "barrel": Blueprint(
        symmetry="D7", mass_kda=700, diameter_angst=155, helix_share=0.5, layout=_barrel
    ),
    "complex": Blueprint(
        symmetry="C1",
        mass_kda=1050,
        diameter_angst=220,
        helix_share=0.6,
        layout=_Cluster(66, (125, 90, 80)),
    ),
    "small": Blueprint(
        symmetry="C1",
        mass_kda=145,
        diameter_angst=110,
        helix_share=0.5,
        layout=_Cluster(9, (50, 38, 38)),
    ),
    "channel": Blueprint(
        symmetry="C4",
        mass_kda=370,
        diameter_angst=115,
        helix_share=0.5,
        layout=_channel,
        belt_radius_angst=37,
    ),
}
"""Kinds of specimens: a hollow cage (as apoferritin), a barrel (as the proteasome), a
large and a small complex, and a membrane channel in a belt of detergent."""
