"""Fill domains with chains as proteins do: packed helices or sheets, and loops.

A domain holds rods (helices 10 Å apart or strands in sheets) parallel to its long axis
within some degrees; what room they leave is filled with coil, a walk of 3.8 Å from CA
to CA that starts at the ends of rods. Side chains take the rotamer with the fewest
clashes. It has the geometry, density and composition of protein, but no real fold: the
chain is not one piece, and its sequence means nothing.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from icestream.simulate.regions import Grid
from icestream.simulate.relaxation import relax
from icestream.simulate.residues import (
    RESIDUES,
    MainChain,
    build_main_chain,
    build_side_chains,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DomainFold", "FoldedAtoms", "fold_domains"]

_CA_STEP_ANGST = 3.8
_HELIX_RISE_ANGST, _HELIX_TURN_DEG, _HELIX_RADIUS_ANGST = 1.5, 100.0, 2.3
_STRAND_RISE_ANGST, _STRAND_PLEAT_ANGST = 3.35, 0.9
_HELIX_SPACING_ANGST, _STRAND_SPACING_ANGST, _SHEET_SPACING_ANGST = 9.6, 4.8, 9.6
_SHORTEST_ROD_ANGST, _LONGEST_ROD_ANGST = 9.0, 45.0
# How far from the edge of its domain a rod must stay, Å.
_HELIX_MARGIN, _STRAND_MARGIN = 3.6, 2.2
_COIL_DISTANCE_ANGST = 4.9
_LONGEST_COIL = 14
_SHORTEST_COIL = 3
_ROTAMERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFold:
    """How a domain is to be folded.

    Parameters
    ----------
    kind
        Helices or sheets.
    direction
        ``(3,)`` of the rods; ``None`` for the long axis of the domain.
    tilt_deg
        How much rods lean away from it, degrees (standard deviation).
    """

    kind: Literal["helix", "sheet"]
    direction: tuple[float, float, float] | None = None
    tilt_deg: float = 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedAtoms:
    """Atoms of an asymmetric unit, as columns.

    Parameters
    ----------
    xyz_angst
        ``(n, 3)``.
    element
        ``(n,)`` atomic numbers.
    domain
        ``(n,)`` index from 0.
    mobility
        ``(n,)`` 0 for the main chain of rods; coil and ends of side chains have more.
    """

    xyz_angst: NDArray[np.float64]
    element: NDArray[np.uint8]
    domain: NDArray[np.int64]
    mobility: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A piece of chain: a trace with one CA more at either end, and where O points."""

    trace: NDArray[np.float64]
    oxygen_towards: NDArray[np.float64]
    domain: int
    is_coil: bool = False


def fold_domains(
    generator: np.random.Generator,
    labels: Grid,
    folds: list[DomainFold],
    rotations: NDArray[np.float64],
) -> FoldedAtoms:
    """Fill labelled domains with residues.

    Parameters
    ----------
    generator
        The source of randomness.
    labels
        0 for ice, the number of a domain from 1, -1 for other copies.
    folds
        One a domain.
    rotations
        ``(order, 3, 3)`` of the point group, the identity first.

    Returns
    -------
    FoldedAtoms
        Of all domains.
    """
    segments: list[_Segment] = []
    for domain, fold in enumerate(folds):
        segments += _rods(generator, labels, domain, fold)
    segments += _coils(generator, labels, segments, len(folds))
    chains = [build_main_chain(one.trace, one.oxygen_towards) for one in segments]
    sizes = [len(one.ca) for one in chains]
    chain = MainChain(
        **{
            name: np.concatenate([getattr(one, name) for one in chains])
            for name in ("n", "ca", "c", "o", "cb")
        }
    )
    domains = np.repeat([one.domain for one in segments], sizes)
    is_coil = np.repeat([one.is_coil for one in segments], sizes)
    return _with_side_chains(generator, labels, chain, domains, is_coil, rotations)


def _rods(
    generator: np.random.Generator, labels: Grid, domain: int, fold: DomainFold
) -> list[_Segment]:
    cells = np.flatnonzero(labels.values.reshape(-1) == domain + 1)
    if not len(cells):
        return []
    points = labels.places(cells)
    centre = points.mean(axis=0)
    axis = _axis(generator, points - centre, fold)
    first, second = _across(generator, axis)
    reach = float(np.linalg.norm(points - centre, axis=1).max())
    lattice = _lattice(generator, reach, fold.kind)
    lean = np.radians(generator.normal(0, fold.tilt_deg, lattice.shape))
    across = np.stack([first, second])
    directions = axis + lean @ across
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    middles = centre + lattice @ across
    is_helix = fold.kind == "helix"
    make, margin = (_helix, _HELIX_MARGIN) if is_helix else (_strand, _STRAND_MARGIN)
    around = margin * np.concatenate([np.zeros((1, 3)), across, -across])
    line = np.arange(-reach, reach, 0.75)
    points = middles[:, None] + line[:, None] * directions[:, None]
    is_free = (labels.at(points[:, :, None] + around) == domain + 1).all(axis=2)
    found: list[_Segment] = []
    for index in np.flatnonzero(is_free.any(axis=1)):
        for ends in _runs(line, is_free[index]):
            way = ends if generator.random() < 0.5 else ends[::-1]
            start, end = (middles[index] + at * directions[index] for at in way)
            found.append(make(generator, (start, end), second, domain))
    return found


def _axis(
    generator: np.random.Generator, points: NDArray[np.float64], fold: DomainFold
) -> NDArray[np.float64]:
    if fold.direction is not None:
        return _normal(np.array(fold.direction))
    _, axes = np.linalg.eigh(points.T @ points)
    return _normal(axes[:, 2] + 0.35 * generator.standard_normal(3))


def _across(
    generator: np.random.Generator, axis: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first = _normal(np.cross(axis, generator.standard_normal(3)))
    return first, np.cross(axis, first)


def _lattice(
    generator: np.random.Generator, reach: float, kind: str
) -> NDArray[np.float64]:
    """Return where rods cross the middle of a domain, ``(n, 2)``, Å."""
    if kind == "helix":
        steps = (_HELIX_SPACING_ANGST, _HELIX_SPACING_ANGST * np.sqrt(3) / 2)
    else:
        steps = (_STRAND_SPACING_ANGST, _SHEET_SPACING_ANGST)
    counts = [int(reach / step) + 1 for step in steps]
    rows = np.arange(-counts[1], counts[1] + 1)
    columns = np.arange(-counts[0], counts[0] + 1)
    u = (columns[None, :] + 0.5 * (rows[:, None] % 2)) * steps[0]
    v = np.broadcast_to(rows[:, None] * steps[1], u.shape)
    lattice = np.stack([u, v], axis=-1).reshape(-1, 2)
    jitter = generator.normal(0, 0.5 if kind == "helix" else 0.15, lattice.shape)
    offset = generator.uniform(0, 1, 2) * steps
    lattice = lattice + jitter + offset
    near: NDArray[np.float64] = lattice[(lattice**2).sum(axis=1) < reach**2]
    return near


def _runs(
    line: NDArray[np.float64], is_free: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """Return where a line may be a rod, in pieces of a likely length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_free, [0]]).astype(int)))
    found: list[tuple[float, float]] = []
    for start, stop in edges.reshape(-1, 2):
        low, high = line[start] + 1.0, line[stop - 1] - 1.0
        pieces = max(1, int(np.ceil((high - low) / _LONGEST_ROD_ANGST)))
        length = (high - low) / pieces
        if length >= _SHORTEST_ROD_ANGST:
            found += [
                (low + i * length, low + (i + 1) * length - 4.0 * (pieces > 1))
                for i in range(pieces)
            ]
    return found


def _helix(
    generator: np.random.Generator,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    _: NDArray[np.float64],
    domain: int,
) -> _Segment:
    axis = _normal(ends[1] - ends[0])
    first, second = _across(generator, axis)
    count = int(np.linalg.norm(ends[1] - ends[0]) / _HELIX_RISE_ANGST)
    step = np.arange(count + 2)
    # Right-handed: first, second and axis are, and the angle grows along the axis.
    angle = np.radians(_HELIX_TURN_DEG * step + generator.uniform(0, 360))
    around = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    trace = (
        ends[0]
        + _HELIX_RADIUS_ANGST * around
        + _HELIX_RISE_ANGST * step[:, None] * axis
    )
    towards = np.broadcast_to(axis, (count + 1, 3)) + 0.15 * around[:-1]
    return _Segment(trace=trace, oxygen_towards=towards, domain=domain)


def _strand(
    generator: np.random.Generator,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    sheet_normal: NDArray[np.float64],
    domain: int,
) -> _Segment:
    axis = _normal(ends[1] - ends[0])
    normal = _normal(sheet_normal - (sheet_normal @ axis) * axis)
    count = int(np.linalg.norm(ends[1] - ends[0]) / _STRAND_RISE_ANGST)
    step = np.arange(count + 2)
    sign = np.where((step + generator.integers(2)) % 2, 1.0, -1.0)[:, None]
    along = (_STRAND_RISE_ANGST * step[:, None]) * axis
    trace = ends[0] + along + _STRAND_PLEAT_ANGST * sign * normal
    towards = sign[:-1] * np.cross(axis, normal)
    return _Segment(trace=trace, oxygen_towards=towards, domain=domain)


def _coils(
    generator: np.random.Generator, labels: Grid, rods: list[_Segment], domains: int
) -> list[_Segment]:
    """Walk through what room the rods leave."""
    taken = copy(labels)
    taken.values = (labels.values <= 0).astype(np.uint8)
    for rod in rods:
        taken.add_balls(rod.trace[1:-1], _COIL_DISTANCE_ANGST)
    found: list[_Segment] = []
    for rod in rods:
        for end, before in ((-1, -2), (0, 1)):
            place = rod.trace[end]
            heading = place - rod.trace[before]
            found += _walk(generator, taken, place, heading, rod.domain)
    cells = np.flatnonzero(labels.values.reshape(-1) > 0)
    for _ in range(2):
        seeds = labels.places(generator.choice(cells, 60 * domains))
        for place in seeds[taken.at(seeds) == 0]:
            if not taken.at(place):
                domain = int(labels.at(place)) - 1
                heading = generator.standard_normal(3)
                found += _walk(generator, taken, place, heading, domain)
    return found


def _walk(
    generator: np.random.Generator,
    taken: Grid,
    place: NDArray[np.float64],
    heading: NDArray[np.float64],
    domain: int,
) -> list[_Segment]:
    """Step through free space of a domain until there is none."""
    trace = [place - _CA_STEP_ANGST * _normal(heading), place]
    wanted = int(generator.integers(_LONGEST_COIL // 2, _LONGEST_COIL + 1))
    while len(trace) < wanted + 2:
        heading = trace[-1] - trace[-2]
        tries = heading / _CA_STEP_ANGST + 0.9 * generator.standard_normal((16, 3))
        tries /= np.sqrt((tries**2).sum(axis=1, keepdims=True))
        steps = trace[-1] + _CA_STEP_ANGST * tries
        # A CA is 5 to 7 Å from the one before the last.
        is_open = ((steps - trace[-2]) ** 2).sum(axis=1) > 25
        is_open &= taken.at(steps) == 0
        if not is_open.any():
            break
        trace.append(steps[is_open][0])
        if len(trace) > 4:
            taken.add_balls(trace[-3][None], _COIL_DISTANCE_ANGST)
    if len(trace) < _SHORTEST_COIL + 2:
        return []
    path = np.array(trace)
    taken.add_balls(path[1:], _COIL_DISTANCE_ANGST)
    towards = generator.standard_normal((len(path) - 1, 3))
    return [_Segment(trace=path, oxygen_towards=towards, domain=domain, is_coil=True)]


def _with_side_chains(
    generator: np.random.Generator,
    labels: Grid,
    chain: MainChain,
    domain: NDArray[np.int64],
    is_coil: NDArray[np.bool_],
    rotations: NDArray[np.float64],
) -> FoldedAtoms:
    shares = np.array([one.share for one in RESIDUES])
    kind = generator.choice(len(RESIDUES), size=len(domain), p=shares / shares.sum())
    has_cb = np.array([one.has_cb for one in RESIDUES])[kind]
    main = [chain.n, chain.ca, chain.c, chain.o, chain.cb[has_cb]]
    full = Grid(
        labels.low_angst - 6,
        labels.low_angst + labels.spacing_angst * np.array(labels.values.shape) + 6,
        spacing_angst=1.0,
        dtype=np.uint8,
    )
    full.add_balls(np.concatenate(main), 2.6)
    rows = [np.arange(len(domain))] * 4 + [np.flatnonzero(has_cb)]
    elements = [np.full(len(r), z) for r, z in zip(rows, (7, 6, 6, 8, 6), strict=True)]
    depths = [np.full(len(r), d) for r, d in zip(rows, (0, 0, 0, 1, 1), strict=True)]
    # The largest first: they need most room.
    for index in reversed(range(len(RESIDUES))):
        mine = np.flatnonzero(kind == index)
        branches = RESIDUES[index].branches
        if not branches or not len(mine):
            continue
        atoms = _best_rotamers(generator, labels, full, chain, index, mine)
        main.append(atoms.reshape(-1, 3))
        full.add_balls(main[-1], 2.6)
        rows.append(np.repeat(mine, len(branches)))
        elements.append(np.tile([one[0] for one in branches], len(mine)))
        depths.append(np.tile(2 + np.arange(len(branches)) // 2, len(mine)))
    row = np.concatenate(rows)
    return FoldedAtoms(
        xyz_angst=relax(np.concatenate(main), row, rotations),
        element=np.concatenate(elements).astype(np.uint8),
        domain=domain[row],
        mobility=np.concatenate(depths) + 2.0 * is_coil[row],
    )


def _best_rotamers(
    generator: np.random.Generator,
    labels: Grid,
    full: Grid,
    chain: MainChain,
    kind: int,
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return ``(n, atoms, 3)``: of some tries the one with the fewest clashes."""
    part = MainChain(
        n=chain.n[rows],
        ca=chain.ca[rows],
        c=chain.c[rows],
        o=chain.o[rows],
        cb=chain.cb[rows],
    )
    shape = (_ROTAMERS, len(rows), len(RESIDUES[kind].branches))
    dihedrals_deg = generator.choice([60.0, 180.0, 300.0], size=shape)
    dihedrals_deg += generator.normal(0, 12, shape)
    tries = build_side_chains(RESIDUES[kind], part, dihedrals_deg)
    # The first atom is always close to its own main chain.
    clashes = full.at(tries[:, :, 1:]) + (labels.at(tries[:, :, 1:]) < 0)
    chosen = clashes.sum(axis=2).argmin(axis=0)
    best: NDArray[np.float64] = tries[chosen, np.arange(len(rows))]
    return best


def _normal(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
