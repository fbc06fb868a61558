from __future__ import annotations

import pytest

from icestream.domain import Verdict
from icestream.report.axis import Axis, round_step, span_of
from icestream.report.wording import (
    duration,
    number,
    percent,
    plain,
    quantity,
    verdict_sentence,
)


@pytest.mark.parametrize(
    ("rule", "value", "limit", "sentence"),
    [
        ("resolution_angst", 8.14, 6.0, "resolution 8.1\u00a0Å > 6\u00a0Å"),
        ("defocus_angst", 2100.0, 3000.0, "defocus 0.21\u00a0µm < 0.3\u00a0µm"),
        (
            "astigmatism_angst",
            2345.0,
            1000.0,
            "astigmatism 2\u202f345\u00a0Å > 1\u202f000\u00a0Å",
        ),
        ("score", 0.02, 0.05, "score 0.02 < 0.05"),
        # Rounded alike, the value gets more digits: "6 > 6" would explain nothing.
        ("resolution_angst", 6.004, 6.0, "resolution 6.004\u00a0Å > 6\u00a0Å"),
    ],
)
def test_a_verdict_is_told_in_units_that_people_read(
    rule: str, value: float, limit: float, sentence: str
) -> None:
    verdict = Verdict(accepted=False, rule=rule, value=value, limit=limit)
    assert verdict_sentence(verdict) == sentence


def test_a_missing_value_is_told() -> None:
    verdict = Verdict(accepted=False, rule="resolution_angst", reason="missing")
    assert verdict_sentence(verdict) == "resolution: missing"


def test_numbers() -> None:
    assert number(1234567) == "1\u202f234\u202f567"
    assert number(None) == number(float("nan")) == "–"
    assert quantity("pixel_size_angst").text(0.885) == "0.885\u00a0Å"
    assert percent(1, 1000) == "1\u00a0%"
    assert percent(999, 1000) == "99\u00a0%"
    assert percent(0, 0) == "0\u00a0%"
    assert plain(None) == "not set"
    assert plain(["*.mrc", "*.tif"]) == "*.mrc, *.tif"


def test_durations() -> None:
    assert duration(0.017) == "17\u00a0ms"
    assert duration(4.06) == "4.1\u00a0s"
    assert duration(600) == "10\u00a0min"
    assert duration(2 * 3600 + 300) == "2\u00a0h 05\u00a0min"
    assert duration(3 * 86400) == "3\u00a0d 0\u00a0h"


def test_an_axis_is_not_stretched_by_a_wild_value() -> None:
    low, high = span_of([*range(100, 200), 1e7])
    assert low == pytest.approx(100, abs=10)
    assert high == pytest.approx(200, abs=10)


def test_an_axis_shows_near_limits_only() -> None:
    values = list(range(100, 200))
    assert span_of(values, include=[250.0])[1] > 250
    assert span_of(values, include=[9000.0])[1] < 300


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [3.0, 3.0, 3.0], [-1.0, 1.0]])
def test_any_values_give_an_axis(values: list[float]) -> None:
    low, high = span_of(values)
    assert low < high
    ticks = Axis(low=low, high=high, start=0, end=100).ticks(4)
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)


def test_steps_are_round() -> None:
    assert [round_step(one) for one in (0.13, 1.0, 34, 51)] == [0.2, 1.0, 50.0, 100.0]
    axis = Axis(low=0, high=3, start=0, end=300)
    assert axis.ticks(3) == [(0, "0"), (1, "1"), (2, "2"), (3, "3")]
    assert axis.place(7) == 300


def test_differences_below_the_last_digit_do_not_stretch_an_axis() -> None:
    low, high = span_of([0.0, 0.0, 6e-6], least=1.0)
    assert low == 0.0
    assert 1.0 <= high < 1.2
    assert span_of([0.0, 40.0, 42.0], least=1.0)[1] > 42
