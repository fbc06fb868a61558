"""The reader's side of a ledger: for reports, exports, status and the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from icestream.domain.errors import LedgerUnusable, SessionError
from icestream.streaming import schema
from icestream.streaming.database import connect_to_read, in_our_words
from icestream.streaming.ledger import task_from_row
from icestream.streaming.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.tasks import Task

__all__ = ["LedgerReader"]


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

    def select(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Run a query of one's own; rows come as tuples, quicker than mappings."""
        return self._connection.execute(statement).fetchall()

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
                task.published.like("accepted:%") | task.published.like("rejected:%"),
                sa.func.replace(task.published, f"{output}:", ""),
            ),
            else_=task.published + f"/{output}",
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


def _unreadable(path: Path, error: sa.exc.DBAPIError) -> SessionError:
    return in_our_words(path, error) or LedgerUnusable(
        f"The ledger {path} cannot be read: {error.orig}.",
        hint="It is damaged or no ledger.",
    )
