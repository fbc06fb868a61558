"""The scheduler: a pure state machine. Events in, instructions out.

No clock, file, thread or database: time arrives as an event, instructions are carried
out by the session service in the transaction that stores the event. What it knows can
be written to the state tables and restored from them; replaying all events gives the
same. States: `icestream.streaming.tasks`; what it knows: `icestream.streaming.board`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import InternalError
from icestream.streaming import events as ev
from icestream.streaming.board import PENDING, Board, first_absent
from icestream.streaming.execution import Fault
from icestream.streaming.state import (
    SESSION,
    Exposure,
    Instruction,
    Notice,
    Policy,
    RunState,
    StoreExposure,
    StoreRun,
    StoreTask,
)
from icestream.streaming.tasks import TERMINAL, Change, ChangeKind, State, Task
from icestream.streaming.workflow import (
    ACCEPTED,
    REJECTED,
    Port,
    Shape,
    Workflow,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Scheduler"]


class Scheduler:
    """Decides what is to be done, for one workflow.

    Parameters
    ----------
    workflow
        The graph of runs.
    policy
        Numbers for failures and freshness.
    """

    def __init__(self, workflow: Workflow, *, policy: Policy | None = None) -> None:
        self.board = Board(workflow, policy or Policy())
        self._out: list[Instruction] = []
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            ev.Configured: self._configured,
            ev.Arrived: self._arrived,
            ev.Closed: lambda event: self._close(event.run),
            ev.Started: self._started,
            ev.Succeeded: self._succeeded,
            ev.Failed: self._failed,
            ev.Decided: self._decided,
            ev.Judged: self._judged,
            ev.Overridden: self._overridden,
            ev.Updated: self._updated,
            ev.Retried: self._retried,
            ev.Paused: lambda event: self._pause(event.run or SESSION, event.reason),
            ev.Resumed: self._resumed,
            ev.Ticked: self._ticked,
            ev.Recovered: self._recovered,
        }

    def handle(self, event: ev.Event) -> list[Instruction]:
        """Take in one event and return what is to be stored and told."""
        self._handlers[type(event)](event)
        out, self._out = self._out, []
        return out

    def undecided(self) -> list[tuple[str, str]]:
        """Return run and key of all gates' items that wait for a verdict."""
        board = self.board
        return [one for one in board.undecided if not board.is_paused(one[0])]

    def next_due(self) -> float | None:
        """Return when the next failed task goes again, if there is one."""
        return min(self.board.timed.values(), default=None)

    def is_finished(self) -> bool:
        """Whether every run is closed: nothing is left to do."""
        return all(self.board.runs[n].closed for n in self.board.workflow.runs)

    def restore(
        self,
        *,
        runs: Mapping[str, RunState],
        exposures: Mapping[str, Exposure],
        tasks: Iterable[tuple[str, str, Task]],
        change_seq: int,
    ) -> None:
        """Take over what the state tables hold. A `Recovered` event must follow."""
        self.board.runs |= runs
        self.board.exposures = dict(exposures)
        self.board.change_seq = change_seq
        for run, key, task in tasks:
            self.board.put(run, key, task)

    def _configured(self, event: ev.Configured) -> None:
        if self.board.runs[event.run].identity == event.identity:
            return
        shape = self.board.workflow.runs[event.run].shape
        if shape is Shape.AGGREGATE:
            self._reopen(event.run)
        state = replace(self.board.runs[event.run], identity=event.identity)
        if shape is Shape.AGGREGATE:
            # Whatever feeds it now, it reads from the beginning.
            state = replace(state, cursor=0, head=self.board.change_seq, failures=0)
        self._set_run(event.run, state)
        if shape is Shape.AGGREGATE:
            self._close_if_done(event.run)
        for key in () if shape is Shape.SOURCE else list(self.board.tasks[event.run]):
            if shape is not Shape.GATE or event.is_rewired:
                self._evaluate(event.run, key)
            if shape is Shape.GATE:
                self._ask_again(event.run, key)

    def _arrived(self, event: ev.Arrived) -> None:
        known = self.board.exposures.get(event.key)
        arrival = len(self.board.exposures) if known is None else known.arrival
        exposure = Exposure(arrival, dict(event.acquisition))
        if exposure != known:
            self.board.exposures[event.key] = exposure
            self._out.append(StoreExposure(event.key, exposure))
        task = self.board.tasks[event.run].get(event.key)
        if task is None or task.published != event.content:
            self._reopen(event.run)
            self._set_task(
                event.run,
                event.key,
                Task(state=State.DONE, content=event.content, published=event.content),
            )
        if known is not None and exposure != known:
            self._evaluate_everywhere(event.key)

    def _started(self, event: ev.Started) -> None:
        flights = self.board.in_flight.setdefault((event.run, event.key), {})
        flights[event.content] = event.attempt
        if event.key:
            task = self.board.tasks[event.run][event.key]
            self._set_task(
                event.run,
                event.key,
                replace(task, state=State.RUNNING, attempt=event.attempt, reason=""),
            )

    def _succeeded(self, event: ev.Succeeded) -> None:
        self._land(event)
        task = self._current(event)
        if task is None:
            return
        self._remember(event.run, "")
        self._set_task(
            event.run,
            event.key,
            replace(
                task,
                state=State.DONE,
                published=event.content,
                reason="",
                failures=0,
                retry_at=None,
            ),
        )

    def _failed(self, event: ev.Failed) -> None:
        landed = self._land(event)
        if not event.key:
            if landed:
                self._update_failed(event)
            return
        task = self._current(event)
        if task is None or not (landed or _is_news(task, event)):
            return
        if event.fault in (Fault.SESSION, Fault.DROPPED):
            self._set_task(event.run, event.key, replace(task, state=State.READY))
            if event.fault is Fault.SESSION:
                self._pause(SESSION, f"{event.run}: {event.message}")
        elif event.fault is Fault.INCOMPLETE and event.wait_s is not None:
            self._set_task(
                event.run,
                event.key,
                replace(
                    task,
                    state=State.WAITING,
                    reason=event.message,
                    retry_at=event.time + event.wait_s,
                ),
            )
        else:
            self._count_failure(event, task)

    def _current(self, event: ev.Succeeded | ev.Failed | ev.Decided) -> Task | None:
        """Return the task that an event speaks of, unless it has moved on since."""
        task = self.board.tasks[event.run].get(event.key)
        moving = task is not None and task.state in (State.READY, State.RUNNING)
        return task if task and moving and task.content == event.content else None

    def _decided(self, event: ev.Decided) -> None:
        task = self._current(event)
        if task is None:
            return
        self._settle_gate(event.run, event.key, replace(task, verdict=event.verdict))

    def _judged(self, event: ev.Judged) -> None:
        for key, (content, verdict) in event.verdicts.items():
            task = self.board.tasks[event.run].get(key)
            if not task or task.state is not State.DONE or task.content != content:
                continue
            judged = replace(task, verdict=verdict)
            if judged.accepted == task.accepted:
                self._set_task(event.run, key, judged)
            else:
                self._settle_gate(event.run, key, judged)
        for key in event.again:
            self._ask_again(event.run, key, though=State.DONE)

    def _overridden(self, event: ev.Overridden) -> None:
        task = self.board.tasks[event.run].get(event.key)
        if task is None or self.board.workflow.runs[event.run].shape is not Shape.GATE:
            return
        task = replace(task, override=event.accepted)
        if task.state is State.DONE:
            self._settle_gate(event.run, event.key, task)
        else:
            self._set_task(event.run, event.key, task)

    def _updated(self, event: ev.Updated) -> None:
        state = self.board.runs[event.run]
        is_current = state.identity == event.identity
        if is_current and event.cursor <= state.cursor:
            return
        self.board.in_flight.pop((event.run, ""), None)
        if is_current:
            self._set_run(event.run, replace(state, cursor=event.cursor, failures=0))
            self._close_if_done(event.run)

    def _retried(self, event: ev.Retried) -> None:
        task = self.board.tasks[event.run].get(event.key)
        if task is not None and task.state is State.QUARANTINED:
            again = replace(task, state=State.WAITING, failures=0)
            self._set_task(event.run, event.key, again)
            self._evaluate(event.run, event.key)

    def _resumed(self, event: ev.Resumed) -> None:
        names = list(self.board.runs) if event.run is None else [event.run]
        for name in names:
            state = self.board.runs[name]
            if state.paused is not None:
                self._set_run(name, replace(state, paused=None, recent=(), failures=0))

    def _ticked(self, event: ev.Ticked) -> None:
        due = [one for one, at in self.board.timed.items() if at <= event.time]
        for run, key in due:
            task = replace(self.board.tasks[run][key], retry_at=None)
            if task.state is State.FAILED:
                task = replace(task, state=State.READY)
            self._set_task(run, key, task)
            self._evaluate(run, key)

    def _recovered(self, _: ev.Recovered) -> None:
        self.board.in_flight.clear()
        for run, spec in self.board.workflow.runs.items():
            for key in sorted(self.board.open[run]):
                task = self.board.tasks[run][key]
                if task.state is State.RUNNING:
                    self._set_task(run, key, replace(task, state=State.READY))
            # A run that was added while the service was down catches up.
            known = self.board.tasks[run]
            for port in spec.ports():
                for key in [k for k in self.board.tasks[port.run] if k not in known]:
                    self._evaluate(run, key)
            self._close_if_done(run)

    def _evaluate(self, run: str, key: str) -> None:
        """Bring a task in line with its inputs."""
        spec = self.board.workflow.runs[run]
        if spec.shape is Shape.AGGREGATE:
            return
        old = self.board.tasks[run].get(key)
        task = old or Task(state=State.WAITING)
        looks = self.board.look_all(run, key)
        if waiting := [n for n, one in looks.items() if one is PENDING]:
            state = State.WAITING if task.published is None else State.STALE
            waits = f"waits for {', '.join(waiting)}"
            reason = waits if task.retry_at is None else task.reason
            new = replace(task, state=state, reason=reason)
        elif absent := first_absent(spec, looks):
            new = replace(
                task,
                state=State.SKIPPED,
                reason=absent,
                published=None,
                verdict=None,
                retry_at=None,
            )
        else:
            new = self._with_content(
                run, key, task, self.board.content(spec, key, looks)
            )
        if new != old:
            self._set_task(run, key, new)

    def _evaluate_everywhere(self, key: str) -> None:
        """Acquisition fields of a key have changed: whoever reads them is stale."""
        for run, tasks in self.board.tasks.items():
            shape = self.board.workflow.runs[run].shape
            if key in tasks and shape in (Shape.PER_ITEM, Shape.GATE):
                self._evaluate(run, key)

    def _with_content(self, run: str, key: str, task: Task, content: str) -> Task:
        """All inputs are there: what a task with this content should be."""
        settled = task.state not in (State.WAITING, State.STALE, State.SKIPPED)
        if task.content == content:
            if settled:
                return task
            if task.retry_at is not None:
                return replace(task, state=State.WAITING)
        else:
            task = replace(task, content=content, failures=0)
        task = replace(task, reason="", retry_at=None)
        if self.board.workflow.runs[run].shape is Shape.PER_ITEM:
            if task.published == content:
                return replace(task, state=State.DONE)
            if content in self.board.in_flight.get((run, key), ()):
                return replace(task, state=State.RUNNING)
        return replace(task, state=State.READY)

    def _settle_gate(self, run: str, key: str, task: Task) -> None:
        spec = self.board.workflow.runs[run]
        item = self.board.look(spec.inputs.get(spec.passes or "", ()), key)
        if task.accepted is None or not isinstance(item, str):
            raise InternalError(f"Gate {run!r} settled {key!r} without a verdict.")
        published = passed(ACCEPTED if task.accepted else REJECTED, item)
        done = replace(task, state=State.DONE, published=published, reason="")
        self._set_task(run, key, done)

    def _ask_again(
        self, run: str, key: str, *, though: State = State.QUARANTINED
    ) -> None:
        """Let a gate's key go again, though it is in this state."""
        task = self.board.tasks[run].get(key)
        if task is not None and task.state is though:
            ready = replace(task, state=State.READY, reason="", failures=0)
            self._set_task(run, key, ready)
            self._evaluate(run, key)

    def _count_failure(self, event: ev.Failed, task: Task) -> None:
        cap = {
            Fault.LOST: self.board.policy.lost_attempts,
            Fault.INTERNAL: self.board.policy.internal_attempts,
        }.get(event.fault, 1)
        failures = task.failures + 1
        failed = replace(task, failures=failures, reason=event.message)
        if failures < cap:
            wait = self.board.policy.back_off_s * 2 ** (failures - 1)
            failed = replace(failed, state=State.FAILED, retry_at=event.time + wait)
            self._set_task(event.run, event.key, failed)
            return
        failed = replace(failed, state=State.QUARANTINED, published=None)
        self._set_task(event.run, event.key, failed)
        if event.fault is Fault.INCOMPLETE:
            # Its file may come yet, and says nothing of the next one's.
            return
        self._remember(event.run, event.cause)
        self._break(event.run, event.cause, event.message)

    def _set_task(self, run: str, key: str, task: Task) -> None:
        """Store a task, publish what changed, and tell those downstream."""
        old = self.board.tasks[run].get(key)
        if task.state not in TERMINAL:
            self._reopen(run)
        self.board.put(run, key, task)
        self._out.append(StoreTask(run, key, task))
        was = None if old is None else (old.state in TERMINAL, old.published)
        if was == (task.state in TERMINAL, task.published):
            return
        if task.state in TERMINAL:
            self._publish(run, key, old, task)
        for other in self.board.workflow.downstream[run]:
            self._evaluate(other, key)
        if task.state in TERMINAL:
            self._close_if_done(run)

    def _publish(self, run: str, key: str, old: Task | None, task: Task) -> None:
        for output in self.board.workflow.runs[run].outputs:
            port = Port(run, output)
            before = self.board.published(port, old)
            after = self.board.published(port, task)
            if before == after:
                continue
            kind = ChangeKind.REPLACED
            if before is None:
                kind = ChangeKind.ADDED
            elif after is None:
                kind = ChangeKind.WITHDRAWN
            self.board.change_seq += 1
            self._out.append(
                Change(self.board.change_seq, run, output, key, kind, after, before)
            )
            for listener in self.board.workflow.listeners.get(port, ()):
                self._reopen(listener)
                state = replace(self.board.runs[listener], head=self.board.change_seq)
                self._set_run(listener, state)

    def _set_run(self, run: str, state: RunState) -> None:
        self.board.runs[run] = state
        self._out.append(StoreRun(run, state))

    def _pause(self, run: str, reason: str) -> None:
        if self.board.runs[run].paused is None:
            self._set_run(run, replace(self.board.runs[run], paused=reason))
            self._out.append(Notice(run or None, reason))

    def _remember(self, run: str, cause: str) -> None:
        state = self.board.runs[run]
        recent = (*state.recent, cause)[-self.board.policy.of_last :]
        if recent != state.recent:
            self._set_run(run, replace(state, recent=recent))

    def _break(self, run: str, cause: str, message: str) -> None:
        recent = self.board.runs[run].recent
        count = recent.count(cause)
        if count >= self.board.policy.same_cause:
            self._pause(
                run,
                f"{count} of the last {len(recent)} failed for the same cause "
                f"({cause}), the last one: {message}",
            )

    def _close_if_done(self, run: str) -> None:
        spec = self.board.workflow.runs[run]
        if (
            spec.shape is Shape.SOURCE
            or self.board.runs[run].closed
            or self.board.open[run]
        ):
            return
        state = self.board.runs[run]
        if spec.shape is Shape.AGGREGATE and state.cursor < state.head:
            return
        if all(self.board.runs[port.run].closed for port in spec.ports()):
            self._close(run)

    def _close(self, run: str) -> None:
        if self.board.runs[run].closed:
            return
        self._set_run(run, replace(self.board.runs[run], closed=True))
        for other in self.board.workflow.downstream[run]:
            for key in sorted(self.board.open[other]):
                self._evaluate(other, key)
            self._close_if_done(other)

    def _reopen(self, run: str) -> None:
        if self.board.runs[run].closed:
            self._set_run(run, replace(self.board.runs[run], closed=False))
            for other in self.board.workflow.downstream[run]:
                self._reopen(other)
                for key in sorted(self.board.open[other]):
                    self._evaluate(other, key)

    def _update_failed(self, event: ev.Failed) -> None:
        state = self.board.runs[event.run]
        if event.content != state.identity or event.fault is Fault.DROPPED:
            return
        failures = state.failures + 1
        self._set_run(event.run, replace(state, failures=failures))
        if event.fault is Fault.SESSION:
            self._pause(SESSION, f"{event.run}: {event.message}")
        elif (
            event.fault is not Fault.LOST or failures >= self.board.policy.lost_attempts
        ):
            self._pause(event.run, event.message)

    def _land(self, event: ev.Succeeded | ev.Failed) -> bool:
        """Take an attempt out of the air; ``False`` where it is not there."""
        flights = self.board.in_flight.get((event.run, event.key), {})
        if flights.get(event.content) != event.attempt:
            return False
        del flights[event.content]
        if not flights:
            del self.board.in_flight[event.run, event.key]
        return True


def _is_news(task: Task, event: ev.Failed) -> bool:
    """Whether a failure that was not in flight is one that never started."""
    return task.state is State.READY and not 0 < event.attempt <= task.attempt
