"""Items as they are stored and sent: scalars as JSON, columns as one Arrow block."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from icestream.domain.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.streaming.protocol import Item

__all__ = ["Record", "decode", "encode", "row_count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An encoded item.

    Parameters
    ----------
    scalars
        Fields that JSON can hold: numbers, strings, booleans, ``None``, lists of them.
    block
        The ``(n,)`` columns as a compressed Arrow IPC stream; ``None`` without any.
    """

    scalars: Mapping[str, Any]
    block: bytes | None = None


def encode(item: Item) -> Record:
    """Encode a frozen dataclass of scalars and columns.

    Raises
    ------
    InternalError
        A field holds something that is neither.
    """
    scalars: dict[str, Any] = {}
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = value
        else:
            scalars[field.name] = _plain(value, field.name)
    return Record(scalars=scalars, block=_to_arrow(columns) if columns else None)


def decode(record: Record, kind: type) -> Item:
    """Make the item of a kind again; the kind's own checks run.

    Raises
    ------
    InternalError
        The record lacks a field or has one too many for this kind.
    """
    values: dict[str, Any] = dict(record.scalars)
    if record.block is not None:
        values |= _from_arrow(record.block)
    for name in _tuple_fields(kind):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    try:
        return kind(**values)
    except TypeError as error:
        raise InternalError(
            f"A stored record does not fit {kind.__name__}: {error}.",
            hint="It was written by another version of this protocol.",
        ) from error


def row_count(block: bytes | None) -> int:
    """Return the length of a block's columns; only the first of them is read."""
    if block is None:
        return 0
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=[0])
    with pa.ipc.open_stream(pa.py_buffer(block), options=options) as reader:
        return int(reader.read_next_batch().num_rows)


def _plain(value: Any, name: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return [_plain(one, name) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InternalError(f"Field {name!r} holds a {type(value).__name__}.")


@functools.cache
def _tuple_fields(kind: type) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind) if "tuple[" in str(one.type))


def _to_arrow(columns: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    batch = pa.RecordBatch.from_pydict(
        {name: pa.array(np.ascontiguousarray(one)) for name, one in columns.items()}
    )
    sink = pa.BufferOutputStream()
    # Arrow's own threads cost four times more than they save on blocks this small.
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _from_arrow(block: bytes) -> dict[str, np.ndarray[Any, Any]]:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(pa.py_buffer(block), options=options) as reader:
        batch = reader.read_next_batch()
    return {name: batch.column(name).to_numpy() for name in batch.schema.names}
