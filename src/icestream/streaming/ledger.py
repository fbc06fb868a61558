"""The session's one truth, in SQLite: one writer, one transaction per effect."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DatabaseError, DBAPIError

from icestream.domain.errors import InternalError, LedgerUnusable
from icestream.streaming import schema
from icestream.streaming.database import (
    check_place,
    connect,
    in_our_words,
    inode_of,
    write_rows,
)
from icestream.streaming.events import dump_event, load_event
from icestream.streaming.filesystem import file_system_of
from icestream.streaming.protocol import Keep
from icestream.streaming.records import Record
from icestream.streaming.state import (
    Exposure,
    Instruction,
    Notice,
    RunState,
    StoreExposure,
    StoreRun,
    StoreTask,
)
from icestream.streaming.task_rows import task_from_row, task_row
from icestream.streaming.tasks import Change, ChangeKind
from icestream.streaming.workflow import item_id

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from icestream.streaming.events import Event
    from icestream.streaming.execution import Outcome
    from icestream.streaming.plan import Run
    from icestream.streaming.protocol import Sighting
    from icestream.streaming.scheduler import Scheduler
    from icestream.streaming.workflow import Port

__all__ = ["Ledger", "Transaction"]

_CACHED_RECORDS = 4096
_AT_ONCE = 500
_KEPT = {"ingest": ("key", "fingerprint")}
"""Columns of rows once written that a later row without them does not erase."""


class Ledger:
    """The writer's side of a ledger.

    Parameters
    ----------
    path
        The database file; made if it does not exist.
    file_system
        Tells the type of file system of a path.

    Raises
    ------
    LedgerUnusable
        On a network file system, of a newer version, or damaged.
    """

    def __init__(
        self, path: Path, *, file_system: Callable[[Path], str] = file_system_of
    ) -> None:
        self.path = path
        self.engine = connect(path, file_system=file_system)
        self._records: OrderedDict[str, Record] = OrderedDict()
        try:
            with self.engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                schema.make_or_check(connection, path)
            self.connection = self.engine.connect()
            self._inode = inode_of(path)
        except DatabaseError as error:
            self.engine.dispose()
            raise in_our_words(path, error) or LedgerUnusable(
                f"The ledger {path} cannot be read: {error.orig}.",
                hint="It is damaged or no ledger; restore a copy, nothing was changed.",
            ) from error

    def close(self) -> None:
        """Close the database."""
        self.connection.close()
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Collect what belongs together; all of it is stored durably, or nothing is.

        Raises
        ------
        DiskFull, LedgerUnusable
            It cannot be written; nothing of this transaction is stored.
        """
        connection = self.connection
        transaction = Transaction(connection, self._records)
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield transaction
            transaction.flush()
            connection.commit()
        except BaseException as error:
            self._records.clear()
            reason = None
            if isinstance(error, DBAPIError):
                reason = in_our_words(self.path, error)
            with suppress(DBAPIError):
                connection.rollback()
            if reason is not None:
                raise reason from error
            raise
        self._trim()

    def check_place(self) -> None:
        """Make sure that the file which is written is the one that will be found.

        Raises
        ------
        LedgerUnusable
            It was removed or replaced while it was open.
        """
        check_place(self.path, self._inode)

    def restore(self, scheduler: Scheduler) -> None:
        """Give the state tables to a fresh scheduler; of runs that it knows.

        Raises
        ------
        LedgerUnusable
            It is damaged.
        """
        try:
            self._restore(scheduler)
        except DatabaseError as error:
            raise in_our_words(self.path, error) or error from error

    def _restore(self, scheduler: Scheduler) -> None:
        known = scheduler.board.runs
        connection = self.connection
        with connection.begin():
            connection.exec_driver_sql("BEGIN")
            runs = {
                row.name: RunState(
                    identity=row.identity,
                    closed=row.closed,
                    paused=row.paused,
                    cursor=row.cursor,
                    head=row.head,
                    failures=row.failures,
                    recent=tuple(row.recent),
                )
                for row in connection.execute(sa.select(schema.run))
                if row.name in known
            }
            order = schema.exposure.c.arrival
            exposures = {
                row.key: Exposure(row.arrival, row.acquisition)
                for row in connection.execute(
                    sa.select(schema.exposure).order_by(order)
                )
            }
            tasks = [
                (row.run, row.key, task_from_row(row))
                for row in connection.execute(sa.select(schema.task))
                if row.run in known
            ]
            last = sa.select(sa.func.coalesce(sa.func.max(schema.change.c.seq), 0))
            scheduler.restore(
                runs=runs,
                exposures=exposures,
                tasks=tasks,
                change_seq=connection.execute(last).scalar_one(),
            )

    def events(self) -> Iterator[Event]:
        """Yield the whole log, in order."""
        columns = schema.event.c
        query = sa.select(columns.kind, columns.run, columns.key, columns.body)
        with self.engine.connect() as connection:
            for row in connection.execute(query.order_by(columns.seq)):
                yield load_event(row.kind, row.run, row.key, row.body)

    def _trim(self) -> None:
        while len(self._records) > _CACHED_RECORDS:
            self._records.popitem(last=False)


class Transaction:
    """One transaction of the ledger. Written at its end, in bulk."""

    def __init__(
        self, connection: sa.Connection, records: OrderedDict[str, Record]
    ) -> None:
        self._connection = connection
        self._records = records
        self._rows: dict[sa.Table, list[dict[str, Any]]] = {}
        self._keyed: dict[sa.Table, dict[tuple[str, ...], dict[str, Any]]] = {}

    def add_event(self, event: Event) -> None:
        """Append an event to the log."""
        kind, run, key, body = dump_event(event)
        self._append(
            schema.event,
            {"kind": kind, "run": run, "key": key, "body": body},
        )

    def carry_out(self, instructions: Iterable[Instruction]) -> None:
        """Store what the scheduler says."""
        for one in instructions:
            match one:
                case StoreTask(run, key, task):
                    self._upsert(schema.task, (run, key), task_row(run, key, task))
                case Change():
                    row = {n: getattr(one, n) for n in Change.__slots__}
                    self._append(schema.change, row | {"kind": one.kind.value})
                case StoreRun(run, state):
                    row = {"name": run} | asdict(state)
                    row["recent"] = list(state.recent)
                    self._upsert(schema.run, (run,), row)
                case StoreExposure(key, exposure):
                    row = {
                        "key": key,
                        "arrival": exposure.arrival,
                        "acquisition": dict(exposure.acquisition),
                    }
                    self._upsert(schema.exposure, (key,), row)
                case Notice(run, message):
                    self.add_notice(run, message)

    def add_records(self, content: str, outputs: Mapping[str, Record]) -> None:
        """Store results under their content key."""
        for output, record in outputs.items():
            name = item_id(content, output)
            self._records[name] = record
            row = {
                "id": name,
                "scalars": dict(record.scalars),
                "block": record.block,
            }
            self._upsert(schema.item, (name,), row)

    def add_outcome(self, outcome: Outcome) -> None:
        """Store an attempt's course and its files."""
        failure = outcome.failure
        row = {
            "run": outcome.task.run,
            "key": outcome.task.key,
            "content": outcome.task.content_key,
            "attempt": outcome.task.attempt,
            "slot": outcome.slot,
            "started": outcome.started,
            "elapsed_s": outcome.elapsed_s,
            "cause": failure.cause if failure else None,
            "message": failure.message if failure else None,
            "details": failure.details if failure else None,
        }
        self._append(schema.attempt, row)
        for one in outcome.artifacts:
            row = asdict(one) | {"content": outcome.task.content_key}
            self._upsert(schema.artifact, (one.path,), row)

    def add_sighting(self, run: str, sighting: Sighting, *, key: str | None) -> None:
        """Store what a source thinks of a path."""
        row = {
            "run": run,
            "path": sighting.path,
            "state": sighting.state.value,
            "reason": sighting.reason,
            "key": key,
            "fingerprint": sighting.fingerprint,
            "time": time.time(),
        }
        self._upsert(schema.ingest, (run, sighting.path), row)

    def add_notice(self, run: str | None, message: str) -> None:
        """Store something that people should know."""
        row = {"run": run, "message": message}
        self._append(schema.notice, row)

    def add_revision(self, run: Run, *, identity: str) -> None:
        """Note the parameters and the wiring that a run has from now on."""
        row = {"run": run.spec.name, "identity": identity, "params": dict(run.params)}
        self._append(schema.revision, row | {"wiring": run.spec.wiring})

    def set_checkpoint(
        self, run: str, *, identity: str, cursor: int, state: Record
    ) -> None:
        """Store an aggregate's state with its place in the log."""
        row = {
            "run": run,
            "identity": identity,
            "cursor": cursor,
            "scalars": dict(state.scalars),
            "block": state.block,
        }
        self._upsert(schema.checkpoint, (run,), row)

    def add_snapshot(self, run: str, *, cursor: int, item: str) -> None:
        """Note that an aggregate has published a snapshot."""
        row = {"run": run, "cursor": cursor, "item": item}
        self._append(schema.snapshot, row)

    def forget_stale(self, folder: str, *, named: Collection[str]) -> list[str]:
        """Forget files of earlier updates that nothing names any more; return them."""
        self.flush()
        columns = schema.artifact.c
        query = sa.select(columns.path).where(
            columns.keep == Keep.UNTIL_STALE.value,
            columns.path.startswith(f"{folder}/", autoescape=True),
        )
        found = self._connection.execute(query).scalars()
        stale = [one for one in found if one not in named]
        self._connection.execute(
            sa.delete(schema.artifact).where(columns.path.in_(stale))
        )
        return stale

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """Let the ledger say something of itself."""
        for name, value in marks.items():
            self._upsert(schema.meta, (name,), {"name": name, "value": value})

    def flush(self) -> None:
        """Write what has been collected."""
        now = time.time()
        for table, rows in self._rows.items():
            if "time" in table.columns:
                for row in rows:
                    row["time"] = now
            write_rows(self._connection, table.insert(), rows)
        for table, keyed in self._keyed.items():
            statement = upsert(table)
            others: dict[str, Any] = {
                column.name: statement.excluded[column.name]
                for column in table.columns
                if not column.primary_key
            }
            for name in _KEPT.get(table.name, ()):
                others[name] = sa.func.coalesce(others[name], table.c[name])
            statement = statement.on_conflict_do_update(
                index_elements=list(table.primary_key), set_=others
            )
            write_rows(self._connection, statement, list(keyed.values()))
        self._rows.clear()
        self._keyed.clear()

    def records(self, names: Sequence[str]) -> dict[str, Record]:
        """Return stored results by item id; what is not stored is left out."""
        found = {n: self._records[n] for n in names if n in self._records}
        lacking = [n for n in names if n not in found]
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            query = sa.select(schema.item).where(schema.item.c.id.in_(some))
            for row in self._connection.execute(query):
                record = Record(scalars=row.scalars, block=row.block)
                found[row.id] = self._records[row.id] = record
        return found

    def scalars(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the scalars of stored results by item id, without their columns."""
        found = {n: self._records[n].scalars for n in names if n in self._records}
        lacking = [n for n in names if n not in found]
        columns = schema.item.c
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            query = sa.select(columns.id, columns.scalars).where(columns.id.in_(some))
            found.update(
                (row.id, row.scalars) for row in self._connection.execute(query)
            )
        return found

    def record(self, name: str) -> Record:
        """Return one stored result."""
        found = self.records([name])
        if name not in found:
            raise InternalError(f"The ledger lacks item {name!r}.")
        return found[name]

    def stored(self, names: Sequence[str]) -> set[str]:
        """Return which of these results are stored."""
        found = {one for one in names if one in self._records}
        lacking = [one for one in names if one not in found]
        column = schema.item.c.id
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            query = sa.select(column).where(column.in_(some))
            found.update(self._connection.execute(query).scalars())
        return found

    def changes(self, ports: Iterable[Port], *, after: int, limit: int) -> list[Change]:
        """Return the next lines of some outputs' logs."""
        self.flush()
        columns = schema.change.c
        here = sa.or_(
            *(
                sa.and_(columns.run == one.run, columns.output == one.output)
                for one in ports
            )
        )
        query = (
            sa.select(schema.change)
            .where(here, columns.seq > after)
            .order_by(columns.seq)
            .limit(limit)
        )
        return [
            Change(
                row.seq,
                row.run,
                row.output,
                row.key,
                ChangeKind(row.kind),
                row.content,
                row.old,
            )
            for row in self._connection.execute(query)
        ]

    def checkpoint(self, run: str, identity: str) -> tuple[int, Record] | None:
        """Return an aggregate's place and state, if stored under this identity."""
        self.flush()
        columns = schema.checkpoint.c
        query = sa.select(schema.checkpoint).where(
            columns.run == run, columns.identity == identity
        )
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        return row.cursor, Record(scalars=row.scalars, block=row.block)

    def sightings(self, run: str) -> list[sa.Row[Any]]:
        """Return all that a source has seen so far."""
        self.flush()
        query = sa.select(schema.ingest).where(schema.ingest.c.run == run)
        return list(self._connection.execute(query))

    def last_change(self, key: str) -> float | None:
        """Return when the file of an exposure was last seen to change."""
        self.flush()
        query = sa.select(sa.func.max(schema.ingest.c.time)).where(
            schema.ingest.c.key == key
        )
        return self._connection.execute(query).scalar()

    def revisions(self) -> dict[str, sa.Row[Any]]:
        """Return each run's last revision: identity, parameters, wiring."""
        self.flush()
        query = sa.select(schema.revision).order_by(schema.revision.c.seq)
        return {row.run: row for row in self._connection.execute(query)}

    def marks(self) -> dict[str, str]:
        """Return what the ledger says of itself, e.g. whose it is, by name."""
        self.flush()
        rows = self._connection.execute(sa.select(schema.meta))
        return {row.name: row.value for row in rows}

    def _append(self, table: sa.Table, row: dict[str, Any]) -> None:
        self._rows.setdefault(table, []).append(row)

    def _upsert(
        self, table: sa.Table, key: tuple[str, ...], row: dict[str, Any]
    ) -> None:
        self._keyed.setdefault(table, {})[key] = row
