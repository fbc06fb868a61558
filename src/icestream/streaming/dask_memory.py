"""Memory of the slots: what each may keep between tasks, and all of them together.

A protocol that leaks fills the machine, and then the kernel ends what it likes. Two
rules keep that away. A slot that keeps more than its share when its tasks are done is
replaced: nothing is lost. When all slots together reach the limit, the largest is
killed at once. Its task counts as lost with its worker where it ran alone; else it goes
again, uncounted, while one slot less works for each time that this has happened to it.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icestream.streaming.execution import TaskId

__all__ = [
    "INTERVAL_S",
    "Crowd",
    "Excess",
    "find_excess",
    "usable_bytes",
    "used_bytes",
    "why_replace",
]

INTERVAL_S = 1.0
_FORGOTTEN_S = 60.0
"""A task that was not sent again by then may never be."""
_SHARE = 0.8
"""What slots may have of the memory; the rest is for the service and the system."""


@dataclass(frozen=True, slots=True)
class Excess:
    """The slot that must go at once, and why."""

    slot: str
    reason: str


def find_excess(used: Mapping[str, int], *, limit_bytes: int) -> Excess | None:
    """Return the largest slot where all together hold too much.

    Parameters
    ----------
    used
        Bytes in memory, by slot.
    limit_bytes
        What all may have together.
    """
    total = sum(used.values())
    if total <= limit_bytes:
        return None
    slot = max(used, key=lambda name: used[name])
    return Excess(
        slot,
        f"It held {_gb(used[slot])} of memory when all slots together held "
        f"{_gb(total)}, and {_gb(limit_bytes)} is the limit.",
    )


def why_replace(pid: int, *, share_bytes: float) -> str:
    """Return why an idle process must be replaced; empty where it need not be."""
    kept = used_bytes(pid)
    return f"It keeps {_gb(kept)}, over {_gb(share_bytes)}." * (kept > share_bytes)


@dataclass(slots=True)
class _Victim:
    """A task that others left no room: who is held back for it, and since when."""

    held: set[str] = field(default_factory=set)
    away_since: float | None = None


class Crowd:
    """Which slots get nothing new while a task has another try with more room."""

    def __init__(self) -> None:
        self._victims: dict[tuple[str, str], _Victim] = {}

    @property
    def held(self) -> set[str]:
        """The slots that get nothing new."""
        gone = time.monotonic() - _FORGOTTEN_S
        self._victims = {
            name: one
            for name, one in self._victims.items()
            if one.away_since is None or one.away_since > gone
        }
        return {slot for one in self._victims.values() for slot in one.held}

    def drop(self, task: TaskId, slot: str, others: Sequence[str]) -> None:
        """Note that a task was killed; hold one slot more, but never all.

        Parameters
        ----------
        task
            The task.
        slot
            Where it ran.
        others
            The other slots: which may be held, the best choice first.
        """
        victim = self._victims.setdefault((task.run, task.key), _Victim())
        victim.away_since = time.monotonic()
        held = self.held
        free = [one for one in others if one not in held]
        if slot in held:
            del free[-1:]
        victim.held.update(free[:1])

    def send(self, tasks: Iterable[TaskId]) -> None:
        """Note that tasks are sent, perhaps again."""
        for one in tasks:
            if victim := self._victims.get((one.run, one.key)):
                victim.away_since = None

    def land(self, task: TaskId) -> None:
        """Note that a task is done or has failed: it needs no room any more."""
        self._victims.pop((task.run, task.key), None)


def used_bytes(pid: int) -> int:
    """Return what a process holds for itself, in bytes; 0 where it is gone."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    # Libraries and mapped files are the same pages for all.
    return int(memory.rss - memory.shared)


@functools.cache
def usable_bytes() -> int:
    """Return what all slots may have together: a share of the machine's memory."""
    from distributed.system import memory_limit  # knows containers, too

    return int(_SHARE * memory_limit())


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
