"""Small protocols and a patient executor for tests of the stream."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from icestream.domain import Verdict
from icestream.domain.errors import DiskFull, IncompleteFile, UnusableImage
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import (
    Aggregate,
    Context,
    Gate,
    Input,
    Missing,
    Params,
    PerItem,
    Sighting,
    SightingState,
    Source,
)
from icestream.streaming.scheduler import Scheduler
from icestream.streaming.workflow import Port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.domain.table import Table
    from icestream.streaming.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """What flows."""

    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """State and snapshot of the aggregate."""

    count: int = 0
    total: int = 0


class NumbersParams(Params):
    """How many there are."""

    count: int = 5
    start: int = 0


class Numbers(Source[NumbersParams]):
    """Numbers from ``start`` on, all at once."""

    name: ClassVar = "numbers"
    Params: ClassVar = NumbersParams
    outputs: ClassVar = {"number": Number}

    @property
    def interval_s(self) -> float:
        return 0.02

    def __init__(self, params: NumbersParams) -> None:
        super().__init__(params)
        self.seen: set[str] = set()

    def resume(self, seen: Sequence[Sighting]) -> None:
        self.seen = {one.path for one in seen}

    def poll(self) -> Sequence[Sighting]:
        new = [n for n in range(self.params.count) if str(n) not in self.seen]
        self.seen |= {str(n) for n in new}
        return [sighting(n, n + self.params.start) for n in new]


def sighting(name: int, value: int) -> Sighting:
    """A taken number."""
    return Sighting(
        path=str(name),
        state=SightingState.TAKEN,
        reason="complete",
        key=str(name),
        item=Number(value=value),
        fingerprint=str(value),
    )


class AddParams(Params):
    """What is added, and which numbers go wrong how."""

    amount: int = 1
    bad: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()
    crash: tuple[int, ...] = ()
    full: tuple[int, ...] = ()


class Add(PerItem[AddParams]):
    """Add to a number."""

    name: ClassVar = "add"
    Params: ClassVar = AddParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"number": Number}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Number]:
        given = self.params
        if number.value in given.bad:
            raise UnusableImage(f"Number {number.value} is bad.")
        if number.value in given.incomplete:
            raise IncompleteFile(f"Number {number.value} is incomplete.")
        if number.value in given.full:
            raise DiskFull("No space is left.")
        if number.value in given.crash:
            raise ZeroDivisionError
        return {"number": Number(value=number.value + given.amount)}


class Even(Gate[Params]):
    """Accept even numbers."""

    name: ClassVar = "even"
    inputs: ClassVar = {"number": Input(kind=Number)}
    passes: ClassVar = "number"

    def judge(self, table: Table) -> list[Verdict | None]:
        values = table.numbers["value"][table.asked]
        return [
            Verdict(accepted=one % 2 == 0, rule="even", value=one) for one in values
        ]


class Both(Gate[Params]):
    """Accept numbers for which there is another one."""

    name: ClassVar = "both"
    inputs: ClassVar = {
        "number": Input(kind=Number),
        "other": Input(kind=Number, required=False),
    }
    passes: ClassVar = "number"

    def judge(self, table: Table) -> list[Verdict | None]:
        others = table.numbers["other.value"][table.asked]
        return [Verdict(accepted=one == one, rule="both") for one in others]


class Join(PerItem[Params]):
    """Add two numbers, the second if there is one."""

    name: ClassVar = "join"
    inputs: ClassVar = {
        "first": Input(kind=Number),
        "second": Input(kind=Number, required=False),
    }
    outputs: ClassVar = {"number": Number}

    def process(
        self, context: Context, /, *, first: Number, second: Number | Missing
    ) -> Mapping[str, Number]:
        more = 0 if isinstance(second, Missing) else second.value
        return {"number": Number(value=first.value + more)}


class Sum(Aggregate[Params, Total]):
    """Add all numbers up."""

    name: ClassVar = "sum"
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"total": Total}

    def start(self) -> Total:
        return Total()

    def update(
        self,
        _context: Context,
        state: Total,
        added: Sequence[Number],
        withdrawn: Sequence[Number],
    ) -> Total:
        return Total(
            count=state.count + len(added) - len(withdrawn),
            total=state.total
            + sum(one.value for one in added)
            - sum(one.value for one in withdrawn),
        )

    def snapshot(self, state: Total) -> Total:
        return state


def small_plan(
    *, count: int = 6, start: int = 0, add: Mapping[str, object] | None = None
) -> Plan:
    """Numbers, one added, even ones joined with those before, and a sum."""
    added = (Port("add", "number"),)
    return Plan(
        [
            Run.of("numbers", Numbers, params={"count": count, "start": start}),
            Run.of(
                "add", Add, params=add, inputs={"number": (Port("numbers", "number"),)}
            ),
            Run.of("even", Even, inputs={"number": added}),
            Run.of(
                "join",
                Join,
                inputs={"first": added, "second": (Port("even", "accepted"),)},
            ),
            Run.of("sum", Sum, inputs={"number": added}),
        ]
    )


def wait_for(condition: object, *, seconds: float = 20.0) -> None:
    """Wait until a condition holds, or fail."""
    gate = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if callable(condition) and condition():
            return
        gate.wait(0.02)
    raise AssertionError("It did not come to pass in time.")


def check_replay(ledger_path: Path, workflow: Workflow) -> None:
    """Assert that replaying the log of events gives the tables of states."""
    restored, replayed = Scheduler(workflow), Scheduler(workflow)
    with closing(Ledger(ledger_path)) as ledger:
        ledger.restore(restored)
        for event in ledger.events():
            replayed.handle(event)
    assert replayed.board.tasks == restored.board.tasks
    assert replayed.board.runs == restored.board.runs
    assert replayed.board.exposures == restored.board.exposures
    assert replayed.board.change_seq == restored.board.change_seq
