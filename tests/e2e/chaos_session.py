"""A session of four steps over many ticks, to be killed. Run as a program."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port
from icestream.testing.trivial import Ticker, Traced

STEPS = ("one", "two", "three", "four")
SLOTS = 3


def chaos_plan(folder: Path, *, items: int) -> Plan:
    """Ticks through four steps, each of which leaves a line."""
    runs = [Run.of("ticker", Ticker, params={"burst": items, "interval_s": 0.01})]
    before = Port("ticker", "tick")
    for number, name in enumerate(STEPS):
        params = {"trace": str(folder / "trace"), "step": number}
        runs.append(Run.of(name, Traced, params=params, inputs={"tick": (before,)}))
        before = Port(name, "tick")
    return Plan(runs)


def main() -> None:
    """Run the session in a folder to its end."""
    folder, items = Path(sys.argv[1]), int(sys.argv[2])
    ledger = Ledger(folder / "ledger.db")
    service = Service(
        chaos_plan(folder, items=items),
        ledger,
        DaskExecutor(slots=SLOTS, folder=folder / "engine"),
        session_folder=folder,
    )
    # The ticker needs a moment before its burst is due.
    threading.Timer(1.0, lambda: service.command(service.finish)).start()
    service.run()
    ledger.close()


if __name__ == "__main__":
    main()
