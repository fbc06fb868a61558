"""What the scheduler keeps, what it hands out, and the numbers it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from icestream.streaming.tasks import Change, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "SESSION",
    "Exposure",
    "Instruction",
    "Notice",
    "Policy",
    "RunState",
    "StoreExposure",
    "StoreRun",
    "StoreTask",
]

SESSION = ""
"""Name under which the session's own pause is kept among the runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers by which failures and freshness are handled.

    Parameters
    ----------
    lost_attempts
        Attempts lost with their worker before a key is quarantined.
    internal_attempts
        Attempts that may end in an unexpected exception.
    back_off_s
        Pause before the second attempt; doubles each time.
    same_cause, of_last
        When so many of a run's last results failed for one cause, the run pauses.
    oldest_every
        Every so many-th task is the oldest ready one, not the newest.
    aggregate_every
        Every so many-th task may be an aggregate's update though others are ready.
    """

    lost_attempts: int = 5
    internal_attempts: int = 2
    back_off_s: float = 1.0
    same_cause: int = 5
    of_last: int = 10
    oldest_every: int = 5
    aggregate_every: int = 8


@dataclass(frozen=True, slots=True)
class Exposure:
    """Order of arrival and acquisition fields of one key."""

    arrival: int
    acquisition: Mapping[str, Any]

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """Return fields by their names; one in a field that has parts: ``whole.part``.

        ``None`` where there is none, under the name of the part.
        """
        found: dict[str, Any] = {}
        for name in names:
            value: Any = self.acquisition
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            found[name.rpartition(".")[2]] = value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What the scheduler knows of a whole run.

    ``cursor`` and ``head``: how far an aggregate has read its input's log, and how far
    that goes. ``recent``: causes of the last results, empty for a good one.
    """

    identity: str = ""
    closed: bool = False
    paused: str | None = None
    cursor: int = 0
    head: int = 0
    failures: int = 0
    recent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreTask:
    """Write a task's row."""

    run: str
    key: str
    task: Task


@dataclass(frozen=True, slots=True)
class StoreRun:
    """Write a run's row."""

    run: str
    state: RunState


@dataclass(frozen=True, slots=True)
class StoreExposure:
    """Write an exposure's row."""

    key: str
    exposure: Exposure


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell people."""

    run: str | None
    message: str


Instruction: TypeAlias = StoreTask | StoreRun | StoreExposure | Change | Notice
