"""The small language of numbers: what it says, what it refuses, what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings
from icestream.domain.expression import Expression

A, B = np.array([4.0, -9.0, np.nan]), np.array([2.0, 0.0, 1.0])


def values(text: str, **columns: object) -> list[float]:
    given = {"a": A, "b": B, **columns}
    found = Expression(text).evaluate({n: np.asarray(one) for n, one in given.items()})
    return [float(one) for one in np.broadcast_to(np.asarray(found), (3,))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", [6, -9, math.nan]),
        ("a - b * 2", [0, -9, math.nan]),
        ("(a - b) * 2", [4, -18, math.nan]),
        ("a / b", [2, math.nan, math.nan]),
        ("-a ** 2", [-16, -81, math.nan]),
        ("2 ** b ** 2", [16, 1, 2]),
        ("b ** -1", [0.5, math.nan, 1]),
        ("abs(a)", [4, 9, math.nan]),
        ("sqrt(a)", [2, math.nan, math.nan]),
        ("log(exp(b))", [2, 0, 1]),
        ("log(b)", [math.log(2), math.nan, 0]),
        ("minimum(a, b, 1)", [1, -9, math.nan]),
        ("maximum(b, 1.5)", [2, 1.5, 1.5]),
        (" 1e1\t+ .5", [10.5] * 3),
        ("(a > 1)".replace(" > 1", ""), [4, -9, math.nan]),
    ],
)
def test_it_means_what_it_says(text: str, expected: list[float]) -> None:
    assert values(text) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "a ** 0",
        "1 ** a",
        "0 * a",
        "minimum(a, 0)",
        "1 / (1 / a)",
        "a - a",
    ],
)
def test_what_is_missing_stays_missing(text: str) -> None:
    assert math.isnan(values(text)[2])


@pytest.mark.parametrize(
    "text",
    ["1 / (1 / b)", "exp(-1 / b)", "minimum(1 / b, 5)", "1 / exp(1000 - 1000 * b)"],
)
def test_what_was_infinite_is_missing_and_does_not_come_back(text: str) -> None:
    assert math.isnan(values(text)[1])


def test_an_infinite_column_is_missing() -> None:
    assert math.isnan(values("1 / a", a=[math.inf, 1, 1])[0])


def test_names_are_those_of_numbers() -> None:
    expression = Expression("maximum(a, sqrt(other_2)) + 3")
    assert expression.names == {"a", "other_2"}
    assert str(expression) == "maximum(a, sqrt(other_2)) + 3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read, at character 1"),
        ("a +", "cannot be read"),
        ("a b", "cannot be read, at character"),
        ("a # b", "'#' does not belong there, at character 3"),
        ("a.real", "'.' does not belong there, at character 2"),
        ("a[0]", "'[' does not belong"),
        ("a < b", "'<' does not belong"),
        ("'a'", "does not belong"),
        ("a\nb", "does not belong"),
        ("1_000", "does not belong"),
        ("1if a else b", "does not belong"),
        ("a if a else b", "not part of the language, at character 1"),
        ("a and b", "not part of the language"),
        ("not a", "not part of the language"),
        ("lambda", "cannot be read"),
        ("(a, b)", "not part of the language"),
        ("a, b", "not part of the language"),
        ("+a", "not part of the language"),
        ("True + 1", "no number, at character 1"),
        ("None", "no number"),
        ("2 * eval(a)", "no function 'eval', at character 5"),
        ("sqrt", "sqrt needs parentheses"),
        ("sqrt(a, b)", "sqrt takes one number"),
        ("minimum(a)", "minimum takes two numbers or more"),
        ("sqrt(a)(b)", "not part of the language"),
        ("minimum(1, *a)", "not part of the language"),
        ("1e999", "too large"),
        ("9" * 299, None),
        ("(" * 100 + "a" + ")" * 100, None),
        ("-" * 31 + "a", "nested too deeply"),
        ("a" * 301, "too long"),
        ("0777", "cannot be read"),
        ("größe", "'ö' does not belong there, at character 3"),
    ],
)
def test_what_is_refused_is_said(text: str, said: str | None) -> None:
    if said is None:
        Expression(text)
        return
    with pytest.raises(BadSettings) as refused:
        Expression(text)
    assert said in refused.value.what
    assert refused.value.hint


_WORDS = st.sampled_from(
    [
        *("abs", "sqrt", "log", "exp", "minimum", "maximum", "a", "b", "1", "2.5"),
        *("**", "import", "__class__", "lambda", "if", "1e309", "0x1", "1j", ":="),
        *".+-*/(), \x00\\'é\n@",
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_WORDS, max_size=40).map("".join)))
@example("-" * 300 + "1")
@example("(" * 300)
@example("(" * 150 + "1" + ")" * 150)
@example("exp(" * 60 + "1" + ")" * 60)
@example("9**9**9**9**9**9")
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        expression = Expression(text)
    except BadSettings:
        return
    if not expression.names <= {"a", "b"}:
        return
    found = np.asarray(expression.evaluate({"a": A, "b": B}))
    assert not np.isinf(found).any()
    if "a" in expression.names:
        assert np.isnan(found[2])


_LEAVES = st.sampled_from(["a", "b", "1", "0", "2.5"])
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(
            lambda one: f"({one[0]} {one[1]} {one[2]})"
        ),
        st.tuples(st.sampled_from(["abs", "sqrt", "log", "exp", "-"]), inner).map(
            lambda one: f"{one[0]}({one[1]})"
        ),
        st.tuples(st.sampled_from(["minimum", "maximum"]), inner, inner).map(
            lambda one: f"{one[0]}({one[1]}, {one[2]})"
        ),
    ),
    max_leaves=12,
)
_NUMBERS = st.lists(st.floats(allow_nan=True, width=32), min_size=2, max_size=2)


@given(_TREES, st.lists(_NUMBERS, min_size=1, max_size=6))
def test_columns_give_what_each_row_gives(text: str, rows: list[list[float]]) -> None:
    if len(text) > 300:
        return
    expression = Expression(text)
    table = np.array(rows, float)

    def evaluated(some: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> object:
        found = expression.evaluate({"a": some[:, 0], "b": some[:, 1]})
        return np.broadcast_to(np.asarray(found), (len(some),))

    at_once = np.asarray(evaluated(table))
    one_by_one = np.concatenate([evaluated(table[n : n + 1]) for n in range(len(rows))])
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12)
    if "a" in expression.names:
        assert np.isnan(at_once[~np.isfinite(table[:, 0])]).all()
