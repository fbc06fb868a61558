"""Where exposures lie: squares on a grid, clusters of holes, holes, shots in a hole.

Within a cluster the beam is shifted; from one to the next the stage moves. The foil is
an R 1.2/1.3 on 200 mesh: holes of 1.2 µm, 2.5 µm from centre to centre, squares 127 µm
apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icestream.simulate.timetable import Timing

__all__ = ["HOLE_SIZE_UM", "HOLE_SPACING_UM", "SQUARE_SIZE_UM", "Place", "find_place"]

HOLE_SIZE_UM, HOLE_SPACING_UM, SQUARE_SIZE_UM = 1.2, 2.5, 90.0
"""Diameter of a hole, from one centre to the next, side of a square."""

_SQUARES_A_ROW, _SQUARE_SPACING_UM = 10, 127.0
_SHOT_RADIUS_UM = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of one exposure on its grid.

    Parameters
    ----------
    square, hole, area
        From 1; holes are numbered through all squares. The area is the shot of a hole.
    hole_in_cluster, beam_group
        Of the hole, and of the beam shift, within a cluster, from 1: the same shift,
        the same group.
    since_focus
        Exposures taken before on the same square.
    square_um, stage_um, hole_um
        x and y of the middle of the square, of the stage, of the middle of the hole.
    image_shift_um
        x and y from the stage to the exposure.
    """

    square: int
    hole: int
    area: int
    hole_in_cluster: int
    beam_group: int
    since_focus: int
    square_um: tuple[float, float]
    stage_um: tuple[float, float]
    hole_um: tuple[float, float]
    image_shift_um: tuple[float, float]


def find_place(timing: Timing, index: int) -> Place:
    """Find where an exposure lies.

    Parameters
    ----------
    timing
        Says how many shots, holes and clusters follow each other.
    index
        Number of the exposure on its grid, from 0.

    Returns
    -------
    Place
        Clusters fill their square, and holes their cluster, row by row around the
        middle; shots lie 0.3 µm from the middle of the hole, a single one in it.
    """
    hole, shot = divmod(index, timing.shots_per_hole)
    square, in_square = divmod(hole, timing.holes_per_square)
    cluster, in_cluster = divmod(in_square, timing.holes_per_cluster)
    clusters = math.ceil(timing.holes_per_square / timing.holes_per_cluster)
    square_um = _on_lattice(square % _SQUARES_A_ROW**2, _SQUARES_A_ROW)
    square_um = _scaled(square_um, _SQUARE_SPACING_UM)
    across = _side(timing.holes_per_cluster) * HOLE_SPACING_UM
    of_cluster = _scaled(_on_lattice(cluster, _side(clusters)), across)
    holes = _on_lattice(in_cluster, _side(timing.holes_per_cluster))
    of_hole = _scaled(holes, HOLE_SPACING_UM)
    stage_um = _added(square_um, of_cluster)
    return Place(
        square=square + 1,
        hole=hole + 1,
        area=shot + 1,
        hole_in_cluster=in_cluster + 1,
        beam_group=in_cluster * timing.shots_per_hole + shot + 1,
        since_focus=in_square * timing.shots_per_hole + shot,
        square_um=square_um,
        stage_um=stage_um,
        hole_um=_added(stage_um, of_hole),
        image_shift_um=_added(of_hole, _of_shot(shot, timing.shots_per_hole)),
    )


def _side(count: int) -> int:
    """Return how many stand in a row where ``count`` fill a square."""
    return math.ceil(math.sqrt(count))


def _on_lattice(index: int, side: int) -> tuple[float, float]:
    """Return x and y on a square lattice around 0, in steps."""
    return index % side - side // 2, index // side - side // 2


def _of_shot(shot: int, shots: int) -> tuple[float, float]:
    if shots == 1:
        return 0.0, 0.0
    angle = math.pi * (2 * shot / shots + 0.25)
    return _SHOT_RADIUS_UM * math.cos(angle), _SHOT_RADIUS_UM * math.sin(angle)


def _scaled(place: tuple[float, float], length: float) -> tuple[float, float]:
    return place[0] * length, place[1] * length


def _added(
    place: tuple[float, float], other: tuple[float, float]
) -> tuple[float, float]:
    return place[0] + other[0], place[1] + other[1]
