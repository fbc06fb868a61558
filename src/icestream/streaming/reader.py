"""The reader's side of a ledger: for reports, exports, status and the browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from icestream.domain.errors import LedgerUnusable, SessionError
from icestream.domain.verdict import Verdict
from icestream.streaming import schema
from icestream.streaming.answers import (
    ArrivedExposure,
    Decision,
    FailedAttempt,
    Moment,
    NoticeLine,
    RunStanding,
    SeenFile,
    TaskState,
    Trouble,
)
from icestream.streaming.database import connect_to_read, in_our_words
from icestream.streaming.protocol import SightingState
from icestream.streaming.records import Record
from icestream.streaming.task_rows import task_from_row
from icestream.streaming.tasks import TERMINAL, State
from icestream.streaming.workflow import ACCEPTED, REJECTED, item_id, passed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.tasks import Task

__all__ = ["LedgerReader"]

_AT_ONCE = 500
_STATES = {one.value: one for one in State}
_UNFINISHED = tuple(one.value for one in State if one not in TERMINAL)
_TROUBLE = (State.FAILED.value, State.QUARANTINED.value, State.SKIPPED.value)
_RESULTS = ("arrived", "succeeded", "decided")


class LedgerReader:
    """Reads a ledger at one moment, while its service may write; changes nothing.

    All answers of one reader belong together. Use it briefly, then make another.

    Parameters
    ----------
    path
        The database file.

    Raises
    ------
    LedgerUnusable
        There is no ledger of this version.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise LedgerUnusable(
                f"There is no ledger at {path}.",
                hint="`icestream start` makes it; is this a session's folder?",
            )
        self._engine = connect_to_read(path)
        try:
            self._connection = self._engine.connect()
        except sa.exc.DatabaseError as error:
            self._engine.dispose()
            raise _unreadable(path, error) from error
        self._check_version(path)
        self._connection.exec_driver_sql("BEGIN")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
        self._engine.dispose()

    def last_seq(self) -> int:
        """Return the number of the last event."""
        query = sa.select(sa.func.coalesce(sa.func.max(schema.event.c.seq), 0))
        return int(self._connection.execute(query).scalar_one())

    def rows(
        self, table: sa.Table, *where: sa.ColumnElement[bool]
    ) -> list[Mapping[str, Any]]:
        """Return the rows of a table that fulfil all conditions, by primary key."""
        query = sa.select(table).where(*where).order_by(*table.primary_key)
        return [dict(one) for one in self._connection.execute(query).mappings()]

    def tasks(self, run: str) -> dict[str, Task]:
        """Return a run's tasks by key."""
        query = sa.select(schema.task).where(schema.task.c.run == run)
        return {row.key: task_from_row(row) for row in self._connection.execute(query)}

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many tasks of each run are in each state."""
        columns = schema.task.c
        query = sa.select(columns.run, columns.state, sa.func.count()).group_by(
            columns.run, columns.state
        )
        found: dict[str, dict[str, int]] = {}
        for run, state, count in self._connection.execute(query):
            found.setdefault(run, {})[state] = count
        return found

    def records(self, run: str, output: str) -> dict[str, Record]:
        """Return what stands on an output now, by key, in order of arrival."""
        task, item, exposure = schema.task.c, schema.item.c, schema.exposure.c
        name = sa.case(
            (
                task.published.like(passed(ACCEPTED, "%"))
                | task.published.like(passed(REJECTED, "%")),
                sa.func.replace(task.published, passed(output, ""), ""),
            ),
            else_=task.published + item_id("", output),
        )
        query = (
            sa.select(task.key, schema.item)
            .join_from(schema.task, schema.item, item.id == name)
            .join(schema.exposure, exposure.key == task.key)
            .where(task.run == run)
            .order_by(exposure.arrival)
        )
        return {
            row.key: Record(scalars=row.scalars, block=row.block)
            for row in self._connection.execute(query)
        }

    def snapshot(self, run: str) -> Record | None:
        """Return the last snapshot that an aggregate has published."""
        columns = schema.snapshot.c
        query = (
            sa.select(schema.item)
            .join(schema.snapshot, columns.item == schema.item.c.id)
            .where(columns.run == run)
            .order_by(columns.seq.desc())
            .limit(1)
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else Record(scalars=row.scalars, block=row.block)

    def scalars(self, run: str, output: str) -> dict[str, Mapping[str, Any]]:
        """Return the scalars of what stands on an output that is no gate's, by key."""
        task, item = schema.task.c, schema.item.c
        query = (
            sa.select(task.key, sa.cast(item.scalars, sa.Text))
            .join_from(
                schema.task,
                schema.item,
                item.id == task.published + item_id("", output),
            )
            .where(task.run == run)
        )
        rows = self._all(query)
        # One parse of all is three times as quick as one parse for each.
        values = json.loads(f"[{','.join(text for _, text in rows)}]")
        return {row[0]: found for row, found in zip(rows, values, strict=True)}

    def items(self, ids: Collection[str]) -> dict[str, Record]:
        """Return the items with these ids, as far as they are there."""
        item = schema.item.c
        return {
            name: Record(scalars=scalars, block=block)
            for name, scalars, block in self._by_id((item.scalars, item.block), ids)
        }

    def blocks(self, ids: Collection[str]) -> Iterator[tuple[str, bytes | None]]:
        """Return the id and the columns of these items, a few at a time."""
        return self._by_id((schema.item.c.block,), ids)

    def exposures(self) -> list[ArrivedExposure]:
        """Return all exposures in order of arrival."""
        columns = schema.exposure.c
        acquisition = sa.cast(columns.acquisition, sa.Text)
        query = sa.select(columns.key, columns.arrival, acquisition)
        rows = self._all(query.order_by(columns.arrival))
        return [ArrivedExposure(*row) for row in rows]

    def runs(self) -> dict[str, RunStanding]:
        """Return where each run stands, by name; ``""`` is the whole session."""
        return {
            row["name"]: RunStanding(
                row["name"],
                bool(row["closed"]),
                row["paused"],
                max(0, row["head"] - row["cursor"]),
            )
            for row in self.rows(schema.run)
        }

    def task_states(self, run: str) -> list[TaskState]:
        """Return where each key stands in a run."""
        task = schema.task.c
        query = sa.select(task.key, task.state, task.published).where(task.run == run)
        return [TaskState(key, _STATES[s], name) for key, s, name in self._all(query)]

    def unfinished_keys(self, runs: Collection[str]) -> set[str]:
        """Return the keys that have something to be done in one of these runs."""
        task = schema.task.c
        query = sa.select(task.key).where(
            task.run.in_(runs), task.state.in_(_UNFINISHED)
        )
        return {key for (key,) in self._all(query)}

    def decisions(self, gate: str) -> dict[str, Decision]:
        """Return what a gate and people said, by key."""
        task = schema.task.c
        verdict = (task.accepted, task.rule, task.value, task.limit)
        query = sa.select(task.key, task.override, *verdict, task.verdict_reason)
        return {
            row[0]: Decision(_verdict(*row[2:]), row[1])
            for row in self._all(query.where(task.run == gate))
        }

    def rejected_count(self, gate: str) -> int:
        """Return how many keys stand on a gate's output of the rejected."""
        task = schema.task.c
        query = sa.select(sa.func.count()).where(
            task.run == gate, task.published.like(passed(REJECTED, "%"))
        )
        return int(self._connection.execute(query).scalar_one())

    def troubles(self, run: str) -> list[Trouble]:
        """Return a run's tasks that failed, for good or not, or were skipped."""
        task = schema.task.c
        query = sa.select(task.run, task.key, task.state, task.reason, task.attempt)
        where = (task.run == run, task.state.in_(_TROUBLE))
        return [
            Trouble(name, key, _STATES[state], reason, attempt)
            for name, key, state, reason, attempt in self._all(query.where(*where))
        ]

    def failed_attempts(self) -> list[FailedAttempt]:
        """Return all attempts that failed, in order."""
        columns = schema.attempt.c
        query = sa.select(
            columns.run,
            columns.key,
            columns.cause,
            sa.func.coalesce(columns.message, ""),
            sa.func.coalesce(columns.details, ""),
        ).where(columns.cause.is_not(None))
        return [FailedAttempt(*row) for row in self._all(query.order_by(columns.seq))]

    def failures_after(self, seq: int) -> list[FailedAttempt]:
        """Return the failures, without details, among the events after one."""
        event = schema.event.c
        query = sa.select(event.run, event.key, event.body)
        where = (event.seq > seq, event.kind == "failed")
        found = []
        for run, key, text in self._all(query.where(*where).order_by(event.seq)):
            body = json.loads(text)
            cause, message = body.get("cause", ""), body.get("message", "")
            found.append(FailedAttempt(run, key, cause, message))
        return found

    def moments(self, after: int = 0) -> list[Moment]:
        """Return arrivals and results among the events after one, in order.

        What a result of a key is: a per-item run succeeded, a gate decided.
        """
        event = schema.event.c
        query = sa.select(event.kind == "arrived", event.run, event.key, event.time)
        where = (event.seq > after, event.kind.in_(_RESULTS), event.key != "")
        rows = self._all(query.where(*where).order_by(event.seq))
        return [Moment(*row) for row in rows]

    def mean_elapsed_s(self) -> dict[str, float]:
        """Return the mean time of each run's attempts at keys that went well."""
        columns = schema.attempt.c
        query = (
            sa.select(columns.run, sa.func.avg(columns.elapsed_s))
            .where(columns.cause.is_(None), columns.key != "")
            .group_by(columns.run)
        )
        return {run: float(mean_s) for run, mean_s in self._all(query)}

    def files_not_taken(self) -> list[SeenFile]:
        """Return the paths that sources have seen and not taken."""
        file = schema.ingest.c
        columns = (file.run, file.path, file.state, file.reason, file.time)
        query = sa.select(*columns).where(file.state != SightingState.TAKEN.value)
        return [
            SeenFile(*row) for row in self._all(query.order_by(file.run, file.path))
        ]

    def waiting_file_count(self) -> int:
        """Return how many files are seen and not complete yet."""
        query = sa.select(sa.func.count()).where(
            schema.ingest.c.state == SightingState.WAITING.value
        )
        return int(self._connection.execute(query).scalar_one())

    def notices(self, after: int = 0) -> list[NoticeLine]:
        """Return the notices after one, in order."""
        notice = schema.notice.c
        query = sa.select(notice.seq, notice.time, notice.run, notice.message)
        rows = self._all(query.where(notice.seq > after).order_by(notice.seq))
        return [NoticeLine(*row) for row in rows]

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        """Run a query; rows come as tuples, quicker than mappings."""
        return self._connection.execute(query).fetchall()

    def _by_id(
        self, columns: Sequence[sa.Column[Any]], ids: Collection[str]
    ) -> Iterator[Any]:
        wanted, item = sorted(ids), schema.item.c
        for start in range(0, len(wanted), _AT_ONCE):
            some = item.id.in_(wanted[start : start + _AT_ONCE])
            yield from self._all(sa.select(item.id, *columns).where(some))

    def _check_version(self, path: Path) -> None:
        try:
            found = self.rows(schema.meta, schema.meta.c.name == "schema_version")
        except sa.exc.DatabaseError as error:
            self.close()
            raise _unreadable(path, error) from error
        if not found or found[0]["value"] != str(schema.SCHEMA_VERSION):
            self.close()
            raise LedgerUnusable(
                f"The ledger {path} is of another version than this program.",
                hint="Use the icestream that made it, or a newer one.",
            )


def _verdict(accepted: Any, rule: str | None, *more: Any) -> Verdict | None:  # noqa: ANN401
    if rule is None:
        return None
    value, limit, reason = more
    return Verdict(
        accepted=accepted, rule=rule, value=value, limit=limit, reason=reason or ""
    )


def _unreadable(path: Path, error: sa.exc.DBAPIError) -> SessionError:
    return in_our_words(path, error) or LedgerUnusable(
        f"The ledger {path} cannot be read: {error.orig}.",
        hint="It is damaged or no ledger.",
    )
