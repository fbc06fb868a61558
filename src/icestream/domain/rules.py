"""Rules on the numbers of exposures, applied to whole columns."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.domain.expression import Expression
from icestream.domain.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from icestream.domain.table import Table

__all__ = [
    "DERIVED",
    "Rule",
    "check_names",
    "column_of",
    "judge_rows",
    "with_derived",
]

DERIVED: Mapping[str, Expression] = MappingProxyType(
    {
        "defocus_angst": Expression("(defocus_u_angst + defocus_v_angst) / 2"),
        "astigmatism_angst": Expression("defocus_u_angst - defocus_v_angst"),
        "astigmatism_percent": Expression(
            "200 * (defocus_u_angst - defocus_v_angst)"
            " / abs(defocus_u_angst + defocus_v_angst)"
        ),
        "nyquist_angst": Expression("2 * pixel_size_angst"),
    }
)
"""Numbers that follow from stored ones; where one is stored itself, that holds."""

_ALL = slice(None)
_ACCEPTED = Verdict(accepted=True, rule="all")
_MISSING, _LOW, _HIGH = 1, 2, 3
_REASONS = {_LOW: "too low", _HIGH: "too high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Between which limits a number must lie.

    Parameters
    ----------
    name
        What a verdict calls it.
    value
        The number that is judged.
    minimum, maximum
        Limits that it may reach: numbers, or what others of the same exposure allow.
    beside
        A number that says whether this one must be there: where that is known, this
        may be unknown, and the rule holds for those that have it.
    is_lenient
        Whether it spares the first exposures of a setup: what it would reject it only
        notes.

    Raises
    ------
    BadSettings
        No number is judged, or there is no limit.
    """

    name: str
    value: Expression
    minimum: Expression | None = None
    maximum: Expression | None = None
    beside: str | None = None
    is_lenient: bool = False

    def __post_init__(self) -> None:
        if not self.value.names:
            raise BadSettings(f"Rule {self.name!r} judges no number: {self.value}.")
        if self.minimum is None and self.maximum is None:
            raise BadSettings(
                f"Rule {self.name!r} has no limit.",
                hint="Give minimum, maximum or both.",
            )

    @property
    def names(self) -> frozenset[str]:
        """Names of all numbers that it needs."""
        limits = (one for one in (self.minimum, self.maximum) if one is not None)
        beside = frozenset(() if self.beside is None else (self.beside,))
        return beside.union(self.value.names, *(one.names for one in limits))


@dataclass(slots=True)
class _Found:
    """The rule that speaks for each row so far, its index -1 where all hold."""

    rule: NDArray[np.intp]
    fault: NDArray[np.int8]
    value: NDArray[np.float64]
    limit: NDArray[np.float64]

    @classmethod
    def nothing(cls, size: int) -> _Found:
        return cls(
            rule=np.full(size, -1),
            fault=np.zeros(size, np.int8),
            value=np.full(size, np.nan),
            limit=np.full(size, np.nan),
        )

    def note(self, index: int, rows: NDArray[np.bool_], checked: _Checked) -> None:
        """Keep what a rule says of rows of which nothing is known yet."""
        rows &= self.rule < 0
        self.rule[rows] = index
        self.fault[rows] = checked.fault[rows]
        self.value[rows] = checked.value[rows]
        self.limit[rows] = checked.limit[rows]

    def tell(
        self,
        verdicts: list[Verdict],
        rules: Sequence[Rule],
        missing: Sequence[Verdict],
        *,
        accepted: bool,
    ) -> None:
        """Put a verdict where a rule speaks: that of ``missing``, or one of its own."""
        rows = np.flatnonzero(self.rule >= 0)
        columns = (self.rule, self.fault, self.value, self.limit)
        told = zip(rows.tolist(), *(one[rows].tolist() for one in columns), strict=True)
        for row, index, fault, value, limit in told:
            verdicts[row] = (
                missing[index]
                if fault == _MISSING
                else Verdict(
                    accepted=accepted,
                    rule=rules[index].name,
                    value=value,
                    limit=limit,
                    reason=_REASONS[fault],
                )
            )


@dataclass(frozen=True, slots=True)
class _Checked:
    """What one rule says of all rows; a fault of 0 is none."""

    fault: NDArray[np.int8]
    value: NDArray[np.float64]
    limit: NDArray[np.float64]


def with_derived(names: Collection[str]) -> list[str]:
    """Return names of numbers with those that follow from them, sorted."""
    found = set(names)
    found |= {name for name, one in DERIVED.items() if one.names <= found}
    return sorted(found)


def check_names(rule: Rule, known: Collection[str]) -> None:
    """Refuse a rule on a number that nobody gives.

    Raises
    ------
    BadSettings
        A name is not among the known ones; the message has the nearest.
    """
    for name in sorted(rule.names - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise BadSettings(
            f"Rule {rule.name!r}: there is no number {name!r}.{meant}",
            hint=f"Known: {', '.join(sorted(known))}.",
        )


def judge_rows(
    rules: Sequence[Rule],
    table: Table,
    *,
    spared: int = 0,
    absent: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Judge the rows that are asked for, each by itself.

    Parameters
    ----------
    rules
        In this order: the first that rejects decides. Where none does, the first that
        would have done so but for its leniency is noted in an accepting verdict.
    table
        The numbers.
    spared
        So many first exposures of a setup lenient rules spare. A value that is missing
        they reject all the same.
    absent
        By the name of a number without a column: why there is none, in words.

    Returns
    -------
    list of Verdict
        One for each row asked for. A number that is missing or not finite rejects.
    """
    asked = table.asked
    rejecting, noted = _Found.nothing(len(asked)), _Found.nothing(len(asked))
    names = frozenset[str]().union(*(rule.names for rule in rules))
    given = {name: column_of(table, name, asked) for name in names}
    nothing = np.full(len(asked), np.nan)
    columns = {n: nothing if one is None else one for n, one in given.items()}
    is_spared = table.rank[asked] < spared
    for index, rule in enumerate(rules):
        checked = _check(rule, columns, len(asked))
        is_noted = is_spared & rule.is_lenient & (checked.fault != _MISSING)
        rejecting.note(index, (checked.fault > 0) & ~is_noted, checked)
        noted.note(index, (checked.fault > 0) & is_noted, checked)
    missing = [_missing(rule, absent or {}) for rule in rules]
    verdicts = [_ACCEPTED] * len(asked)
    noted.tell(verdicts, rules, missing, accepted=True)
    rejecting.tell(verdicts, rules, missing, accepted=False)
    return verdicts


def column_of(
    table: Table, name: str, rows: NDArray[np.intp] | slice = _ALL
) -> NDArray[np.float64] | None:
    """Return a number, stored or derived; ``None`` where nobody gives it."""
    if name in table.numbers:
        return table.numbers[name][rows]
    derived = DERIVED.get(name)
    if derived is None or not derived.names <= table.numbers.keys():
        return None
    parts = {one: table.numbers[one][rows] for one in derived.names}
    return np.asarray(derived.evaluate(parts))


def _check(
    rule: Rule, columns: Mapping[str, NDArray[np.float64]], size: int
) -> _Checked:
    def evaluated(one: Expression) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(one.evaluate(columns), np.float64), (size,))

    value = evaluated(rule.value)
    fault, limit = np.zeros(size, np.int8), np.full(size, np.nan)
    is_missing = np.isnan(value)
    if rule.beside is not None:
        is_missing = is_missing & np.isnan(columns[rule.beside])
    fault[is_missing] = _MISSING
    for bound, kind in ((rule.minimum, _LOW), (rule.maximum, _HIGH)):
        if bound is None:
            continue
        edge = evaluated(bound)
        fault[np.isnan(edge) & ~np.isnan(value)] = _MISSING
        is_out = value < edge if kind == _LOW else value > edge
        fault[is_out], limit[is_out] = kind, edge[is_out]
    return _Checked(fault=fault, value=value, limit=limit)


def _missing(rule: Rule, absent: Mapping[str, str]) -> Verdict:
    why = "; ".join(absent[name] for name in sorted(rule.names & absent.keys()))
    reason = f"missing: {why}" if why else "missing"
    return Verdict(accepted=False, rule=rule.name, reason=reason)
