"""Kill tests of the dask executor, and the contract that all executors share."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from icestream.domain.errors import InternalError
from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.execution import Envelope, Executor, Fault, Outcome, TaskId
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.processes import (
    ProcessRecord,
    is_alive,
    read_orphans,
    read_records,
    reap_strays,
    record_process,
    write_records,
)
from icestream.streaming.records import encode
from icestream.testing.trivial import TallyState, Tick

TRIVIAL = "icestream.testing.trivial"
PATIENCE_S = 30.0
"""Far beyond what anything takes, so that a busy machine fails no test."""


def hop(number: int, protocol: str = "Hop", **params: object) -> Envelope:
    return Envelope(
        task=TaskId("run", f"key-{number}", "content", 1),
        protocol=f"{TRIVIAL}:{protocol}",
        params=params,
        inputs={"tick": encode(Tick(number=number))},
    )


class Bench:
    """An executor and what it delivered."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.answers: queue.Queue[Outcome] = queue.Queue()
        executor.start(self.answers.put)

    def take(self, count: int) -> dict[str, Outcome]:
        """Return outcomes by key; each key must come once."""
        found: dict[str, Outcome] = {}
        for _ in range(count):
            one = self.answers.get(timeout=PATIENCE_S)
            assert one.task.key not in found
            found[one.task.key] = one
        return found

    def nothing_more(self) -> None:
        with pytest.raises(queue.Empty):
            self.answers.get(timeout=0.5)


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, even if nobody took note of it yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def faults(outcomes: dict[str, Outcome]) -> dict[str, Fault | None]:
    return {
        key: one.failure.fault if one.failure else None for key, one in outcomes.items()
    }


def record_of(bench: Bench, name: str) -> ProcessRecord:
    assert isinstance(bench.executor, DaskExecutor)
    (record,) = [one for one in bench.executor.processes if one.name == name]
    return record


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("dask") / "engine"
    bench = Bench(DaskExecutor(slots=2, folder=folder, threads_per_slot=1))
    wait_for(lambda: len(bench.executor.slots()) == 2)
    yield bench
    records = read_records(folder / "engine.json")
    bench.executor.close()
    assert len(records) == 3
    assert not any(is_alive(one) for one in records)


@pytest.fixture(params=["inline", "dask"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "dask":
        yield request.getfixturevalue("dask")
        return
    bench = Bench(InlineExecutor(slots=2))
    yield bench
    bench.executor.close()


@pytest.mark.parametrize(
    ("fault", "expected", "cause"),
    [
        ("item", Fault.ITEM, "ItemError"),
        ("incomplete", Fault.INCOMPLETE, "IncompleteFile"),
        ("session", Fault.SESSION, "DiskFull"),
        ("internal", Fault.INTERNAL, "ZeroDivisionError"),
    ],
)
def test_a_bundle_answers_each_task_in_order(
    bench: Bench, fault: str, expected: Fault, cause: str
) -> None:
    bundle = [hop(0), hop(1, "Faulty", fault=fault), hop(2)]
    bench.executor.submit("slot-1", bundle)
    found = bench.take(3)
    assert list(found) == ["key-0", "key-1", "key-2"]
    assert faults(found) == {"key-0": None, "key-1": expected, "key-2": None}
    failure = found["key-1"].failure
    assert failure is not None
    assert failure.cause == cause
    assert "trivial.py" in failure.details
    assert found["key-2"].outputs["tick"] == encode(Tick(number=2))
    assert {one.slot for one in found.values()} == {"slot-1"}


def test_an_aggregate_updates_its_state(bench: Bench) -> None:
    update = Envelope(
        task=TaskId("run", "", "content", 1),
        protocol=f"{TRIVIAL}:Tally",
        inputs={"state": encode(TallyState(count=3, total=30))},
        added=[encode(Tick(number=5))],
        withdrawn=[encode(Tick(number=10))],
    )
    bench.executor.submit("slot-0", [update])
    (outcome,) = bench.take(1).values()
    assert outcome.failure is None
    assert outcome.outputs["tally"] == encode(TallyState(count=3, total=25))


def test_bundles_of_a_slot_run_in_the_order_of_submission(bench: Bench) -> None:
    numbers = list(range(60))
    for number in numbers:
        bench.executor.submit("slot-0", [hop(number)])
    found = sorted(bench.take(60).values(), key=lambda one: one.started)
    assert [one.task.key for one in found] == [f"key-{number}" for number in numbers]


def test_an_unknown_slot_is_refused(bench: Bench) -> None:
    with pytest.raises(InternalError, match="slot-9"):
        bench.executor.submit("slot-9", [hop(0)])


def test_leaving_the_interpreter_is_a_loss(bench: Bench) -> None:
    bench.executor.submit("slot-0", [hop(0, "Faulty", fault="exit")])
    (outcome,) = bench.take(1).values()
    assert outcome.failure is not None
    assert outcome.failure.fault is Fault.LOST
    bench.executor.submit("slot-0", [hop(1)])
    assert faults(bench.take(1)) == {"key-1": None}


def test_a_killed_worker_loses_its_own_tasks_once(dask: Bench) -> None:
    dask.executor.submit("slot-1", [hop(100, "Sleepy", seconds=3.0)])
    bundle = [hop(number, "Faulty", fault="kill", only=(1,)) for number in range(3)]
    dask.executor.submit("slot-0", bundle)
    dask.executor.submit("slot-0", [hop(3)])
    killed = time.monotonic()
    found = dask.take(4)
    assert time.monotonic() - killed < 3.0
    assert faults(found) == {
        "key-0": Fault.DROPPED,
        "key-1": Fault.LOST,
        "key-2": Fault.DROPPED,
        "key-3": Fault.DROPPED,
    }
    causes = {key: one.failure.cause for key, one in found.items() if one.failure}
    assert causes.pop("key-1") == "WorkerDied"
    assert set(causes.values()) == {"SlotLost"}
    dask.executor.submit("slot-0", [replace(hop(3), task=hop(4).task)])
    rest = dask.take(2)
    assert faults(rest) == {"key-4": None, "key-100": None}
    dask.nothing_more()


def test_a_worker_killed_from_outside_comes_back(dask: Bench) -> None:
    wait_for(lambda: len(dask.executor.slots()) == 2)
    dask.executor.submit("slot-0", [hop(0, "Sleepy", seconds=60.0)])
    dask.executor.submit("slot-0", [hop(1)])
    time.sleep(0.3)
    os.kill(record_of(dask, "slot-0").pid, signal.SIGKILL)
    assert set(faults(dask.take(2)).values()) == {Fault.LOST, Fault.DROPPED}
    dask.executor.submit("slot-0", [hop(2)])
    assert faults(dask.take(1)) == {"key-2": None}


def test_a_restart_ends_a_task_and_the_programs_it_started(dask: Bench) -> None:
    wait_for(lambda: len(dask.executor.slots()) == 2)
    long = hop(0, "Sleepy", seconds=60.0, hold_interpreter=True, program=True)
    dask.executor.submit("slot-1", [long, hop(1)])
    worker = psutil.Process(record_of(dask, "slot-1").pid)
    wait_for(worker.children)
    (program,) = worker.children()
    dask.executor.restart_slot("slot-1")
    assert set(faults(dask.take(2)).values()) == {Fault.LOST, Fault.DROPPED}
    wait_for(lambda: is_gone(program))
    assert is_gone(worker)
    dask.executor.submit("slot-1", [hop(2)])
    assert faults(dask.take(1)) == {"key-2": None}


def test_a_lost_scheduler_is_replaced(dask: Bench) -> None:
    wait_for(lambda: len(dask.executor.slots()) == 2)
    dask.executor.submit("slot-0", [hop(0, "Sleepy", seconds=60.0)])
    time.sleep(0.3)
    old = record_of(dask, "scheduler")
    os.kill(old.pid, signal.SIGKILL)
    assert faults(dask.take(1)) == {"key-0": Fault.LOST}
    dask.executor.submit("slot-0", [hop(1)])
    dask.executor.submit("slot-1", [hop(2)])
    assert faults(dask.take(2)) == {"key-1": None, "key-2": None}
    assert record_of(dask, "scheduler") != old


def test_a_stranger_cannot_use_the_engine(dask: Bench) -> None:
    for name in ("scheduler", "slot-0", "slot-1"):
        process = psutil.Process(record_of(dask, name).pid)
        ends = {one.laddr.ip for one in process.net_connections("tcp")}
        assert ends == {"127.0.0.1"}
    stranger = (
        "import sys, distributed\n"
        "try:\n"
        "    distributed.Client(sys.argv[1], timeout=2)\n"
        "except OSError:\n"
        "    sys.exit(42)\n"
    )
    engine = dask.executor._loop._engine  # type: ignore[attr-defined] # noqa: SLF001
    address = engine.address.replace("icestream://", "tcp://")
    run = subprocess.run(
        [sys.executable, "-c", stranger, address], check=False, capture_output=True
    )
    assert run.returncode == 42, run.stderr
    dask.executor.submit("slot-0", [hop(0)])
    assert faults(dask.take(1)) == {"key-0": None}


def test_recycling_the_scheduler_loses_no_task(tmp_path: Path) -> None:
    bench = Bench(DaskExecutor(slots=2, folder=tmp_path, recycle_after=20))
    try:
        wait_for(lambda: len(bench.executor.slots()) == 2)
        first = record_of(bench, "scheduler")
        workers = {record_of(bench, f"slot-{number}") for number in range(2)}
        number = 0
        while is_alive(first):
            for slot in ("slot-0", "slot-1"):
                for _ in range(3):
                    bench.executor.submit(slot, [hop(number)])
                    number += 1
            assert set(faults(bench.take(6)).values()) == {None}
        bench.executor.submit("slot-0", [hop(number)])
        assert faults(bench.take(1)) == {f"key-{number}": None}
        assert {record_of(bench, f"slot-{number}") for number in range(2)} == workers
    finally:
        bench.executor.close()


def test_close_is_quick_and_leaves_nothing_but_logs(tmp_path: Path) -> None:
    threads = threading.active_count()
    bench = Bench(DaskExecutor(slots=1, folder=tmp_path))
    records = read_records(tmp_path / "engine.json")
    bench.executor.submit("slot-0", [hop(0, "Sleepy", seconds=60.0, program=True)])
    worker = psutil.Process(record_of(bench, "slot-0").pid)
    wait_for(worker.children)
    (program,) = worker.children()
    bench.executor.close()
    bench.executor.close()
    assert not any(is_alive(one) for one in records)
    assert is_gone(program)
    assert threading.active_count() == threads
    assert {path.suffix for path in tmp_path.iterdir()} == {".log"}
    assert bench.answers.empty()


SERVICE = r"""
import os, signal, sys, time
from pathlib import Path
from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.execution import Envelope, TaskId
from icestream.streaming.records import Record

here = Path(sys.argv[1])
lost = here / "lost"
lost.mkdir()
os.chdir(lost)
lost.rmdir()
executor = DaskExecutor(slots=2, folder=here / "engine")
try:
    executor.start(lambda outcome: os.write(1, outcome.task.key.encode() + b"\n"))
    program = {"seconds": 600.0, "program": True}
    tick = {"tick": Record(scalars={"number": 1})}
    for key, protocol, params in (("a", "Hop", {}), ("b", "Sleepy", program)):
        executor.submit("slot-0", [Envelope(
            task=TaskId("run", key, "c", 1), session_folder=str(here), inputs=tick,
            protocol=f"icestream.testing.trivial:{protocol}", params=params)])
    while len(executor.slots()) < 2:
        time.sleep(0.02)
    os.write(1, b"up\n")
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", [slot.name for slot in executor.slots()], flush=True)
    executor.close()
    print("closed", flush=True)
"""


@contextlib.contextmanager
def service(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a service whose folder vanished, until a task with a program runs."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = {process.stdout.readline() for _ in range(2)}
            assert said == {"a\n", "up\n"}
            wait_for(lambda: programs(folder))
            yield process
        finally:
            process.kill()


def engine_of(folder: Path) -> list[ProcessRecord]:
    return read_records(folder / "engine" / "engine.json")


def programs(folder: Path) -> list[psutil.Process]:
    (slot,) = [one for one in engine_of(folder) if one.name == "slot-0"]
    return psutil.Process(slot.pid).children()


def test_a_killed_service_leaves_no_process(tmp_path: Path) -> None:
    with service(tmp_path) as process:
        records = engine_of(tmp_path)
        (program,) = programs(tmp_path)
        process.kill()
        wait_for(lambda: not any(is_alive(one) for one in records), timeout_s=5.0)
        wait_for(lambda: is_gone(program), timeout_s=5.0)
    assert engine_of(tmp_path) == []


def test_strays_are_reaped_when_the_whole_engine_was_killed(tmp_path: Path) -> None:
    with service(tmp_path) as process:
        records = engine_of(tmp_path)
        (program,) = programs(tmp_path)
        # Held still, the service cannot answer the death of its scheduler, which
        # would have ended the worker's program after the service.
        process.send_signal(signal.SIGSTOP)
        (scheduler,) = [one for one in records if one.name == "scheduler"]
        os.kill(scheduler.pid, signal.SIGKILL)
        process.kill()
        wait_for(lambda: not any(is_alive(one) for one in records), timeout_s=5.0)
    assert not is_gone(program)
    orphans = read_orphans(tmp_path / "engine" / "engine.json")
    assert orphans == records
    assert [one.name for one in reap_strays(orphans)] == ["slot-0"]
    wait_for(lambda: is_gone(program))
    assert reap_strays(records) == []


def test_a_copy_of_a_running_session_leaves_its_engine_alone(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    with service(original):
        records = engine_of(original)
        shutil.copytree(original, tmp_path / "copy")
        copy = Bench(DaskExecutor(slots=1, folder=tmp_path / "copy" / "engine"))
        copy.executor.close()
        assert len(records) == 3
        assert all(is_alive(one) for one in records)


def test_an_engine_that_was_moved_after_its_service_died_is_ended(
    tmp_path: Path,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as stray:
        place = tmp_path / "engine"
        place.mkdir()
        write_records(
            place / "engine.json", [record_process("slot-0", stray.pid, "no-such-mark")]
        )
        assert read_orphans(place / "engine.json") == []
        text = (place / "engine.json").read_text()
        mine = f'"pid": {os.getpid()}'
        assert mine in text
        (place / "engine.json").write_text(text.replace(mine, '"pid": 0'))
        moved = place.rename(tmp_path / "moved")
        Bench(DaskExecutor(slots=1, folder=moved)).executor.close()
        assert stray.wait(5) == -signal.SIGKILL


def test_a_slot_sees_its_own_gpu_alone(tmp_path: Path) -> None:
    executor = DaskExecutor(slots=3, gpus=("1", "GPU-5a"), folder=tmp_path / "engine")
    assert executor.slots() == ()
    bench = Bench(executor)
    wait_for(lambda: len(executor.slots()) == 3)
    seen = {
        one.name: psutil.Process(one.pid).environ().get("CUDA_VISIBLE_DEVICES")
        for one in engine_of(tmp_path)
        if one.name.startswith("slot")
    }
    assert seen == {"slot-0": "1", "slot-1": "GPU-5a", "slot-2": ""}
    assert [one.gpus for one in executor.slots()] == [1, 1, 0]
    bench.executor.close()


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = {"PYTHONHOME": str(tmp_path)}
    executor = DaskExecutor(slots=1, folder=tmp_path, environment=broken)
    with pytest.raises(InternalError, match=r"(?s)No slot could be.*encodings"):
        executor.start(lambda _: None)
    assert executor.slots() == ()


def test_ctrl_c_reaches_the_service_alone(tmp_path: Path) -> None:
    with service(tmp_path) as process:
        records = engine_of(tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read().splitlines()
    assert said == ["interrupted ['slot-0', 'slot-1']", "closed"]
    assert not any(is_alive(one) for one in records)


def test_a_reused_pid_is_not_a_stray() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as sleeper:
        record = record_process("slot-0", sleeper.pid, "no-such-mark")
        for other in (
            replace(record, started_ticks=record.started_ticks - 1),
            replace(record, host="elsewhere"),
            replace(record, boot="earlier"),
        ):
            assert reap_strays([other]) == []
        assert sleeper.poll() is None
        assert reap_strays([record]) == [record]
        assert sleeper.wait(5) == -signal.SIGKILL
