"""Storing what came of an aggregate's update."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from icestream.streaming.dispatch import product_folder
from icestream.streaming.execution import STATE
from icestream.streaming.workflow import item_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from icestream.streaming.execution import Outcome
    from icestream.streaming.ledger import Transaction

__all__ = ["store_update"]

_NOTICES = "notices"


def store_update(
    transaction: Transaction, outcome: Outcome, *, cursor: int
) -> list[str]:
    """Store a state with its place in the log, its snapshot and its notices.

    Returns
    -------
    list
        Files of earlier updates that nothing names any more, relative to the session:
        to be removed once this is stored.
    """
    run, identity = outcome.task.run, outcome.task.content_key
    outputs = dict(outcome.outputs)
    state = outputs.pop(STATE)
    before = transaction.checkpoint(run, identity)
    known = before[1].scalars.get(_NOTICES, ()) if before else ()
    for one in state.scalars.get(_NOTICES, ()):
        if one and one not in known:
            transaction.add_notice(run, one)
    transaction.set_checkpoint(run, identity=identity, cursor=cursor, state=state)
    text = "\0".join((run, identity, str(cursor)))
    content = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    transaction.add_records(content, outputs)
    (output,) = outputs
    transaction.add_snapshot(run, cursor=cursor, item=item_id(content, output))
    scalars = [v for one in outcome.outputs.values() for v in one.scalars.values()]
    return transaction.forget_stale(product_folder(run), named=set(_texts(scalars)))


def _texts(values: Iterable[object]) -> Iterator[str]:
    for one in values:
        if isinstance(one, str):
            yield one
        elif isinstance(one, list | tuple):
            yield from _texts(one)
