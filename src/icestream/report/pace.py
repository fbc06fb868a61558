"""How fast it goes: what report, status and live view mean by a rate and a lag."""

from __future__ import annotations

import heapq
import statistics
from typing import TYPE_CHECKING

from icestream.report.results import Rate, Rates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from icestream.streaming.answers import Moment

__all__ = ["Pace", "rate_of"]

_WINDOW_S = 600.0
"""What "now" means; and a rate per hour is told after so long at the latest."""
_MANY, _SHORT_S = 100, 60.0
"""So many in a shorter time, if not in seconds, are a rate per hour too."""
_NEWEST = 50


class Pace:
    """When keys arrived and had results, and the rates and lags that follow.

    A result that was made anew keeps its first time: recomputing is no lag. An exposure
    is finished with the last of its runs' first results, once nothing is left to do.
    """

    def __init__(self) -> None:
        self._arrived: dict[str, float] = {}
        self._finished: dict[str, float] = {}
        self._sources: set[str] = set()
        self._of_run: dict[str, dict[str, float]] = {}

    def add(self, moments: Iterable[Moment]) -> None:
        """Take in what happened since; in order."""
        for is_arrival, run, key, time in moments:
            of_run = self._of_run.setdefault(run, {})
            if is_arrival:
                self._sources.add(run)
                self._arrived.setdefault(key, time)
            elif key not in of_run:
                self._finished[key] = max(time, self._finished.get(key, time))
            of_run.setdefault(key, time)

    def arrived_at(self, key: str) -> float | None:
        """Return when a key arrived first, seconds since 1970."""
        return self._arrived.get(key)

    def finished_at(self, key: str) -> float | None:
        """Return when a key had its last result, seconds since 1970."""
        return self._finished.get(key)

    def rates(self, unfinished: Collection[str], *, now: float) -> Rates:
        """Return the rates and lags of exposures, of which some are not finished."""
        arrived = self._arrived.values()
        over = {k: t for k, t in self._finished.items() if k not in unfinished}
        begun = min(arrived, default=None)
        waiting = [self._arrived[key] for key in unfinished if key in self._arrived]
        return Rates(
            arrived=rate_of(arrived, begun=begun),
            processed=rate_of(over.values(), begun=begun),
            arrived_now=rate_of(arrived, begun=begun, now=now),
            processed_now=rate_of(over.values(), begun=begun, now=now),
            lag_s=self._lag_s(over),
            oldest_unprocessed_s=now - min(waiting) if waiting else None,
        )

    def run(self, name: str, *, now: float | None = None) -> Rate | None:
        """Return a run's rate over the session; or over the ten minutes up to now."""
        times = self._of_run.get(name, {}).values()
        # Work begins when the first exposure is there, not with the first result.
        begun = min(
            times if name in self._sources else self._arrived.values(), default=None
        )
        return rate_of(times, begun=begun, now=now)

    def _lag_s(self, finished: dict[str, float]) -> float | None:
        newest = heapq.nlargest(_NEWEST, finished.items(), key=lambda one: one[1])
        lags = [
            time - self._arrived[key]
            for key, time in newest
            if key in self._arrived and time >= self._arrived[key]
        ]
        return statistics.median(lags) if lags else None


def rate_of(
    times: Collection[float], *, begun: float | None, now: float | None = None
) -> Rate | None:
    """Return how many there were in which time.

    Parameters
    ----------
    times
        When each was, seconds since 1970, in any order.
    begun
        When the first could have been; what was at that very moment is the beginning
        of the time, so it does not count for the rate per hour.
    now
        The rate is that of the ten minutes before; without it, of the time from the
        beginning to the last.

    Returns
    -------
    Rate or None
        Without a rate per hour where the time is less than ten minutes: seconds say
        nothing about an hour. A hundred within a minute or more are enough, too.
    """
    if not times or begun is None:
        return None
    end = max(times) if now is None else now
    span_s = max(end - begun, 0.0)
    if now is not None:
        span_s = min(span_s, _WINDOW_S)
    later = sum(one > end - span_s for one in times)
    is_long = span_s >= _WINDOW_S or (later >= _MANY and span_s >= _SHORT_S)
    return Rate(
        count=len(times) if end - span_s <= begun else later,
        span_s=span_s,
        per_hour=3600 * later / span_s if is_long else None,
    )
