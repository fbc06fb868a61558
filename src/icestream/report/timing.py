"""When things arrived and were finished, and how fast it goes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from icestream.report.results import Rates, Standing
from icestream.streaming import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icestream.report.results import ExposureResult
    from icestream.streaming.reader import LedgerReader

__all__ = ["RunTimes", "Times", "per_hour", "per_hour_now", "rates_of", "read_times"]

_WINDOW_S = 600.0
_NEWEST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """When a run finished its keys, seconds since 1970, and its mean time."""

    ended: Sequence[float]
    mean_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When exposures arrived, and when each got its last result.

    A result that was made anew keeps its first time: recomputing is no lag.
    """

    arrived: Mapping[str, float]
    finished: Mapping[str, float]
    of_run: Mapping[str, RunTimes]


def read_times(reader: LedgerReader) -> Times:
    """Read arrivals from the log of events, and results from the attempts."""
    event, attempt = schema.event.c, schema.attempt.c
    arrived = sa.select(event.key, sa.func.min(event.time)).group_by(event.key)
    attempts = (
        sa.select(attempt.run, attempt.key, attempt.started, attempt.elapsed_s)
        .where(attempt.cause.is_(None), attempt.key != "")
        .order_by(attempt.seq)
    )
    arrivals = reader.select(arrived.where(event.kind == "arrived"))
    return _times(dict(arrivals), reader.select(attempts))


def _times(arrived: dict[str, float], attempts: Iterable[Iterable[Any]]) -> Times:
    ended: dict[str, dict[str, float]] = {}
    elapsed: dict[str, list[float]] = {}
    finished: dict[str, float] = {}
    for run, key, started, elapsed_s in attempts:
        elapsed.setdefault(run, []).append(elapsed_s)
        of_run = ended.setdefault(run, {})
        if key not in of_run:
            of_run[key] = end = started + elapsed_s
            finished[key] = max(end, finished.get(key, end))
    of_run_times = {
        run: RunTimes(
            ended=sorted(ends.values()), mean_s=statistics.fmean(elapsed[run])
        )
        for run, ends in ended.items()
    }
    return Times(arrived=arrived, finished=finished, of_run=of_run_times)


def rates_of(exposures: Sequence[ExposureResult], *, now: float) -> Rates:
    """Return rates and lags of a session's exposures."""
    arrived = [one.arrived_at for one in exposures if one.arrived_at is not None]
    over = [one for one in exposures if one.standing is not Standing.IN_PROGRESS]
    finished = [one.finished_at for one in over if one.finished_at is not None]
    lags = [
        one.finished_at - one.arrived_at
        for one in over[-_NEWEST:]
        if one.finished_at is not None
        and one.arrived_at is not None
        and one.finished_at >= one.arrived_at
    ]
    waiting = [
        one.arrived_at
        for one in exposures
        if one.standing is Standing.IN_PROGRESS and one.arrived_at is not None
    ]
    # Work begins when the first exposure is there, not with the first result.
    begun = min(arrived, default=None)
    return Rates(
        arrived_per_hour=per_hour(arrived),
        processed_per_hour=per_hour(finished, since=begun),
        arrived_per_hour_now=per_hour_now(arrived, now),
        processed_per_hour_now=per_hour_now(finished, now, since=begun),
        lag_s=statistics.median(lags) if lags else None,
        oldest_unprocessed_s=now - min(waiting) if waiting else None,
    )


def per_hour(times: Sequence[float], *, since: float | None = None) -> float | None:
    """Return events per hour from a moment, or the first event, to the last event."""
    if len(times) < 2:
        return None
    span_s = max(times) - (min(times) if since is None else since)
    count = len(times) - (since is None)
    return 3600 * count / span_s if span_s > 0 else None


def per_hour_now(
    times: Sequence[float], now: float, *, since: float | None = None
) -> float | None:
    """Return events per hour over the last ten minutes, or since the beginning."""
    if not times:
        return None
    first = min(times) if since is None else since
    window_s = min(_WINDOW_S, now - first)
    recent = sum(one > now - window_s for one in times)
    return 3600 * recent / window_s if window_s > 0 else None
