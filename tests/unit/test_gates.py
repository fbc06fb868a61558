"""Gates in a session: held rows, other rules, many estimators of one thing."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from icestream.domain import Verdict
from icestream.streaming import schema
from icestream.streaming.gate_table import GateTable, SetupRanks, numeric_fields
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Gate, Input, Missing, Params, PerItem
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.records import decode
from icestream.streaming.service import Service
from icestream.streaming.state import Exposure
from icestream.streaming.tasks import State, Task
from icestream.streaming.workflow import Port, RunSpec
from small import Add, Number, Numbers, Sum, check_replay, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.domain.table import Table
    from icestream.streaming.protocol import Context

NUMBERS = (Port("numbers", "number"),)
ADDED = (Port("add", "number"),)


class BelowParams(Params):
    limit: int = 3
    bad: tuple[int, ...] = ()


class Below(Gate[BelowParams]):
    """Accept numbers below a limit."""

    name: ClassVar = "below"
    Params: ClassVar = BelowParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    passes: ClassVar = "number"

    def judge(self, table: Table) -> list[Verdict | None]:
        values = table.numbers["value"][table.asked]
        if np.isin(values, self.params.bad).any():
            raise ZeroDivisionError
        limit = self.params.limit
        return [
            Verdict(accepted=one < limit, rule="below", value=one, limit=limit)
            for one in values
        ]


class Smallest(Gate[BelowParams]):
    """Wait for so many numbers, and accept the smallest; reject what comes later."""

    name: ClassVar = "smallest"
    Params: ClassVar = BelowParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    passes: ClassVar = "number"

    def judge(self, table: Table) -> list[Verdict | None]:
        values = table.numbers["value"]
        if len(values) < self.params.limit and not table.is_complete:
            return [None] * len(table.asked)
        chosen = np.flatnonzero(table.standing == 1)
        first = chosen[0] if len(chosen) else values.argmin()
        return [Verdict(accepted=row == first, rule="first") for row in table.asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who has given something, and who has not."""

    text: str


class Gather(PerItem[Params]):
    """Put together what several have made of a number."""

    name: ClassVar = "gather"
    inputs: ClassVar = {"opinion": Input(kind=Number, many=True)}
    outputs: ClassVar = {"names": Names}

    def process(
        self, context: Context, /, *, opinion: Mapping[str, Number | Missing]
    ) -> dict[str, Names]:
        parts = [
            f"{name}: {one.reason if isinstance(one, Missing) else one.value}"
            for name, one in opinion.items()
        ]
        return {"names": Names(text=", ".join(parts))}


class Optional(PerItem[Params]):
    """Say whether an optional input is there."""

    name: ClassVar = "optional"
    inputs: ClassVar = {
        "number": Input(kind=Number),
        "other": Input(kind=Number, required=False),
    }
    outputs: ClassVar = {"names": Names}

    def process(
        self, context: Context, /, *, number: Number, other: Number | Missing
    ) -> dict[str, Names]:
        return {"names": Names(text=getattr(other, "reason", "there"))}


def plan_of(*runs: Run, count: int = 6) -> Plan:
    return Plan([Run.of("numbers", Numbers, params={"count": count}), *runs])


def below(**params: object) -> Run:
    return Run.of("below", Below, params=params, inputs={"number": NUMBERS})


def run(folder: Path, plan: Plan) -> Service:
    with closing(Ledger(folder / "ledger.db")) as ledger:
        service = Service(
            plan,
            ledger,
            InlineExecutor(),
            session_folder=folder,
            limits=Limits(free_gb=0.0),
        )
        service.command(service.finish)
        service.run()
    check_replay(folder / "ledger.db", service.plan.workflow)
    return service


def sides(service: Service, gate: str) -> dict[str, bool | None]:
    tasks = service.scheduler.board.tasks[gate]
    return {key.removeprefix("numbers/"): one.accepted for key, one in tasks.items()}


def events(folder: Path, kind: str) -> int:
    with closing(LedgerReader(folder / "ledger.db")) as reader:
        return sum(one["kind"] == kind for one in reader.rows(schema.event))


def names(folder: Path, run: str) -> dict[str, str]:
    with closing(LedgerReader(folder / "ledger.db")) as reader:
        records = reader.records(run, "names")
    return {key: decode(one, Names).text for key, one in records.items()}


class TestOtherRules:
    def test_what_is_different_is_one_event(self, tmp_path: Path) -> None:
        total = Run.of("sum", Sum, inputs={"number": (Port("below", "accepted"),)})
        run(tmp_path, plan_of(below(limit=3), total))
        service = run(tmp_path, plan_of(below(limit=5), total))
        assert sides(service, "below") == {str(n): n < 5 for n in range(6)}
        assert events(tmp_path, "decided") == 6
        assert events(tmp_path, "judged") == 1
        with closing(LedgerReader(tmp_path / "ledger.db")) as reader:
            record = reader.snapshot("sum")
        assert record is not None
        assert record.scalars == {"count": 5, "total": 10}

    def test_the_same_verdicts_are_not_written(self, tmp_path: Path) -> None:
        run(tmp_path, plan_of(below(limit=3, bad=[])))
        service = run(tmp_path, plan_of(below(limit=3, bad=[77])))
        assert events(tmp_path, "judged") == 0
        assert service.scheduler.board.runs["below"].closed

    def test_a_person_s_word_stays_and_the_rule_is_known_beneath(
        self, tmp_path: Path
    ) -> None:
        run(tmp_path, plan_of(below(limit=3)))
        with closing(Ledger(tmp_path / "ledger.db")) as ledger:
            service = Service(
                plan_of(below(limit=3)),
                ledger,
                InlineExecutor(),
                session_folder=tmp_path,
                limits=Limits(free_gb=0.0),
            )
            service.obey(
                lambda one: service.override(one, "below", "numbers/0", accepted=False)
            )
        service = run(tmp_path, plan_of(below(limit=0)))
        task = service.scheduler.board.tasks["below"]["numbers/0"]
        assert task.accepted is False
        service = run(tmp_path, plan_of(below(limit=6)))
        task = service.scheduler.board.tasks["below"]["numbers/0"]
        assert task.accepted is False
        assert task.verdict is not None
        assert task.verdict.accepted

    def test_a_row_that_cannot_be_judged_is_set_aside_alone(
        self, tmp_path: Path
    ) -> None:
        run(tmp_path, plan_of(below(limit=3)))
        service = run(tmp_path, plan_of(below(limit=5, bad=[2])))
        tasks = service.scheduler.board.tasks["below"]
        assert tasks["numbers/2"].state is State.QUARANTINED
        assert tasks["numbers/2"].published is None
        others = {n: tasks[f"numbers/{n}"].accepted for n in (0, 1, 3, 4, 5)}
        assert others == {0: True, 1: True, 3: True, 4: True, 5: False}
        service = run(tmp_path, plan_of(below(limit=5)))
        assert sides(service, "below") == {str(n): n < 5 for n in range(6)}


class TestHeldRows:
    def gate(self, limit: int) -> Run:
        params = {"limit": limit}
        return Run.of("smallest", Smallest, params=params, inputs={"number": ADDED})

    def add(self) -> Run:
        # Key n carries 10 - n: the last is the smallest.
        return Run.of("add", Add, params={"amount": 10}, inputs={"number": NUMBERS})

    def test_rows_are_held_until_there_are_enough(self, tmp_path: Path) -> None:
        service = run(tmp_path, plan_of(self.add(), self.gate(4)))
        found = sides(service, "smallest")
        assert sum(one is True for one in found.values()) == 1
        assert all(one is not None for one in found.values())

    def test_rows_are_let_go_when_nothing_more_comes(self, tmp_path: Path) -> None:
        service = run(tmp_path, plan_of(self.add(), self.gate(100)))
        found = sides(service, "smallest")
        assert found == {str(n): n == 0 for n in range(6)}

    def test_a_held_row_is_neither_accepted_nor_rejected(self, tmp_path: Path) -> None:
        with closing(Ledger(tmp_path / "ledger.db")) as ledger:
            plan = plan_of(self.add(), self.gate(100))
            service = Service(
                plan,
                ledger,
                InlineExecutor(),
                session_folder=tmp_path,
                limits=Limits(free_gb=0.0),
            )
            thread = threading.Thread(target=service.run)
            thread.start()
            try:
                board = service.scheduler.board
                wait_for(lambda: len(board.undecided) == 6)
                assert all(one is None for one in sides(service, "smallest").values())
                assert {one.state for one in board.tasks["add"].values()} == {
                    State.DONE
                }
            finally:
                service.stop()
                thread.join(20)


class TestManyInputs:
    def test_all_come_by_the_name_of_their_run(self, tmp_path: Path) -> None:
        runs = [
            Run.of("add", Add, inputs={"number": NUMBERS}, params={"bad": [1, 2]}),
            Run.of(
                "more",
                Add,
                inputs={"number": NUMBERS},
                params={"amount": 5, "bad": [2]},
            ),
            Run.of(
                "gather",
                Gather,
                inputs={"opinion": (*ADDED, Port("more", "number"))},
            ),
        ]
        service = run(tmp_path, plan_of(*runs, count=3))
        assert names(tmp_path, "gather") == {
            "numbers/0": "add: 1, more: 5",
            "numbers/1": "add: add failed: Number 1 is bad., more: 6",
        }
        skipped = service.scheduler.board.tasks["gather"]["numbers/2"]
        assert skipped.state is State.SKIPPED
        assert skipped.reason == (
            "add failed: Number 2 is bad.; more failed: Number 2 is bad."
        )

    def test_two_outputs_of_one_run_are_told_apart(self) -> None:
        ports = (Port("below", "accepted"), Port("below", "rejected"), *ADDED)
        spec = RunSpec.of("gather", Gather, {"opinion": ports})
        assert list(spec.inputs) == [
            "opinion.below.accepted",
            "opinion.below.rejected",
            "opinion.add",
        ]

    def test_an_optional_input_may_be_left_unconnected(self, tmp_path: Path) -> None:
        run(tmp_path, plan_of(Run.of("optional", Optional, inputs={"number": NUMBERS})))
        assert set(names(tmp_path, "optional").values()) == {"is not connected"}


class TestTable:
    def test_numbers_of_an_item_are_its_columns(self) -> None:
        @dataclass(frozen=True)
        class Mixed:
            length_angst: float
            count: int
            is_bad: bool
            name: str
            score: float | None
            track: np.ndarray[tuple[int], np.dtype[np.float64]]
            pair: tuple[float, float]

        assert numeric_fields(Mixed)[:3] == ["length_angst", "count", "is_bad"]
        assert "name" not in numeric_fields(Mixed)
        assert "pair" not in numeric_fields(Mixed)

    def test_rows_grow_and_what_has_gone_is_not_shown(self) -> None:
        table = GateTable({"number": Number, "other": Number}, ["setup"])
        tasks = {}
        for n in range(200):
            fields: dict[str, dict[str, object]]
            fields = {"number": {"value": n}, "": {"setup": "k3"}}
            table.put(str(n), "c", fields, rank=n)
            published = None if n == 7 else "accepted:x"
            tasks[str(n)] = Task(
                state=State.DONE,
                published=published,
                verdict=Verdict(accepted=n % 2 == 0, rule="r"),
            )
        view = table.view(["199", "3"], tasks, is_complete=False)
        assert len(view.rank) == 199
        assert view.numbers["value"][view.asked].tolist() == [199, 3]
        assert np.isnan(view.numbers["other.value"]).all()
        assert view.standing[:2].tolist() == [1, 0]
        assert set(view.words["setup"]) == {"k3"}
        assert 7 not in view.numbers["value"]

    def test_ranks_count_within_a_setup(self) -> None:
        setups = ["a", "a", "b", "a", "b"]
        exposures = {
            str(n): Exposure(n, {"setup": one}) for n, one in enumerate(setups)
        }
        ranks = SetupRanks()
        assert [ranks.of(str(n), exposures) for n in (4, 0, 3, 1, 2)] == [1, 0, 2, 1, 0]
        exposures["5"] = Exposure(5, {"setup": "b"})
        assert ranks.of("5", exposures) == 2


@pytest.mark.parametrize("kind", ["short", "none"])
def test_a_gate_must_answer_for_all(tmp_path: Path, kind: str) -> None:
    def answer(_: Gate[BelowParams], table: Table) -> Sequence[Verdict | None]:
        return [] if kind == "short" else [None] * len(table.asked)

    odd = type("Odd", (Below,), {"judge": answer, "name": "odd"})
    globals()["Odd"] = odd
    odd.__qualname__, odd.__module__ = "Odd", __name__
    gate = Run.of("odd", odd, inputs={"number": NUMBERS})
    service = run(tmp_path, plan_of(gate, count=2))
    tasks = service.scheduler.board.tasks["odd"]
    assert {one.state for one in tasks.values()} == {State.QUARANTINED}
