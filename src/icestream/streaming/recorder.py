"""The pure scheduler and the ledger together: every event goes through here."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.domain.verdict import Verdict
from icestream.streaming import events as ev
from icestream.streaming.execution import Failure, Fault, TaskId
from icestream.streaming.gates import Gates
from icestream.streaming.scheduler import Scheduler
from icestream.streaming.state import StoreTask
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Shape, item_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan, Run

__all__ = ["Limits", "Recorder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times and sizes by which the service goes.

    Parameters
    ----------
    settling_s
        A file that cannot be decoded is waited for until it has not changed so long.
    look_again_s
        How often it is tried meanwhile.
    free_gb
        Below this much free space nothing is started.
    stop_s
        How long a stop waits for running tasks.
    quiet_polls
        When asked to finish, a source closes after so many polls without news.
    lost_polls
        When asked to finish, a source that cannot be looked at is given up after so
        many polls.
    """

    settling_s: float = 600.0
    look_again_s: float = 15.0
    free_gb: float = 1.0
    stop_s: float = 30.0
    quiet_polls: int = 3
    lost_polls: int = 30


class Recorder:
    """Hands events to the scheduler and stores them with all that follows.

    What needs no slot follows in the same transaction: verdicts of gates, and results
    that the ledger already holds.

    Parameters
    ----------
    plan
        The session's runs.
    limits
        Times and sizes.
    """

    def __init__(self, plan: Plan, limits: Limits) -> None:
        self.plan = plan
        self.scheduler = Scheduler(plan.workflow)
        self._limits = limits
        self._gates = Gates(plan, self.scheduler.board)
        self._changed: list[str] = []
        self._fresh: list[tuple[str, str]] = []

    def apply(self, transaction: Transaction, event: ev.Event) -> None:
        """Hand an event to the scheduler; store both it and what follows."""
        instructions = self.scheduler.handle(event)
        transaction.add_event(event)
        transaction.carry_out(instructions)
        for one in instructions:
            if isinstance(one, StoreTask) and one.task.state is State.READY:
                self._fresh.append((one.run, one.key))

    def settle(self, transaction: Transaction) -> None:
        """Answer what needs no slot: verdicts, and results that are already stored."""
        for run in dict.fromkeys(self._changed):
            self._judge_again(transaction, run)
        self._changed.clear()
        while True:
            self._reuse(transaction)
            news = self._gates.news(self.scheduler.undecided())
            for run, keys in news.items():
                self._decide(transaction, run, keys)
            if not news and not self._fresh:
                return

    def _reuse(self, transaction: Transaction) -> None:
        """Answer tasks that have just become ready and whose results are stored."""
        fresh, self._fresh = self._fresh, []
        wanted: list[tuple[str, str, str, list[str]]] = []
        for run, key in fresh:
            spec = self.plan.runs[run].spec
            task = self.scheduler.board.tasks[run][key]
            if spec.shape is Shape.PER_ITEM and task.state is State.READY:
                names = [item_id(task.content, output) for output in spec.outputs]
                wanted.append((run, key, task.content, names))
        stored = transaction.stored([one for *_, names in wanted for one in names])
        for run, key, content, names in wanted:
            if stored.issuperset(names):
                self.apply(transaction, ev.Succeeded(run, key, content, 0))

    def _decide(self, transaction: Transaction, run: str, keys: Sequence[str]) -> None:
        """Store what a gate says of keys that are new to it."""
        tasks = self.scheduler.board.tasks[run]
        contents = [tasks[key].content for key in keys]
        answers = self._gates.ask(transaction, run, keys)
        for key, content, one in zip(keys, contents, answers, strict=True):
            if isinstance(one, Failure):
                identity = TaskId(run, key, content, 0)
                self.apply(transaction, self.failed(transaction, identity, one))
            elif one is not None:
                self.apply(transaction, ev.Decided(run, key, content, one))

    def _judge_again(self, transaction: Transaction, run: str) -> None:
        """Ask a gate with other rules for all its keys; store what is different."""
        tasks = self.scheduler.board.tasks[run]
        keys = [key for key, task in tasks.items() if task.state is State.DONE]
        if not keys:
            return
        verdicts: dict[str, tuple[str, Verdict]] = {}
        again = []
        answers = self._gates.ask(transaction, run, keys)
        for key, one in zip(keys, answers, strict=True):
            if not isinstance(one, Verdict):
                again.append(key)
            elif one != tasks[key].verdict:
                verdicts[key] = tasks[key].content, one
        if verdicts or again:
            self.apply(transaction, ev.Judged(run, verdicts, tuple(again)))

    def failed(
        self, transaction: Transaction, task: TaskId, failure: Failure
    ) -> ev.Failed:
        """Make the event of a failure; a file may still be in writing."""
        wait_s = None
        if failure.fault is Fault.INCOMPLETE:
            changed = transaction.last_change(task.key)
            if changed and time.time() - changed < self._limits.settling_s:
                wait_s = self._limits.look_again_s
        log.warning("%s: %s: %s", task.run, task.key, failure.message)
        return ev.Failed(
            task.run,
            task.key,
            task.content_key,
            task.attempt,
            failure.fault,
            failure.cause,
            failure.message,
            time.time(),
            wait_s,
        )

    def configure(
        self,
        transaction: Transaction,
        run: Run,
        *,
        identity: str,
        is_rewired: bool = False,
    ) -> None:
        """Let a run have these parameters from now on."""
        name = run.spec.name
        self.plan.runs[name] = run
        self._gates.forget(name)
        if self.scheduler.board.runs[name].identity != identity:
            transaction.add_revision(run, identity=identity)
            self.apply(transaction, ev.Configured(name, identity, is_rewired))
            if run.spec.shape is Shape.GATE:
                self._changed.append(name)
