"""The ledger's tables. Portable between SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)

from icestream.domain.errors import LedgerUnusable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SCHEMA_VERSION",
    "artifact",
    "attempt",
    "change",
    "checkpoint",
    "event",
    "exposure",
    "ingest",
    "item",
    "make_or_check",
    "meta",
    "metadata",
    "notice",
    "revision",
    "run",
    "snapshot",
    "task",
]

SCHEMA_VERSION = 1

metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")

# What the ledger says of itself: its schema version, and whose it is.
meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

# Every parameter set that a run has had.
revision = Table(
    "revision",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("run", String, nullable=False),
    Column("identity", String, nullable=False),
    Column("params", JSON, nullable=False),
    Column("wiring", JSON, nullable=False),
)

# What happened, in order; only ever appended.
event = Table(
    "event",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("run", String),
    Column("key", String),
    Column("body", Text, nullable=False),
)

# State of the scheduler: replaying `event` gives the next four tables.
run = Table(
    "run",
    metadata,
    Column("name", String, primary_key=True),
    Column("identity", String, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("paused", Text),
    Column("cursor", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("recent", JSON, nullable=False),
)

exposure = Table(
    "exposure",
    metadata,
    Column("key", String, primary_key=True),
    Column("arrival", Integer, nullable=False),
    Column("acquisition", JSON, nullable=False),
)

task = Table(
    "task",
    metadata,
    Column("run", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("content", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("retry_at", Float),
    Column("reason", Text, nullable=False),
    Column("published", String),
    Column("accepted", Boolean),
    Column("rule", String),
    Column("value", Float),
    Column("limit", Float),
    Column("verdict_reason", Text),
    Column("override", Boolean),
    Index("task_state", "run", "state"),
)

# The numbered log of every output; only ever appended.
change = Table(
    "change",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("run", String, nullable=False),
    Column("output", String, nullable=False),
    Column("key", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("content", String),
    Column("old", String),
    Index("change_output", "run", "output", "seq"),
)

# Results by content: id = content key of the task, "/", name of the output.
item = Table(
    "item",
    metadata,
    Column("id", String, primary_key=True),
    Column("scalars", JSON, nullable=False),
    Column("block", LargeBinary),
)

# The files that results refer to, by path relative to the session.
artifact = Table(
    "artifact",
    metadata,
    Column("path", String, primary_key=True),
    Column("content", String, nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("keep", String, nullable=False),
)

attempt = Table(
    "attempt",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("run", String, nullable=False),
    Column("key", String, nullable=False),
    Column("content", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("slot", String, nullable=False),
    Column("started", Float, nullable=False),
    Column("elapsed_s", Float, nullable=False),
    Column("cause", String),
    Column("message", Text),
    Column("details", Text),
    Index("attempt_key", "run", "key"),
)

# An aggregate's state and how far in its input's log it has come.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("run", String, primary_key=True),
    Column("identity", String, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("scalars", JSON, nullable=False),
    Column("block", LargeBinary),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("run", String, nullable=False, index=True),
    Column("cursor", BigInteger, nullable=False),
    Column("item", String, nullable=False),
)

# Every path that a source has seen, and what was made of it.
ingest = Table(
    "ingest",
    metadata,
    Column("run", String, primary_key=True),
    Column("path", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("key", String),
    Column("fingerprint", String),
    Column("time", Float, nullable=False),
    Index("ingest_key", "key"),
)

notice = Table(
    "notice",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("run", String),
    Column("message", Text, nullable=False),
)


def make_or_check(connection: Connection, path: Path) -> None:
    """Make the tables in an empty database; refuse one of another version.

    Raises
    ------
    LedgerUnusable
        The database was made by a version that this program does not know.
    """
    if not inspect(connection).has_table(meta.name):
        metadata.create_all(connection)
        values = {"name": "schema_version", "value": str(SCHEMA_VERSION)}
        connection.execute(meta.insert(), values)
        return
    query = select(meta.c.value).where(meta.c.name == "schema_version")
    found = connection.execute(query).scalar()
    if found != str(SCHEMA_VERSION):
        raise LedgerUnusable(
            f"The ledger {path} has schema version {found}; this program knows "
            f"{SCHEMA_VERSION}.",
            hint="Use the icestream that made it, or a newer one.",
        )
