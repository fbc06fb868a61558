"""How long a killed session takes from its start to its next stored result.

python benchmarks/restart.py [--times 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port
from icestream.testing.trivial import Hop, Ticker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="how often to kill")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--session", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.session:
        serve(Path(given.session))
        return
    with tempfile.TemporaryDirectory(prefix="icestream-restart-") as folder:
        seconds = [restart_s(Path(folder)) for _ in range(given.times + 1)][1:]
    result = {
        "restart_to_first_commit_p50_s": statistics.median(seconds),
        "restart_to_first_commit_max_s": max(seconds),
        "times": len(seconds),
    }
    print(json.dumps(result) if given.json else result)


def serve(folder: Path) -> None:
    """Run a session with far more to do than it is given time for."""
    runs = [
        Run.of("ticker", Ticker, params={"burst": 20_000, "interval_s": 0.01}),
        Run.of("hop", Hop, inputs={"tick": (Port("ticker", "tick"),)}),
    ]
    executor = DaskExecutor(slots=4, folder=folder / "engine")
    ledger = Ledger(folder / "ledger.db")
    Service(Plan(runs), ledger, executor, session_folder=folder).run()


def restart_s(folder: Path) -> float:
    """Start, wait for a result that was not there before, and kill."""
    before = committed(folder)
    started = time.monotonic()
    command = [sys.executable, __file__, "--session", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while committed(folder) == before and process.poll() is None:
            time.sleep(0.01)
        seconds = time.monotonic() - started
        process.kill()
    return seconds


def committed(folder: Path) -> int:
    """How many results are stored."""
    path = folder / "ledger.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as database:
        try:
            query = "SELECT count(*) FROM task WHERE run = 'hop' AND state = 'done'"
            return int(database.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0


if __name__ == "__main__":
    main()
