"""Sources that cannot be looked at: which, since when, and why.

A source tells in two ways: its poll fails, or it returns a sighting of the very folder
that it watches (its parameter ``folder``), which stands until it returns another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from icestream.domain.errors import SourceUnavailable
from icestream.streaming.protocol import SightingState

if TYPE_CHECKING:
    from icestream.streaming.feed import Sightings
    from icestream.streaming.plan import Plan
    from icestream.streaming.protocol import Sighting

__all__ = ["Outage", "Outages"]

_AWAY = (SightingState.VANISHED, SightingState.UNREADABLE, SightingState.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One source that is away.

    Parameters
    ----------
    since
        Time of the first poll that found it so, seconds since 1970.
    reason
        What the source says.
    is_sighting
        Whether a sighting says so, and not a poll that failed.
    polls
        How many polls found it so since the session was asked to finish.
    """

    since: float
    reason: str
    is_sighting: bool
    polls: int = 0


class Outages:
    """Follows the polls of all sources.

    Parameters
    ----------
    plan
        The session's runs: says which folders are watched.
    """

    def __init__(self, plan: Plan) -> None:
        self._by_run: dict[str, Outage] = {}
        self._places = {
            name: str(Path(one.params["folder"]))
            for name, one in plan.runs.items()
            if isinstance(one.params.get("folder"), str)
        }

    def learn(self, run: str, sighting: Sighting, *, seen_at: float) -> None:
        """Take in a sighting; only that of the watched folder itself tells.

        Parameters
        ----------
        run
            Whose it is.
        sighting
            The sighting.
        seen_at
            When it was made, seconds since 1970: perhaps by an earlier service.
        """
        if sighting.path != self._places.get(run):
            return
        before = self._by_run.pop(run, None)
        if sighting.state in _AWAY:
            self._by_run[run] = Outage(
                since=before.since if before else seen_at,
                reason=f"{sighting.path} {sighting.reason}",
                is_sighting=True,
                polls=before.polls if before else 0,
            )

    def take(self, message: Sightings, *, is_finishing: bool) -> Outage | None:
        """Take in one poll; return the outage that its source has, if any."""
        run = message.run
        for one in message.seen:
            self.learn(run, one, seen_at=time.time())
        known = self._by_run.get(run)
        if known is None or not known.is_sighting:
            known = _of_poll(message, known)
        if known is None:
            self._by_run.pop(run, None)
            return None
        self._by_run[run] = replace(known, polls=known.polls + is_finishing)
        return self._by_run[run]

    def raise_if_any(self) -> None:
        """Tell whose end nobody has seen.

        Raises
        ------
        SourceUnavailable
            A source is away.
        """
        if not self._by_run:
            return
        told = "; ".join(
            f"source {run!r} is unavailable since {_clock(one.since)}: {one.reason}"
            for run, one in self._by_run.items()
        )
        raise SourceUnavailable(
            f"All that had arrived is done, but more may have come: {told}.",
            hint="Bring it back, then `icestream start` again: nothing is lost.",
        )


def _of_poll(message: Sightings, known: Outage | None) -> Outage | None:
    """Return the outage of a poll that failed; trouble that lasts is told once."""
    if message.seen or message.quiet:
        return None
    if message.failure is None:
        return known
    reason = message.failure.message.rstrip(".")
    since = known.since if known else time.time()
    polls = known.polls if known else 0
    return Outage(since=since, reason=reason, is_sighting=False, polls=polls)


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
