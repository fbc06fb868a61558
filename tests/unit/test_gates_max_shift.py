"""The gate that judges movement: by step, by path, by both, early."""

from __future__ import annotations

import pytest

from icestream.domain.errors import BadSettings
from icestream.protocols.max_shift import MaxShift
from tables import gate_of, table_of

ROWS = {
    "still": (2.0, 10.0, 4.0),
    "jump": (12.0, 20.0, 14.0),
    "far": (5.0, 60.0, 6.0),
    "wild": (30.0, 90.0, 40.0),
    "at the limit": (10.0, 50.0, 20.0),
}


def rejected(**params: object) -> dict[str, str]:
    gate = gate_of(MaxShift, **params)
    names = ("largest_step_angst", "total_angst", "early_angst")
    columns = zip(*ROWS.values(), strict=True)
    found = gate.judge(table_of(dict(zip(names, columns, strict=True))))
    return {
        name: one.rule
        for name, one in zip(ROWS, found, strict=True)
        if not one.accepted
    }


@pytest.mark.parametrize(
    ("rejects", "expected"),
    [
        ("frame", {"jump": "largest_step_angst", "wild": "largest_step_angst"}),
        ("movie", {"far": "total_angst", "wild": "total_angst"}),
        (
            "either",
            {
                "jump": "largest_step_angst",
                "far": "total_angst",
                "wild": "largest_step_angst",
            },
        ),
        ("both", {"wild": "largest_step_angst"}),
    ],
)
def test_what_rejects_is_chosen(rejects: str, expected: dict[str, str]) -> None:
    assert rejected(rejects=rejects) == expected


@pytest.mark.parametrize("rejects", ["frame", "movie", "either", "both"])
def test_an_early_jump_rejects_beside_them(rejects: str) -> None:
    found = rejected(
        rejects=rejects,
        max_frame_shift_angst=1000,
        max_movie_shift_angst=1000,
        max_early_angst=13,
    )
    assert found == dict.fromkeys(("jump", "wild", "at the limit"), "early_angst")


@pytest.mark.parametrize("rejects", ["frame", "movie", "either", "both"])
def test_without_shifts_it_is_missing(rejects: str) -> None:
    gate = gate_of(MaxShift, rejects=rejects)
    (found,) = gate.judge(
        table_of({"largest_step_angst": [None], "total_angst": [None]})
    )
    assert (found.accepted, found.reason) == (False, "missing")


def test_one_that_is_missing_rejects_whatever_the_other_says() -> None:
    gate = gate_of(MaxShift, rejects="both")
    found = gate.judge(
        table_of({"largest_step_angst": [None, 1, 99], "total_angst": [1, None, None]})
    )
    assert [one.reason for one in found] == ["missing"] * 3


def test_an_early_limit_needs_a_dose() -> None:
    gate = gate_of(MaxShift, max_early_angst=5, rejects="both")
    columns: dict[str, list[float | None]]
    columns = {"largest_step_angst": [1.0], "total_angst": [2.0]}
    (found,) = gate.judge(table_of(columns | {"early_angst": [None]}))
    assert (found.rule, found.reason) == ("early_angst", "missing")


@pytest.mark.parametrize(
    "params", [{"rejects": "neither"}, {"max_frame_shift_angst": 0}, {"max": 1}]
)
def test_what_cannot_be_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(BadSettings):
        MaxShift.parse(params)
