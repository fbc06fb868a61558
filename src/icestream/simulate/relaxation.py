"""Push atoms apart that came too close, keep the bonds, and pack them as protein is.

Atoms in a protein stand at least 3 to 4 Å from those that they are not bonded to; that
makes the peak of its spectrum at 4.7 Å. What else it has of waves is a matter of
`icestream.simulate.packing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from icestream.simulate.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["relax"]

_CONTACT_ANGST = 3.7
_BOND_REACH_ANGST, _LEAST_BOND_ANGST = 2.7, 1.3
_ROUNDS, _STEPS_PER_ROUND = 3, 4
_STRENGTH = 0.25
# Contacts take a third of what packing does back.
_PACKING_SHARE = 1.5


def relax(
    xyz_angst: NDArray[np.float64],
    residue: NDArray[np.int64],
    rotations: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return positions with fewer contacts below 3.7 Å, and packed as in protein.

    Parameters
    ----------
    xyz_angst
        ``(n, 3)`` atoms of an asymmetric unit, Å.
    residue
        ``(n,)`` index; atoms of one residue and of the next keep their distances where
        they are those of bonds and bond angles.
    rotations
        ``(order, 3, 3)`` of the point group, the identity first: atoms keep away from
        other copies too.

    Returns
    -------
    ndarray
        ``(n, 3)``.
    """
    place = xyz_angst.astype(np.float64)
    bonds = _pairs(place, _BOND_REACH_ANGST)
    bonds = bonds[np.abs(residue[bonds[:, 0]] - residue[bonds[:, 1]]) <= 1]
    length = np.maximum(_distance(place, bonds), _LEAST_BOND_ANGST)
    packing = Packing(place, rotations)
    for _ in range(_ROUNDS):
        every = np.concatenate([place, _neighbours(place, rotations)])
        contacts = _contacts(every, residue)
        for left in reversed(range(_STEPS_PER_ROUND)):
            force = _force(every, contacts, _CONTACT_ANGST, is_repulsive=True)
            move = force[: len(place)]
            move += _force(place, bonds, length, is_repulsive=False)
            if not left:
                move += _PACKING_SHARE * packing.moves(place)
            place += np.clip(move, -0.5, 0.5)
            every[: len(place)] = place
    return place


def _contacts(
    every: NDArray[np.float64], residue: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return ``(m, 2)`` atoms that may come near, the first of this unit."""
    count = len(residue)
    pairs = _pairs(every, _CONTACT_ANGST + 0.6)
    pairs = pairs[pairs[:, 0] < count]
    of_ghosts = pairs[:, 1] >= count
    other = np.where(of_ghosts, -2, residue[pairs[:, 1] % count])
    is_loose = np.abs(residue[pairs[:, 0]] - other) > 1
    return pairs[is_loose | of_ghosts]


def _neighbours(
    place: NDArray[np.float64], rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return atoms of other copies that are near this one."""
    copies: NDArray[np.float64]
    copies = np.einsum("gij,nj->gni", rotations[1:], place).reshape(-1, 3)
    low, high = place.min(axis=0) - 5, place.max(axis=0) + 5
    copies = copies[((copies > low) & (copies < high)).all(axis=1)]
    if not len(copies):
        return copies
    distance, _ = cKDTree(place).query(copies, distance_upper_bound=5.0)
    near: NDArray[np.float64] = copies[np.isfinite(distance)]
    return near


def _pairs(place: NDArray[np.float64], reach_angst: float) -> NDArray[np.int64]:
    """Return ``(m, 2)`` pairs of atoms, the smaller index first."""
    found: NDArray[np.int64] = cKDTree(place).query_pairs(
        reach_angst, output_type="ndarray"
    )
    return found


def _distance(
    place: NDArray[np.float64], pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    difference = place[pairs[:, 0]] - place[pairs[:, 1]]
    distance: NDArray[np.float64] = np.sqrt((difference**2).sum(axis=1))
    return distance


def _force(
    place: NDArray[np.float64],
    pairs: NDArray[np.int64],
    wanted_angst: NDArray[np.float64] | float,
    *,
    is_repulsive: bool,
) -> NDArray[np.float64]:
    """Return ``(n, 3)`` moves that bring pairs nearer to their wanted distance."""
    difference = place[pairs[:, 0]] - place[pairs[:, 1]]
    distance = np.sqrt(np.einsum("ij,ij->i", difference, difference)) + 1e-6
    excess = wanted_angst - distance
    if is_repulsive:
        near = np.flatnonzero(excess > 0)
        pairs, difference = pairs[near], difference[near]
        excess, distance = excess[near], distance[near]
    move = difference * (_STRENGTH * excess / distance)[:, None]
    total = np.empty_like(place)
    for axis in range(3):
        total[:, axis] = np.bincount(pairs[:, 0], move[:, axis], len(place))
        total[:, axis] -= np.bincount(pairs[:, 1], move[:, axis], len(place))
    return total
