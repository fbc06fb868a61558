"""Protocols that hang, abort or leak, under the dask executor: the stream goes on."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostile_protocols import Mischief
from icestream.streaming import dask_slot, schema
from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.dask_memory import (
    Crowd,
    find_excess,
    usable_bytes,
    used_bytes,
)
from icestream.streaming.execution import Envelope, Failure, Fault, Outcome, TaskId
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.records import encode
from icestream.streaming.service import Service
from icestream.streaming.state import Policy
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Port
from icestream.testing.trivial import Tick, Ticker
from small import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]


def executor(folder: Path, **options: Any) -> DaskExecutor:
    """One slot, whose process finds the protocols of these tests."""
    options.setdefault("slots", 1)
    return DaskExecutor(
        folder=folder, environment={"PYTHONPATH": str(TESTS)}, **options
    )


def plan(**params: object) -> Plan:
    ticks = {"tick": (Port("ticks", "tick"),)}
    return Plan(
        [
            Run.of("ticks", Ticker, params={"burst": 3, "interval_s": 0.01}),
            Run.of("mischief", Mischief, params=params, inputs=ticks),
        ]
    )


def run(folder: Path, plan: Plan, **options: Any) -> Service:
    """Run a session to its end; a worker may be lost twice."""
    ledger = Ledger(folder / "ledger.db")
    try:
        service = Service(
            plan,
            ledger,
            executor(folder / "engine", **options),
            session_folder=folder,
            limits=Limits(free_gb=0.0),
        )
        service.scheduler.board.policy = Policy(lost_attempts=2, back_off_s=0.1)
        service.command(service.finish)
        service.run()
        return service
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("hang", "Its task took longer than its time limit"),
        ("abort", r"ended by signal 6 (SIGABRT)"),
    ],
)
def test_a_task_that_hangs_or_aborts_is_set_aside(
    tmp_path: Path, how: str, said: str
) -> None:
    service = run(tmp_path, plan(how=how, only=1))
    tasks = service.scheduler.board.tasks["mischief"]
    assert {key: one.state for key, one in tasks.items()} == {
        "ticks/0": State.DONE,
        "ticks/1": State.QUARANTINED,
        "ticks/2": State.DONE,
    }
    assert tasks["ticks/1"].attempt == 2
    assert said in tasks["ticks/1"].reason


def test_what_a_killed_last_attempt_has_left_is_swept_at_the_next_start(
    tmp_path: Path,
) -> None:
    run(tmp_path, plan(how="half", only=1))
    products = tmp_path / "products" / "mischief" / "ticks"
    left = [one for one in products.iterdir() if one.name.startswith(".")]
    finished = {one: one.read_text() for one in products.iterdir() if one not in left}
    assert [one.read_text() for one in left] == ["half"]
    assert list(finished.values()) == ["finished"] * 2
    run(tmp_path, plan(how="half", only=1))
    assert {one: one.read_text() for one in products.iterdir()} == finished


# Memory -----------------------------------------------------------------------------


def test_the_largest_slot_goes_first() -> None:
    assert find_excess({}, limit_bytes=10) is None
    assert find_excess({"a": 5, "b": 5}, limit_bytes=10) is None
    large = find_excess({"a": 5, "b": 6}, limit_bytes=10)
    assert large is not None
    assert large.slot == "b"
    assert usable_bytes() > 0
    assert used_bytes(2**31 - 1) == 0


def test_each_kill_holds_one_slot_more_until_the_task_has_landed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd, now = Crowd(), [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    task, other = (TaskId("run", key, "content", 1) for key in "ab")
    crowd.drop(task, "x", ["y", "z"])
    assert crowd.held == {"y"}
    crowd.drop(other, "y", ["x", "z"])
    assert crowd.held == {"y", "x"}, "one is left"
    crowd.drop(task, "z", ["x", "y"])
    crowd.drop(task, "y", ["x", "z"])
    assert crowd.held == {"y", "x"}, "never all"
    crowd.send([other])
    now[0] += 61.0
    assert crowd.held == {"x"}, "the one that stayed away is forgotten"
    crowd.land(other)
    assert crowd.held == set()


def test_many_that_fit_alone_but_not_together_are_all_done(tmp_path: Path) -> None:
    ticks = {"tick": (Port("ticks", "tick"),)}
    params = {"how": "peak", "keep_mb": 400}
    plan = Plan(
        [
            Run.of("ticks", Ticker, params={"burst": 5, "interval_s": 0.01}),
            Run.of("mischief", Mischief, params=params, inputs=ticks),
        ]
    )
    service = run(tmp_path, plan, slots=3, memory_bytes=1_100_000_000)
    tasks = service.scheduler.board.tasks["mischief"].values()
    assert [one.state for one in tasks] == [State.DONE] * 5
    assert [one.failures for one in tasks] == [0] * 5
    reader = LedgerReader(tmp_path / "ledger.db")
    try:
        causes = {row["cause"] for row in reader.rows(schema.attempt)}
    finally:
        reader.close()
    assert "Crowded" in causes, "they never met"


@contextmanager
def at_work(folder: Path, **options: Any) -> Iterator[Bench]:
    bench = Bench(executor(folder, **options))
    try:
        wait_for(lambda: len(bench.executor.slots()) == options.get("slots", 1))
        yield bench
    finally:
        bench.executor.close()


class Bench:
    """An executor and what it delivered."""

    def __init__(self, executor: DaskExecutor) -> None:
        self.executor = executor
        self.answers: queue.Queue[Outcome] = queue.Queue()
        executor.start(self.answers.put)

    def run(self, number: int, **params: object) -> Failure | None:
        """Run one task on the first slot; returns why it failed."""
        envelope = Envelope(
            task=TaskId("mischief", f"{number}", "content", 1),
            protocol="hostile_protocols:Mischief",
            params=params,
            inputs={"tick": encode(Tick(number=number))},
        )
        self.executor.submit("slot-0", [envelope])
        return self.answers.get(timeout=60).failure

    @property
    def pid(self) -> int:
        """Process of the first slot."""
        found = {one.name: one.pid for one in self.executor.processes}
        return found.get("slot-0", 0)


def test_a_task_that_takes_all_memory_is_killed(tmp_path: Path) -> None:
    with at_work(tmp_path, memory_bytes=500_000_000) as bench:
        failure = bench.run(0, how="swell", keep_mb=600)
        assert failure is not None
        assert failure.fault is Fault.LOST
        assert "all slots together held" in failure.message
        assert bench.run(1, how="leak") is None


def test_a_slot_that_keeps_memory_is_replaced_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_slot, "SHORTEST_LIFE_S", 0.0)
    with at_work(tmp_path, slots=2, memory_bytes=1_200_000_000) as bench:
        before = bench.pid
        assert bench.run(0, how="leak", keep_mb=700) is None
        wait_for(lambda: bench.pid not in (0, before))
        assert bench.run(1, how="leak") is None
        assert bench.answers.empty()


def test_a_slot_that_frees_its_peak_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_slot, "SHORTEST_LIFE_S", 0.0)
    with at_work(tmp_path, slots=2, memory_bytes=1_200_000_000) as bench:
        before = bench.pid
        for number in range(2):
            assert bench.run(number, how="peak", keep_mb=700) is None
        assert bench.run(2, how="leak") is None
        assert bench.pid == before
