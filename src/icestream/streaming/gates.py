"""Asking the gates: with the numbers of all their keys, and for which of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from icestream.domain.errors import InternalError
from icestream.domain.verdict import Verdict
from icestream.streaming.execution import Failure, guard
from icestream.streaming.gate_table import GateTable, SetupRanks
from icestream.streaming.protocol import Gate
from icestream.streaming.state import Exposure
from icestream.streaming.tasks import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icestream.domain.table import Table
    from icestream.streaming.board import Board
    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan

__all__ = ["Answer", "Gates"]

Answer: TypeAlias = Verdict | Failure | None
"""What comes of asking for a key; ``None`` where it is held back."""


class Gates:
    """The gates of a plan, each with its table.

    Parameters
    ----------
    plan
        The session's runs.
    board
        Knows the keys, their states and how they were taken.
    """

    def __init__(self, plan: Plan, board: Board) -> None:
        self._plan, self._board = plan, board
        self._gates: dict[str, Gate[Any]] = {}
        self._tables: dict[str, GateTable] = {}
        self._held: dict[str, tuple[frozenset[str], bool]] = {}
        self._ranks = SetupRanks()

    def forget(self, run: str) -> None:
        """Make a gate again when it is asked next: it has other parameters."""
        self._gates.pop(run, None)
        self._held.pop(run, None)

    def news(self, undecided: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
        """Return the keys to ask for by run, without those that are rightly held."""
        keys: dict[str, list[str]] = {}
        for run, key in undecided:
            keys.setdefault(run, []).append(key)
        return {
            run: some
            for run, some in keys.items()
            if self._held.get(run) != (frozenset(some), self._is_complete(run))
        }

    def ask(
        self, transaction: Transaction, run: str, keys: Sequence[str]
    ) -> list[Answer]:
        """Ask a gate for some keys; a fault is found out one by one."""
        table = self._filled(transaction, run, keys)
        tasks, is_complete = self._board.tasks[run], self._is_complete(run)
        gate = self._gates.get(run)
        if gate is None:
            gate = self._gates[run] = self._plan.runs[run].make(Gate)

        def judged(some: Sequence[str]) -> list[Answer] | Failure:
            view = table.view(some, tasks, is_complete=is_complete)
            return guard(lambda: _checked(gate, view))

        found = judged(keys)
        if isinstance(found, Failure):
            found = [
                one if isinstance(one, Failure) else one[0]
                for one in (judged([key]) for key in keys)
            ]
        held = {key for key, one in zip(keys, found, strict=True) if one is None}
        self._held[run] = frozenset(held), is_complete
        return found

    def _is_complete(self, run: str) -> bool:
        ports = self._plan.runs[run].spec.ports()
        return all(self._board.runs[port.run].closed for port in ports)

    def _filled(
        self, transaction: Transaction, run: str, keys: Iterable[str]
    ) -> GateTable:
        """Bring the table of a gate up to date for some keys, and for all at first."""
        spec, tasks = self._plan.runs[run].spec, self._board.tasks[run]
        table = self._tables.get(run)
        if table is None:
            declared = self._plan.runs[run].protocol.inputs
            kinds = {n: declared[n].kind for n in declared if n in spec.inputs}
            reads = list(Exposure(0, {}).read(spec.reads))
            table = self._tables[run] = GateTable(kinds, reads)
            done = [key for key, one in tasks.items() if one.state is State.DONE]
            keys = dict.fromkeys([*done, *keys])
        lacking = [key for key in keys if not table.has(key, tasks[key].content)]
        looks = {key: self._board.look_all(run, key) for key in lacking}
        scalars = transaction.scalars(
            [
                look
                for one in looks.values()
                for look in one.values()
                if isinstance(look, str)
            ]
        )
        exposures = self._board.exposures
        for key, found in looks.items():
            values = {
                n: scalars[one] for n, one in found.items() if isinstance(one, str)
            }
            values[""] = self._board.read(spec, key)
            rank = self._ranks.of(key, exposures)
            table.put(key, tasks[key].content, values, rank=rank)
        return table


def _checked(gate: Gate[Any], table: Table) -> list[Answer]:
    """Ask a gate, and make sure that it has answered."""
    found: list[Answer] = list(gate.judge(table))
    if len(found) != len(table.asked):
        raise InternalError(
            f"{gate.name} was asked for {len(table.asked)} exposures and gave "
            f"{len(found)} verdicts."
        )
    for one in found:
        if one is None and not table.is_complete:
            continue
        if not isinstance(one, Verdict):
            raise InternalError(
                f"{gate.name} returned a {type(one).__name__} instead of a Verdict."
            )
    return found
