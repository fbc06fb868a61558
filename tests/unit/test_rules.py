"""Rules on columns: which decides, by which limit, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.domain.expression import Expression
from icestream.domain.rules import (
    Rule,
    check_names,
    column_of,
    judge_rows,
    with_derived,
)
from tables import table_of


def rule(
    name: str,
    value: str = "",
    *,
    low: object = None,
    high: object = None,
    beside: str | None = None,
    is_lenient: bool = False,
) -> Rule:
    return Rule(
        name=name,
        value=Expression(value or name),
        minimum=None if low is None else Expression(str(low)),
        maximum=None if high is None else Expression(str(high)),
        beside=beside,
        is_lenient=is_lenient,
    )


def test_a_number_must_lie_between_its_limits_which_it_may_reach() -> None:
    table = table_of({"score": [0.05, 0.1, 0.5, 0.9, 0.95]})
    found = judge_rows([rule("score", low=0.1, high=0.9)], table)
    assert [one.accepted for one in found] == [False, True, True, True, False]
    assert [one.reason for one in found] == ["too low", "", "", "", "too high"]
    assert (found[0].rule, found[0].value, found[0].limit) == ("score", 0.05, 0.1)
    assert (found[4].rule, found[4].value, found[4].limit) == ("score", 0.95, 0.9)
    assert {one.rule for one in found[1:4]} == {"all"}
    assert found[1] is found[2]


def test_the_first_broken_rule_decides() -> None:
    table = table_of({"a": [5, 5, 1], "b": [5, 1, 5]})
    rules = [rule("b", high=3), rule("a", high=3)]
    assert [one.rule for one in judge_rows(rules, table)] == ["b", "a", "b"]
    assert [one.rule for one in judge_rows(rules[::-1], table)] == ["a", "a", "b"]


@pytest.mark.parametrize("broken", [None, np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_passes(broken: float | None) -> None:
    table = table_of({"a": [broken, 1.0]})
    for some in (rule("a", high=1e300), rule("a", low=-1e300)):
        found = judge_rows([some], table)
        assert (found[0].accepted, found[0].reason) == (False, "missing")
        assert (found[0].rule, found[0].value) == ("a", None)
        assert found[1].accepted


def test_a_column_that_nobody_gives_is_missing_and_it_is_said_why() -> None:
    table = table_of({"a": [1, 2]})
    found = judge_rows(
        [rule("ice", low=0)], table, absent={"ice": "quality is not connected"}
    )
    assert {one.reason for one in found} == {"missing: quality is not connected"}
    assert not any(one.accepted for one in found)


def test_a_limit_that_is_missing_rejects() -> None:
    table = table_of({"a": [1.0, 1.0], "b": [None, 2.0]})
    found = judge_rows([rule("a", high="2 * b")], table)
    assert [(one.accepted, one.reason) for one in found] == [
        (False, "missing"),
        (True, ""),
    ]


def test_a_limit_may_follow_another_number() -> None:
    table = table_of({"a": [5.0, 5.0], "b": [2.0, 3.0]})
    found = judge_rows([rule("a", high="2 * b")], table)
    assert [one.accepted for one in found] == [False, True]
    assert (found[0].value, found[0].limit) == (5.0, 4.0)


def test_only_rows_that_are_asked_for_are_judged() -> None:
    table = table_of({"a": [1, 9, 2, 8]}, asked=[3, 0])
    found = judge_rows([rule("a", high=5)], table)
    assert [one.value for one in found] == [8, None]
    assert judge_rows([rule("a", high=5)], table_of({"a": [1, 2]}, asked=[])) == []


def test_a_number_may_be_unknown_beside_one_that_is_known() -> None:
    table = table_of({"ice": [None, None, 3, 1], "mean": [1, None, 1, None]})
    found = judge_rows([rule("ice", high=2, beside="mean")], table)
    assert [one.accepted for one in found] == [True, False, False, True]
    assert [one.reason for one in found] == ["", "missing", "too high", ""]


class TestLeniency:
    def test_the_first_of_a_setup_are_only_noted(self) -> None:
        table = table_of({"a": [9, 9, 9, 1]}, rank=[0, 2, 1, 0])
        found = judge_rows([rule("a", high=5, is_lenient=True)], table, spared=2)
        assert [one.accepted for one in found] == [True, False, True, True]
        assert (found[0].rule, found[0].value, found[0].limit, found[0].reason) == (
            "a",
            9,
            5,
            "too high",
        )
        assert found[3].rule == "all"

    def test_what_is_missing_is_rejected_all_the_same(self) -> None:
        table = table_of({"a": [None]})
        found = judge_rows([rule("a", high=5, is_lenient=True)], table, spared=2)
        assert (found[0].accepted, found[0].reason) == (False, "missing")

    def test_what_is_missing_decides_in_its_turn(self) -> None:
        table = table_of({"a": [None], "b": [9]})
        rules = [rule("a", high=5, is_lenient=True), rule("b", high=5)]
        assert judge_rows(rules, table, spared=2)[0].rule == "a"

    def test_a_strict_rule_decides_behind_a_lenient_one(self) -> None:
        table = table_of({"a": [9, 9], "b": [9, 1]})
        rules = [rule("a", high=5, is_lenient=True), rule("b", high=5)]
        found = judge_rows(rules, table, spared=2)
        assert [(one.accepted, one.rule) for one in found] == [
            (False, "b"),
            (True, "a"),
        ]


def test_numbers_follow_from_stored_ones() -> None:
    table = table_of(
        {
            "defocus_u_angst": [12000, None],
            "defocus_v_angst": [8000, 1000],
            "pixel_size_angst": [0.8, 0.8],
        }
    )
    every = np.arange(2)
    for name, value in (
        ("defocus_angst", 10000),
        ("astigmatism_angst", 4000),
        ("astigmatism_percent", 40),
    ):
        column = column_of(table, name, every)
        assert column is not None
        assert column.tolist() == pytest.approx([value, np.nan], nan_ok=True)
    nyquist = column_of(table, "nyquist_angst")
    assert nyquist is not None
    assert nyquist.tolist() == [1.6, 1.6]
    assert column_of(table, "score") is None
    assert with_derived(["pixel_size_angst"]) == ["nyquist_angst", "pixel_size_angst"]


def test_a_stored_number_goes_before_a_derived_one() -> None:
    table = table_of(
        {"defocus_angst": [7], "defocus_u_angst": [2], "defocus_v_angst": [1]}
    )
    column = column_of(table, "defocus_angst")
    assert column is not None
    assert column.tolist() == [7]


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadSettings, match="has no limit"):
        rule("a")
    with pytest.raises(BadSettings, match="judges no number"):
        rule("a", "3 + 4", low=1)
    with pytest.raises(BadSettings, match=r"no number 'scor'.*mean score\?.*Known: a"):
        check_names(rule("mine", "a + scor", low=1), ["a", "score"])
    with pytest.raises(BadSettings, match="'beta'"):
        check_names(rule("a", low="beta"), ["a"])
    with pytest.raises(BadSettings, match="'beta'"):
        check_names(rule("a", low=1, beside="beta"), ["a"])
    check_names(rule("a", low="b", beside="b"), ["a", "b"])


def test_as_many_verdicts_as_rows_share_one_object() -> None:
    table = table_of({"a": list(range(1000))})
    found = judge_rows([rule("a", high=990)], table)
    assert len(found) == 1000
    assert len({id(one) for one in found}) == 10
