"""The service with small protocols: what it stores, and that it comes back."""

from __future__ import annotations

import re
import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import sqlalchemy as sa

from icestream.domain.errors import (
    BadSettings,
    DiskFull,
    FolderUnavailable,
    LedgerUnusable,
    SourceUnavailable,
)
from icestream.streaming import schema
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Resources, Sighting, SightingState
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.records import decode
from icestream.streaming.service import Service
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Port
from small import (
    Add,
    Both,
    Join,
    Number,
    Numbers,
    NumbersParams,
    Sum,
    Total,
    check_replay,
    small_plan,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def run(folder: Path, plan: Plan, **limits: Any) -> Service:
    """Run a session to its end."""
    ledger = Ledger(folder / "ledger.db")
    try:
        service = make(folder, plan, ledger, **limits)
        service.command(service.finish)
        service.run()
        return service
    finally:
        ledger.close()


def make(folder: Path, plan: Plan, ledger: Ledger, **limits: Any) -> Service:
    limits = {"free_gb": 0.0} | limits
    return Service(
        plan, ledger, InlineExecutor(), session_folder=folder, limits=Limits(**limits)
    )


@contextmanager
def running(folder: Path, plan: Plan, **limits: Any) -> Iterator[Service]:
    """A service at work in a thread; stopped at the end."""
    ledger = Ledger(folder / "ledger.db")
    service = make(folder, plan, ledger, **limits)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(timeout=20)
        ledger.close()
        assert not thread.is_alive()


def values(folder: Path, name: str, output: str = "number") -> dict[str, int]:
    reader = LedgerReader(folder / "ledger.db")
    try:
        records = reader.records(name, output)
    finally:
        reader.close()
    return {key: decode(one, Number).value for key, one in records.items()}


def count(folder: Path, table: sa.Table) -> int:
    reader = LedgerReader(folder / "ledger.db")
    try:
        return len(reader.rows(table))
    finally:
        reader.close()


def total(folder: Path) -> Total:
    reader = LedgerReader(folder / "ledger.db")
    try:
        record = reader.snapshot("sum")
    finally:
        reader.close()
    assert record is not None
    found: Total = decode(record, Total)
    return found


def test_everything_arrives_once(tmp_path: Path) -> None:
    run(tmp_path, small_plan(count=6))
    assert values(tmp_path, "add") == {f"numbers/{n}": n + 1 for n in range(6)}
    assert values(tmp_path, "even", "accepted") == {
        f"numbers/{n}": n + 1 for n in (1, 3, 5)
    }
    assert values(tmp_path, "even", "rejected") == {
        f"numbers/{n}": n + 1 for n in (0, 2, 4)
    }
    # The join fires for all: where the gate rejected, its second input is missing.
    assert values(tmp_path, "join") == {
        f"numbers/{n}": (n + 1) * (2 if n % 2 else 1) for n in range(6)
    }
    assert total(tmp_path) == Total(count=6, total=21)


def test_a_second_start_does_nothing_again(tmp_path: Path) -> None:
    run(tmp_path, small_plan())
    before = count(tmp_path, schema.attempt)
    service = run(tmp_path, small_plan())
    assert count(tmp_path, schema.attempt) == before
    assert service.scheduler.is_finished()


def test_replaying_the_log_gives_the_state_tables(tmp_path: Path) -> None:
    plan = small_plan(add={"bad": [2], "crash": [3]})
    run(tmp_path, plan)
    check_replay(tmp_path / "ledger.db", plan.workflow)


def test_other_parameters_and_back_again(tmp_path: Path) -> None:
    run(tmp_path, small_plan())
    run(tmp_path, small_plan(add={"amount": 2}))
    assert values(tmp_path, "add")["numbers/0"] == 2
    assert total(tmp_path) == Total(count=6, total=27)
    executed = count(tmp_path, schema.attempt)
    run(tmp_path, small_plan())
    assert values(tmp_path, "add")["numbers/0"] == 1
    assert total(tmp_path) == Total(count=6, total=21)
    # Only the sum was brought up to date: all else was in the ledger already.
    assert count(tmp_path, schema.attempt) - executed <= 3


def test_a_bad_item_is_set_aside_and_the_stream_goes_on(tmp_path: Path) -> None:
    service = run(tmp_path, small_plan(add={"bad": [2], "crash": [3]}))
    tasks = service.scheduler.board.tasks
    assert tasks["add"]["numbers/2"].state is State.QUARANTINED
    assert tasks["add"]["numbers/2"].attempt == 1
    assert tasks["add"]["numbers/3"].attempt == 2  # an unexpected fault is tried again
    assert tasks["join"]["numbers/2"].state is State.SKIPPED
    assert "Number 2 is bad" in tasks["join"]["numbers/2"].reason
    assert values(tmp_path, "add").keys() == {f"numbers/{n}" for n in (0, 1, 4, 5)}
    reader = LedgerReader(tmp_path / "ledger.db")
    causes = {row["cause"] for row in reader.rows(schema.attempt)}
    details = [row["details"] for row in reader.rows(schema.attempt) if row["cause"]]
    reader.close()
    assert causes == {None, "UnusableImage", "ZeroDivisionError"}
    assert all("Traceback" in one for one in details)


def test_retry_queues_quarantined_items_again(tmp_path: Path) -> None:
    run(tmp_path, small_plan(add={"bad": [2]}))
    with running(tmp_path, small_plan(add={"bad": [2]})) as service:
        retried = service.command(
            lambda transaction: service.retry(transaction, "add", None)
        )
        assert retried.result(timeout=10) == 1
        task = service.scheduler.board.tasks["add"]
        wait_for(
            lambda: (
                task["numbers/2"].attempt == 2
                and task["numbers/2"].state is State.QUARANTINED
            )
        )


def test_a_file_that_may_still_be_written_waits(tmp_path: Path) -> None:
    plan = small_plan(count=3, add={"incomplete": [1]})
    with running(tmp_path, plan, look_again_s=0.1) as service:
        tasks = service.scheduler.board.tasks
        wait_for(
            lambda: (
                "numbers/1" in tasks["add"] and tasks["add"]["numbers/1"].attempt >= 3
            )
        )
        assert tasks["add"]["numbers/1"].state is not State.QUARANTINED
    service = run(tmp_path, plan, settling_s=0.0)
    task = service.scheduler.board.tasks["add"]["numbers/1"]
    assert task.state is State.QUARANTINED


def test_a_full_disk_pauses_the_session_and_keeps_the_task(tmp_path: Path) -> None:
    with running(tmp_path, small_plan(count=3, add={"full": [1]})) as service:
        board = service.scheduler.board
        wait_for(lambda: board.runs[""].paused is not None)
        assert "No space is left" in str(board.runs[""].paused)
        assert board.tasks["add"]["numbers/1"].state is State.READY
    assert count(tmp_path, schema.notice) == 1


def test_little_space_pauses_and_more_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = [0]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: type(usage)(usage.total, 0, free[0])
    )
    monkeypatch.setattr("icestream.streaming.service.SPACE_EVERY_S", 0.05)
    with running(tmp_path, small_plan(), free_gb=1.0) as service:
        board = service.scheduler.board
        wait_for(lambda: board.runs[""].paused is not None)
        assert not count(tmp_path, schema.attempt)
        free[0] = 2_000_000_000
        wait_for(lambda: len(values(tmp_path, "join")) == 6)


def test_the_same_cause_again_and_again_pauses_the_run(tmp_path: Path) -> None:
    plan = small_plan(count=20, add={"bad": list(range(20))})
    with running(tmp_path, plan) as service:
        board = service.scheduler.board
        wait_for(lambda: board.runs["add"].paused is not None)
        assert "UnusableImage" in str(board.runs["add"].paused)
    done = sum(one.state is State.QUARANTINED for one in board.tasks["add"].values())
    assert 5 <= done < 20


def test_pause_resume_and_override(tmp_path: Path) -> None:
    with running(tmp_path, small_plan()) as service:
        board = service.scheduler.board
        wait_for(lambda: len(values(tmp_path, "join")) == 6)
        service.command(lambda t: service.pause(t, "join", "lunch")).result(10)
        assert board.runs["join"].paused == "lunch"
        service.command(
            lambda t: service.override(t, "even", "numbers/0", accepted=True)
        ).result(10)
        wait_for(lambda: board.tasks["join"]["numbers/0"].state is State.READY)
        assert values(tmp_path, "join")["numbers/0"] == 1
        service.command(lambda t: service.resume(t, None)).result(10)
        wait_for(lambda: values(tmp_path, "join")["numbers/0"] == 2)
        with pytest.raises(BadSettings, match="no run 'nothing'"):
            service.command(lambda t: service.pause(t, "nothing", "")).result(10)


def test_a_command_is_stored_before_it_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, small_plan()) as service:
        service.command(lambda t: service.pause(t, "join", "lunch")).result(10)
        reader = LedgerReader(tmp_path / "ledger.db")
        rows = reader.rows(schema.run, schema.run.c.name == "join")
        reader.close()
        assert rows[0]["paused"] == "lunch"


def test_a_run_that_is_added_later_catches_up(tmp_path: Path) -> None:
    whole = small_plan()
    few = type(whole)(
        [one for name, one in whole.runs.items() if name in ("numbers", "add")]
    )
    run(tmp_path, few)
    run(tmp_path, whole)
    assert len(values(tmp_path, "join")) == 6
    assert total(tmp_path) == Total(count=6, total=21)
    run(tmp_path, few)


def test_runs_that_are_fed_otherwise_follow(tmp_path: Path) -> None:
    run(tmp_path, small_plan())
    plan = small_plan()
    odd = (Port("even", "rejected"),)
    changed = [
        Run.of("join", Join, inputs={"first": (Port("add", "number"),), "second": odd}),
        Run.of("sum", Sum, inputs={"number": odd}),
    ]
    run(tmp_path, Plan((plan.runs | {one.spec.name: one for one in changed}).values()))
    assert values(tmp_path, "join") == {
        f"numbers/{n}": (n + 1) * (1 if n % 2 else 2) for n in range(6)
    }
    assert total(tmp_path) == Total(count=3, total=9)


def test_a_run_that_fits_no_slot_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Add, "resources", Resources(threads=2))
    with pytest.raises(BadSettings, match="'add' needs 2 threads"):
        run(tmp_path, small_plan())


def test_a_gate_hears_of_an_optional_input_that_is_absent(tmp_path: Path) -> None:
    added = (Port("add", "number"),)
    plan = small_plan(count=2, add={"bad": [1]})
    more = [
        Run.of("again", Add, inputs={"number": added}, params={"bad": [1, 2]}),
        Run.of(
            "both", Both, inputs={"number": added, "other": (Port("again", "number"),)}
        ),
    ]
    run(tmp_path, Plan([*plan.runs.values(), *more]))
    assert values(tmp_path, "both", "rejected") == {"numbers/0": 1}


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=r"network file system \(nfs4\)"):
        Ledger(tmp_path / "ledger.db", file_system=lambda _: "nfs4")
    assert not list(tmp_path.iterdir())


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    run(tmp_path, small_plan())
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        connection.execute(schema.meta.update().values(value="99"))
    engine.dispose()
    with pytest.raises(LedgerUnusable, match="version 99"):
        Ledger(tmp_path / "ledger.db")


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(LedgerUnusable, match="cannot be read"):
        Ledger(path)
    assert path.read_bytes() == b"this is no database" * 1000


def test_a_ledger_that_cannot_grow_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, small_plan(count=3))
    ledger = Ledger(tmp_path / "ledger.db")
    try:
        with ledger.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        service = make(tmp_path, small_plan(count=500), ledger)
        ledger.connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        ledger.connection.rollback()
        with pytest.raises(DiskFull, match="nothing committed is lost"):
            service.run()
    finally:
        ledger.close()
    run(tmp_path, small_plan(count=500))
    assert len(values(tmp_path, "join")) == 500


# Sources that stay away -------------------------------------------------------------


class AwayParams(NumbersParams):
    """Numbers that lie in a folder."""

    folder: str = "/data/"


class Away(Numbers):
    """Numbers, then nothing but trouble: polls that fail, or a place that has gone."""

    name: ClassVar = "away"
    Params: ClassVar = AwayParams
    returns_after: ClassVar = 10**9
    is_told: ClassVar = False

    def __init__(self, params: NumbersParams) -> None:
        super().__init__(params)
        self.polls = 0

    def poll(self) -> Sequence[Sighting]:
        self.polls += 1
        if self.polls == 1:
            return super().poll()
        if self.is_told:
            gone = self.polls == 2
            place = SightingState.VANISHED if gone else SightingState.IGNORED
            is_news = gone or self.polls == self.returns_after
            return [Sighting(path="/data", state=place, reason="is gone")] * is_news
        if self.polls < self.returns_after:
            raise FolderUnavailable("The folder /data is gone.")
        return []


def away_plan() -> Plan:
    numbers = (Port("away", "number"),)
    return Plan(
        [
            Run.of("away", Away, params={"count": 3}),
            Run.of("add", Add, inputs={"number": numbers}),
        ]
    )


@pytest.mark.parametrize("is_told", [False, True])
def test_a_source_that_stays_away_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    monkeypatch.setattr(Away, "is_told", is_told)
    why = ".* is gone" if is_told else "The folder /data is gone"
    pattern = rf"source 'away' is unavailable since \d{{4}}-.*: {why}\. Bring it back"
    with pytest.raises(SourceUnavailable, match=pattern):
        run(tmp_path, away_plan(), lost_polls=5)
    assert len(values(tmp_path, "add")) == 3  # what had arrived is done
    with pytest.raises(SourceUnavailable, match="unavailable since"):
        run(tmp_path, away_plan(), lost_polls=5)


def test_a_restart_knows_since_when_a_source_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Away, "is_told", True)
    since = []
    for later_s in (0, 7200):
        now = time.time
        monkeypatch.setattr("time.time", lambda now=now, by=later_s: now() + by)
        with pytest.raises(SourceUnavailable) as said:
            run(tmp_path, away_plan(), lost_polls=5)
        since.append(re.findall(r"since (\S+ \S+):", str(said.value)))
    assert since[0] == since[1]
    assert since[0]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_source_that_comes_back_in_time_ends_as_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    monkeypatch.setattr(Away, "is_told", is_told)
    monkeypatch.setattr(Away, "returns_after", 6)
    run(tmp_path, away_plan(), lost_polls=10**6)
    assert len(values(tmp_path, "add")) == 3


def test_a_stop_does_not_tell_of_sources(tmp_path: Path) -> None:
    with running(tmp_path, away_plan()):
        wait_for(lambda: count(tmp_path, schema.notice))
