"""When and where a microscope takes each exposure, and what goes wrong with it.

Grid squares differ; holes of one square are visited in clusters by beam shift; between
clusters the stage moves and settles; liquid nitrogen is filled up; a cold gun fades and
is flashed. All of it is drawn before anything is taken.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, get_args

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from icestream.domain.errors import BadSettings
from icestream.simulate.bounds import check_number
from icestream.simulate.exposure import Defect
from icestream.simulate.focus import FocusPlan, draw_focus
from icestream.simulate.places import find_place
from icestream.simulate.streams import Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self


__all__ = [
    "FAULTS",
    "STARTED_AT",
    "Entry",
    "FaultRates",
    "Timing",
    "draw_timetable",
]

STARTED_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When the first exposure of any acquisition is taken."""

FAULTS = (
    "truncated",
    "empty",
    "zero_tail",
    "duplicate_name",
    "rewritten",
    "clock_skew",
    "late_metadata",
    "missing_metadata",
    "wrong_frame_count",
    "late_gain",
    "turned_gain",
    "long_pause",
)
"""What can be done to files and times. The gain's faults are of the acquisition."""

_OF_THE_GAIN = ("late_gain", "turned_gain")
_FADING_PER_HOUR, _FLASH_H = 0.03, 6.0
_LONG_PAUSE_S = (3_600.0, 14_400.0)
_HEIGHT_UM = 2.0  # of the stage, from square to square
_BLOCK = 256  # exposures


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """Share of the exposures that has each fault; for the gain, the chance of it.

    Raises
    ------
    BadSettings
        A share outside 0 to 1, or more than 1 in all.
    """

    truncated: float = 0.0
    empty: float = 0.0
    zero_tail: float = 0.0
    duplicate_name: float = 0.0
    rewritten: float = 0.0
    clock_skew: float = 0.0
    late_metadata: float = 0.0
    missing_metadata: float = 0.0
    wrong_frame_count: float = 0.0
    late_gain: float = 0.0
    turned_gain: float = 0.0
    long_pause: float = 0.0

    def __post_init__(self) -> None:
        rates = [getattr(self, name) for name in FAULTS]
        of_exposures = [getattr(self, n) for n in FAULTS if n not in _OF_THE_GAIN]
        if not all(0 <= rate <= 1 for rate in rates) or sum(of_exposures) > 1:
            raise BadSettings(
                f"These shares of faults cannot be: {self}.",
                hint="Each is from 0 to 1, those of exposures 1 in all at most.",
            )

    @classmethod
    def in_all(cls, share: float) -> Self:
        """Return equal shares of all faults of exposures, ``share`` in all."""
        names = [name for name in FAULTS if name not in _OF_THE_GAIN]
        return cls(**dict.fromkeys(names, share / len(names)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read shares from a YAML file: one ``fault: share`` a line.

        Raises
        ------
        BadSettings
            No such file, no such fault, or no such share.
        """
        try:
            shares = _shares(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
        except (
            *(OSError, YAMLError, TypeError, ValueError),
            *(OverflowError, RecursionError),
        ) as error:
            raise BadSettings(
                f"{path} holds no shares of faults: {error}.",
                hint="Write one `truncated: 0.02` a line.",
            ) from error
        unknown = set(shares) - {one.name for one in fields(cls)}
        if unknown:
            raise BadSettings(
                f"{path}: no fault is called {', '.join(sorted(unknown))}.",
                hint=f"Known are {', '.join(FAULTS)}.",
            )
        return cls(**shares)


def _shares(values: object) -> dict[str, float]:
    if not isinstance(values, dict):
        raise TypeError("it has no names with a share each")
    return {str(name): float(share) for name, share in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How fast exposures follow each other, and what interrupts them.

    Parameters
    ----------
    exposures_per_hour
        While nothing interrupts.
    shots_per_hole, holes_per_cluster, holes_per_square
        Exposures of a hole, holes visited by beam shift alone, holes of a square.
    stage_s, square_s, grid_s
        A move of the stage and its settling; one to another square with focusing;
        another grid with its atlas, s.
    refill_every_h, refill_s
        Filling up liquid nitrogen.
    """

    exposures_per_hour: float = 400.0
    shots_per_hole: int = 2
    holes_per_cluster: int = 9
    holes_per_square: int = 45
    stage_s: float = 15.0
    square_s: float = 120.0
    grid_s: float = 450.0
    refill_every_h: float = 8.0
    refill_s: float = 900.0

    def __post_init__(self) -> None:
        for name in ("exposures_per_hour", "refill_every_h"):
            check_number(name, getattr(self, name), above=0)
        for name in ("shots_per_hole", "holes_per_cluster", "holes_per_square"):
            check_number(name, getattr(self, name), least=1)
        for name in ("stage_s", "square_s", "grid_s", "refill_s"):
            check_number(name, getattr(self, name), least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One exposure of the timetable.

    Parameters
    ----------
    number
        From 1.
    taken_at_s
        Seconds after the first exposure.
    grid, square, hole, area
        From 1; numbering of squares and holes starts anew on each grid. The area is
        the place within a hole.
    hole_in_cluster, beam_group
        Of the hole, and of the beam shift, within a cluster, from 1.
    image_shift_um, stage_um
        x and y of the shift; x, y, z of the stage.
    square_um, hole_um
        x, y, z of the middles of its square and of its hole.
    ice_factor, filling
        Of the square: thickness against the recipe's, density of the particles, 0 to 1.
    beam_share
        Brightness of the gun, 1 just after a flash.
    target_defocus_angst, defocus_error_angst
        What was asked for (> 0 is underfocus), and how much more it is, Å.
    phase_shift_deg
        Of the phase plate; 0 without one.
    defect
        What is wrong with the exposure.
    fault
        What is done to its files; ``None`` for nothing.
    """

    number: int
    taken_at_s: float
    grid: int
    square: int
    hole: int
    area: int
    hole_in_cluster: int
    beam_group: int
    image_shift_um: tuple[float, float]
    stage_um: tuple[float, float, float]
    square_um: tuple[float, float, float]
    hole_um: tuple[float, float, float]
    ice_factor: float
    filling: float
    beam_share: float
    target_defocus_angst: float
    defocus_error_angst: float
    phase_shift_deg: float
    defect: Defect | None
    fault: str | None

    @property
    def taken_at(self) -> datetime:
        """When, by the clock of the microscope."""
        return STARTED_AT + timedelta(seconds=self.taken_at_s)

    @property
    def defocus_angst(self) -> float:
        """Mean defocus at the middle of image and ice, Å."""
        return self.target_defocus_angst + self.defocus_error_angst


@dataclass(slots=True)
class _Clock:
    """The time of day at the microscope, and when it has to stop next."""

    timing: Timing
    now_s: float = 0.0
    refilled_s: float = field(default=0.0)

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        if self.now_s - self.refilled_s > self.timing.refill_every_h * 3_600:
            self.now_s += self.timing.refill_s
            self.refilled_s = self.now_s


def draw_timetable(
    count: int,
    *,
    timing: Timing | None = None,
    defect_share: float = 0.1,
    faults: FaultRates | None = None,
    plans: Sequence[FocusPlan] = (FocusPlan(),),
    seed: int = 0,
) -> list[Entry]:
    """Draw when and where exposures are taken.

    Parameters
    ----------
    count
        How many.
    timing
        The microscope's pace.
    defect_share
        Share of bad exposures, of all kinds alike; squares differ.
    faults
        What is done to files; nothing if absent.
    plans
        One for each grid; the exposures are shared out to them, one after the other.
    seed
        The same seed and values give the same timetable; its beginning does not depend
        on ``count`` where there is one grid.

    Returns
    -------
    list of Entry
        In the order of taking.

    Raises
    ------
    BadSettings
        No exposure or grid, or a share outside 0 to 1.
    """
    grids = len(plans)
    if count < 1 or not 1 <= grids <= count or not 0 <= defect_share <= 1:
        raise BadSettings(
            f"{count} exposures on {grids} grids with a share of {defect_share:g} bad "
            "ones cannot be taken.",
            hint="Give 1 exposure a grid at least, and a share from 0 to 1.",
        )
    timing, faults = timing or Timing(), faults or FaultRates()
    clock = _Clock(timing)
    entries = []
    for index in range(count):
        drawn = _drawn(seed, index)
        grid = index * grids // count
        place = index - math.ceil(grid * count / grids)
        fault = _fault(drawn.fault, faults)
        if fault == "long_pause" and not index:
            fault = None  # there is nothing that it could interrupt
        if fault == "long_pause":
            shortest_s, longest_s = _LONG_PAUSE_S
            clock.pass_by(shortest_s + (longest_s - shortest_s) * drawn.pause)
        if index:
            clock.pass_by(_way_s(timing, place))
        entries.append(
            _entry(
                drawn,
                timing,
                clock,
                plans[grid],
                index,
                grid,
                place,
                defect_share,
                fault,
                seed,
            )
        )
        clock.pass_by(3_600 / timing.exposures_per_hour)
    return entries


def _way_s(timing: Timing, place: int) -> float:
    """How long the microscope takes to come from the last exposure to this one."""
    if not place:
        return timing.grid_s
    hole, shot = divmod(place, timing.shots_per_hole)
    if shot:
        return 0.0
    if hole % timing.holes_per_square == 0:
        return timing.square_s
    in_square = hole % timing.holes_per_square
    return timing.stage_s if in_square % timing.holes_per_cluster == 0 else 0.0


class _Drawn(NamedTuple):
    """What is random in an exposure, each even from 0 to 1."""

    fault: float
    pause: float
    defect: float
    kind: float


class _Square(NamedTuple):
    """What is random in a square; ``defects`` is its share against the mean."""

    ice_factor: float
    filling: float
    defects: float
    height_um: float


def _drawn(seed: int, index: int) -> _Drawn:
    block, place = divmod(index, _BLOCK)
    return _Drawn(*_block(seed, block)[place])


@functools.lru_cache(maxsize=8)
def _block(seed: int, block: int) -> list[list[float]]:
    """Draw for many at once, always as many: the seventh is the same in any run.

    A generator takes longer to be made than to draw all of this.
    """
    numbers = stream(seed, Purpose.ENTRY, block).random((_BLOCK, 4))
    rows: list[list[float]] = numbers.tolist()
    return rows


@functools.lru_cache(maxsize=8)
def _square(seed: int, grid: int, square: int) -> _Square:
    quality = stream(seed, Purpose.SQUARE, grid, square)
    return _Square(
        ice_factor=quality.uniform(0.8, 1.3),
        filling=quality.uniform(0.6, 1.0),
        defects=quality.gamma(2.0, 0.5),
        height_um=quality.normal(0, _HEIGHT_UM),
    )


def _entry(
    drawn: _Drawn,
    timing: Timing,
    clock: _Clock,
    plan: FocusPlan,
    index: int,
    grid: int,
    place: int,
    defect_share: float,
    fault: str | None,
    seed: int,
) -> Entry:
    where = find_place(timing, place)
    quality = _square(seed, grid, where.square - 1)
    focus = draw_focus(
        plan,
        place=place,
        square=(where.square - 1, where.since_focus),
        grid=grid,
        seed=seed,
    )
    hours = clock.now_s / 3_600
    return Entry(
        number=index + 1,
        taken_at_s=clock.now_s,
        grid=grid + 1,
        square=where.square,
        hole=where.hole,
        area=where.area,
        hole_in_cluster=where.hole_in_cluster,
        beam_group=where.beam_group,
        image_shift_um=where.image_shift_um,
        stage_um=(*where.stage_um, quality.height_um),
        square_um=(*where.square_um, quality.height_um),
        hole_um=(*where.hole_um, quality.height_um),
        ice_factor=quality.ice_factor,
        filling=quality.filling,
        beam_share=math.exp(-_FADING_PER_HOUR * (hours % _FLASH_H)),
        target_defocus_angst=focus.target_angst,
        defocus_error_angst=focus.error_angst,
        phase_shift_deg=focus.phase_shift_deg,
        defect=_defect(drawn, quality.defects * defect_share),
        fault=fault,
    )


def _defect(drawn: _Drawn, share: float) -> Defect | None:
    kinds: tuple[Defect, ...] = get_args(Defect)
    return kinds[int(drawn.kind * len(kinds))] if drawn.defect < share else None


def _fault(drawn: float, rates: FaultRates) -> str | None:
    left = drawn
    for name in FAULTS:
        if name in _OF_THE_GAIN:
            continue
        left -= getattr(rates, name)
        if left < 0:
            return name
    return None
