from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.engines.ctf import unfold_phase_shift_deg


def _drift(count: int, *, start: float, rate: float) -> np.ndarray:
    return start + rate * np.arange(count)


@pytest.mark.parametrize("rate", [2.0, -2.0, 20.0])
def test_a_line_through_the_wrap_comes_back(rate: float) -> None:
    truth = _drift(60, start=150.0, rate=rate)
    found = unfold_phase_shift_deg(truth % 180)
    turns = (found - truth) / 180
    np.testing.assert_allclose(turns, round(turns[0]), atol=1e-9)


def test_gaps_and_single_wrong_values_do_not_move_the_line() -> None:
    truth = _drift(80, start=160.0, rate=1.0)
    seen = truth % 180
    seen[[10, 11, 40]] = np.nan
    wrong = [0, 5, 30, 31, 50]
    seen[wrong] = (seen[wrong] + 80) % 180
    found = unfold_phase_shift_deg(seen)
    assert np.isnan(found[[10, 11, 40]]).all()
    good = np.setdiff1d(np.arange(80), [10, 11, 40, *wrong])
    turns = (found - truth)[good] / 180
    np.testing.assert_allclose(turns, round(turns[0]), atol=1e-9)


def test_the_line_lies_where_phase_shifts_are_told() -> None:
    found = unfold_phase_shift_deg(np.array([178.0, 179.0, 1.0, 3.0, 5.0, 7.0]))
    np.testing.assert_allclose(found, [-2, -1, 1, 3, 5, 7])


def test_nothing_known_gives_nothing() -> None:
    assert np.isnan(unfold_phase_shift_deg(np.full(3, np.nan))).all()
    assert unfold_phase_shift_deg(np.empty(0)).shape == (0,)


@given(
    st.lists(
        st.one_of(st.floats(0, 180, exclude_max=True), st.just(float("nan"))),
        max_size=40,
    )
)
def test_half_turns_are_added_and_nothing_else(values: list[float]) -> None:
    series = np.array(values, dtype=np.float64)
    before = series.copy()
    found = unfold_phase_shift_deg(series)
    np.testing.assert_array_equal(series, before)
    turns = (found - series) / 180
    np.testing.assert_array_equal(np.isnan(turns), np.isnan(series))
    known = turns[np.isfinite(turns)]
    np.testing.assert_allclose(known, np.round(known), atol=1e-9)
    if len(known):
        assert 0 <= np.nanmedian(found) < 180
