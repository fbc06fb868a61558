"""Latency and rate of the stream itself: three trivial hops, durable, on dask.

First single items at an interval (latency from commit to commit, per hop), then very
many at once (items per second through all hops, growth of the service's memory).

    python benchmarks/stream.py [--items 20000] [--single 15] [--interval-s 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from icestream.streaming import schema
from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.reader import LedgerReader
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port
from icestream.testing.trivial import Hop, Ticker

if TYPE_CHECKING:
    from collections.abc import Mapping

HOPS = ("first", "second", "third")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000, help="items of the burst")
    parser.add_argument("--single", type=int, default=15, help="items one by one")
    parser.add_argument("--interval-s", type=float, default=2.0, help="between those")
    parser.add_argument("--slots", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="icestream-stream-") as folder:
        result = measure(
            Path(folder),
            items=given.items,
            single=given.single,
            interval_s=given.interval_s,
            slots=given.slots,
        )
    if given.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24} {value:10.4g}")


def measure(
    folder: Path, *, items: int, single: int, interval_s: float, slots: int
) -> Mapping[str, float]:
    """Run a session with single items and then a burst, and read its ledger."""
    params = {"single": single, "interval_s": interval_s, "burst": items}
    runs = [Run.of("ticker", Ticker, params=params)]
    before = Port("ticker", "tick")
    for name in HOPS:
        runs.append(Run.of(name, Hop, inputs={"tick": (before,)}))
        before = Port(name, "tick")
    ledger = Ledger(folder / "ledger.db")
    executor = DaskExecutor(slots=slots, folder=folder)
    service = Service(Plan(runs), ledger, executor, session_folder=folder)
    last = threading.Timer(
        (single + 2) * interval_s + 3, lambda: service.command(service.finish)
    )
    memory = _MemoryWatch()
    last.start()
    with memory:
        service.run()
    ledger.close()
    times = _times(folder)
    latencies = [
        times[hop][key] - times[earlier][key]
        for earlier, hop in zip(("ticker", *HOPS), HOPS, strict=False)
        for key in times["ticker"]
        if int(key.rpartition("/")[2]) < single
    ]
    burst = [key for key in times["third"] if int(key.rpartition("/")[2]) >= single]
    first = min(times["ticker"][key] for key in burst)
    seconds = max(times["third"][key] for key in burst) - first
    return {
        "hop_latency_p50_s": statistics.median(latencies),
        "hop_latency_p95_s": statistics.quantiles(latencies, n=20)[-1],
        "burst_items_per_s": len(burst) / seconds,
        "memory_growth_mb": memory.growth_mb,
        "items": len(burst),
        "slots": slots,
        "cpu_s_per_item": memory.cpu_s / len(times["third"]),
    }


def _times(folder: Path) -> dict[str, dict[str, float]]:
    """Return when each key was stored as done, by run."""
    reader = LedgerReader(folder / "ledger.db")
    columns = schema.event.c
    found: dict[str, dict[str, float]] = {name: {} for name in ("ticker", *HOPS)}
    for row in reader.rows(schema.event, columns.kind.in_(["arrived", "succeeded"])):
        found[row["run"]][row["key"]] = row["time"]
    reader.close()
    return found


class _MemoryWatch:
    """Follows this process's memory from the first second to the last."""

    def __init__(self) -> None:
        self.growth_mb = 0.0
        self.cpu_s = 0.0
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._start_cpu = sum(self._process.cpu_times()[:2])
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cpu_s = sum(self._process.cpu_times()[:2]) - self._start_cpu

    def _watch(self) -> None:
        self._stop.wait(3.0)
        start = self._process.memory_info().rss
        while not self._stop.wait(0.5):
            grown = self._process.memory_info().rss - start
            self.growth_mb = max(self.growth_mb, grown / 1e6)


if __name__ == "__main__":
    main()
