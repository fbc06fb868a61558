"""The numbers that a gate goes by, kept in columns from one question to the next."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.streaming.state import Exposure
    from icestream.streaming.tasks import Task

__all__ = ["GateTable", "SetupRanks", "numeric_fields"]

_SETUP = "setup"
_FIRST_ROWS = 64
_NUMBERS = frozenset({"float", "int", "bool"})
_NO_COLUMN = frozenset({"NDArray", "tuple", "Mapping", "str"})


class SetupRanks:
    """Counts the exposures of each setup in order of arrival."""

    def __init__(self) -> None:
        self._ranks: dict[str, int] = {}
        self._counts: Counter[str] = Counter()

    def of(self, key: str, exposures: Mapping[str, Exposure]) -> int:
        """Return how many of its setup had arrived before an exposure."""
        if key not in self._ranks:
            for name, one in islice(exposures.items(), len(self._ranks), None):
                setup = str(one.acquisition.get(_SETUP))
                self._ranks[name] = self._counts[setup]
                self._counts[setup] += 1
        return self._ranks.get(key, 0)


class GateTable:
    """Rows that grow, one for each key.

    Parameters
    ----------
    inputs
        Kinds of the items by input; their numbers are columns.
    reads
        Acquisition fields that are columns too, as numbers and as texts.
    """

    def __init__(self, inputs: Mapping[str, type], reads: Sequence[str]) -> None:
        self._rows: dict[str, int] = {}
        self._content: list[str] = []
        self._source: dict[str, tuple[str, str]] = {}
        for name, kind in [*inputs.items()]:
            for field in numeric_fields(kind):
                column = f"{name}.{field}" if field in self._source else field
                self._source[column] = name, field
        for field in reads:
            self._source.setdefault(field, ("", field))
        self._numbers = {one: np.full(_FIRST_ROWS, np.nan) for one in self._source}
        self._words = {name: np.full(_FIRST_ROWS, "", object) for name in reads}
        self._ranks = np.zeros(_FIRST_ROWS, np.int64)

    def has(self, key: str, content: str) -> bool:
        """Whether the row of a key holds what its content key stands for."""
        row = self._rows.get(key)
        return row is not None and self._content[row] == content

    def put(
        self,
        key: str,
        content: str,
        values: Mapping[str, Mapping[str, Any]],
        *,
        rank: int,
    ) -> None:
        """Fill the row of a key: fields by input, and those of its acquisition.

        The last stand under an empty name.
        """
        row = self._rows.setdefault(key, len(self._rows))
        if row == len(self._content):
            self._content.append(content)
        if row == len(self._ranks):
            self._grow()
        self._content[row] = content
        self._ranks[row] = rank
        for name, column in self._numbers.items():
            source, field = self._source[name]
            value = values.get(source, {}).get(field)
            column[row] = value if isinstance(value, int | float) else np.nan
        for name, words in self._words.items():
            value = values.get("", {}).get(name)
            words[row] = value if isinstance(value, str) else ""

    def view(
        self, asked: Sequence[str], tasks: Mapping[str, Task], *, is_complete: bool
    ) -> Table:
        """Show the rows of keys that are asked for, and of those with a verdict."""
        size = len(self._rows)
        standing = np.full(size, -1, np.int8)
        for key, row in self._rows.items():
            task = tasks.get(key)
            if task is not None and task.published and task.accepted is not None:
                standing[row] = task.accepted
        wanted = np.array([self._rows[key] for key in asked], np.intp)
        shown = standing >= 0
        shown[wanted] = True
        # Of keys that have no item any more nothing is shown.
        kept = slice(None) if shown.all() else shown
        return Table(
            numbers={name: one[:size][kept] for name, one in self._numbers.items()},
            words={name: one[:size][kept] for name, one in self._words.items()},
            rank=self._ranks[:size][kept],
            standing=standing[kept],
            asked=(np.cumsum(shown) - 1)[wanted],
            is_complete=is_complete,
        )

    def _grow(self) -> None:
        more = len(self._ranks)
        self._ranks = np.concatenate((self._ranks, np.zeros(more, np.int64)))
        for name, column in self._numbers.items():
            self._numbers[name] = np.concatenate((column, np.full(more, np.nan)))
        for name, words in self._words.items():
            self._words[name] = np.concatenate((words, np.full(more, "", object)))


def numeric_fields(kind: type) -> list[str]:
    """Return the fields of an item that hold one number."""
    return [
        one.name
        for one in fields(kind)
        if not (parts := set(re.findall(r"\w+", str(one.type)))) & _NO_COLUMN
        and parts & _NUMBERS
    ]
