"""Targets of defocus, errors of the autofocus, and a phase plate that charges."""

from __future__ import annotations

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.simulate.focus import Focus, FocusPlan, draw_focus
from icestream.simulate.timetable import Entry, draw_timetable

PLATE = FocusPlan(
    defocus_range_angst=(4_000, 11_000), phase_shift_range_deg=(30.0, 150.0)
)


def at(place: int, plan: FocusPlan | None = None, *, square: int = 0) -> Focus:
    return draw_focus(
        plan or FocusPlan(), place=place, square=(square, place % 90), grid=0, seed=4
    )


def test_exposures_go_through_the_targets() -> None:
    targets = [at(place).target_angst for place in range(16)]
    assert targets == 2 * [22_000 - 2_000 * step for step in range(8)]
    assert at(3, PLATE).target_angst == 8_000


def test_the_error_drifts_within_a_square_and_starts_anew_on_the_next() -> None:
    entries = draw_timetable(3_600, seed=2)
    squares: dict[int, list[float]] = {}
    for one in entries:
        squares.setdefault(one.square, []).append(one.defocus_error_angst)
        assert one.defocus_angst == one.target_defocus_angst + one.defocus_error_angst
    errors = np.array(list(squares.values()))
    assert errors.shape == (40, 90)
    assert np.abs(errors).max() <= 3_000
    # 400 of the autofocus and 150 of each place; 1000 more after a whole square. The
    # spread of 40 draws is known to 11 %.
    assert 300 < errors[:, 0].std() < 600
    assert 750 < errors[:, -1].std() < 1_450
    # Next to each other in a square they are alike, at the change of squares not.
    assert np.diff(errors, axis=1).std() < 250
    assert (errors[1:, 0] - errors[:-1, -1]).std() > 700


def test_a_phase_plate_charges_and_is_moved_on() -> None:
    phases = np.array([at(place, PLATE).phase_shift_deg for place in range(500)])
    places = phases.reshape(10, 50)
    assert places[:, 0].mean() == pytest.approx(30, abs=6)
    assert places[:, -1].mean() == pytest.approx(150, abs=12)
    # Half of it comes in the first third: it charges ever more slowly.
    assert 85 < places[:, 15].mean() < 105
    assert (places[:, -1] - places[:, 0] > 80).all()
    # 2 degrees of scatter from one to the next, less than 5 of rise.
    assert np.abs(np.diff(places, axis=1)).max() < 16
    assert places[:, 0].std() > 2
    assert {at(place).phase_shift_deg for place in range(60)} == {0.0}


def test_the_same_comes_again_whoever_asks() -> None:
    assert at(7, PLATE, square=2) == at(7, PLATE, square=2)
    assert at(7, PLATE, square=2) != at(7, PLATE, square=3)


def test_grids_have_plans_of_their_own() -> None:
    def of_grid(entries: list[Entry], grid: int) -> list[Entry]:
        return [one for one in entries if one.grid == grid]

    entries = draw_timetable(8, plans=[FocusPlan(), PLATE])
    assert {one.phase_shift_deg for one in of_grid(entries, 1)} == {0.0}
    assert min(one.phase_shift_deg for one in of_grid(entries, 2)) > 0
    assert [one.target_defocus_angst for one in of_grid(entries, 2)] == [
        11_000,
        10_000,
        9_000,
        8_000,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"defocus_range_angst": (20_000, 8_000)},
        {"phase_shift_range_deg": (150, 30)},
        {"phase_shift_range_deg": (30, 200)},
        {"phase_shift_range_deg": (-10, 30)},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(BadSettings, match="cannot be taken"):
        FocusPlan(**wrong)
