"""What happened: the only input of the scheduler, and the session's log.

Events are small and plain: results themselves (records, files) are stored beside them
in the same transaction. Replaying all events gives the state tables.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from icestream.domain.verdict import Verdict
from icestream.streaming.execution import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Arrived",
    "Closed",
    "Configured",
    "Decided",
    "Event",
    "Failed",
    "Judged",
    "Overridden",
    "Paused",
    "Recovered",
    "Resumed",
    "Retried",
    "Started",
    "Succeeded",
    "Ticked",
    "Updated",
    "dump_event",
    "load_event",
]


@dataclass(frozen=True, slots=True)
class Configured:
    """A run has these parameters from now on; ``identity`` is their hash.

    Per-item results made with others are made anew; an aggregate starts from the
    beginning; of a gate, `Judged` follows. ``is_rewired``: something else may feed it.
    """

    run: str
    identity: str
    is_rewired: bool = True


@dataclass(frozen=True, slots=True)
class Arrived:
    """A source has a key, or a new revision of it, with its acquisition fields."""

    run: str
    key: str
    content: str
    acquisition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Closed:
    """No new keys will come from a source; a file that does come reopens it."""

    run: str


@dataclass(frozen=True, slots=True)
class Started:
    """A task was bound to a slot. An aggregate's update has the key ``""``."""

    run: str
    key: str
    content: str
    attempt: int
    slot: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt ended well, or its result was found in the ledger (attempt 0)."""

    run: str
    key: str
    content: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed. ``wait_s`` is set where the file may still be in writing."""

    run: str
    key: str
    content: str
    attempt: int
    fault: Fault
    cause: str
    message: str
    time: float
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A gate said what it thinks of an item."""

    run: str
    key: str
    content: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate whose rules have changed has looked at all its keys again.

    ``verdicts`` by key, with the content key that they are about: only those that are
    others now. ``again``: keys that it could not judge, and shall be asked for again.
    """

    run: str
    verdicts: Mapping[str, tuple[str, Verdict]]
    again: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overridden:
    """A person accepts or rejects a key at a gate; ``None`` undoes it."""

    run: str
    key: str
    accepted: bool | None


@dataclass(frozen=True, slots=True)
class Updated:
    """An aggregate has taken in all changes of its input up to ``cursor``."""

    run: str
    identity: str
    cursor: int


@dataclass(frozen=True, slots=True)
class Retried:
    """A quarantined key of a run goes again."""

    run: str
    key: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing of a run (of the session where ``run`` is ``None``) is started."""

    run: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run goes on; ``""`` means the session alone, ``None`` it and all runs."""

    run: str | None


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed; it is logged only where somebody waited for it."""

    time: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """A service has started: whatever was running is not any more."""


Event: TypeAlias = (
    Configured
    | Arrived
    | Closed
    | Started
    | Succeeded
    | Failed
    | Decided
    | Judged
    | Overridden
    | Updated
    | Retried
    | Paused
    | Resumed
    | Ticked
    | Recovered
)

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        Configured,
        Arrived,
        Closed,
        Started,
        Succeeded,
        Failed,
        Decided,
        Judged,
        Overridden,
        Updated,
        Retried,
        Paused,
        Resumed,
        Ticked,
        Recovered,
    )
}


_VERDICT = tuple(one.name for one in fields(Verdict))


def dump_event(event: Event) -> tuple[str, str | None, str | None, str]:
    """Return kind, run, key, and the other fields as JSON."""
    values = _shallow(event)
    if isinstance(event, Decided):
        values["verdict"] = asdict(event.verdict)
    if isinstance(event, Judged):
        values["verdicts"] = {
            key: [content, *(getattr(verdict, name) for name in _VERDICT)]
            for key, (content, verdict) in event.verdicts.items()
        }
    run, key = values.pop("run", None), values.pop("key", None)
    return type(event).__name__.lower(), run, key, json.dumps(values)


def load_event(kind: str, run: str | None, key: str | None, body: str) -> Event:
    """Make an event again from what `dump_event` returned."""
    values = json.loads(body)
    names = {one.name for one in fields(_KINDS[kind])}
    values |= {n: v for n, v in (("run", run), ("key", key)) if n in names}
    if "verdict" in values:
        values["verdict"] = Verdict(**values["verdict"])
    if "verdicts" in values:
        values["again"] = tuple(values["again"])
        values["verdicts"] = {
            name: (content, Verdict(**dict(zip(_VERDICT, verdict, strict=True))))
            for name, (content, *verdict) in values["verdicts"].items()
        }
    if "fault" in values:
        values["fault"] = Fault(values["fault"])
    return _KINDS[kind](**values)  # type: ignore[no-any-return]


def _shallow(event: Event) -> dict[str, Any]:
    return {one.name: getattr(event, one.name) for one in fields(event)}
