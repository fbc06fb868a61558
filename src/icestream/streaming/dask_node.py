"""What runs inside an engine process: the scheduler, or the worker of one slot.

The service talks to such a process by lines of JSON: orders come on its standard input,
reports go to its standard output. When the orders end the service is gone, and so goes
the process. What tasks print goes to the log, like the standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import pickle
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from icestream.streaming.execution import execute
from icestream.streaming.processes import (
    die_before_others,
    die_with_parent,
    end_processes,
    read_records,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "OUTCOMES",
    "PLACE",
    "RECORDS",
    "SCHEDULER",
    "main",
    "place_of",
    "run_bundle",
]

SCHEDULER = "scheduler"
OUTCOMES = "outcomes"
RECORDS = "engine.json"
AHEAD = "ICESTREAM_IMPORT_AHEAD"
"""Environment variable that names modules, separated by commas."""
PLACE = struct.Struct("<qq")
"""Ticket of the bundle that runs and index of its task, as a worker notes them."""

_place: list[int] = []
"""File in which this worker notes where it is; empty outside a worker."""


def run_bundle(slot: str, ticket: int, payload: bytes) -> None:
    """Run envelopes one after the other, and send their pickled outcomes as an event.

    Both ways they are pickled here, since the engine is slow on objects.

    Parameters
    ----------
    slot
        Name of the slot.
    ticket
        Number of this bundle.
    payload
        Pickled list of `Envelope`.
    """
    from distributed import get_worker

    outcomes = []
    for index, envelope in enumerate(pickle.loads(payload)):
        _note(ticket, index)
        try:
            outcomes.append(execute(envelope, slot))
        except SystemExit as error:
            logging.getLogger(__name__).warning("A task left with %s", error.code)
            os._exit(1)
    _note(ticket, len(outcomes))
    answer = pickle.dumps(outcomes, pickle.HIGHEST_PROTOCOL)
    # Sent before the task is reported done, on the same connection.
    get_worker().log_event(OUTCOMES, (ticket, answer))


def place_of(path: Path) -> tuple[int, int]:
    """Return ticket and index that a worker noted last; ``(0, 0)`` for none."""
    try:
        ticket, index = PLACE.unpack(path.read_bytes())
    except (OSError, struct.error):
        return 0, 0
    return ticket, index


def main() -> None:
    """Run as an engine process: ``name parent``, in the engine's folder."""
    name, parent = sys.argv[1], int(sys.argv[2])
    orders_from, reports_to = _take_standard_streams()
    if name != SCHEDULER:
        die_with_parent(parent)
        die_before_others()
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    loop = asyncio.new_event_loop()
    orders: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    threading.Thread(
        target=_listen, args=(name, orders_from, loop, orders), daemon=True
    ).start()
    serve = _serve_scheduler if name == SCHEDULER else _serve_slot
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(serve(name, orders, reports_to))
    os._exit(1)


def _take_standard_streams() -> tuple[TextIO, TextIO]:
    """Keep the pipes to the service for us; tasks see an empty input and the log."""
    orders, reports = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(orders, encoding="utf-8"), os.fdopen(reports, "w", buffering=1)


def _listen(
    name: str,
    orders_from: TextIO,
    loop: asyncio.AbstractEventLoop,
    orders: asyncio.Queue[Mapping[str, Any]],
) -> None:
    for line in orders_from:
        loop.call_soon_threadsafe(orders.put_nowait, json.loads(line))
    if name == SCHEDULER:
        # Its own memory is small and no task runs here, so of all the processes this
        # one is sure to be able to end the others and what programs they started.
        _end_all_others()
    os._exit(0)


def _end_all_others() -> None:
    path = Path(RECORDS)
    records = read_records(path)
    if any(one.pid == os.getpid() for one in records):
        end_processes(
            [one for one in records if one.pid != os.getpid()],
            wait_s=3.0,
        )
        path.unlink(missing_ok=True)


async def _serve_scheduler(
    _: str, orders: asyncio.Queue[Mapping[str, Any]], reports: TextIO
) -> None:
    from distributed.scheduler import Scheduler

    from icestream.streaming.dask_comm import HOST, SCHEME, configure, unlock

    configure()
    unlock((await orders.get())["secret"])
    async with Scheduler(
        host=HOST,
        port=0,
        protocol=SCHEME,
        dashboard=False,
        dashboard_address=f"{HOST}:0",
        extensions={},
    ) as scheduler:
        reports.write(json.dumps({"address": scheduler.address}) + "\n")
        await scheduler.finished()


async def _serve_slot(
    name: str, orders: asyncio.Queue[Mapping[str, Any]], reports: TextIO
) -> None:
    from distributed.worker import Worker

    from icestream.streaming.dask_comm import HOST, SCHEME, configure, unlock

    configure()
    _place.append(os.open(f"{name}.place", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    order = await orders.get()
    while True:
        unlock(order["secret"])
        async with Worker(
            order["scheduler"],
            name=name,
            nthreads=1,
            memory_limit=0,
            host=HOST,
            protocol=SCHEME,
            local_directory="scratch",
            dashboard=False,
            dashboard_address=f"{HOST}:0",
            extensions={},
        ) as worker:
            reports.write(json.dumps({"address": worker.address}) + "\n")
            _import_ahead()
            order = await _next_order(orders, worker)


def _import_ahead() -> None:
    """Import what tasks will need, while the slot waits for its first."""

    def work() -> None:
        for name in os.environ.get(AHEAD, "").split(","):
            # A module that cannot be imported is the finding of the task that needs it.
            with contextlib.suppress(ImportError, ValueError):
                importlib.import_module(name)

    threading.Thread(target=work, name="import", daemon=True).start()


async def _next_order(
    orders: asyncio.Queue[Mapping[str, Any]],
    worker: Any,  # noqa: ANN401 - distributed is untyped
) -> Mapping[str, Any]:
    """Return the next scheduler to work for; the process ends when this one is lost."""
    next_order = asyncio.ensure_future(orders.get())
    lost = asyncio.ensure_future(worker.finished())
    await asyncio.wait([next_order, lost], return_when=asyncio.FIRST_COMPLETED)
    if not next_order.done():
        os._exit(1)
    lost.cancel()
    return next_order.result()


def _note(ticket: int, index: int) -> None:
    for file in _place:
        os.pwrite(file, PLACE.pack(ticket, index), 0)
