"""Atoms come to lie as those of protein do, and no further than they must."""

from __future__ import annotations

import numpy as np
import pytest

from icestream.simulate.packing import PROTEIN_ORDER, Packing
from icestream.simulate.point_groups import point_group_rotations

ALONE = np.eye(3)[None]


def gas(count: int = 6000, density: float = 0.058) -> np.ndarray:
    """Atoms anywhere in a ball, as dense as in protein."""
    generator = np.random.default_rng(5)
    way = generator.standard_normal((count, 3))
    radius = (3 * count / density / (4 * np.pi)) ** (1 / 3)
    share = generator.random((count, 1)) ** (1 / 3)
    return np.asarray(way * (radius * share / np.linalg.norm(way, axis=1)[:, None]))


def power(xyz: np.ndarray, angst: float) -> float:
    """Sum over atoms of waves in 600 directions, squared, an atom."""
    generator = np.random.default_rng(1)
    way = generator.standard_normal((600, 3))
    way *= 2 * np.pi / angst / np.linalg.norm(way, axis=1, keepdims=True)
    turn = xyz @ way.T
    return float(
        (np.cos(turn).sum(axis=0) ** 2 + np.sin(turn).sum(axis=0) ** 2).mean()
    ) / (len(xyz))


@pytest.mark.parametrize("angst", [14.0, 12.0, 10.0, 8.0, 6.3, 5.6])
def test_a_gas_becomes_as_even_as_protein(angst: float) -> None:
    xyz = gas()
    wanted = dict(PROTEIN_ORDER)[angst]
    packing = Packing(xyz, ALONE)
    packed = xyz.copy()
    for _ in range(8):
        packed += packing.moves(packed)
    # 600 waves tell a mean to 4 %; the rest is the linear step's.
    assert power(packed, angst) == pytest.approx(wanted, rel=0.25)
    assert np.sqrt(((packed - xyz) ** 2).sum(axis=1).mean()) < 2.0


def test_moves_have_the_symmetry_of_the_particle() -> None:
    rotations = point_group_rotations("C4")
    xyz = gas(1500) + np.array([30.0, 5.0, 0.0])
    first = Packing(xyz, rotations).moves(xyz)
    turned = xyz @ rotations[1].T
    second = Packing(turned, rotations).moves(turned)
    assert np.abs(first).max() > 0.2
    # A grid of 1.6 Å is another one for them.
    assert (second - first @ rotations[1].T).std() < 0.2 * first.std()
