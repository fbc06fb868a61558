"""Amino-acid residues as atoms: main chains along traces of CA, and side chains.

Bond lengths and angles are the usual ones (Engh & Huber, Acta Cryst. A47 (1991) 392),
rounded; how often each residue comes is that of Swiss-Prot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RESIDUES", "MainChain", "Residue", "build_main_chain", "build_side_chains"]

_C, _N, _O, _S = 6, 7, 8, 16
# A peptide plane, Å: x from CA to the next CA, y the way O points.
_PEPTIDE = {"C": (1.427, 0.539), "O": (1.520, 1.766), "N": (2.390, -0.370)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Residue:
    """The side chain of a kind of residue, beyond CB.

    Parameters
    ----------
    share
        How often it comes, per cent.
    has_cb
        All but glycine.
    branches
        One entry an atom: element, index of the parent (0 is CB, 1 the first entry),
        and the dihedral in degrees; ``None`` for a free one (a rotamer).
    """

    share: float
    has_cb: bool = True
    branches: tuple[tuple[int, int, float | None], ...] = ()


_STRAIGHT = 180.0
_FORK = ((_C, 1, None), (_C, 1, 240.0))
_RING = (
    (_C, 0, None),
    (_C, 1, None),
    (_C, 1, 181.0),
    (_C, 2, _STRAIGHT),
    (_C, 3, _STRAIGHT),
)

RESIDUES: tuple[Residue, ...] = (
    Residue(share=7.1, has_cb=False),  # Gly
    Residue(share=8.3),  # Ala
    Residue(share=6.6, branches=((_O, 0, None),)),  # Ser
    Residue(share=1.4, branches=((_S, 0, None),)),  # Cys
    Residue(share=5.3, branches=((_O, 0, None), (_C, 0, 240.0))),  # Thr
    Residue(share=6.9, branches=((_C, 0, None), (_C, 0, 240.0))),  # Val
    Residue(share=4.7, branches=((_C, 0, 30.0), (_C, 1, -30.0))),  # Pro
    Residue(share=9.7, branches=((_C, 0, None), *_FORK)),  # Leu
    Residue(share=5.9, branches=((_C, 0, None), (_C, 0, 240.0), (_C, 1, None))),  # Ile
    Residue(share=2.4, branches=((_C, 0, None), (_S, 1, None), (_C, 2, None))),  # Met
    Residue(share=5.5, branches=((_C, 0, None), (_O, 1, None), (_O, 1, 181.0))),  # Asp
    Residue(share=4.1, branches=((_C, 0, None), (_O, 1, None), (_N, 1, 181.0))),  # Asn
    Residue(  # Glu
        share=6.7,
        branches=((_C, 0, None), (_C, 1, None), (_O, 2, None), (_O, 2, 181.0)),
    ),
    Residue(  # Gln
        share=3.9,
        branches=((_C, 0, None), (_C, 1, None), (_O, 2, None), (_N, 2, 181.0)),
    ),
    Residue(  # Lys
        share=5.8,
        branches=((_C, 0, None), (_C, 1, None), (_C, 2, _STRAIGHT), (_N, 3, None)),
    ),
    Residue(  # Arg
        share=5.5,
        branches=(
            (_C, 0, None),
            (_C, 1, None),
            (_N, 2, _STRAIGHT),
            (_C, 3, _STRAIGHT),
            (_N, 4, 0.0),
            (_N, 4, 181.0),
        ),
    ),
    Residue(  # His
        share=2.3,
        branches=(
            (_C, 0, None),
            (_N, 1, None),
            (_C, 1, 181.0),
            (_C, 2, _STRAIGHT),
            (_N, 3, _STRAIGHT),
        ),
    ),
    Residue(share=3.9, branches=(*_RING, (_C, 4, 0.0))),  # Phe
    Residue(share=2.9, branches=(*_RING, (_C, 4, 0.0), (_O, 6, _STRAIGHT))),  # Tyr
    Residue(  # Trp
        share=1.1, branches=(*_RING, (_N, 4, 0.0), (_C, 5, _STRAIGHT), (_C, 7, 0.0))
    ),
)
"""Glycine to tryptophan, by size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MainChain:
    """N, CA, C, O of residues, each ``(n, 3)`` in Å, and where CB would be."""

    n: NDArray[np.float64]
    ca: NDArray[np.float64]
    c: NDArray[np.float64]
    o: NDArray[np.float64]
    cb: NDArray[np.float64]


def build_main_chain(
    trace: NDArray[np.float64], oxygen_towards: NDArray[np.float64]
) -> MainChain:
    """Put peptide planes along a trace of CA.

    Parameters
    ----------
    trace
        ``(n + 2, 3)`` CA positions, 3.8 Å apart; the first and the last only say where
        the chain comes from and goes to.
    oxygen_towards
        ``(n + 1, 3)`` roughly where O points, of each plane from one CA to the next.

    Returns
    -------
    MainChain
        Of the ``n`` residues in between.
    """
    along = _unit(np.diff(trace, axis=0))
    across = oxygen_towards - _dot(oxygen_towards, along) * along
    across = _unit(across + 1e-6)
    places = {
        name: trace[:-1] + x * along + y * across for name, (x, y) in _PEPTIDE.items()
    }
    n, ca, c, o = places["N"][:-1], trace[1:-1], places["C"][1:], places["O"][1:]
    # Where the fourth bond of a tetrahedron of N, C and H goes (left-handed residues).
    b, a = ca - n, c - ca
    cb = ca + 0.5680 * b - 0.5407 * a - 0.5827 * np.cross(b, a)
    return MainChain(n=n, ca=ca, c=c, o=o, cb=cb)


def build_side_chains(
    kind: Residue, chain: MainChain, dihedrals_deg: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Grow side chains of one kind of residue beyond CB.

    Parameters
    ----------
    kind
        What to grow.
    chain
        ``n`` residues.
    dihedrals_deg
        ``(k, n, atoms)`` free dihedrals; where one is fixed its value is not used.

    Returns
    -------
    ndarray
        ``(k, n, atoms, 3)`` positions, Å.
    """
    tries, count, _ = dihedrals_deg.shape
    shape = (tries, count, 3)
    atoms = [np.broadcast_to(chain.cb, shape)]
    parents = [-1]
    roots = [np.broadcast_to(chain.n, shape), np.broadcast_to(chain.ca, shape)]
    turns: dict[int, NDArray[np.float64]] = {}
    for index, (element, parent, fixed_deg) in enumerate(kind.branches):
        before = roots[1] if parent == 0 else atoms[parents[parent]]
        start = roots[0] if parent == 0 else _before(parents, parent, atoms, roots)
        if fixed_deg is None:
            turn = dihedrals_deg[..., index]
        else:  # from the atom of the same parent that came first, if one did
            turn = turns.get(parent, np.zeros((tries, count))) + fixed_deg
        turns.setdefault(parent, turn)
        length = 1.8 if element == _S else 1.5
        atoms.append(_next_atom(start, before, atoms[parent], length, turn))
        parents.append(parent)
    return np.stack(atoms[1:], axis=2)


def _before(
    parents: list[int],
    parent: int,
    atoms: list[NDArray[np.float64]],
    roots: list[NDArray[np.float64]],
) -> NDArray[np.float64]:
    grand = parents[parent]
    return roots[1] if grand == 0 else atoms[parents[grand]]


def _next_atom(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    length_angst: float,
    dihedral_deg: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Place an atom bonded to c at 114 degrees from b, by its dihedral about b-c."""
    along = _unit(c - b)
    normal = _unit(np.cross(b - a, along))
    aside = np.cross(normal, along)
    turn = np.radians(dihedral_deg)[..., None]
    lean = np.radians(180 - 114)
    direction = np.cos(lean) * along + np.sin(lean) * (
        np.cos(turn) * aside + np.sin(turn) * normal
    )
    placed: NDArray[np.float64] = c + length_angst * direction
    return placed


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(length, 1e-9)
    return unit


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (a * b).sum(axis=-1, keepdims=True)
    return product
