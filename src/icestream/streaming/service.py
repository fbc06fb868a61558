"""The session service: the one writer. Events in, one transaction per effect, out."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import queue
import shutil
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from icestream.domain.errors import BadSettings, InternalError, SessionError
from icestream.streaming import events as ev
from icestream.streaming.acquisitions import Acquisitions
from icestream.streaming.dispatch import Dispatcher
from icestream.streaming.execution import Outcome
from icestream.streaming.feed import Feed, Sightings
from icestream.streaming.leftovers import sweep_leftovers
from icestream.streaming.outages import Outages
from icestream.streaming.protocol import Sighting, SightingState, Source
from icestream.streaming.recorder import Limits, Recorder
from icestream.streaming.records import decode, encode
from icestream.streaming.state import SESSION
from icestream.streaming.tasks import State
from icestream.streaming.updates import store_update
from icestream.streaming.workflow import Port, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from icestream.streaming.execution import Envelope, Executor
    from icestream.streaming.ledger import Ledger, Transaction
    from icestream.streaming.plan import Plan, Run

__all__ = ["LOW_ON_SPACE", "Limits", "Service"]

log = logging.getLogger(__name__)

SPACE_EVERY_S = 5.0
"""How often free space is looked at."""
_LONGEST_WAIT_S = 120.0
LOW_ON_SPACE = "low on space: "
"""How the reason of a pause begins that ends by itself."""


@dataclass(frozen=True, slots=True)
class _Command:
    """A request from outside: what to do in the transaction, and whom to answer."""

    work: Callable[[Transaction], Any]
    answer: Future[Any]

    def obey(self, transaction: Transaction) -> Callable[[], None]:
        """Do the work; the returned function gives the answer, once it is stored."""
        try:
            value = self.work(transaction)
        except SessionError as error:
            return functools.partial(self.answer.set_exception, error)
        return functools.partial(self.answer.set_result, value)


_Message: TypeAlias = Outcome | Sightings | _Command


class Service:
    """Runs a session until it is stopped, or finished when asked to finish.

    Parameters
    ----------
    plan
        The session's runs.
    ledger
        Opened for writing; its lock is held.
    executor
        Runs tasks; started and closed by the service.
    session_folder
        Where products go.
    limits
        Times and sizes.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        executor: Executor,
        *,
        session_folder: Path,
        limits: Limits | None = None,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self._limits = limits or Limits()
        self._recorder = Recorder(plan, self._limits)
        self.scheduler = self._recorder.scheduler
        self._executor = executor
        self._folder = session_folder
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._dispatcher = Dispatcher(
            plan, self.scheduler, executor, session_folder=session_folder
        )
        self._acquisitions = Acquisitions(plan, self.scheduler.board)
        self._feeds: dict[str, Feed] = {}
        self._finishing = False
        self._quiet: set[str] = set()
        self._outages = Outages(plan)
        self._stale: list[str] = []
        self._stop_at: float | None = None
        self._next_check = 0.0

    # Life -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until stopped.

        Raises
        ------
        DiskFull
            The ledger cannot grow any more.
        BadSettings
            A run needs more than any slot has.
        SourceUnavailable
            It was asked to finish, and all is done but what a source that stays away
            may still hold.
        """
        self._open()
        self._executor.start(self._inbox.put)
        try:
            self._check_slots()
            sweep_leftovers(self._folder, self.ledger.path)
            for feed in self._feeds.values():
                feed.start()
            while not self._is_over():
                self._turn(self._receive())
        finally:
            for feed in self._feeds.values():
                feed.stop()
            self._executor.close()
            self._refuse_rest()
        if self._stop_at is None:
            self._outages.raise_if_any()

    def stop(self) -> None:
        """Start nothing more and end when what runs is done; called again: at once.

        May be called from a signal handler.
        """
        wait = self._limits.stop_s if self._stop_at is None else 0.0
        self._stop_at = time.monotonic() + wait

    def command(self, work: Callable[[Transaction], Any]) -> Future[Any]:
        """Have some work done by the writer; answered after it is stored."""
        answer: Future[Any] = Future()
        self._inbox.put(_Command(work, answer))
        return answer

    def obey(self, work: Callable[[Transaction], Any]) -> Any:  # noqa: ANN401
        """Do some work at once, while no service runs; the writer's lock is held."""
        self.ledger.restore(self.scheduler)
        with self.ledger.transaction() as transaction:
            value = work(transaction)
            self._recorder.settle(transaction)
        return value

    # Commands, to be given to `command` -----------------------------------------------

    def pause(self, transaction: Transaction, run: str | None, reason: str) -> None:
        """Start nothing more of a run, or at all."""
        self._check_run(run)
        if run is None and self._is_low:
            # A person's pause does not end by itself.
            self._recorder.apply(transaction, ev.Resumed(SESSION))
        self._recorder.apply(transaction, ev.Paused(run, reason))

    def resume(self, transaction: Transaction, run: str | None) -> None:
        """Go on."""
        self._check_run(run)
        self._recorder.apply(transaction, ev.Resumed(run))

    def retry(self, transaction: Transaction, run: str | None, key: str | None) -> int:
        """Queue quarantined keys again; returns how many."""
        self._check_run(run)
        runs = [run] if run else list(self.plan.runs)
        count = 0
        for name in runs:
            tasks = self.scheduler.board.tasks[name]
            for one in [key] if key else list(tasks):
                if one in tasks and tasks[one].state is State.QUARANTINED:
                    self._recorder.apply(transaction, ev.Retried(name, one))
                    count += 1
        return count

    def override(
        self, transaction: Transaction, run: str, key: str, *, accepted: bool | None
    ) -> None:
        """Accept or reject a key at a gate by hand; ``None`` undoes it."""
        self._check_run(run)
        if self.plan.runs[run].spec.shape is not Shape.GATE:
            raise BadSettings(f"Run {run!r} is no gate: nothing to accept or reject.")
        if key not in self.scheduler.board.tasks[run]:
            raise BadSettings(
                f"Gate {run!r} knows no exposure {key!r}.",
                hint="`icestream status --json` lists the keys.",
            )
        self._recorder.apply(transaction, ev.Overridden(run, key, accepted))

    def configure(self, transaction: Transaction, run: Run) -> None:
        """Give a run other parameters; what follows from them is made anew."""
        self.check_changes([run])
        self._recorder.configure(transaction, run, identity=run.identity)

    def check_changes(self, runs: Iterable[Run]) -> None:
        """Refuse a change that a service at work cannot follow."""
        for run in runs:
            if run.spec.shape is Shape.SOURCE:
                self._refuse_at_work(f"Source {run.spec.name!r} changes")

    def check_setups(self) -> None:
        """Refuse to change how acquisition fields are arranged while at work."""
        self._refuse_at_work("Setups change")

    def _refuse_at_work(self, what: str) -> None:
        if self._feeds:
            raise BadSettings(
                f"{what} only while the session is stopped.",
                hint="Nothing was changed. `icestream stop`, change it, "
                "`icestream start`.",
            )

    def finish(self, _transaction: Transaction) -> None:
        """Close the sources once they are quiet, and end when all is done."""
        self._finishing = True

    # One turn -------------------------------------------------------------------------

    def _open(self) -> None:
        self.ledger.restore(self.scheduler)
        with self.ledger.transaction() as transaction:
            known = transaction.revisions()
            for run in self.plan.runs.values():
                last = known.get(run.spec.name)
                is_rewired = last is None or last.wiring != run.spec.wiring
                identity = run.identity
                if last is not None and not is_rewired:
                    # A raised protocol revision alone makes nothing stale.
                    same = last.params == dict(run.params)
                    identity = last.identity if same else run.identity
                self._recorder.configure(
                    transaction, run, identity=identity, is_rewired=is_rewired
                )
            self._recorder.apply(transaction, ev.Recovered())
            self._acquisitions.learn()
            for run in self.plan.runs.values():
                if run.spec.shape is Shape.SOURCE:
                    self._open_source(transaction, run)
            self._recorder.settle(transaction)

    def _turn(self, messages: Sequence[_Message]) -> None:
        """Take in some messages and do what follows, in one transaction."""
        replies: list[Callable[[], None]] = []
        bundles: list[tuple[str, list[Envelope]]] = []
        with self.ledger.transaction() as transaction:
            for message in messages:
                if isinstance(message, Outcome):
                    self._take_outcome(transaction, message)
                elif isinstance(message, Sightings):
                    self._take_sightings(transaction, message)
                    replies.append(self._feeds[message.run].proceed)
                else:
                    replies.append(message.obey(transaction))
            self._tick(transaction)
            self._recorder.settle(transaction)
            if self._stop_at is None:
                bundles = self._dispatcher.fill(
                    transaction, lambda event: self._recorder.apply(transaction, event)
                )
        for slot, bundle in bundles:
            self._executor.submit(slot, bundle)
        for reply in replies:
            reply()
        self._remove_stale()

    def _remove_stale(self) -> None:
        """Remove the files that are stored to be no longer needed."""
        for path in self._stale:
            # What cannot be removed is only in the way.
            with contextlib.suppress(OSError):
                (self._folder / path).unlink(missing_ok=True)
        self._stale.clear()

    def _receive(self) -> list[_Message]:
        due = self.scheduler.next_due()
        wait = 1.0 if due is None else min(1.0, max(0.0, due - time.time()))
        messages: list[_Message] = []
        with contextlib.suppress(queue.Empty):
            messages.append(self._inbox.get(timeout=wait))
            while len(messages) < 1000:
                messages.append(self._inbox.get_nowait())
        return messages

    def _is_over(self) -> bool:
        if self._stop_at is not None:
            idle = self._dispatcher.in_flight == 0
            return idle or time.monotonic() > self._stop_at
        quiet = self._quiet.issuperset(self._feeds)
        return self._finishing and quiet and self.scheduler.is_finished()

    # What comes in --------------------------------------------------------------------

    def _take_outcome(self, transaction: Transaction, outcome: Outcome) -> None:
        cursor = self._dispatcher.land(outcome)
        transaction.add_outcome(outcome)
        task, failure = outcome.task, outcome.failure
        if failure is not None:
            self._recorder.apply(
                transaction, self._recorder.failed(transaction, task, failure)
            )
        elif task.key:
            transaction.add_records(task.content_key, outcome.outputs)
            self._recorder.apply(
                transaction,
                ev.Succeeded(task.run, task.key, task.content_key, task.attempt),
            )
        else:
            self._take_update(transaction, outcome, cursor)

    def _take_update(
        self, transaction: Transaction, outcome: Outcome, cursor: int | None
    ) -> None:
        run, identity = outcome.task.run, outcome.task.content_key
        if cursor is None:
            raise InternalError(f"An update of {run!r} came back that was never sent.")
        if identity == self.scheduler.board.runs[run].identity:
            self._stale += store_update(transaction, outcome, cursor=cursor)
        self._recorder.apply(transaction, ev.Updated(run, identity, cursor))

    def _take_sightings(self, transaction: Transaction, message: Sightings) -> None:
        run = message.run
        if message.failure is not None:
            log.warning("%s: %s", run, message.failure.message)
            transaction.add_notice(run, message.failure.message)
        for one in message.seen:
            self._take_sighting(transaction, run, one)
        outage = self._outages.take(message, is_finishing=self._finishing)
        if outage is not None:
            is_over = outage.polls >= self._limits.lost_polls
        else:
            is_over = message.quiet >= self._limits.quiet_polls
        if is_over:
            self._quiet.add(run)
        elif outage is not None or not message.quiet:
            self._quiet.discard(run)
        over = self._finishing and run in self._quiet
        if (over or message.finished) and not self.scheduler.board.runs[run].closed:
            self._recorder.apply(transaction, ev.Closed(run))

    def _take_sighting(self, transaction: Transaction, run: str, one: Sighting) -> None:
        key = None if one.key is None else f"{run}/{one.key}"
        transaction.add_sighting(run, one, key=key)
        if self._outages.awaits(run, one):
            transaction.add_notice(run, f"The gain {one.path} {one.reason}.")
        if one.state is not SightingState.TAKEN or one.item is None or key is None:
            return
        plan = self.plan.runs[run]
        (output,) = plan.spec.outputs
        record = encode(one.item)
        content = _hash(key, str(one.fingerprint), plan.identity)
        transaction.add_records(content, {output: record})
        fields = self._acquisitions.settle(transaction, run, key, one.acquisition)
        self._recorder.apply(transaction, ev.Arrived(run, key, content, fields))

    def _tick(self, transaction: Transaction) -> None:
        due = self.scheduler.next_due()
        now = time.time()
        # No wait is this long: the clock was set back, and what waits is due.
        farthest = now + _LONGEST_WAIT_S + self._limits.look_again_s
        if due is not None and (due <= now or due > farthest):
            self._recorder.apply(transaction, ev.Ticked(max(now, due)))
        for slot in self._dispatcher.overrun():
            log.warning("Slot %s took too long and is restarted.", slot)
            self._executor.restart_slot(slot)
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + SPACE_EVERY_S
            self.ledger.check_place()
            self._check_space(transaction)

    def _check_space(self, transaction: Transaction) -> None:
        """Pause while space is low; what a person has paused stays as it is."""
        low = self._why_low()
        if low and self.scheduler.board.runs[SESSION].paused is None:
            self._recorder.apply(transaction, ev.Paused(None, low))
        elif not low and self._is_low:
            self._recorder.apply(transaction, ev.Resumed(SESSION))

    @property
    def _is_low(self) -> bool:
        paused = self.scheduler.board.runs[SESSION].paused
        return paused is not None and paused.startswith(LOW_ON_SPACE)

    def _why_low(self) -> str | None:
        for folder in (self._folder, self.ledger.path.parent):
            try:
                free_gb = shutil.disk_usage(folder).free / 1e9
            except OSError as error:
                return f"{LOW_ON_SPACE}{folder} cannot be reached: {error.strerror}"
            if free_gb < self._limits.free_gb:
                return (
                    f"{LOW_ON_SPACE}only {free_gb:.1f} GB are free in {folder}; "
                    f"nothing is started below {self._limits.free_gb:g} GB"
                )
        return None

    # Opening --------------------------------------------------------------------------

    def _check_slots(self) -> None:
        """Refuse a run that would wait for ever: no slot is large enough for it."""
        slots = self._executor.slots()
        for name, run in self.plan.runs.items():
            needs = run.spec.resources
            if run.spec.shape in (Shape.PER_ITEM, Shape.AGGREGATE) and not any(
                one.threads >= needs.threads and one.gpus >= needs.gpus for one in slots
            ):
                raise BadSettings(
                    f"Run {name!r} needs {needs.threads} threads and {needs.gpus} GPUs "
                    "in one slot; no slot has them.",
                    hint="Use a larger machine, or take the run out.",
                )

    def _open_source(self, transaction: Transaction, run: Run) -> None:
        name = run.spec.name
        board = self.scheduler.board
        source = run.make(Source)
        (output,) = run.spec.outputs
        kind = run.protocol.outputs[output]
        seen = []
        for row in transaction.sightings(name):
            task = board.tasks[name].get(row.key) if row.key else None
            item = None
            if task is not None and task.published:
                port = Port(name, output)
                record = transaction.record(str(board.published(port, task)))
                item = decode(record, kind)
            seen.append(
                Sighting(
                    path=row.path,
                    state=SightingState(row.state),
                    reason=row.reason,
                    key=row.key.removeprefix(f"{name}/") if row.key else None,
                    item=item,
                    fingerprint=row.fingerprint,
                    acquisition=self._acquisitions.fields_of(row.key or ""),
                )
            )
            self._outages.learn(name, seen[-1], seen_at=row.time)
        source.resume(seen)
        self._feeds[name] = Feed(name, source, self._inbox.put)
        for key in self._acquisitions.unsettled(name):
            published = board.tasks[name][key].published
            if published:
                fields = self._acquisitions.settle(transaction, name, key, {})
                arrived = ev.Arrived(name, key, published, fields)
                self._recorder.apply(transaction, arrived)

    def _check_run(self, run: str | None) -> None:
        if run is not None and run not in self.plan.runs:
            raise BadSettings(
                f"There is no run {run!r}.",
                hint=f"There are: {', '.join(self.plan.runs)}.",
            )

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, _Command):
                    message.answer.cancel()


def _hash(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
