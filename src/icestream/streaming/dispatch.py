"""Binding ready tasks to slots, late: which, how many at once, with what to read."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import InternalError
from icestream.streaming import events as ev
from icestream.streaming.board import Absent
from icestream.streaming.execution import STATE, Envelope, TaskId
from icestream.streaming.protocol import Missing
from icestream.streaming.tasks import net_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from icestream.streaming.execution import Executor, Outcome, Slot
    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan
    from icestream.streaming.records import Record
    from icestream.streaming.scheduler import Scheduler

__all__ = ["BUNDLE", "Bundle", "Dispatcher", "product_folder", "product_stem"]

_SHORT_S = 0.02
"""Tasks quicker than this may share a bundle when there is a backlog."""
_PREFETCH_S = 1.0
"""A slot gets a second bundle only where its tasks are quicker than this."""
BUNDLE = 16
"""At most so many tasks are handed to a slot together."""
_LONGEST_NAME = 150
_LONGEST_KEY = 1500
"""Bytes of a name, and of a whole key, that products are called after."""
_CHANGES = 1000
"""An aggregate takes in at most so many changes in one update."""


@dataclass(slots=True)
class Bundle:
    """Tasks that were handed to a slot together."""

    open: dict[TaskId, float]
    deadline: float | None = None

    @property
    def time_limit_s(self) -> float:
        """What all its open tasks may take together."""
        return sum(self.open.values())


@dataclass(slots=True)
class _SlotState:
    bundles: deque[Bundle] = field(default_factory=deque)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=4))


class Dispatcher:
    """Keeps every slot busy: one running and, for quick tasks, one prefetched bundle.

    Parameters
    ----------
    plan
        The session's runs.
    scheduler
        Chooses what goes next.
    executor
        Has the slots.
    session_folder
        Where products go.
    """

    def __init__(
        self,
        plan: Plan,
        scheduler: Scheduler,
        executor: Executor,
        *,
        session_folder: Path,
    ) -> None:
        self._plan = plan
        self._board = scheduler.board
        self._executor = executor
        self._folder = str(session_folder)
        self._slots: dict[str, _SlotState] = {}
        self._mean_s: dict[str, float] = {}
        self._cursors: dict[TaskId, int] = {}

    @property
    def in_flight(self) -> int:
        """How many tasks are with the slots."""
        return sum(len(b.open) for one in self._slots.values() for b in one.bundles)

    def fill(
        self, transaction: Transaction, apply: Callable[[ev.Event], None]
    ) -> list[tuple[str, list[Envelope]]]:
        """Choose tasks for the slots that have room, and note that they start.

        Returns
        -------
        list
            Slot names and bundles, to be submitted once the transaction is stored.
        """
        slots = self._executor.slots()
        chosen: list[tuple[str, list[Envelope]]] = []
        for depth in (1, 2):
            for slot in slots:
                state = self._slots.setdefault(slot.name, _SlotState())
                if len(state.bundles) >= depth:
                    continue
                bundle = self._bundle(slot, depth, transaction, apply)
                if bundle:
                    limits = {one.task: one.time_limit_s for one in bundle}
                    state.bundles.append(Bundle(limits))
                    chosen.append((slot.name, bundle))
        now = time.monotonic()
        for state in self._slots.values():
            self._set_deadline(state, now)
        return chosen

    def land(self, outcome: Outcome) -> int | None:
        """Take an outcome back from its slot; of an aggregate, return its cursor."""
        now = time.monotonic()
        for state in self._slots.values():
            for bundle in state.bundles:
                if bundle.open.pop(outcome.task, None) is not None:
                    state.recent.append(outcome.task.key)
            while state.bundles and not state.bundles[0].open:
                state.bundles.popleft()
                self._set_deadline(state, now)
        run = outcome.task.run
        if outcome.failure is None:
            mean = self._mean_s.get(run, outcome.elapsed_s)
            self._mean_s[run] = 0.8 * mean + 0.2 * outcome.elapsed_s
        return self._cursors.pop(outcome.task, None)

    def overrun(self) -> list[str]:
        """Return the slots whose running bundle has taken longer than it may."""
        now = time.monotonic()
        late = []
        for name, state in self._slots.items():
            deadline = state.bundles[0].deadline if state.bundles else None
            if deadline is not None and now > deadline:
                state.bundles[0].deadline = None
                late.append(name)
        return late

    def _set_deadline(self, state: _SlotState, now: float) -> None:
        if state.bundles and state.bundles[0].deadline is None:
            state.bundles[0].deadline = now + state.bundles[0].time_limit_s

    def _bundle(
        self,
        slot: Slot,
        depth: int,
        transaction: Transaction,
        apply: Callable[[ev.Event], None],
    ) -> list[Envelope]:
        """Choose one task, and more of the same quick kind when there are plenty."""
        recent = self._slots[slot.name].recent
        room = BUNDLE
        bundle: list[Envelope] = []
        while len(bundle) < room:
            found = self._board.choose(slot, recent)
            if found is None:
                break
            run, key = found
            mean = self._mean_s.get(run)
            if not bundle:
                if depth == 2 and (mean is None or mean > _PREFETCH_S):
                    break
                room = self._room(mean)
            elif mean is None or mean > _SHORT_S:
                break
            bundle.append(self._start(slot, run, key, transaction, apply))
        return bundle

    def _room(self, mean: float | None) -> int:
        if mean is None or mean > _SHORT_S:
            return 1
        share = self._board.ready_count() // (2 * len(self._executor.slots()) or 1)
        return max(1, min(BUNDLE, share))

    def _start(
        self,
        slot: Slot,
        run: str,
        key: str,
        transaction: Transaction,
        apply: Callable[[ev.Event], None],
    ) -> Envelope:
        if key:
            task = self._board.tasks[run][key]
            identity = TaskId(run, key, task.content, task.attempt + 1)
            envelope = self._item_envelope(identity, transaction)
        else:
            identity = TaskId(run, "", self._board.runs[run].identity, 1)
            envelope = self._update_envelope(identity, transaction)
        apply(ev.Started(run, key, identity.content_key, identity.attempt, slot.name))
        return envelope

    def _item_envelope(self, task: TaskId, transaction: Transaction) -> Envelope:
        run = self._plan.runs[task.run]
        looks = self._board.look_all(task.run, task.key)
        names = [one for one in looks.values() if isinstance(one, str)]
        records = transaction.records(names)
        inputs: dict[str, Record | Missing] = {}
        for name, look in looks.items():
            if isinstance(look, str):
                inputs[name] = records[look]
            elif isinstance(look, Absent):
                inputs[name] = Missing(look.reason)
            else:
                raise InternalError(f"{task} was started with input {name!r} pending.")
        return Envelope(
            task=task,
            inputs=inputs,
            acquisition=self._board.read(run.spec, task.key),
            product_stem=product_stem(task),
            **self._common(task.run),
        )

    def _update_envelope(self, task: TaskId, transaction: Transaction) -> Envelope:
        run = task.run
        stored = transaction.checkpoint(run, task.content_key)
        cursor = stored[0] if stored else 0
        if cursor < self._board.runs[run].cursor:
            raise InternalError(f"The checkpoint of {run!r} is behind its run.")
        changes = transaction.changes(
            self._plan.runs[run].spec.ports(), after=cursor, limit=_CHANGES
        )
        all_read = len(changes) < _CHANGES
        head = self._board.runs[run].head
        self._cursors[task] = head if all_read else changes[-1].seq
        come, go = net_of(changes)
        records = transaction.records([*come, *go])
        return Envelope(
            task=task,
            inputs={STATE: stored[1]} if stored else {},
            added=[records[one] for one in come],
            withdrawn=[records[one] for one in go],
            product_stem=f"{product_folder(run)}/{task.content_key[:12]}.{cursor}",
            **self._common(run),
        )

    def _common(self, run: str) -> dict[str, Any]:
        plan = self._plan.runs[run]
        resources = plan.spec.resources
        return {
            "protocol": plan.spec.protocol,
            "params": plan.params,
            "session_folder": self._folder,
            "threads": resources.threads,
            "time_limit_s": resources.time_limit_s,
        }


def product_folder(run: str) -> str:
    """Return where the products of a run lie, relative to the session."""
    return f"products/{run}"


def product_stem(task: TaskId) -> str:
    """Return where a task's products lie: readable, where the key's names permit it.

    The content key makes it unique. Endings and temporary names are still to be added,
    and a file system takes 255 bytes a name and 4096 a path.
    """
    unique = task.content_key[:12]
    *folders, name = PurePosixPath(task.key).parts
    name = PurePosixPath(name).stem
    if ".." in folders or "/" in folders or len(task.key.encode()) > _LONGEST_KEY:
        return f"{product_folder(task.run)}/{unique}"
    folders = [_short(one) for one in folders]
    return "/".join((product_folder(task.run), *folders, f"{_short(name)}.{unique}"))


def _short(name: str) -> str:
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore")
