"""Nothing is lost: services and workers are killed at random moments."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from e2e.chaos_session import SLOTS, STEPS, chaos_plan
from icestream.streaming.dispatch import BUNDLE
from icestream.streaming.processes import read_records
from small import check_replay

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEMS = 1000
IN_FLIGHT = SLOTS * 2 * BUNDLE


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--chaos-kills"))


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


@pytest.mark.timeout(3000)
def test_a_service_that_is_killed_loses_nothing(
    tmp_path: Path, kills: int, dice: random.Random
) -> None:
    (tmp_path / "trace").touch()
    for number in range(kills):
        before = committed(tmp_path)
        left = len(STEPS) * ITEMS - before
        # Spread the kills over the whole work; some come before the first commit.
        goal = before + dice.randrange(max(1, 2 * left // (kills - number)))
        with session(tmp_path) as process:
            wait_until(tmp_path, goal, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
    with session(tmp_path) as process:
        assert process.wait(timeout=300) == 0
    check(tmp_path, kills)


@pytest.mark.timeout(3000)
def test_workers_that_are_killed_lose_nothing(
    tmp_path: Path, kills: int, dice: random.Random
) -> None:
    (tmp_path / "trace").touch()
    killed = 0
    with session(tmp_path) as process:
        while killed < kills and process.poll() is None:
            before = committed(tmp_path)
            left = len(STEPS) * ITEMS - before
            goal = before + dice.randrange(max(1, left // (kills - killed)))
            wait_until(tmp_path, goal, process)
            killed += kill_worker(tmp_path, dice)
        assert process.wait(timeout=300) == 0
    assert killed == kills
    check(tmp_path, kills)


def check(folder: Path, kills: int) -> None:
    """Every item once, few repeats, an intact ledger, a log that gives its state."""
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        changes = Counter(database.execute("SELECT run, key, kind FROM change"))
        states = Counter(database.execute("SELECT run, state FROM task"))
    keys = [f"ticker/{number}" for number in range(ITEMS)]
    assert changes == Counter(
        {(run, key, "added"): 1 for run in ("ticker", *STEPS) for key in keys}
    )
    assert states == {(run, "done"): ITEMS for run in ("ticker", *STEPS)}
    executed = Counter((folder / "trace").read_text(encoding="utf-8").splitlines())
    assert len(executed) == len(STEPS) * ITEMS
    repeated = executed.total() - len(executed)
    print(f"{kills} kills, {repeated} of {len(executed)} repeated")  # noqa: T201
    assert repeated <= kills * IN_FLIGHT
    check_replay(folder / "ledger.db", chaos_plan(folder, items=ITEMS).workflow)


@contextmanager
def session(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the session as a process of its own; nothing of it is left behind."""
    program = Path(__file__).with_name("chaos_session.py")
    with (folder / "session.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder), str(ITEMS)],
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        records = read_records(folder / "engine" / "engine.json")
        gone = time.monotonic() + 10
        while any(psutil.pid_exists(one.pid) for one in records):
            assert time.monotonic() < gone, "processes of the engine are left"
            time.sleep(0.05)


def committed(folder: Path) -> int:
    """How many results are stored."""
    if not (folder / "ledger.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "ledger.db", timeout=30)) as database:
        if not database.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'task'"
        ).fetchone():
            return 0
        query = "SELECT count(*) FROM task WHERE state = 'done' AND run <> 'ticker'"
        return int(database.execute(query).fetchone()[0])


def wait_until(folder: Path, goal: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so much is stored, or the session has ended."""
    deadline = time.monotonic() + 120
    while committed(folder) < goal and process.poll() is None:
        assert time.monotonic() < deadline, (folder / "session.log").read_text()
        time.sleep(0.02)


def kill_worker(folder: Path, dice: random.Random) -> int:
    """Kill one slot's process, if one is up."""
    records = read_records(folder / "engine" / "engine.json")
    slots = [one for one in records if one.name.startswith("slot")]
    if not slots:
        return 0
    try:
        psutil.Process(dice.choice(slots).pid).kill()
    except psutil.NoSuchProcess:
        return 0
    return 1
