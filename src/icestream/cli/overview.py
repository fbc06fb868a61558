"""How a running session stands at one moment, read from its ledger with little work."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icestream.streaming import schema
from icestream.streaming.protocol import SightingState
from icestream.streaming.tasks import TERMINAL, State
from icestream.streaming.workflow import REJECTED, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.app.session import Session
    from icestream.streaming.reader import LedgerReader

__all__ = ["LedgerFollower", "Overview", "RunLine"]

_RATE_WINDOW_S = 120.0
_NEWEST = 20
_AT_WORK = {State.READY, State.FAILED, State.STALE, State.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run: how many exposures are where.

    ``to_be_read`` is of an aggregate: by how many changes its snapshot is behind.
    """

    name: str
    shape: Shape
    counts: Mapping[str, int]
    rejected: int = 0
    to_be_read: int = 0
    per_hour: float | None = None
    paused: str | None = None

    @property
    def total(self) -> int:
        """All exposures that this run knows."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """Done, failed for good, or skipped."""
        return sum(self.counts.get(state, 0) for state in TERMINAL)

    @property
    def failed(self) -> int:
        """Failed for good."""
        return self.counts.get(State.QUARANTINED, 0)

    @property
    def skipped(self) -> int:
        """Left out, since something before them failed or was rejected."""
        return self.counts.get(State.SKIPPED, 0)

    @property
    def running(self) -> int:
        """With a slot now."""
        return self.counts.get(State.RUNNING, 0)

    @property
    def waiting(self) -> int:
        """To be done yet, and not running."""
        return sum(self.counts.get(state, 0) for state in _AT_WORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A session at one moment.

    Parameters
    ----------
    runs
        In the order of the workflow.
    waiting_files
        Seen by a source and not complete yet.
    paused
        Why the whole session is paused.
    lag_s
        Median time from arrival to the last result of the newest exposures.
    news
        Failures and notices since the last look, in order.
    """

    runs: Sequence[RunLine]
    waiting_files: int
    paused: str | None
    lag_s: float | None
    news: Sequence[str]


@dataclass(slots=True)
class LedgerFollower:
    """Looks at a session's ledger again and again; each look reads what is new.

    Parameters
    ----------
    session
        Its ledger exists.
    """

    session: Session
    _event: int = 0
    _notice: int = 0
    _arrived: dict[str, float] = field(default_factory=dict)
    _ended: dict[str, deque[float]] = field(default_factory=dict)
    _lags: deque[float] = field(default_factory=lambda: deque(maxlen=_NEWEST))

    def begin(self) -> None:
        """Count as news only what comes from now on."""
        reader = self.session.read()
        try:
            self._event = reader.last_seq()
            seen = [row["seq"] for row in reader.rows(schema.notice)]
            self._notice = max(seen, default=0)
        finally:
            reader.close()

    def look(self) -> Overview:
        """Read how it stands now."""
        reader = self.session.read()
        try:
            news = self._follow(reader)
            states = {row["name"]: row for row in reader.rows(schema.run)}
            counts = reader.counts()
            waiting = schema.ingest.c.state == SightingState.WAITING.value
            return Overview(
                runs=[
                    self._run_line(reader, name, counts.get(name, {}), states)
                    for name in self.session.plan.workflow.runs
                ],
                waiting_files=len(reader.rows(schema.ingest, waiting)),
                paused=states.get("", {}).get("paused"),
                lag_s=statistics.median(self._lags) if self._lags else None,
                news=news,
            )
        finally:
            reader.close()

    def _follow(self, reader: LedgerReader) -> list[str]:
        runs = self.session.plan.workflow.runs
        last = [name for name, one in runs.items() if one.shape is Shape.PER_ITEM][-1:]
        news: list[str] = []
        for row in reader.rows(schema.event, schema.event.c.seq > self._event):
            self._event = row["seq"]
            run, key, moment = row["run"], row["key"], row["time"]
            if row["kind"] == "arrived":
                self._arrived[key] = moment
                self._note_end(run, moment)
            elif row["kind"] in ("succeeded", "decided"):
                self._note_end(run, moment)
                if run in last and key in self._arrived:
                    self._lags.append(moment - self._arrived.pop(key))
            elif row["kind"] == "failed":
                news.append(f"{run}: {key}: {_message(row['body'])}")
        for row in reader.rows(schema.notice, schema.notice.c.seq > self._notice):
            self._notice = row["seq"]
            name = f"{row['run']}: " if row["run"] else ""
            news.append(f"{name}{row['message']}")
        return news

    def _note_end(self, run: str, moment: float) -> None:
        self._ended.setdefault(run, deque(maxlen=100_000)).append(moment)

    def _run_line(
        self,
        reader: LedgerReader,
        name: str,
        counts: Mapping[str, int],
        states: Mapping[str, Mapping[str, Any]],
    ) -> RunLine:
        shape = self.session.plan.workflow.runs[name].shape
        row = states.get(name, {})
        task = schema.task.c
        rejected = 0
        if shape is Shape.GATE:
            where = (task.run == name, task.published.like(f"{REJECTED}:%"))
            rejected = len(reader.rows(schema.task, *where))
        return RunLine(
            name=name,
            shape=shape,
            counts=counts,
            rejected=rejected,
            to_be_read=max(0, row.get("head", 0) - row.get("cursor", 0)),
            per_hour=self._per_hour(name),
            paused=row.get("paused"),
        )

    def _per_hour(self, run: str) -> float | None:
        ended, now = self._ended.get(run), time.time()
        if not ended:
            return None
        while len(ended) > 1 and ended[0] < now - _RATE_WINDOW_S:
            ended.popleft()
        span_s = now - ended[0]
        return 3600 * (len(ended) - 1) / span_s if len(ended) > 1 and span_s else None


def _message(body: str) -> str:
    return str(json.loads(body).get("message", ""))
