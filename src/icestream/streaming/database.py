"""The ledger's database file: how it is opened, and its errors in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from icestream.domain.errors import DiskFull, LedgerUnusable, SessionError
from icestream.streaming.filesystem import file_system_of, is_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "check_place",
    "connect",
    "connect_to_read",
    "in_our_words",
    "inode_of",
    "write_rows",
]

_MANY = 100
_AS_THEY_ARE = (sa.String, sa.Integer, sa.Float, sa.LargeBinary, sa.Boolean)
"""Types whose values any driver takes as they are."""


def connect(
    path: Path, *, file_system: Callable[[Path], str] = file_system_of
) -> sa.Engine:
    """Open a ledger's database; every connection is durable and in WAL mode.

    Raises
    ------
    LedgerUnusable
        The path lies on a network file system.
    """
    kind = file_system(path)
    if is_network(kind):
        raise LedgerUnusable(
            f"The ledger {path} would lie on a network file system ({kind}).",
            hint="SQLite needs a local disk: name one with `ledger:` in session.yaml.",
        )
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 30}
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - DB-API
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def connect_to_read(path: Path) -> sa.Engine:
    """Open a ledger's database for reading only; a file is never made."""
    return sa.create_engine(
        sa.URL.create(
            "sqlite",
            database=f"file:{quote(str(path))}",
            query={"mode": "ro", "uri": "true"},
        )
    )


def inode_of(path: Path) -> tuple[int, int] | None:
    """Return which file a path leads to, ``None`` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_place(path: Path, inode: tuple[int, int] | None) -> None:
    """Raise ``LedgerUnusable`` unless a path still leads to the same file."""
    if inode_of(path) != inode:
        raise LedgerUnusable(
            f"The ledger {path} was removed or replaced while in use.",
            hint="Bring it back, then start again; what stands in it counts.",
        )


def write_rows(
    connection: sa.Connection,
    statement: sa.Insert,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Execute an insert for each of some rows, which have the same columns.

    Very many plain ones go to the driver directly: SQLAlchemy takes longer to look at
    each row than the database to write it.
    """
    plain = all(isinstance(one.type, _AS_THEY_ARE) for one in statement.table.columns)
    if len(rows) < _MANY or not plain:
        connection.execute(statement, rows)
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    names = compiled.positiontup
    values = rows if names is None else [tuple(map(r.get, names)) for r in rows]
    connection.exec_driver_sql(str(compiled), values)


def in_our_words(path: Path, error: sa.exc.DBAPIError) -> SessionError | None:
    """Return what to raise where it is not our own fault; else ``None``."""
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    for start, kind, happened, hint in (
        ("SQLITE_FULL", DiskFull, "cannot grow", _SPACE),
        # What SQLite makes of a used-up quota, and of a disk that fails.
        ("SQLITE_IOERR", DiskFull, "cannot be written", _SPACE),
        ("SQLITE_READONLY", LedgerUnusable, "cannot be written", _PERMISSION),
        ("SQLITE_CANTOPEN", LedgerUnusable, "cannot be opened", _PERMISSION),
        ("SQLITE_PERM", LedgerUnusable, "cannot be opened", _PERMISSION),
        ("SQLITE_BUSY", LedgerUnusable, "is locked", _LOCKED),
        ("SQLITE_CORRUPT", LedgerUnusable, "cannot be read", _DAMAGED),
        ("SQLITE_NOTADB", LedgerUnusable, "cannot be read", _DAMAGED),
    ):
        if name.startswith(start):
            return kind(f"The ledger {path} {happened}: {error.orig}.", hint=hint)
    return None


_SPACE = (
    "Free space or quota (or mend the disk), then start again; nothing committed is "
    "lost."
)
_PERMISSION = "Check the permissions of the file and its folder; nothing was changed."
_LOCKED = "Another program has it open for writing: close that."
_DAMAGED = "It is damaged or no ledger; restore a copy, nothing was changed."
