"""What stands where: tasks, what is published on ports, and what could be started."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from icestream.streaming.ready import ReadyQueue
from icestream.streaming.state import SESSION, Exposure, Policy, RunState
from icestream.streaming.tasks import TERMINAL, State, Task
from icestream.streaming.workflow import Port, RunSpec, Shape, Workflow, item_on

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from icestream.streaming.execution import Slot

__all__ = ["PENDING", "Absent", "Board", "Look", "Pending", "first_absent"]


@dataclass(frozen=True, slots=True)
class Pending:
    """An input that has no terminal record yet."""


@dataclass(frozen=True, slots=True)
class Absent:
    """An input that a key does not have, and why."""

    reason: str


PENDING: Final = Pending()
Look: TypeAlias = str | Pending | Absent
"""What a look at an input finds: an item's id, or what is there instead."""


class Board:
    """The scheduler's knowledge with its indexes, and questions about it.

    Parameters
    ----------
    workflow
        The graph of runs.
    policy
        Numbers for failures and freshness.
    """

    def __init__(self, workflow: Workflow, policy: Policy) -> None:
        self.workflow = workflow
        self.policy = policy
        self.runs: dict[str, RunState] = {n: RunState() for n in workflow.runs}
        self.runs[SESSION] = RunState()
        self.tasks: dict[str, dict[str, Task]] = {n: {} for n in workflow.runs}
        self.exposures: dict[str, Exposure] = {}
        self.change_seq = 0
        self.open: dict[str, set[str]] = {n: set() for n in workflow.runs}
        self.undecided: dict[tuple[str, str], None] = {}
        self.timed: dict[tuple[str, str], float] = {}
        self.in_flight: dict[tuple[str, str], dict[str, int]] = {}
        self.ready = ReadyQueue(list(workflow.runs))
        self._by_depth = sorted(workflow.runs, key=lambda n: -workflow.level[n])
        self._dispatched: Counter[str] = Counter()

    def put(self, run: str, key: str, task: Task) -> None:
        """Set a task and bring the indexes in line."""
        self.open[run].discard(key)
        self.ready.discard(run, key)
        self.undecided.pop((run, key), None)
        self.timed.pop((run, key), None)
        self.tasks[run][key] = task
        if task.state not in TERMINAL:
            self.open[run].add(key)
        if task.retry_at is not None:
            self.timed[run, key] = task.retry_at
        if task.state is State.READY:
            if self.workflow.runs[run].shape is Shape.GATE:
                self.undecided[run, key] = None
            else:
                exposure = self.exposures.get(key)
                self.ready.add(run, key, exposure.arrival if exposure else 0)

    def published(self, port: Port, task: Task | None) -> str | None:
        """Return the id of the item that a task has published on a port."""
        if task is None or task.published is None:
            return None
        shape = self.workflow.runs[port.run].shape
        return item_on(port.output, task.published, shape=shape)

    def look(self, ports: Sequence[Port], key: str) -> Look:
        """Find what stands for a key on one of the ports that feed an input."""
        may_come = False
        absent: Absent | None = None
        for port in ports:
            task = self.tasks[port.run].get(key)
            if task is None:
                may_come |= not self.runs[port.run].closed
            elif task.state not in TERMINAL:
                return PENDING
            else:
                found = self.published(port, task)
                if found is not None:
                    return found
                absent = Absent(_why_absent(port, task))
        if absent is None and may_come:
            return PENDING
        return absent or Absent(f"{' or '.join(str(one) for one in ports)} lacks it")

    def look_all(self, run: str, key: str) -> dict[str, Look]:
        """Find what stands for a key on each input of a run."""
        inputs = self.workflow.runs[run].inputs
        return {name: self.look(ports, key) for name, ports in inputs.items()}

    def read(self, spec: RunSpec, key: str) -> dict[str, object]:
        """Return the acquisition fields of a key that a run declares to read."""
        return self.exposures.get(key, Exposure(0, {})).read(spec.reads)

    def content(self, spec: RunSpec, key: str, looks: Mapping[str, Look]) -> str:
        """Hash what decides a task's result; of a gate without its parameters."""
        found = [[n, one if isinstance(one, str) else None] for n, one in looks.items()]
        read = [list(one) for one in self.read(spec, key).items()]
        if spec.shape is Shape.GATE:
            return _hash([read, found])
        return _hash([self.runs[spec.name].identity, read, found])

    def is_paused(self, run: str) -> bool:
        """Whether a run may start nothing."""
        return (
            self.runs[run].paused is not None or self.runs[SESSION].paused is not None
        )

    def ready_count(self) -> int:
        """Return how many tasks could be started now."""
        runs = self.workflow.runs
        return sum(self.ready.count(n) for n in runs if not self.is_paused(n))

    def choose(
        self, slot: Slot, recent: Collection[str] = ()
    ) -> tuple[str, str] | None:
        """Return run and key of the task that a free slot should take next.

        Parameters
        ----------
        slot
            The slot, with its resources.
        recent
            Keys whose images it may still hold; preferred.
        """
        runs = [n for n in self._by_depth if self._has_work(n, slot)]
        updates = [n for n in self._by_depth if self._can_update(n, slot)]
        if not runs and not updates:
            return None
        self._dispatched[slot.name] += 1
        count = self._dispatched[slot.name]
        turn = count % self.policy.aggregate_every == 0
        if updates and (turn or not runs):
            return min(updates, key=lambda n: self.runs[n].cursor), ""
        if count % self.policy.oldest_every == 0:
            found = [(top, n) for n in runs if (top := self.ready.oldest(n))]
            (_, key), run = min(found)
            return run, key
        for run in runs:
            for key in self.ready.among(run, recent):
                return run, key
        newest = self.ready.newest(runs[0])
        return None if newest is None else (runs[0], newest[1])

    def _has_work(self, run: str, slot: Slot) -> bool:
        return (
            self.ready.count(run) > 0
            and not self.is_paused(run)
            and self._fits(run, slot)
        )

    def _fits(self, run: str, slot: Slot) -> bool:
        needs = self.workflow.runs[run].resources
        return needs.threads <= slot.threads and needs.gpus <= slot.gpus

    def _can_update(self, run: str, slot: Slot) -> bool:
        state = self.runs[run]
        return (
            self.workflow.runs[run].shape is Shape.AGGREGATE
            and state.cursor < state.head
            and not self.in_flight.get((run, ""))
            and not self.is_paused(run)
            and self._fits(run, slot)
        )


def first_absent(spec: RunSpec, looks: Mapping[str, Look]) -> str | None:
    """Say why a key lacks an input that it needs; ``None`` where it has them all."""
    for names in spec.needed():
        absent = [one for n in names if isinstance(one := looks[n], Absent)]
        if len(absent) == len(names):
            return "; ".join(dict.fromkeys(one.reason for one in absent))
    return None


def _why_absent(port: Port, task: Task) -> str:
    if task.state is State.QUARANTINED:
        return f"{port.run} failed: {task.reason}"
    if task.state is State.SKIPPED:
        return task.reason
    if task.accepted is not None:
        side = "accepted" if task.accepted else "rejected"
        rule = task.verdict.rule if task.verdict and task.override is None else "hand"
        return f"{port.run} {side} it by {rule}"
    return f"{port.run} has none"


def _hash(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
