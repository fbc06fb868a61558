"""An executor without processes: one thread runs everything, in order. For tests."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from icestream.domain.errors import InternalError
from icestream.streaming.execution import (
    Envelope,
    Executor,
    Failure,
    Fault,
    Outcome,
    Slot,
    execute,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["InlineExecutor"]


class InlineExecutor(Executor):
    """Runs tasks in one own thread, in the order in which they were submitted.

    ``deliver`` is called from that thread, never from within ``submit``.

    Parameters
    ----------
    slots
        How many slots to pretend; they are called ``slot-0``, ``slot-1`` ...
    threads_per_slot
        CPU threads that each claims to have.
    """

    def __init__(self, *, slots: int = 1, threads_per_slot: int = 1) -> None:
        self._slots = tuple(
            Slot(name=f"slot-{number}", threads=threads_per_slot)
            for number in range(slots)
        )
        self._queue: queue.SimpleQueue[tuple[str, int, Envelope] | None]
        self._queue = queue.SimpleQueue()
        self._generations = {one.name: 0 for one in self._slots}
        self._thread: threading.Thread | None = None

    def start(self, deliver: Callable[[Outcome], None]) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._work, args=(deliver,), name="inline-executor", daemon=True
        )
        self._thread.start()

    def slots(self) -> Sequence[Slot]:
        """Return all slots; none before the start and after the end."""
        return self._slots if self._thread is not None else ()

    def submit(self, slot: str, bundle: Sequence[Envelope]) -> None:
        """Queue tasks.

        Raises
        ------
        InternalError
            There is no such slot, or the executor does not run.
        """
        if self._thread is None or slot not in self._generations:
            raise InternalError(f"There is no slot {slot!r} to submit to.")
        for envelope in bundle:
            self._queue.put((slot, self._generations[slot], envelope))

    def restart_slot(self, slot: str) -> None:
        """Answer what waits for a slot as lost. What runs here cannot be ended."""
        self._generations[slot] += 1

    def close(self) -> None:
        """Finish the running task and stop; what waits is not answered any more."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._generations.clear()
            self._queue.put(None)
            thread.join()

    def _work(self, deliver: Callable[[Outcome], None]) -> None:
        while (waiting := self._queue.get()) is not None:
            slot, generation, envelope = waiting
            if not self._generations:
                continue
            if generation == self._generations[slot]:
                deliver(_execute(envelope, slot))
            else:
                deliver(_lost(envelope, slot, "The slot was restarted."))


def _execute(envelope: Envelope, slot: str) -> Outcome:
    try:
        return execute(envelope, slot)
    except SystemExit as error:
        return _lost(envelope, slot, f"The task left with {error.code}.")


def _lost(envelope: Envelope, slot: str, message: str) -> Outcome:
    failure = Failure(fault=Fault.LOST, cause="WorkerDied", message=message)
    return Outcome(task=envelope.task, failure=failure, slot=slot)
