"""How a running session stands at one moment, read from its ledger with little work."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icestream.report.pace import Pace
from icestream.streaming.tasks import TERMINAL, State
from icestream.streaming.workflow import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.app.session import Session
    from icestream.report.results import Rate, Rates
    from icestream.streaming.answers import RunStanding
    from icestream.streaming.reader import LedgerReader

__all__ = ["LedgerFollower", "Overview", "RunLine"]

_AT_WORK = {State.READY, State.FAILED, State.STALE, State.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run: how many exposures are where.

    ``to_be_read`` is of an aggregate: by how many changes its snapshot is behind;
    ``rate`` is that of the last ten minutes.
    """

    name: str
    shape: Shape
    counts: Mapping[str, int]
    rejected: int = 0
    to_be_read: int = 0
    rate: Rate | None = None
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
    rates
        How fast it goes, and how long it takes.
    news
        Failures and notices since the last look, in order.
    """

    runs: Sequence[RunLine]
    waiting_files: int
    paused: str | None
    rates: Rates
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
    _told_event: int = 0
    _told_notice: int = 0
    _paced_event: int = 0
    _pace: Pace = field(default_factory=Pace)

    def begin(self) -> None:
        """Count as news only what comes from now on."""
        reader = self.session.read()
        try:
            self._note_as_told(reader)
        finally:
            reader.close()

    def look(self) -> Overview:
        """Read how it stands now."""
        now = time.time()
        reader = self.session.read()
        try:
            self._pace.add(reader.moments(self._paced_event))
            self._paced_event = reader.last_seq()
            names = self.session.plan.workflow.runs
            standings = reader.runs()
            counts = reader.counts()
            session = standings.get("")
            return Overview(
                runs=[
                    self._run_line(reader, name, counts.get(name, {}), standings, now)
                    for name in names
                ],
                waiting_files=reader.waiting_file_count(),
                paused=session.paused if session else None,
                rates=self._pace.rates(reader.unfinished_keys(names), now=now),
                news=self._news(reader),
            )
        finally:
            reader.close()

    def _news(self, reader: LedgerReader) -> list[str]:
        failures = reader.failures_after(self._told_event)
        notices = reader.notices(self._told_notice)
        self._note_as_told(reader)
        return [
            *(f"{one.run}: {one.key}: {one.message}" for one in failures),
            *(
                f"{one.run}: {one.message}" if one.run else one.message
                for one in notices
            ),
        ]

    def _note_as_told(self, reader: LedgerReader) -> None:
        self._told_event = reader.last_seq()
        notices = reader.notices(self._told_notice)
        self._told_notice = notices[-1].seq if notices else self._told_notice

    def _run_line(
        self,
        reader: LedgerReader,
        name: str,
        counts: Mapping[str, int],
        standings: Mapping[str, RunStanding],
        now: float,
    ) -> RunLine:
        shape = self.session.plan.workflow.runs[name].shape
        standing = standings.get(name)
        return RunLine(
            name=name,
            shape=shape,
            counts=counts,
            rejected=reader.rejected_count(name) if shape is Shape.GATE else 0,
            to_be_read=standing.behind if standing else 0,
            rate=self._pace.run(name, now=now),
            paused=standing.paused if standing else None,
        )
