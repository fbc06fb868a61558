"""A service in memory for tests of the scheduler, and an oracle that checks it.

`Desk` plays the session service deterministically: it carries out instructions into
tables, decides gates, starts chosen tasks and finishes them. What a task makes is its
provenance, computed from the inputs that stood there when it was started; `expected`
computes the same from sources, parameters and overrides alone.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from icestream.domain.verdict import Verdict
from icestream.streaming import events as ev
from icestream.streaming.board import PENDING, Board
from icestream.streaming.execution import Fault, Slot
from icestream.streaming.protocol import Resources
from icestream.streaming.scheduler import Scheduler
from icestream.streaming.state import (
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
    RunSpec,
    Shape,
    Workflow,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "CPU",
    "GPU",
    "Desk",
    "Flight",
    "Tables",
    "aggregate",
    "check_board",
    "check_finished",
    "check_replay",
    "gate",
    "image",
    "per_item",
    "session_workflow",
    "source",
]

Value: TypeAlias = tuple[Any, ...]
"""What an item is in these tests: how it was made."""

CPU = Slot(name="cpu", threads=2)
GPU = Slot(name="gpu", threads=8, gpus=1)

_CHANGES = 2
"""An aggregate takes in so many changes in one update: few, to need several."""

# Workflows ----------------------------------------------------------------------------


def source(name: str) -> RunSpec:
    return RunSpec(name=name, shape=Shape.SOURCE, outputs=("out",))


def per_item(
    name: str,
    *,
    optional: Collection[str] = (),
    many: Collection[str] = (),
    reads: tuple[str, ...] = (),
    gpus: int = 0,
    threads: int = 1,
    **inputs: str,
) -> RunSpec:
    """Describe a run; an input is ``"run.output"``, or several with spaces between."""
    ports: dict[str, tuple[Port, ...]] = {}
    for of, some in _ports(inputs).items():
        ports |= (
            {f"{of}.{one.run}": (one,) for one in some} if of in many else {of: some}
        )
    return RunSpec(
        name=name,
        shape=Shape.PER_ITEM,
        inputs=ports,
        required=frozenset(inputs) - set(optional),
        many=frozenset(many),
        outputs=("out",),
        reads=reads,
        resources=Resources(gpus=gpus, threads=threads),
    )


def gate(
    name: str, passes: str, *, reads: tuple[str, ...] = (), **inputs: str
) -> RunSpec:
    return RunSpec(
        name=name,
        shape=Shape.GATE,
        inputs=_ports(inputs),
        required=frozenset(inputs),
        outputs=(ACCEPTED, REJECTED),
        reads=reads,
        passes=passes,
    )


def aggregate(name: str, ports: str, *, gpus: int = 0) -> RunSpec:
    return RunSpec(
        name=name,
        shape=Shape.AGGREGATE,
        inputs=_ports({"items": ports}),
        required=frozenset({"items"}),
        outputs=("snapshot",),
        resources=Resources(gpus=gpus),
    )


def session_workflow() -> Workflow:
    """Build a small session: union, chain, gate, join, aggregates, a late partner."""
    return Workflow(
        [
            source("movies"),
            source("imports"),
            per_item("motion", movie="movies.out imports.out", gpus=1),
            per_item("ctf", micrograph="motion.out", reads=("voltage",)),
            per_item("again", micrograph="motion.out", reads=("tilt",)),
            per_item("agree", many=("fit",), fit="ctf.out again.out mask.out"),
            gate(
                "limit",
                "micrograph",
                reads=("tilt",),
                micrograph="motion.out",
                fit="agree.out",
            ),
            per_item("pick", micrograph="limit.accepted"),
            per_item("junk", micrograph="limit.rejected"),
            per_item("mask", movie="imports.out", reads=("tilt",)),
            per_item(
                "extract", optional=("mask",), coordinates="pick.out", mask="mask.out"
            ),
            per_item("view", shown="pick.out junk.out"),
            aggregate("classes", "extract.out", gpus=1),
            aggregate("tally", "limit.rejected"),
        ]
    )


def _ports(inputs: Mapping[str, str]) -> dict[str, tuple[Port, ...]]:
    return {
        name: tuple(Port(*one.split(".")) for one in text.split())
        for name, text in inputs.items()
    }


# Tables -------------------------------------------------------------------------------


@dataclass
class Tables:
    """What instructions wrote: the state tables and each output's log."""

    tasks: dict[tuple[str, str], Task] = field(default_factory=dict)
    runs: dict[str, RunState] = field(default_factory=dict)
    exposures: dict[str, Exposure] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    standing: dict[tuple[Port, str], str] = field(default_factory=dict)

    def carry_out(self, instructions: Iterable[Instruction]) -> None:
        for one in instructions:
            match one:
                case StoreTask(run, key, task):
                    self.tasks[run, key] = task
                case StoreRun(run, state):
                    self.runs[run] = state
                case StoreExposure(key, exposure):
                    self.exposures[key] = exposure
                case Change():
                    self._append(one)
                case Notice():
                    self.notices.append(one)

    def _append(self, change: Change) -> None:
        """Fold a change; it must fit what stands there."""
        where = Port(change.run, change.output), change.key
        stood = self.standing.get(where)
        assert change.seq == len(self.changes) + 1
        assert change.old == stood
        assert change.content != stood
        if change.kind is ChangeKind.ADDED:
            assert stood is None
        else:
            assert stood is not None
        if change.kind is ChangeKind.WITHDRAWN:
            assert change.content is None
            del self.standing[where]
        else:
            assert change.content is not None
            self.standing[where] = change.content
        self.changes.append(change)

    def restore(self, workflow: Workflow, policy: Policy) -> Scheduler:
        """Make a scheduler again from the tables, as a restarted service does."""
        scheduler = Scheduler(workflow, policy=policy)
        scheduler.restore(
            runs=self.runs,
            exposures=self.exposures,
            tasks=[(run, key, task) for (run, key), task in self.tasks.items()],
            change_seq=len(self.changes),
        )
        return scheduler


# The service --------------------------------------------------------------------------


@dataclass(frozen=True)
class Flight:
    """A started attempt: what it will make was settled when it was started."""

    run: str
    key: str
    content: str
    attempt: int
    made: Mapping[str, Value] = field(default_factory=dict)
    cursor: int = 0
    state: Mapping[tuple[Port, str], str] = field(default_factory=dict)


Checkpoint: TypeAlias = tuple[int, "Mapping[tuple[Port, str], str]"]
"""How far an aggregate has read, and what it has counted until then."""

Delivered: TypeAlias = ev.Succeeded | ev.Failed | ev.Updated


class Desk:
    """The session service, in memory, one step at a time."""

    def __init__(self, workflow: Workflow, policy: Policy | None = None) -> None:
        self.workflow = workflow
        self.policy = policy or Policy()
        self.scheduler = Scheduler(workflow, policy=self.policy)
        self.tables = Tables()
        self.log: list[tuple[str, str | None, str | None, str]] = []
        self.time = 0.0
        self.flights: list[Flight] = []
        self.delivered: list[Delivered] = []
        self.sources: dict[str, dict[str, str]] = {
            name: {}
            for name, spec in workflow.runs.items()
            if spec.shape is Shape.SOURCE
        }
        self.acquisition: dict[str, Mapping[str, object]] = {}
        self.identities: dict[str, str] = {}
        self.epochs: Counter[str] = Counter()
        self.overrides: dict[tuple[str, str], bool | None] = {}
        self.items: dict[str, Value] = {}
        self.results: set[str] = set()
        self.failed: set[tuple[str, str, str]] = set()
        self.starts: Counter[tuple[str, str, str]] = Counter()
        self.checkpoints: dict[tuple[str, str], Checkpoint] = {}
        for name in workflow.runs:
            self.configure(name, 0)

    @property
    def board(self) -> Board:
        return self.scheduler.board

    def task(self, run: str, key: str) -> Task:
        return self.tables.tasks[run, key]

    def state(self, run: str, key: str) -> State:
        return self.task(run, key).state

    def send(self, event: ev.Event) -> list[Instruction]:
        """Log an event as JSON and carry out what the scheduler says to it."""
        dumped = ev.dump_event(event)
        assert ev.load_event(*dumped) == event
        self.log.append(dumped)
        instructions = self.scheduler.handle(event)
        self.tables.carry_out(instructions)
        return instructions

    # What comes from outside ----------------------------------------------------------

    def arrive(
        self, run: str, key: str, revision: int = 0, **acquisition: object
    ) -> list[Instruction]:
        content = f"{run}-{key}-{revision}"
        self.sources[run][key] = content
        self.acquisition[key] = acquisition
        self.items[f"{content}/out"] = ("file", content)
        return self.send(ev.Arrived(run, key, content, acquisition))

    def close(self, *runs: str) -> None:
        for run in runs or self.sources:
            self.send(ev.Closed(run))

    def configure(self, run: str, number: int) -> list[Instruction]:
        identity = f"{run}#{number}"
        if self.identities.get(run) != identity:
            self.epochs[run] += 1
        self.identities[run] = identity
        followed = self.send(ev.Configured(run, identity))
        if self.workflow.runs[run].shape is Shape.GATE:
            followed += self.judge_again(run)
        return followed

    def judge_again(self, run: str) -> list[Instruction]:
        """Let a gate look at all its keys again, as it has other rules."""
        verdicts = {}
        for key, task in self.board.tasks[run].items():
            if task.state is State.DONE:
                verdict = self.verdict(run, key)
                if verdict != task.verdict:
                    verdicts[key] = task.content, verdict
        return self.send(ev.Judged(run, verdicts)) if verdicts else []

    def override(self, run: str, key: str, accepted: bool | None) -> None:
        if (run, key) in self.tables.tasks:
            self.overrides[run, key] = accepted
        self.send(ev.Overridden(run, key, accepted))

    def retry(self, run: str) -> list[Instruction]:
        """Let all quarantined keys of a run go again."""
        keys = [key for name, key in self.tables.tasks if name == run]
        return [one for key in keys for one in self.send(ev.Retried(run, key))]

    def tick(self, seconds: float = 0.0) -> None:
        self.time += seconds
        self.send(ev.Ticked(self.time))

    def crash(self, configured: Mapping[str, int] | None = None) -> None:
        """Lose everything but the tables, and start again, maybe with new settings."""
        survivor, self.flights = self.scheduler, []
        self.scheduler = self.tables.restore(self.workflow, self.policy)
        before = len(self.log)
        for run, number in (configured or {}).items():
            self.configure(run, number)
        for dumped in self.log[before:]:
            survivor.handle(ev.load_event(*dumped))
        self.send(ev.Recovered())
        survivor.handle(ev.Recovered())
        assert image(self.board) == image(survivor.board)
        # Events delivered to a service that is gone are not delivered again.
        self.delivered.clear()

    # What the service does ------------------------------------------------------------

    def decide(self, run: str, key: str) -> None:
        """Let a gate say what it thinks of an item."""
        content = self.task(run, key).content
        self.send(ev.Decided(run, key, content, self.verdict(run, key)))

    def verdict(self, run: str, key: str) -> Verdict:
        """What a gate says of a key by its rules of today."""
        fields = self.acquisition[key]
        read = tuple(fields.get(name) for name in self.workflow.runs[run].reads)
        accepted = _verdict(self.identities[run], read, self.inputs(run, key))
        return Verdict(accepted=accepted, rule="parity")

    def inputs(self, run: str, key: str) -> dict[str, Value | None]:
        looks = self.board.look_all(run, key)
        assert not any(one is PENDING for one in looks.values())
        return {
            name: self.items[one] if isinstance(one, str) else None
            for name, one in looks.items()
        }

    def start(self, slot: Slot = GPU, recent: Collection[str] = ()) -> Flight | None:
        """Start what the scheduler chooses, unless its result is known already."""
        chosen = self.board.choose(slot, recent)
        if chosen is None:
            return None
        run, key = chosen
        needs = self.workflow.runs[run].resources
        assert not self.board.is_paused(run)
        assert needs.threads <= slot.threads
        assert needs.gpus <= slot.gpus
        flight = self._bind(run, key) if key else self._bind_update(run)
        if flight is not None:
            self.flights.append(flight)
            self.starts[run, key, flight.content] += 1
            self.send(ev.Started(run, key, flight.content, flight.attempt, slot.name))
        return flight

    def _bind(self, run: str, key: str) -> Flight | None:
        task = self.task(run, key)
        assert task.state is State.READY
        assert task.published != task.content
        assert not self.is_in_flight(run, key, task.content)
        if task.content in self.results:
            self.deliver(ev.Succeeded(run, key, task.content, 0))
            return None
        spec = self.workflow.runs[run]
        fields = self.board.exposures[key].acquisition
        read = tuple(fields.get(name) for name in spec.reads)
        value = _made(run, self.identities[run], read, self.inputs(run, key))
        made = {output: (*value, output) for output in spec.outputs}
        return Flight(run, key, task.content, task.attempt + 1, made=made)

    def _bind_update(self, run: str) -> Flight:
        assert not any(one.run == run for one in self.flights), "one update in flight"
        now, identity = self.board.runs[run], self.identities[run]
        cursor, counted = self.checkpoints.get((run, identity), (0, {}))
        assert now.cursor <= cursor <= now.head
        ports = set(self.workflow.runs[run].ports())
        changes = [
            one
            for one in self.tables.changes[cursor : now.head]
            if Port(one.run, one.output) in ports
        ]
        state = dict(counted)
        for one in changes[:_CHANGES]:
            where = Port(one.run, one.output), one.key
            assert state.pop(where, None) == one.old
            if one.content is not None:
                state[where] = one.content
        head = now.head if len(changes) <= _CHANGES else changes[_CHANGES - 1].seq
        attempt = sum(n for (r, _, _), n in self.starts.items() if r == run) + 1
        return Flight(run, "", identity, attempt, cursor=head, state=state)

    def is_in_flight(self, run: str, key: str, content: str) -> bool:
        return any(
            (one.run, one.key, one.content) == (run, key, content)
            for one in self.flights
        )

    def flight(self, run: str, key: str) -> Flight:
        return next(one for one in self.flights if (one.run, one.key) == (run, key))

    def succeed(self, flight: Flight) -> None:
        self.flights.remove(flight)
        if not flight.key:
            self._deliver_update(flight)
            return
        self.results.add(flight.content)
        for output, value in flight.made.items():
            known = self.items.setdefault(f"{flight.content}/{output}", value)
            assert known == value, "one id, two different items"
        self.deliver(
            ev.Succeeded(flight.run, flight.key, flight.content, flight.attempt)
        )

    def _deliver_update(self, flight: Flight) -> None:
        if flight.content == self.identities[flight.run]:
            checkpoint = flight.cursor, flight.state
            self.checkpoints[flight.run, flight.content] = checkpoint
        self.deliver(ev.Updated(flight.run, flight.content, flight.cursor))

    def fail(self, flight: Flight, fault: Fault, wait_s: float | None = None) -> None:
        self.flights.remove(flight)
        self.failed.add((flight.run, flight.key, flight.content))
        self.deliver(self.failure(flight, fault, wait_s))

    def failure(
        self, flight: Flight, fault: Fault, wait_s: float | None = None
    ) -> ev.Failed:
        return ev.Failed(
            flight.run,
            flight.key,
            flight.content,
            flight.attempt,
            fault,
            cause=fault.value,
            message=f"it is {fault.value}",
            time=self.time,
            wait_s=wait_s,
        )

    def fail_gate(self, run: str, key: str, fault: Fault) -> None:
        """Let a gate's rule fail on an item that it should decide."""
        content = self.task(run, key).content
        self.failed.add((run, key, content))
        self.send(self.failure(Flight(run, key, content, 0), fault))

    def deliver(self, event: Delivered) -> None:
        self.send(event)
        self.delivered.append(event)

    # Driving --------------------------------------------------------------------------

    def run_one(self, run: str, key: str) -> None:
        """Start everything until this one is in flight; let this one succeed."""
        while not any((one.run, one.key) == (run, key) for one in self.flights):
            assert self.start() is not None
        self.succeed(self.flight(run, key))

    def drive(self, bad: Collection[tuple[str, str]] = ()) -> None:
        """Do all that can be done; ``bad`` runs and keys fail for the item's fault."""
        for _ in range(10_000):
            if not self._step(bad):
                return
        raise AssertionError("it never comes to rest")

    def _step(self, bad: Collection[tuple[str, str]]) -> bool:
        if undecided := self.scheduler.undecided():
            self.decide(*undecided[0])
        elif self.flights:
            flight = self.flights[0]
            if (flight.run, flight.key) in bad:
                self.fail(flight, Fault.ITEM)
            else:
                self.succeed(flight)
        elif self.is_anything_chosen():
            pass
        elif (due := self.scheduler.next_due()) is not None:
            self.tick(max(0.0, due - self.time))
        else:
            return False
        return True

    def is_anything_chosen(self) -> bool:
        before = len(self.log)
        self.start()
        return len(self.log) > before

    def resume_all(self) -> None:
        for run, state in list(self.tables.runs.items()):
            if state.paused is not None:
                self.send(ev.Resumed(run or None))

    def drive_through(self, bad: Collection[tuple[str, str]] = ()) -> None:
        """Drive, and resume whatever pauses itself on the way."""
        self.resume_all()
        self.drive(bad)
        while any(one.paused is not None for one in self.tables.runs.values()):
            self.resume_all()
            self.drive(bad)


def _verdict(identity: str, read: Value, inputs: Mapping[str, Value | None]) -> bool:
    number = int(identity.rpartition("#")[2])
    return (zlib.crc32(repr((read, sorted(inputs.items()))).encode()) + number) % 2 == 0


def _made(
    run: str, identity: str, read: Value, inputs: Mapping[str, Value | None]
) -> Value:
    return (run, identity, read, tuple(sorted(inputs.items())))


# Checks -------------------------------------------------------------------------------


def image(board: Board) -> dict[str, object]:
    """Show all that a board knows, but for the order of its indexes."""
    return {
        "runs": board.runs,
        "tasks": board.tasks,
        "exposures": board.exposures,
        "change_seq": board.change_seq,
        "open": board.open,
        "undecided": set(board.undecided),
        "timed": board.timed,
        "in_flight": board.in_flight,
        "ready": {
            run: {key for key in board.tasks[run] if [*board.ready.among(run, [key])]}
            for run in board.workflow.runs
        },
    }


def check_board(desk: Desk) -> None:
    """What holds after every single event."""
    board = desk.board
    flying = {(one.run, one.key, one.content) for one in desk.flights}
    for run, spec in desk.workflow.runs.items():
        _check_closed(desk, run)
        for key, task in board.tasks[run].items():
            assert desk.tables.tasks[run, key] == task
            assert (key in board.open[run]) == (task.state not in TERMINAL)
            assert board.timed.get((run, key)) == task.retry_at
            is_ready, is_gate = task.state is State.READY, spec.shape is Shape.GATE
            assert ((run, key) in board.undecided) == (is_ready and is_gate)
            queued = [*board.ready.among(run, [key])] == [key]
            assert queued == (is_ready and not is_gate)
            for output in spec.outputs:
                stands = desk.tables.standing.get((Port(run, output), key))
                assert board.published(Port(run, output), task) == stands
            if spec.shape in (Shape.PER_ITEM, Shape.GATE):
                _check_task(desk, spec, key, task)
            assert (task.state is not State.RUNNING) or (
                (run, key, task.content) in flying
            )


def _check_closed(desk: Desk, run: str) -> None:
    state = desk.board.runs[run]
    if state.closed:
        assert not desk.board.open[run]
        assert all(desk.board.runs[one.run].closed for one in _ports_of(desk, run))
        if desk.workflow.runs[run].shape is Shape.AGGREGATE:
            assert state.cursor == state.head


def _ports_of(desk: Desk, run: str) -> list[Port]:
    return list(desk.workflow.runs[run].ports())


def _check_task(desk: Desk, spec: RunSpec, key: str, task: Task) -> None:
    """A task waits for a reason, and what it is about fits its inputs."""
    looks = desk.board.look_all(spec.name, key)
    pending = any(one is PENDING for one in looks.values())
    if task.state in (State.WAITING, State.STALE):
        assert pending or task.retry_at is not None
    elif task.state is State.SKIPPED:
        assert task.reason
        assert task.published is None
    elif pending:
        assert task.state in TERMINAL, "it would start without an input"
    else:
        assert task.content == desk.board.content(spec, key, looks)
    if task.state is State.DONE:
        assert task.published is not None
    if spec.shape is Shape.PER_ITEM:
        if task.state is State.DONE:
            assert task.published == task.content
        if task.state in (State.READY, State.RUNNING, State.FAILED):
            assert task.published != task.content


def check_replay(desk: Desk) -> None:
    """Replaying the log, and restoring the tables, give what stands there now."""
    scheduler, tables = Scheduler(desk.workflow, policy=desk.policy), Tables()
    for one in desk.log:
        tables.carry_out(scheduler.handle(ev.load_event(*one)))
    assert tables == desk.tables
    assert image(scheduler.board) == image(desk.board)
    restored = desk.tables.restore(desk.workflow, desk.policy)
    assert restored.handle(ev.Recovered()) == scheduler.handle(ev.Recovered())
    assert image(restored.board) == image(scheduler.board)


def check_finished(desk: Desk) -> None:
    """All sources are closed and everything was driven: nothing lost, all right."""
    for (run, key), task in desk.tables.tasks.items():
        assert task.state in TERMINAL, (run, key, task)
    for run in desk.workflow.runs:
        assert desk.board.runs[run].closed, run
        for key in _keys_upstream(desk, run):
            assert (run, key) in desk.tables.tasks, (run, key)
    assert desk.scheduler.is_finished()
    assert {
        where: desk.items[one] for where, one in desk.tables.standing.items()
    } == expected(desk)
    _check_aggregates(desk)


def _keys_upstream(desk: Desk, run: str) -> set[str]:
    """Keys that ever arrived in a source above a run that has tasks."""
    if run in desk.sources:
        return set(desk.sources[run])
    if desk.workflow.runs[run].shape is Shape.AGGREGATE:
        return set()
    return {
        key for one in _ports_of(desk, run) for key in _keys_upstream(desk, one.run)
    }


def _check_aggregates(desk: Desk) -> None:
    for run, spec in desk.workflow.runs.items():
        if spec.shape is not Shape.AGGREGATE:
            continue
        ports, state = set(spec.ports()), desk.board.runs[run]
        stands = {w: one for w, one in desk.tables.standing.items() if w[0] in ports}
        assert state.cursor == state.head
        checkpoint = desk.checkpoints.get((run, desk.identities[run]), (0, {}))
        assert checkpoint == (state.cursor, stands)


def expected(desk: Desk) -> dict[tuple[Port, str], Value]:
    """Compute from scratch which item should stand on each port when all is done.

    Only which keys are quarantined is taken from the tables, and must have failed.
    """
    found: dict[tuple[Port, str], Value] = {}
    keys = {key for known in desk.sources.values() for key in known}
    for run, spec in desk.workflow.runs.items():
        for key in keys:
            for output, value in _outputs(desk, spec, key, found).items():
                found[Port(run, output), key] = value
    return found


def _outputs(
    desk: Desk, spec: RunSpec, key: str, found: Mapping[tuple[Port, str], Value]
) -> dict[str, Value]:
    if spec.shape is Shape.SOURCE:
        content = desk.sources[spec.name].get(key)
        return {} if content is None else {"out": ("file", content)}
    inputs = {
        name: next((found[one, key] for one in ports if (one, key) in found), None)
        for name, ports in spec.inputs.items()
    }
    if spec.shape is Shape.AGGREGATE or any(
        all(inputs[one] is None for one in names) for names in spec.needed()
    ):
        return {}
    task = desk.task(spec.name, key)
    if task.state is State.QUARANTINED:
        assert (spec.name, key, task.content) in desk.failed
        return {}
    identity = desk.identities[spec.name]
    fields = desk.acquisition[key]
    read = tuple(fields.get(name) for name in spec.reads)
    if spec.shape is Shape.GATE:
        by_hand = desk.overrides.get((spec.name, key))
        accepted = _verdict(identity, read, inputs) if by_hand is None else by_hand
        passed = inputs[spec.passes or ""]
        assert passed is not None
        return {ACCEPTED if accepted else REJECTED: passed}
    value = _made(spec.name, identity, read, inputs)
    return {output: (*value, output) for output in spec.outputs}
