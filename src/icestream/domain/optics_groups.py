"""Optics groups, assigned while exposures come in.

Exposures of one group share setup, place in the template of a hole, and beam shift.
Numbers count from 1 in the order in which groups appear; none ever changes, and no two
groups become one. A new template of EPU has new ``Data_<id>``, so it opens new groups;
so does a beam shift that lies near no group of its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icestream.domain.exposure import ExposureMetadata

__all__ = ["BEAM_SHIFT_TOLERANCE", "BeamGroup", "OpticsGroups", "assign_optics_group"]

BEAM_SHIFT_TOLERANCE = 0.02
"""Within this of the first exposure of a group, in EPU's unit of beam shift.

About 0.65 µm on the specimen. It tells neighbouring holes apart that lie 1.3 µm or more
from each other, as long as the beam comes back to a place within 0.3 µm.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamGroup:
    """One group.

    Parameters
    ----------
    number
        From 1.
    setup
        Name of its acquisition setup.
    position
        Place in the template of a hole, as `ExposureMetadata` has it.
    beam_shift
        x and y of its first exposure; ``None`` for exposures that tell no shift.
    """

    number: int
    setup: str
    position: str | None
    beam_shift: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticsGroups:
    """All groups so far, in the order of their numbers."""

    groups: tuple[BeamGroup, ...] = ()


def assign_optics_group(
    state: OpticsGroups,
    metadata: ExposureMetadata | None,
    *,
    setup: str,
    tolerance: float = BEAM_SHIFT_TOLERANCE,
) -> tuple[OpticsGroups, BeamGroup]:
    """Find the group of an exposure, or open a new one.

    Parameters
    ----------
    state
        Groups so far.
    metadata
        Of the exposure; ``None`` where there are none: such exposures of a setup share
        a group of their own.
    setup
        Name of its acquisition setup.
    tolerance
        How far its beam shift may lie from that of a group's first exposure.

    Returns
    -------
    tuple
        The state, the same object where no group was opened, and the group.

    Notes
    -----
    The first group that fits holds, and a group stays where its first exposure was: so
    an exposure that is asked for again gets its number again, whatever came between.
    Places must lie more than twice the tolerance apart, and exposures of one place
    within the tolerance of each other.
    """
    position = metadata.position if metadata else None
    shift = _beam_shift(metadata)
    for group in state.groups:
        if (group.setup, group.position) != (setup, position):
            continue
        if _is_near(group.beam_shift, shift, tolerance):
            return state, group
    opened = BeamGroup(
        number=max((one.number for one in state.groups), default=0) + 1,
        setup=setup,
        position=position,
        beam_shift=shift,
    )
    return OpticsGroups(groups=(*state.groups, opened)), opened


def _beam_shift(metadata: ExposureMetadata | None) -> tuple[float, float] | None:
    if metadata is None:
        return None
    x, y = metadata.beam_shift_x, metadata.beam_shift_y
    return None if x is None or y is None else (x, y)


def _is_near(
    one: tuple[float, float] | None,
    other: tuple[float, float] | None,
    tolerance: float,
) -> bool:
    if one is None or other is None:
        return one is other
    return math.dist(one, other) <= tolerance
