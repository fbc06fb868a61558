"""A slot of the dask executor: its process, and the bundles it has or shall get."""

from __future__ import annotations

import functools
import logging
import pickle
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.streaming.children import Child, describe_exit, tail_of
from icestream.streaming.dask_engine import Engine, service_secret
from icestream.streaming.dask_memory import why_replace
from icestream.streaming.dask_node import place_of
from icestream.streaming.execution import Failure, Fault, Outcome, Slot, TaskId

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "CROWDED",
    "START_ATTEMPTS",
    "START_LIMIT_S",
    "Bundle",
    "SlotKeeper",
    "pause_s",
]

logger = logging.getLogger(__name__)

START_LIMIT_S = 60.0
START_ATTEMPTS = 3
LONGEST_PAUSE_S = 30.0
CROWDED = "Crowded"
"""Cause of the failure of a task that others left no room."""
SHORTEST_LIFE_S = 60.0
"""A process is not replaced sooner for what it keeps in memory."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Pickled tasks that are run together and answered together."""

    ticket: int
    tasks: Sequence[TaskId]
    payload: bytes


class SlotKeeper:
    """Keeps the process of one slot up and its bundles answered, each once.

    Used in one thread, with a running event loop.

    Parameters
    ----------
    slot
        Which slot.
    folder
        Working directory of the process.
    environment
        Further variables of the process.
    deliver
        Takes the outcomes.
    """

    def __init__(
        self,
        slot: Slot,
        folder: Path,
        *,
        environment: Mapping[str, str],
        deliver: Callable[[Outcome], None],
    ) -> None:
        self.slot = slot
        self.child: Child | None = None
        self.engine: Engine | None = None
        self.is_up = False
        self.failed_starts = 0
        self._folder = folder
        self._environment = environment
        self._deliver = deliver
        self._address = ""
        self._give_up_at = 0.0
        self._start_at = 0.0
        self._born_at = 0.0
        self._why_killed = ""
        self._is_crowded = False
        self._share_bytes: float | None = None
        self._waiting: deque[Bundle] = deque()
        self._sent: dict[int, tuple[Bundle, asyncio.Future[bytes]]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether tasks were sent to the process that are not answered."""
        return bool(self._sent)

    def submit(self, bundle: Bundle) -> None:
        """Queue a bundle."""
        self._waiting.append(bundle)
        self._send()

    def restart(self, reason: str, *, is_crowded: bool = False) -> None:
        """Kill the process and what it started; `watch` then sees to the rest.

        Parameters
        ----------
        reason
            Why; the first one is told.
        is_crowded
            Whether others left no room: then it is not the fault of the task.
        """
        if self.child is not None and self.child.exit_status() is None:
            if not self._why_killed:
                self._why_killed, self._is_crowded = reason, is_crowded
            self.child.kill()

    def examine(self, *, share_bytes: float) -> None:
        """Have the process replaced if it keeps too much when its tasks are done.

        What was sent is finished first, and nothing more is sent until then.

        Parameters
        ----------
        share_bytes
            How much it may keep.
        """
        if time.monotonic() >= self._born_at + SHORTEST_LIFE_S:
            self._share_bytes = share_bytes

    def watch(self, engine: Engine | None) -> None:
        """Start, enlist, or bury the process, whatever its state asks for.

        Parameters
        ----------
        engine
            The one to work for; ``None`` while there is none.
        """
        if self.child is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        status = self.child.exit_status()
        if status is not None:
            self._bury(self.child, status)
            return
        for report in self.child.reports():
            self._address = report["address"]
            self.is_up, self.failed_starts = True, 0
        if engine is not None and self.engine is not engine and not self._sent:
            self._enlist(self.child, engine)
        elif not self._address and time.monotonic() > self._give_up_at:
            self.restart(f"It did not come up within {START_LIMIT_S:g} s.")
        self._examine(self.child)
        self._send()

    def forget(self) -> None:
        """Drop all bundles: nothing more is delivered."""
        self.is_up = False
        self._waiting.clear()
        for _, collecting in self._sent.values():
            collecting.cancel()
        self._sent.clear()

    def _start(self) -> None:
        try:
            self.child = Child(
                self.slot.name,
                self._folder,
                threads=self.slot.threads,
                environment=self._environment,
            )
        except OSError as error:
            logger.warning("%s cannot be started: %s", self.slot.name, error)
            self._start_failed()
        self._born_at = time.monotonic()
        self._give_up_at = self._born_at + START_LIMIT_S

    def _enlist(self, child: Child, engine: Engine) -> None:
        self.engine = engine
        self._address = ""
        self._give_up_at = time.monotonic() + START_LIMIT_S
        child.order(scheduler=engine.address, secret=service_secret())

    def _examine(self, child: Child) -> None:
        if self._share_bytes is None or self._sent:
            return
        reason = why_replace(child.record.pid, share_bytes=self._share_bytes)
        if not reason:
            self._share_bytes = None
        elif not self._why_killed:
            logger.warning("%s is replaced. %s", self.slot.name, reason)
            self.restart(reason)

    def _send(self) -> None:
        if self._share_bytes is not None:
            return
        while self._waiting and self._address and self.engine is not None:
            bundle = self._waiting.popleft()
            collecting = self.engine.submit(
                self.slot.name,
                self._address,
                ticket=bundle.ticket,
                payload=bundle.payload,
            )
            self._sent[bundle.ticket] = bundle, collecting
            collecting.add_done_callback(functools.partial(self._collected, bundle))

    def _collected(self, bundle: Bundle, collecting: asyncio.Future[bytes]) -> None:
        error = None if collecting.cancelled() else collecting.exception()
        if bundle.ticket not in self._sent:
            return
        if error is not None or collecting.cancelled():
            # Whether the task still runs is unknown, and one task at a time is the
            # promise. The bundle is answered when the process is dead for certain.
            self.restart(str(error))
            return
        del self._sent[bundle.ticket]
        for outcome in pickle.loads(collecting.result()):
            self._deliver(outcome)

    def _bury(self, child: Child, status: int) -> None:
        message = (
            f"The process of {self.slot.name} (pid {child.record.pid}) "
            f"{describe_exit(status)}. {self._why_killed}".rstrip()
        )
        child.bury()
        was_up, self.is_up = self.is_up, False
        self.child = self.engine = None
        self._address = self._why_killed = ""
        self._share_bytes = None
        lost = [bundle for bundle, _ in self._sent.values()]
        for _, collecting in self._sent.values():
            collecting.cancel()
        self._sent.clear()
        self._answer_lost(lost, message, tail_of(child.log))
        self._is_crowded = False
        if not was_up:
            self._start_failed()

    def _start_failed(self) -> None:
        self.failed_starts += 1
        self._start_at = time.monotonic() + pause_s(self.failed_starts)
        if self.failed_starts >= START_ATTEMPTS:
            message = f"{self.slot.name} could not be started."
            log = tail_of(self._folder / f"{self.slot.name}.log")
            self._answer_lost(list(self._waiting), message, log)
            self._waiting.clear()

    def _answer_lost(self, lost: Sequence[Bundle], message: str, log: str) -> None:
        running = place_of(self._folder / f"{self.slot.name}.place")
        for bundle in lost:
            for index, task in enumerate(bundle.tasks):
                fault, cause = Fault.DROPPED, "SlotLost"
                if running == (bundle.ticket, index):
                    fault, cause = self._of_running()
                failure = Failure(
                    fault=fault, cause=cause, message=message, details=log
                )
                self._deliver(Outcome(task=task, failure=failure, slot=self.slot.name))

    def _of_running(self) -> tuple[Fault, str]:
        if self._is_crowded:
            return Fault.DROPPED, CROWDED
        return Fault.LOST, "WorkerDied"


def pause_s(failures: int) -> float:
    """Return how long to wait before the next start, by failures in a row."""
    return min(2.0 ** (failures - 1), LONGEST_PAUSE_S) if failures else 0.0
