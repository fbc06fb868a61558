"""Whatever happens, in whatever order: nothing lost, nothing twice, all replayable."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import scheduling
from icestream.streaming import events as ev
from icestream.streaming.execution import Fault, Slot
from icestream.streaming.ready import ReadyQueue
from icestream.streaming.state import Policy
from icestream.streaming.tasks import TERMINAL, State
from icestream.streaming.workflow import Shape, Workflow
from scheduling import CPU, GPU, Desk, aggregate, per_item, source

WORKFLOW = scheduling.session_workflow()
BY_SHAPE = {
    shape: [n for n, one in WORKFLOW.runs.items() if one.shape is shape]
    for shape in Shape
}
KEYS = st.sampled_from(["a", "b", "c"])
SOURCES = st.sampled_from(BY_SHAPE[Shape.SOURCE])
GATES = st.sampled_from(BY_SHAPE[Shape.GATE])
RUNS = st.sampled_from([n for n in WORKFLOW.runs if n not in BY_SHAPE[Shape.SOURCE]])
SLOTS = st.sampled_from([CPU, GPU, GPU])
PLACES = st.integers(0, 7)


class History(RuleBasedStateMachine):
    """Everything that can happen to a session, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(WORKFLOW, Policy(same_cause=3, of_last=5, lost_attempts=3))
        self.bad: set[tuple[str, str]] = set()

    @initialize(keys=st.sets(KEYS), drive=st.booleans())
    def begin(self, keys: set[str], drive: bool) -> None:
        for key in sorted(keys):
            self.desk.arrive("movies", key, voltage=300, tilt=0.0, unread=0)
        if drive:
            self.desk.drive()

    # The microscope -------------------------------------------------------------------

    @rule(
        run=SOURCES,
        key=KEYS,
        revision=st.integers(0, 1),
        voltage=st.sampled_from([200, 300]),
        tilt=st.sampled_from([0.0, 30.0]),
    )
    def arrive(
        self, run: str, key: str, revision: int, voltage: int, tilt: float
    ) -> None:
        fields = {"voltage": voltage, "tilt": tilt, "unread": revision}
        self.desk.arrive(run, key, revision, **fields)
        assert not self.desk.arrive(run, key, revision, **fields), "nothing is new"

    @rule(run=SOURCES)
    def close(self, run: str) -> None:
        self.desk.close(run)

    # The slots ------------------------------------------------------------------------

    @precondition(lambda self: len(self.desk.board.ready) > 0)
    @rule(slot=SLOTS, recent=st.sets(KEYS), count=st.integers(1, 4))
    def start(self, slot: Slot, recent: set[str], count: int) -> None:
        for _ in range(count):
            self.desk.start(slot, sorted(recent))

    @precondition(lambda self: self.desk.flights)
    @rule(place=PLACES)
    def succeed(self, place: int) -> None:
        self.desk.succeed(self.desk.flights[place % len(self.desk.flights)])

    @precondition(lambda self: self.desk.flights)
    @rule(
        place=PLACES,
        fault=st.sampled_from(Fault),
        wait_s=st.sampled_from([None, 5.0]),
        again=st.booleans(),
    )
    def fail(self, place: int, fault: Fault, wait_s: float | None, again: bool) -> None:
        flight = self.desk.flights[place % len(self.desk.flights)]
        self.desk.fail(flight, fault, wait_s)
        if again:
            self.desk.resume_all()
            self.desk.tick(10.0)
            self.desk.start()

    @precondition(lambda self: self.desk.delivered)
    @rule(place=PLACES, kind=st.sampled_from([ev.Succeeded, ev.Failed, ev.Updated]))
    def deliver_again(self, place: int, kind: type[ev.Event]) -> None:
        events = [one for one in self.desk.delivered if isinstance(one, kind)]
        if not events:
            return
        event = events[-1 - place % len(events)]
        before = dict(self.desk.tables.tasks), dict(self.desk.tables.runs)
        if isinstance(event, ev.Updated) and self.was_configured_since(event):
            return
        self.desk.send(event)
        if not isinstance(event, ev.Succeeded):
            assert before == (self.desk.tables.tasks, self.desk.tables.runs)

    def was_configured_since(self, event: ev.Updated) -> bool:
        # An update that is older than its run's parameters cannot be told from one in
        # flight; an executor delivers each outcome once.
        return self.desk.epochs[event.run] > 1

    @precondition(lambda self: self.desk.scheduler.undecided())
    @rule(count=st.integers(1, 3))
    def decide(self, count: int) -> None:
        for one in self.desk.scheduler.undecided()[:count]:
            self.desk.decide(*one)

    @precondition(lambda self: self.desk.scheduler.undecided())
    @rule(fault=st.sampled_from([Fault.ITEM, Fault.INTERNAL, Fault.SESSION]))
    def fail_gate(self, fault: Fault) -> None:
        for one in self.desk.scheduler.undecided()[:1]:
            self.desk.fail_gate(*one, fault)

    @precondition(lambda self: self.desk.board.timed)
    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 10.0]))
    def tick(self, seconds: float) -> None:
        self.desk.tick(seconds)

    @rule()
    def drive(self) -> None:
        self.desk.drive(self.bad)

    @rule(configured=st.dictionaries(RUNS, st.integers(0, 2), max_size=2))
    def crash(self, configured: dict[str, int]) -> None:
        self.desk.crash(configured)

    # People ---------------------------------------------------------------------------

    @rule(run=RUNS | st.none())
    def pause(self, run: str | None) -> None:
        self.desk.send(ev.Paused(run, "lunch"))

    @precondition(lambda self: _paused(self.desk))
    @rule(run=RUNS | st.none())
    def resume(self, run: str | None) -> None:
        self.desk.send(ev.Resumed(run))

    @precondition(lambda self: bool(_quarantined(self.desk)))
    @rule(run=RUNS, key=KEYS | st.none())
    def retry(self, run: str, key: str | None) -> None:
        if key is None:
            self.desk.retry(run)
        else:
            self.desk.send(ev.Retried(run, key))

    @precondition(lambda self: self.desk.board.exposures)
    @rule(run=GATES, key=KEYS, accepted=st.sampled_from([True, False, None]))
    def override(self, run: str, key: str, accepted: bool | None) -> None:
        self.desk.override(run, key, accepted)

    @rule(run=RUNS, number=st.integers(0, 2))
    def configure(self, run: str, number: int) -> None:
        self.desk.configure(run, number)

    @rule(run=RUNS)
    def configure_there_and_back(self, run: str) -> None:
        number = int(self.desk.identities[run].rpartition("#")[2])
        self.desk.configure(run, number + 1)
        self.desk.start()
        self.desk.configure(run, number)
        self.desk.start()

    @rule(run=RUNS, key=KEYS)
    def spoil(self, run: str, key: str) -> None:
        self.bad ^= {(run, key)}

    # What holds -----------------------------------------------------------------------

    @invariant()
    def board_is_consistent(self) -> None:
        scheduling.check_board(self.desk)

    def teardown(self) -> None:
        desk = self.desk
        desk.drive_through(self.bad)
        scheduling.check_board(desk)
        rest = {one.state for one in desk.tables.tasks.values()} - TERMINAL
        assert rest <= {State.WAITING, State.STALE}, "for a source that is open"
        for run in desk.sources:
            desk.close(run)
            desk.drive_through(self.bad)
        scheduling.check_board(desk)
        scheduling.check_finished(desk)
        for run in desk.workflow.runs:
            desk.retry(run)
        desk.drive_through()
        scheduling.check_finished(desk)
        assert not _quarantined(desk)
        scheduling.check_replay(desk)


def _paused(desk: Desk) -> bool:
    return any(one.paused is not None for one in desk.board.runs.values())


def _quarantined(desk: Desk) -> list[tuple[str, str]]:
    return [
        where
        for where, task in desk.tables.tasks.items()
        if task.state is State.QUARANTINED
    ]


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# Choosing -----------------------------------------------------------------------------


def _busy(arrived: int, motion: int, recent: int, policy: Policy | None = None) -> Desk:
    """Make a desk where many exposures wait, some of them started."""
    desk = Desk(
        Workflow(
            [
                source("movies"),
                per_item("motion", movie="movies.out", gpus=1),
                per_item("ctf", micrograph="motion.out"),
                per_item("pick", micrograph="motion.out", ctf="ctf.out", threads=4),
                aggregate("tally", "motion.out"),
            ]
        ),
        policy or Policy(),
    )
    for number in range(arrived):
        desk.arrive("movies", f"{number:03}")
    for _ in range(motion):
        desk.start(GPU)
    for flight in list(desk.flights)[: motion - recent]:
        desk.succeed(flight)
    return desk


@settings(max_examples=60, deadline=None)
@given(
    arrived=st.integers(30, 60),
    started=st.integers(1, 20),
    flying=st.integers(0, 5),
    slots=st.lists(SLOTS, min_size=20, max_size=60),
)
def test_a_fifth_of_the_choices_is_the_oldest(
    arrived: int, started: int, flying: int, slots: list[Slot]
) -> None:
    desk = _busy(arrived, started, min(flying, started))
    desk.send(ev.Paused("tally", "it is looked at elsewhere"))
    oldest, chosen = Counter[str](), Counter[str]()
    for slot in slots:
        fitting = [
            (desk.board.exposures[key].arrival, key)
            for (run, key), task in desk.tables.tasks.items()
            if task.state is State.READY
            and desk.workflow.runs[run].resources.gpus <= slot.gpus
            and desk.workflow.runs[run].resources.threads <= slot.threads
        ]
        flight = desk.start(slot)
        if flight is not None:
            chosen[slot.name] += 1
            oldest[slot.name] += flight.key == min(fitting)[1]
    for name, count in chosen.items():
        assert oldest[name] >= count // 5


@settings(max_examples=60, deadline=None)
@given(
    arrived=st.integers(1, 30),
    started=st.integers(0, 20),
    flying=st.integers(0, 5),
    slot=SLOTS,
    recent=st.lists(st.integers(0, 30).map("{:03}".format), max_size=4),
)
def test_otherwise_what_is_held_then_what_is_started_then_the_newest(
    arrived: int, started: int, flying: int, slot: Slot, recent: list[str]
) -> None:
    policy = Policy(oldest_every=10**6, aggregate_every=10**6)
    desk = _busy(arrived, started, min(flying, started), policy)
    level = desk.workflow.level
    fitting = {
        (run, key)
        for (run, key), task in desk.tables.tasks.items()
        if task.state is State.READY
        and desk.workflow.runs[run].resources.gpus <= slot.gpus
        and desk.workflow.runs[run].resources.threads <= slot.threads
    }
    found = desk.board.choose(slot, recent)
    if not fitting:
        state = desk.board.runs["tally"]
        assert found == (None if state.cursor == state.head else ("tally", ""))
        return
    assert found in fitting
    held = {one for one in fitting if one[1] in recent}
    deepest = max(level[run] for run, _ in held or fitting)
    assert level[found[0]] == deepest
    if held:
        assert found in held
    else:
        newest = max(key for run, key in fitting if level[run] == deepest)
        assert found[1] == newest


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "discard", "look"]), st.integers(0, 5)),
        max_size=40,
    ),
    moved=st.booleans(),
)
def test_the_queue_is_a_sorted_set(steps: list[tuple[str, int]], moved: bool) -> None:
    queue, model = ReadyQueue(["ctf"]), dict[str, int]()
    additions = Counter[int]()
    for what, number in steps:
        key = str(number)
        if what == "add":
            arrival = number + (10 * additions[number] if moved else 0)
            additions[number] += 1
            queue.add("ctf", key, arrival)
            model.setdefault(key, arrival)
        elif what == "discard":
            queue.discard("ctf", key)
            model.pop(key, None)
        ordered = sorted((arrival, key) for key, arrival in model.items())
        assert queue.count("ctf") == len(queue) == len(model)
        if what == "look":
            assert queue.oldest("ctf") == (ordered[0] if ordered else None)
            assert queue.newest("ctf") == (ordered[-1] if ordered else None)
