"""When and where exposures are taken, and what goes wrong with them."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.simulate.exposure import Defect
from icestream.simulate.focus import FocusPlan
from icestream.simulate.timetable import FAULTS, FaultRates, Timing, draw_timetable

if TYPE_CHECKING:
    from pathlib import Path


def test_the_clock_goes_by_rate_moves_and_refills() -> None:
    timing = Timing(
        exposures_per_hour=360,
        shots_per_hole=2,
        holes_per_cluster=3,
        holes_per_square=6,
        stage_s=20,
        square_s=100,
        refill_every_h=1,
        refill_s=600,
    )
    entries = draw_timetable(400, timing=timing)
    gaps = np.diff([one.taken_at_s for one in entries])
    # After each cluster of 6 exposures a move, after each square of 12 a longer one.
    assert set(gaps[:11].round().tolist()) == {10.0, 30.0}
    assert gaps[5] == pytest.approx(30)
    assert gaps[11] == pytest.approx(110)
    hours = entries[-1].taken_at_s / 3600
    assert Counter((gaps > 600).tolist())[True] == int(hours)
    assert entries[12].square == 2
    assert {one.beam_group for one in entries} == set(range(1, 7))


def test_the_beginning_does_not_depend_on_the_end() -> None:
    few = draw_timetable(20, defect_share=0.3, seed=5)
    many = draw_timetable(60, defect_share=0.3, seed=5)
    assert many[:20] == few
    assert draw_timetable(20, defect_share=0.3, seed=6) != few


def test_defects_of_all_kinds_come_with_their_share() -> None:
    entries = draw_timetable(4000, defect_share=0.2)
    found = Counter(one.defect for one in entries)
    # 45 squares differ much: the mean of their shares is 0.2 within 0.07.
    assert 0.13 < 1 - found[None] / 4000 < 0.27
    assert set(found) == {None, *get_args(Defect)}


def test_faults_come_with_their_rates() -> None:
    rates = FaultRates(truncated=0.1, long_pause=0.01)
    entries = draw_timetable(2000, faults=rates)
    found = Counter(one.fault for one in entries)
    # Four standard deviations of 2000 draws.
    assert abs(found["truncated"] - 200) < 54
    assert abs(found["long_pause"] - 20) < 18
    assert set(found) == {None, "truncated", "long_pause"}
    long = [
        later.taken_at_s - one.taken_at_s
        for one, later in itertools.pairwise(entries)
        if later.fault == "long_pause"
    ]
    assert min(long) > 3600


def test_each_grid_starts_anew() -> None:
    entries = draw_timetable(9, plans=[FocusPlan()] * 3)
    assert [one.grid for one in entries] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [(one.square, one.hole) for one in entries][3] == (1, 1)


@pytest.mark.parametrize(("count", "grids"), [(5, 4), (7, 3), (4, 4)])
def test_every_grid_has_its_share(count: int, grids: int) -> None:
    entries = draw_timetable(count, plans=[FocusPlan()] * grids)
    shares = Counter(one.grid for one in entries)
    assert set(shares) == set(range(1, grids + 1))
    assert max(shares.values()) - min(shares.values()) <= 1
    firsts = [one for one in entries if (one.hole, one.area) == (1, 1)]
    assert [one.grid for one in firsts] == list(range(1, grids + 1))


def test_rates_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("truncated: 0.02\nlate_gain: 1\n", encoding="utf-8")
    assert FaultRates.read(file) == FaultRates(truncated=0.02, late_gain=1)
    file.write_text("truncted: 0.02\n", encoding="utf-8")
    with pytest.raises(BadSettings, match="truncted"):
        FaultRates.read(file)
    for wrong in ("- 1\n", "truncated: often\n", "truncated: 2\n", "{", ""):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(BadSettings):
            FaultRates.read(file)
    with pytest.raises(BadSettings, match="no shares"):
        FaultRates.read(tmp_path / "none.yaml")


def test_shares_in_all() -> None:
    rates = FaultRates.in_all(0.5)
    assert sum(getattr(rates, name) for name in FAULTS) == pytest.approx(0.5)
    with pytest.raises(BadSettings):
        FaultRates.in_all(1.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"plans": [FocusPlan()] * 5},
        {"defect_share": 1.1},
        {"plans": []},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadSettings):
        draw_timetable(**({"count": 4} | wrong))  # type: ignore[arg-type]
    with pytest.raises(BadSettings):
        Timing(exposures_per_hour=0)
    for name in ("stage_s", "square_s", "refill_s", "refill_every_h", "shots_per_hole"):
        with pytest.raises(BadSettings, match=f"{name}: -1 cannot be"):
            Timing(**{name: -1})
