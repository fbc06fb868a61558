"""The stream settles acquisition fields by an arrangement that it is given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from icestream.streaming import events as ev
from icestream.streaming import schema
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Context, Input, Params, PerItem, Source
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.records import decode
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port
from small import Add, Number, check_replay, sighting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.protocol import Sighting

# What becomes known of the number 5, poll by poll.
TOLD: tuple[dict[str, Any], ...] = ({}, {"colour": "red"}, {"factor": 3})
SETTLED = {"setup": "a", "colour": "red", "factor": 3, "number": 1, "settled_by": "a"}


@dataclass(frozen=True)
class Counted:
    """Numbers exposures as they come; what was told before stays."""

    count: int = 0

    def learn(self, acquisition: Mapping[str, Any]) -> Counted:
        return Counted(max(self.count, acquisition["number"]))

    def rules(self, source: Mapping[str, Any]) -> str:
        return str(source["setup"])

    def arrange(
        self,
        source: Mapping[str, Any],
        told: Mapping[str, Any],
        *,
        before: Mapping[str, Any] | None = None,
    ) -> tuple[Counted, Mapping[str, Any], Sequence[str]]:
        number = self.count + 1 if before is None else before["number"]
        fields = {**(before or {}), **source, **told, "number": number}
        return Counted(max(self.count, number)), fields, [f"has a {n}" for n in told]


class Telling(Source[Params]):
    """One number, of which more is told poll by poll."""

    name: ClassVar = "telling"
    outputs: ClassVar = {"number": Number}
    resumed: ClassVar[list[Mapping[str, Any]]] = []

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._told = list(TOLD)

    @property
    def interval_s(self) -> float:
        return 0.02

    def resume(self, seen: Sequence[Sighting]) -> None:
        self.resumed[:] = [one.acquisition for one in seen]
        self._told = [] if seen else self._told

    def poll(self) -> Sequence[Sighting]:
        some = self._told[:1]
        del self._told[:1]
        return [replace(sighting(5, 5), acquisition=told) for told in some]


class Multiply(PerItem[Params]):
    """Reads a field, unlike `Add`."""

    name: ClassVar = "multiply"
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"number": Number}
    reads: ClassVar = ("factor",)

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Number]:
        factor = context.acquisition.factor or 1
        return {"number": Number(value=number.value * factor)}


def plan(setup: str = "a") -> Plan:
    told = (Port("telling", "number"),)
    return Plan(
        [
            Run.of("telling", Telling, acquisition={"setup": setup}),
            Run.of("add", Add, inputs={"number": told}),
            Run.of("multiply", Multiply, inputs={"number": told}),
        ],
        arrangement=Counted(),
    )


def run(folder: Path, plan: Plan) -> tuple[dict[str, Any], Counter[str], list[str]]:
    """Return the fields, how often each run has worked, and the notices."""
    ledger = Ledger(folder / "ledger.db")
    limits = Limits(free_gb=0.0)
    try:
        service = Service(
            plan, ledger, InlineExecutor(), session_folder=folder, limits=limits
        )
        service.command(service.finish)
        service.run()
    finally:
        ledger.close()
    reader = LedgerReader(folder / "ledger.db")
    try:
        (exposure,) = reader.rows(schema.exposure)
        worked = Counter(one["run"] for one in reader.rows(schema.attempt))
        (product,) = reader.records("multiply", "number").values()
        assert decode(product, Number) == Number(value=15)
        return (
            dict(exposure["acquisition"]),
            worked,
            [one.message for one in reader.notices()],
        )
    finally:
        reader.close()


def test_what_is_told_late_reaches_who_reads_it_and_nobody_else(
    tmp_path: Path,
) -> None:
    fields, worked, notices = run(tmp_path, plan())
    assert fields == SETTLED
    assert worked["add"] == 1
    assert notices == ["telling/5: has a colour", "telling/5: has a factor"]


def test_a_restart_learns_and_replays(tmp_path: Path) -> None:
    before = run(tmp_path, plan())
    assert run(tmp_path, plan()) == before
    assert Telling.resumed == [SETTLED]
    check_replay(tmp_path / "ledger.db", plan().workflow)


def test_what_its_source_declares_anew_holds_after_a_restart(tmp_path: Path) -> None:
    _, worked, _ = run(tmp_path, plan())
    fields, again, _ = run(tmp_path, plan("b"))
    assert fields == SETTLED | {"setup": "b", "settled_by": "b"}
    assert again == worked


def test_a_start_settles_only_what_other_rules_hold_for(tmp_path: Path) -> None:
    def arrivals() -> int:
        ledger = Ledger(tmp_path / "ledger.db")
        try:
            return sum(isinstance(one, ev.Arrived) for one in ledger.events())
        finally:
            ledger.close()

    run(tmp_path, plan())
    assert arrivals() == len(TOLD)
    run(tmp_path, plan())
    assert arrivals() == len(TOLD)
    for _ in range(2):
        run(tmp_path, plan("b"))
        assert arrivals() == len(TOLD) + 1
