"""The states of a task: one run's work on one key.

::

               inputs pending, or the file may be in writing
      (new key) ───► WAITING ──────────────┐ a required input is absent
                        │ inputs terminal  ▼
                        │               SKIPPED ◄──┐
                        ▼                          │
        ┌──────────► READY ─────► RUNNING ─────► DONE
        │ back-off     ▲             │             │
      FAILED ◄─────────┼─────────────┤             │ its inputs are being
        │ attempts     │ worker      │ the item's  │ made anew
        │ used up      │ restarted   │ fault       ▼
        └────► QUARANTINED ◄─────────┘           STALE ───► READY, SKIPPED, ...

========== ========================================================== ========
state      meaning                                                    terminal
========== ========================================================== ========
waiting    an input is not terminal yet, or its file may grow still   no
ready      may be started; or decided, where the run is a gate        no
running    bound to a slot                                            no
failed     an attempt failed; it goes again at ``retry_at``           no
stale      a result is published, but an input is being made anew     no
done       the result is published (of a gate: the verdict stands)    yes
quarantined the item's fault, or attempts used up; `retry` re-queues   yes
skipped    a required input is absent; ``reason`` says why            yes
========== ========================================================== ========

A terminal record is published on the run's outputs and stays published until another
terminal record replaces or withdraws it: results do not flicker while being remade.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icestream.domain.verdict import Verdict

__all__ = ["TERMINAL", "Change", "ChangeKind", "State", "Task", "net_of"]


class State(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    FAILED = "failed"
    STALE = "stale"
    DONE = "done"
    QUARANTINED = "quarantined"
    SKIPPED = "skipped"


TERMINAL = frozenset({State.DONE, State.QUARANTINED, State.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run's work on one key.

    Parameters
    ----------
    state
        Where it stands.
    content
        Content key of what is to be done or was done: hash of the protocol, its
        revision and parameters, the acquisition fields that it reads, and its inputs.
    attempt
        Number of the last attempt, counted from 1 over the task's life.
    failures
        Attempts at this content that failed for no fault of the item.
    retry_at
        When a failed task, or one whose file may still be in writing, goes again.
    reason
        Why it waits, failed or was skipped, in words.
    published
        Content key of the result that stands on the outputs.
    verdict, override
        Of a gate: what the rule said, and what a person said.
    """

    state: State
    content: str = ""
    attempt: int = 0
    failures: int = 0
    retry_at: float | None = None
    reason: str = ""
    published: str | None = None
    verdict: Verdict | None = None
    override: bool | None = None

    @property
    def accepted(self) -> bool | None:
        """Of a gate: the person's word, else the rule's, else ``None``."""
        if self.override is not None:
            return self.override
        return None if self.verdict is None else self.verdict.accepted


class ChangeKind(StrEnum):
    """What happened to a key on an output."""

    ADDED = "added"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of an output's log. ``old`` is what stood there before."""

    seq: int
    run: str
    output: str
    key: str
    kind: ChangeKind
    content: str | None
    old: str | None


def net_of(changes: Iterable[Change]) -> tuple[list[str], list[str]]:
    """Return what has come and what has gone between the first and the last change."""
    before: dict[tuple[str, str, str], str | None] = {}
    after: dict[tuple[str, str, str], str | None] = {}
    for one in changes:
        place = one.run, one.output, one.key
        before.setdefault(place, one.old)
        after[place] = one.content
    moved = [place for place in before if before[place] != after[place]]
    come, go = ([side[place] for place in moved] for side in (after, before))
    return [one for one in come if one], [one for one in go if one]
