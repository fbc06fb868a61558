"""The pure scheduler and the ledger together: every event goes through here."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import InternalError
from icestream.domain.verdict import Verdict
from icestream.streaming import events as ev
from icestream.streaming.board import Absent
from icestream.streaming.execution import Failure, Fault, TaskId, guard
from icestream.streaming.protocol import Gate, Missing
from icestream.streaming.records import decode
from icestream.streaming.scheduler import Scheduler
from icestream.streaming.state import StoreTask
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Shape, item_id

if TYPE_CHECKING:
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
        self._gates: dict[str, Gate[Any]] = {}
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
        while True:
            self._reuse(transaction)
            undecided = self.scheduler.undecided()
            for run, key in undecided:
                self._decide(transaction, run, key)
            if not undecided and not self._fresh:
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

    def _decide(self, transaction: Transaction, run: str, key: str) -> None:
        board = self.scheduler.board
        task = board.tasks[run][key]
        gate = self._gates.get(run)
        if gate is None:
            gate = self._gates[run] = self.plan.runs[run].make(Gate)
        verdict = guard(lambda: self._verdict(transaction, gate, run, key))
        if isinstance(verdict, Failure):
            identity = TaskId(run, key, task.content, 0)
            self.apply(transaction, self.failed(transaction, identity, verdict))
        else:
            self.apply(transaction, ev.Decided(run, key, task.content, verdict))

    def _verdict(
        self, transaction: Transaction, gate: Gate[Any], run: str, key: str
    ) -> Verdict:
        looks = self.scheduler.board.look_all(run, key)
        inputs = {
            name: decode(transaction.record(look), gate.inputs[name].kind)
            if isinstance(look, str)
            else Missing(look.reason if isinstance(look, Absent) else "pending")
            for name, look in looks.items()
        }
        verdict = gate.decide(**inputs)
        if not isinstance(verdict, Verdict):
            raise InternalError(
                f"{gate.name} returned a {type(verdict).__name__} instead of a Verdict."
            )
        return verdict

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

    def configure(self, transaction: Transaction, run: Run, *, identity: str) -> None:
        """Let a run have these parameters from now on."""
        name = run.spec.name
        self.plan.runs[name] = run
        self._gates.pop(name, None)
        if self.scheduler.board.runs[name].identity != identity:
            transaction.add_revision(run, identity=identity)
            self.apply(transaction, ev.Configured(name, identity))
