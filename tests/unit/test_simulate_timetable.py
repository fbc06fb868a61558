"""When and where exposures are taken, and what goes wrong with them."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.simulate.exposure import Defect
from icestream.simulate.focus import FocusPlan
from icestream.simulate.places import HOLE_SIZE_UM, HOLE_SPACING_UM
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
    many = draw_timetable(600, defect_share=0.3, seed=5)
    for count in (20, 256, 257, 300):
        assert many[:count] == draw_timetable(count, defect_share=0.3, seed=5)
    few = many[:20]
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


def test_nothing_is_interrupted_before_the_first_exposure() -> None:
    for seed in range(5):
        first, second = draw_timetable(2, faults=FaultRates(long_pause=1), seed=seed)
        assert (first.taken_at_s, first.fault) == (0.0, None)
        assert second.fault == "long_pause"
        assert second.taken_at_s > 3600


def test_a_change_of_grid_takes_time() -> None:
    timing = Timing(exposures_per_hour=360, grid_s=480)
    entries = draw_timetable(9, timing=timing, plans=[FocusPlan()] * 3)
    gaps = np.diff([one.taken_at_s for one in entries]).round().tolist()
    assert gaps == [10, 10, 490, 10, 10, 490, 10, 10]


def test_a_beam_group_is_a_beam_shift() -> None:
    timing = Timing(holes_per_cluster=9, holes_per_square=18, shots_per_hole=2)
    entries = draw_timetable(100, timing=timing)
    shifts = defaultdict(set)
    for one in entries:
        shifts[one.beam_group].add(one.image_shift_um)
    assert all(len(found) == 1 for found in shifts.values())
    assert len(set.union(*shifts.values())) == len(shifts) == 18


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_shots_lie_apart_in_their_hole(shots: int) -> None:
    timing = Timing(shots_per_hole=shots)
    entries = draw_timetable(4 * shots, timing=timing)
    for first in range(0, len(entries), shots):
        taken = entries[first : first + shots]
        assert len({(one.hole, one.hole_um) for one in taken}) == 1
        offsets = np.array(
            [np.add(one.stage_um[:2], one.image_shift_um) for one in taken]
        ) - np.array(taken[0].hole_um[:2])
        # All in the hole, around its middle.
        assert np.hypot(*offsets.T).max() < HOLE_SIZE_UM / 2
        np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=1e-9)
        apart = [np.hypot(*(a - b)) for a, b in itertools.combinations(offsets, 2)]
        assert min(apart, default=1.0) > 0.4


def test_holes_lie_on_a_lattice_within_their_square() -> None:
    entries = draw_timetable(400)
    of_square = defaultdict(set)
    for one in entries:
        of_square[one.square].add(one.hole_um[:2])
        # The stage keeps its height on a square.
        assert one.stage_um[2] == one.square_um[2] == one.hole_um[2]
    assert len(of_square) == 5
    for number, holes in of_square.items():
        middle = next(one.square_um[:2] for one in entries if one.square == number)
        places = np.array(sorted(holes))
        assert len(places) == min(45, 200 - 45 * (number - 1))
        assert np.abs(places - middle).max() < 30
        distances = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
        nearest = distances[distances > 0].min()
        assert nearest == pytest.approx(HOLE_SPACING_UM)


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
    with pytest.raises(BadSettings, match="no shares"):
        FaultRates.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[]",
        '""',
        "- 1\n",
        "- truncated\n",
        "!!set {truncated}",
        "{",
        "[" * 5_000,
        "truncated: often\n",
        "truncated: [1]\n",
        "truncated: 1" + "0" * 400,
        "truncated: 1" + "0" * 5_000,
        "truncated: .nan\n",
        "truncated: 2\n",
        "1: 2\n",
    ],
    ids=lambda text: text[:15],
)
def test_a_file_that_holds_no_rates_is_refused(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(wrong, encoding="utf-8")
    with pytest.raises(BadSettings, match=r"faults\.yaml|shares of faults cannot be"):
        FaultRates.read(file)


@pytest.mark.parametrize(
    "wrong",
    [{"exposures_per_hour": float("inf")}, {"stage_s": float("nan")}],
)
def test_a_pace_is_finite(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSettings, match="cannot be"):
        Timing(**wrong)  # type: ignore[arg-type]


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
