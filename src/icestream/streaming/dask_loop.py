"""The thread that owns the processes of a dask executor.

All that dask could decide is taken from it: a bundle is bound to one worker, is never
repeated or moved, and its result is collected at once. Processes are started, watched
and ended here, so that the death of one is noticed whatever state the engine is in.

All happens in one thread with one event loop, so nothing is locked. The thread lives as
long as the executor, because the kernel ends children with the thread that made them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

from icestream.streaming.children import trim_log
from icestream.streaming.dask_engine import Engine
from icestream.streaming.dask_memory import (
    INTERVAL_S,
    Crowd,
    find_excess,
    usable_bytes,
    used_bytes,
)
from icestream.streaming.dask_node import RECORDS
from icestream.streaming.dask_slot import (
    CROWDED,
    START_ATTEMPTS,
    Bundle,
    SlotKeeper,
    pause_s,
)
from icestream.streaming.execution import Fault
from icestream.streaming.processes import ProcessRecord, write_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.children import Child
    from icestream.streaming.execution import Outcome, Slot, TaskId

__all__ = ["EngineLoop"]

logger = logging.getLogger(__name__)

TICK_S = 0.05
LOG_LIMIT_BYTES = 5_000_000
LOG_INTERVAL_S = 10.0


class EngineLoop(threading.Thread):
    """Keeps one scheduler and all slots up. `call` is the only way in.

    Parameters
    ----------
    slots
        What to bring up.
    folder
        Absolute path; for logs, scratch files and records.
    environments
        Further variables of each slot's process.
    recycle_after
        Bundles after which the scheduler is replaced.
    memory_bytes
        What all slots may have together; ``None``: most of the machine's.
    deliver
        Takes the outcomes.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        folder: Path,
        *,
        environments: Mapping[str, Mapping[str, str]],
        recycle_after: int,
        memory_bytes: int | None,
        deliver: Callable[[Outcome], None],
    ) -> None:
        super().__init__(name="dask-executor", daemon=True)
        self.settled = threading.Event()
        self.usable: Sequence[Slot] = ()
        self.records: Sequence[ProcessRecord] = ()
        self._keepers = {
            one.name: SlotKeeper(
                one, folder, environment=environments[one.name], deliver=self._land
            )
            for one in slots
        }
        self._deliver = deliver
        self._crowd = Crowd()
        self._folder = folder
        self._recycle_after = recycle_after
        self._memory_bytes = memory_bytes
        self._memory_at = 0.0
        self._engine: Engine | None = None
        self._successor: Engine | None = None
        self._retired: list[Engine] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._failed_engines = 0
        self._engine_at = 0.0
        self._tickets = 0
        self._log_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()

    def call(self, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action in this thread, soon; never, once it has stopped."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(action, *arguments)

    def run(self) -> None:
        """Serve until stopped."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """Leave the loop and end everything."""
        self._stopping.set()

    def submit(self, slot: str, tasks: Sequence[TaskId], payload: bytes) -> None:
        """Queue a pickled bundle on a slot."""
        self._tickets += 1
        self._crowd.send(tasks)
        self._keepers[slot].submit(Bundle(self._tickets, tasks, payload))

    def restart(self, slot: str) -> None:
        """End a slot's process, whose task takes too long, and start another."""
        self._keepers[slot].restart("Its task took longer than its time limit.")

    async def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                self._tick()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), TICK_S)
        finally:
            await self._end()

    def _tick(self) -> None:
        self._keep_engine()
        self._recycle()
        ready = self._engine if self._engine and self._engine.is_ready else None
        for keeper in self._keepers.values():
            keeper.watch(ready)
        self._tell_usable()
        keepers = self._keepers.values()
        failures = max(self._failed_engines, *(one.failed_starts for one in keepers))
        if self.usable or failures >= START_ATTEMPTS:
            self.settled.set()
        self._watch_memory()
        self._record()
        self._trim_logs()

    def _tell_usable(self) -> None:
        """Say which slots can take tasks: those that are up and not held back."""
        held = self._crowd.held
        found = [one for name, one in self._keepers.items() if name not in held]
        if all(one.failed_starts for one in found):
            found = list(self._keepers.values())
        self.usable = tuple(one.slot for one in found if one.is_up)

    def _land(self, outcome: Outcome) -> None:
        """Deliver an outcome; a task that others left no room gets more next time."""
        failure, slot = outcome.failure, outcome.slot
        if failure is not None and failure.cause == CROWDED:
            others = [name for name in self._keepers if name != slot]
            others.sort(key=lambda name: not self._keepers[name].is_busy)
            self._crowd.drop(outcome.task, slot, others)
        elif failure is None or failure.fault is not Fault.DROPPED:
            self._crowd.land(outcome.task)
        if failure is not None:
            self._tell_usable()  # first: whoever hears of it sends the next at once
        self._deliver(outcome)

    def _keep_engine(self) -> None:
        if self._engine is None and time.monotonic() >= self._engine_at:
            self._engine = self._new_engine()
        for engine in self._engines():
            if not engine.watch():
                self._lost(engine)

    def _new_engine(self) -> Engine | None:
        try:
            return Engine(self._folder)
        except OSError as error:
            logger.warning("The engine's scheduler cannot be started: %s", error)
            self._engine_failed()
            return None

    def _engine_failed(self) -> None:
        self._failed_engines += 1
        self._engine_at = time.monotonic() + pause_s(self._failed_engines)

    def _lost(self, engine: Engine) -> None:
        """Drop a scheduler that died; its workers have left or will be ended."""
        if engine.is_ready:
            self._failed_engines = 0
        else:
            self._engine_failed()
        self._drop(engine)
        for keeper in self._keepers.values():
            if keeper.engine is engine:
                keeper.restart("The engine's scheduler died.")

    def _recycle(self) -> None:
        """Replace a scheduler that did much; slots move over as they fall idle."""
        current, successor = self._engine, self._successor
        if successor is not None and successor.is_ready:
            self._engine, self._successor = successor, None
            if current is not None:
                self._retired.append(current)
        elif (
            successor is None
            and current is not None
            and current.bundles >= self._recycle_after
            and time.monotonic() >= self._engine_at
        ):
            self._successor = self._new_engine()
        for engine in list(self._retired):
            if all(one.engine is not engine for one in self._keepers.values()):
                self._drop(engine)

    def _drop(self, engine: Engine) -> None:
        if engine in self._retired:
            self._retired.remove(engine)
        elif engine is self._successor:
            self._successor = None
        else:
            self._engine = None
        closing = asyncio.create_task(engine.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _end(self) -> None:
        self.usable = ()
        for keeper in self._keepers.values():
            keeper.forget()
        children = self._children()
        for engine in self._engines():
            self._drop(engine)
        for child in children:
            child.kill()
        await asyncio.gather(*self._closing)
        for child in children:
            child.bury()
        (self._folder / RECORDS).unlink(missing_ok=True)
        for name in self._keepers:
            (self._folder / f"{name}.place").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "scratch", ignore_errors=True)

    def _engines(self) -> list[Engine]:
        known = (self._engine, self._successor, *self._retired)
        return [one for one in known if one is not None]

    def _children(self) -> list[Child]:
        slots = [one.child for one in self._keepers.values()]
        engines = [one.child for one in self._engines()]
        return engines + [one for one in slots if one is not None]

    def _record(self) -> None:
        records = tuple(one.record for one in self._children())
        if records == self.records:
            return
        self.records = records
        try:
            write_records(self._folder / RECORDS, records)
        except OSError as error:
            logger.warning("The engine's processes are not recorded: %s", error)

    def _watch_memory(self) -> None:
        if time.monotonic() < self._memory_at:
            return
        self._memory_at = time.monotonic() + INTERVAL_S
        used = {
            name: used_bytes(one.child.record.pid)
            for name, one in self._keepers.items()
            if one.child is not None
        }
        limit = usable_bytes() if self._memory_bytes is None else self._memory_bytes
        excess = find_excess(used, limit_bytes=limit)
        if excess is not None:
            others = [one for name, one in self._keepers.items() if name != excess.slot]
            self._keepers[excess.slot].restart(
                excess.reason, is_crowded=any(one.is_busy for one in others)
            )
            return
        for name in used:
            if used[name] > limit / len(used):
                self._keepers[name].examine(share_bytes=limit / len(used))

    def _trim_logs(self) -> None:
        if time.monotonic() < self._log_at:
            return
        self._log_at = time.monotonic() + LOG_INTERVAL_S
        for child in self._children():
            trim_log(child.log, limit_bytes=LOG_LIMIT_BYTES)
