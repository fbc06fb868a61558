"""What keeps a source from its files: which place, since when, and why.

A source tells in two ways: its poll fails, or it returns a sighting of a place that its
parameters name: the very folder that it watches (``folder``), or what its files wait
for (``gain``). That stands until it returns another.
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

_POLL, _FOLDER, _GAIN = "", "folder", "gain"
_AWAY = (SightingState.VANISHED, SightingState.UNREADABLE, SightingState.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One place that is not as a source needs it.

    Parameters
    ----------
    since
        Time of the first poll that found it so, seconds since 1970.
    reason
        What the source says.
    polls
        How many polls found it so since the session was asked to finish.
    """

    since: float
    reason: str
    polls: int = 0


class Outages:
    """Follows the polls of all sources.

    Parameters
    ----------
    plan
        The session's runs: says which folders are watched.
    """

    def __init__(self, plan: Plan) -> None:
        self._places = {
            (name, str(Path(where))): word
            for name, one in plan.runs.items()
            for word in (_FOLDER, _GAIN)
            if isinstance(where := one.params.get(word), str)
        }
        self._known: dict[tuple[str, str], Outage] = {}

    def awaits(self, run: str, sighting: Sighting) -> bool:
        """Whether a sighting says that files of a source wait for another file."""
        is_gain = self._places.get((run, sighting.path)) == _GAIN
        return is_gain and sighting.state in _AWAY

    def learn(self, run: str, sighting: Sighting, *, seen_at: float) -> None:
        """Take in a sighting; only those of the places that parameters name tell.

        Parameters
        ----------
        run
            Whose it is.
        sighting
            The sighting.
        seen_at
            When it was made, seconds since 1970: perhaps by an earlier service.
        """
        word = self._places.get((run, sighting.path))
        if word is None:
            return
        before = self._known.pop((run, word), None)
        if sighting.state in _AWAY:
            reason = f"{sighting.path} {sighting.reason}"
            self._known[run, word] = _going_on(before, reason, seen_at)

    def take(self, message: Sightings, *, is_finishing: bool) -> Outage | None:
        """Take in one poll; return the longest outage that its source has, if any."""
        run = message.run
        for one in message.seen:
            self.learn(run, one, seen_at=time.time())
        if message.failure is not None:
            reason = message.failure.message.rstrip(".")
            before = self._known.get((run, _POLL))
            self._known[run, _POLL] = _going_on(before, reason, time.time())
        elif message.seen or message.quiet:
            self._known.pop((run, _POLL), None)
        for place, known in self._known.items():
            if place[0] == run:
                again = replace(known, polls=known.polls + is_finishing)
                self._known[place] = again
        mine = [known for place, known in self._known.items() if place[0] == run]
        return max(mine, key=lambda known: known.polls, default=None)

    def raise_if_any(self) -> None:
        """Tell whose end nobody has seen.

        Raises
        ------
        SourceUnavailable
            A source is away, or its files wait for what is not there.
        """
        waiting = [
            f"{run!r} since {_clock(one.since)}: {one.reason}"
            for (run, word), one in self._known.items()
            if word == _GAIN
        ]
        away = [
            f"source {run!r} is unavailable since {_clock(one.since)}: {one.reason}"
            for (run, word), one in self._known.items()
            if word != _GAIN
        ]
        if away:
            raise SourceUnavailable(
                "All that had arrived is done, but more may have come: "
                f"{'; '.join([*away, *waiting])}.",
                hint="Bring it back, then `icestream start` again: nothing is lost.",
            )
        if waiting:
            raise SourceUnavailable(
                f"Not all movies could be taken. Source {'; '.join(waiting)}.",
                hint="Bring it, or stop waiting: `icestream set setups.NAME.gain=PATH` "
                "(null for none). Then `icestream start` again: nothing is lost.",
            )


def _going_on(before: Outage | None, reason: str, now: float) -> Outage:
    """Return an outage that is new, or the one before with what is said now."""
    return (
        Outage(since=now, reason=reason)
        if before is None
        else replace(before, reason=reason)
    )


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
