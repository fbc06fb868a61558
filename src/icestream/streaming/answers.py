"""What a reader of the ledger answers with: small rows, one kind for each question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from icestream.domain.verdict import Verdict
    from icestream.streaming.tasks import State

__all__ = [
    "ArrivedExposure",
    "Decision",
    "FailedAttempt",
    "Moment",
    "NoticeLine",
    "RunStanding",
    "SeenFile",
    "TaskState",
    "Trouble",
]


class RunStanding(NamedTuple):
    """Where a run stands as a whole.

    ``paused`` is the reason, ``behind`` by how many changes an aggregate's cursor lags.
    """

    name: str
    closed: bool
    paused: str | None
    behind: int


class ArrivedExposure(NamedTuple):
    """An exposure, its order of arrival, and its acquisition fields as JSON."""

    key: str
    arrival: int
    acquisition: str


class TaskState(NamedTuple):
    """Where a key stands in a run; ``published`` is the content on its outputs."""

    key: str
    state: State
    published: str | None


class Moment(NamedTuple):
    """When a source brought a key, or a run had a result of it; seconds since 1970."""

    is_arrival: bool
    run: str
    key: str
    time: float


class FailedAttempt(NamedTuple):
    """An attempt that failed, and why."""

    run: str
    key: str
    cause: str
    message: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate said of a key, and what a person said."""

    verdict: Verdict | None
    override: bool | None

    @property
    def accepted(self) -> bool | None:
        """The person's word, else the rule's."""
        if self.override is not None:
            return self.override
        return None if self.verdict is None else self.verdict.accepted


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that failed or was skipped, and why."""

    run: str
    key: str
    state: State
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A path that a source has seen and not taken, and why."""

    run: str
    path: str
    state: str
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """Something that people should know; ``seq`` counts notices."""

    seq: int
    time: float
    run: str | None
    message: str
