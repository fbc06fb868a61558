"""What the lenses are asked for, and what comes: targets, autofocus, phase plate.

An operator gives a list of defoci, and exposures go through it in turn. The lens is
focused anew on each square; from there it drifts away, for squares are not level. A
phase plate of Volta's kind charges where the beam hits it, exposure by exposure, and is
moved to a fresh place now and then (Danev et al., PNAS 111 (2014) 15635).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.simulate.bounds import check_range
from icestream.simulate.streams import Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Focus", "FocusPlan", "draw_focus"]

_TARGETS = 8
_BLOCK = 256  # exposures
_AUTOFOCUS_ANGST, _ACROSS_SQUARE_ANGST, _PLACE_ANGST = 400.0, 1_000.0, 150.0
_LARGEST_ERROR_ANGST = 3_000.0
_PLACE_EXPOSURES, _CHARGING_EXPOSURES = 50, 25.0
_PLACE_START_DEG, _PLACE_RISE, _PLATE_SCATTER_DEG = 5.0, 0.08, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusPlan:
    """What is asked for on one grid.

    Parameters
    ----------
    defocus_range_angst
        Exposures go through 8 targets from the second to the first, Å of underfocus.
    phase_shift_range_deg
        Of a phase plate at a fresh place, and when it is moved on; (0, 0) for none.

    Raises
    ------
    BadSettings
        A range that falls, a defocus below 0, or a phase outside 0 to 180 degrees.
    """

    defocus_range_angst: tuple[float, float] = (8_000.0, 22_000.0)
    phase_shift_range_deg: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_range("defocus_range_angst", self.defocus_range_angst, least=0)
        phases = self.phase_shift_range_deg
        check_range("phase_shift_range_deg", phases, least=0, most=180)


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """Of one exposure.

    Parameters
    ----------
    target_angst
        Defocus that was asked for, Å; > 0 is underfocus.
    error_angst
        How much more it is, at the middle of image and ice.
    phase_shift_deg
        Of the phase plate; 0 without one.
    """

    target_angst: float
    error_angst: float
    phase_shift_deg: float


def draw_focus(
    plan: FocusPlan,
    *,
    grid: int,
    place: int,
    square: tuple[int, int],
    seed: int,
) -> Focus:
    """Draw what the lenses do in one exposure.

    Parameters
    ----------
    plan
        Of its grid.
    grid
        Its number, from 0.
    place
        Its number on the grid, from 0: it decides on the target and the plate's charge.
    square
        Number of its square, and how many exposures were taken there since the lens
        was focused on it.
    seed
        Of the acquisition.

    Returns
    -------
    Focus
        The same for the same arguments.

    Notes
    -----
    The error is that of the autofocus (0.04 µm), a slope of the square (0.1 µm from one
    focusing to 90 exposures later) and the height of each place (0.015 µm), standard
    deviations; 0.3 µm in all at most.
    """
    number, since = square
    start, drift = _normal(seed, Purpose.AUTOFOCUS, grid, number, count=1)[0]
    block, row = divmod(place, _BLOCK)
    height, scatter = _normal(seed, Purpose.HEIGHT, grid, block, count=_BLOCK)[row]
    error_angst = (
        _AUTOFOCUS_ANGST * start
        + _ACROSS_SQUARE_ANGST * drift * since / 90
        + _PLACE_ANGST * height
    )
    nearest, farthest = plan.defocus_range_angst
    steps = place % _TARGETS / (_TARGETS - 1)
    spot, exposures = divmod(place, _PLACE_EXPOSURES)
    return Focus(
        target_angst=farthest - (farthest - nearest) * steps,
        error_angst=min(max(error_angst, -_LARGEST_ERROR_ANGST), _LARGEST_ERROR_ANGST),
        phase_shift_deg=_phase_shift_deg(
            plan,
            exposures,
            of_spot=_normal(seed, Purpose.PHASE_PLATE, grid, spot, count=1)[0],
            scatter=scatter,
        ),
    )


@functools.lru_cache(maxsize=32)
def _normal(
    seed: int, purpose: Purpose, grid: int, number: int, *, count: int
) -> list[list[float]]:
    """Draw so many pairs of standard normal numbers.

    Many at once and never fewer: a generator takes longer to be made than to draw
    hundreds, and what one exposure gets must not depend on how many there are.
    """
    drawn = stream(seed, purpose, grid, number).normal(size=(count, 2))
    pairs: list[list[float]] = drawn.tolist()
    return pairs


def _phase_shift_deg(
    plan: FocusPlan, exposures: int, *, of_spot: Sequence[float], scatter: float
) -> float:
    """Charge the plate: quickly at first, then ever more slowly."""
    low, high = plan.phase_shift_range_deg
    if high == 0:
        return 0.0
    start, rise = of_spot
    charge = 1 - math.exp(-exposures / _CHARGING_EXPOSURES)
    charge /= 1 - math.exp(-(_PLACE_EXPOSURES - 1) / _CHARGING_EXPOSURES)
    start_deg = low + _PLACE_START_DEG * start
    rise_deg = (high - low) * (1 + _PLACE_RISE * rise)
    shift_deg = start_deg + rise_deg * charge + _PLATE_SCATTER_DEG * scatter
    return min(max(shift_deg, 0.0), 180.0)
