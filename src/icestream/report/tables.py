"""What the ledger holds about exposures, read in few queries and joined by key."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from icestream.domain import Coordinates, Verdict
from icestream.report.optics import Optics
from icestream.report.roles import Roles
from icestream.streaming import schema
from icestream.streaming.records import Record, decode
from icestream.streaming.tasks import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence

    from icestream.streaming.plan import Plan
    from icestream.streaming.reader import LedgerReader
    from icestream.streaming.workflow import Port

__all__ = ["Decision", "Tables", "Trouble", "read_coordinates", "read_tables"]

_CHUNK = 500
_task, _item = schema.task.c, schema.item.c


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate said of a key, and what a person said."""

    verdict: Verdict | None
    override: bool | None

    @property
    def accepted(self) -> bool | None:
        """The person's word, else the rule's."""
        if self.override is not None:
            return self.override
        return None if self.verdict is None else self.verdict.accepted


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that failed or was skipped, and why."""

    run: str
    key: str
    state: State
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What is known of each key.

    Parameters
    ----------
    roles
        Which run plays which part.
    optics
        Optics groups.
    arrivals
        Order of arrival by key, in that order.
    states
        By key: the state in each run, upstream first.
    published
        By run and key: what stands on its outputs.
    decisions
        By gate and key.
    troubles
        All that failed or was skipped, by key.
    micrographs, ctfs
        Items by key.
    pick_counts, particle_counts
        Lengths of blocks by key.
    """

    roles: Roles
    optics: Optics
    arrivals: Mapping[str, int]
    states: Mapping[str, Mapping[str, State]]
    published: Mapping[str, Mapping[str, str]]
    decisions: Mapping[str, Mapping[str, Decision]]
    troubles: Mapping[str, Sequence[Trouble]]
    micrographs: Mapping[str, Any]
    ctfs: Mapping[str, Any]
    pick_counts: Mapping[str, int]
    particle_counts: Mapping[str, int]


def read_tables(
    reader: LedgerReader, plan: Plan, row_counts: MutableMapping[str, int]
) -> Tables:
    """Read everything that is joined by key."""
    roles = Roles.of(plan)
    exposure = schema.exposure.c
    statement = sa.select(
        exposure.key, exposure.arrival, sa.cast(exposure.acquisition, sa.Text)
    ).order_by(exposure.arrival)
    rows = reader.select(statement)
    states, published = _states(reader, plan)
    coordinates, particles = (
        _lengths(reader, published, port, row_counts)
        for port in (roles.coordinates, roles.particles)
    )
    return Tables(
        roles=roles,
        optics=Optics.of(plan, ((key, acquisition) for key, _, acquisition in rows)),
        arrivals={key: arrival for key, arrival, _ in rows},
        states=states,
        published=published,
        decisions={name: _decisions(reader, name) for name in roles.gates},
        troubles=_troubles(reader, plan),
        micrographs=_items(reader, plan, roles.micrograph),
        ctfs=_items(reader, plan, roles.ctf),
        pick_counts=coordinates,
        particle_counts=particles,
    )


def read_coordinates(
    reader: LedgerReader, tables: Tables, keys: Iterable[str]
) -> dict[str, Coordinates]:
    """Read the picks of a few exposures."""
    port = tables.roles.coordinates
    if port is None:
        return {}
    published = tables.published.get(port.run, {})
    items = {f"{published[k]}/{port.output}": k for k in keys if k in published}
    statement = sa.select(_item.id, _item.scalars, _item.block)
    rows = reader.select(statement.where(_item.id.in_(items)))
    return {
        items[name]: decode(Record(scalars=scalars, block=block), Coordinates)
        for name, scalars, block in rows
    }


def _states(
    reader: LedgerReader, plan: Plan
) -> tuple[dict[str, dict[str, State]], dict[str, dict[str, str]]]:
    states: dict[str, dict[str, State]] = defaultdict(dict)
    published: dict[str, dict[str, str]] = defaultdict(dict)
    by_value = {one.value: one for one in State}
    statement = sa.select(_task.key, _task.state, _task.published)
    for run in plan.workflow.runs:
        of_run = published[run]
        for key, state, name in reader.select(statement.where(_task.run == run)):
            states[key][run] = by_value[state]
            if name is not None:
                of_run[key] = name
    return states, published


def _decisions(reader: LedgerReader, gate: str) -> dict[str, Decision]:
    statement = sa.select(
        _task.key,
        _task.accepted,
        _task.rule,
        _task.value,
        _task.limit,
        _task.verdict_reason,
        _task.override,
    ).where(_task.run == gate)
    return {
        row[0]: Decision(
            None
            if row[2] is None
            else Verdict(
                accepted=row[1],
                rule=row[2],
                value=row[3],
                limit=row[4],
                reason=row[5] or "",
            ),
            row[6],
        )
        for row in reader.select(statement)
    }


def _troubles(reader: LedgerReader, plan: Plan) -> dict[str, list[Trouble]]:
    columns = (_task.run, _task.key, _task.state, _task.reason, _task.attempt)
    wanted = (State.FAILED, State.QUARANTINED, State.SKIPPED)
    found: dict[str, list[Trouble]] = defaultdict(list)
    for run in plan.workflow.runs:
        statement = sa.select(*columns).where(
            _task.run == run, _task.state.in_([one.value for one in wanted])
        )
        for name, key, state, reason, attempt in reader.select(statement):
            found[key].append(Trouble(name, key, State(state), reason, attempt))
    return found


def _items(reader: LedgerReader, plan: Plan, port: Port | None) -> dict[str, Any]:
    if port is None:
        return {}
    kind = plan.workflow.kind(port)
    statement = (
        sa.select(_task.key, sa.cast(_item.scalars, sa.Text))
        .join_from(
            schema.task, schema.item, _item.id == _task.published + f"/{port.output}"
        )
        .where(_task.run == port.run)
    )
    rows = reader.select(statement)
    # One parse of all is three times as quick as one parse for each.
    values = json.loads(f"[{','.join(text for _, text in rows)}]")
    return {
        row[0]: decode(Record(scalars=scalars), kind)
        for row, scalars in zip(rows, values, strict=True)
    }


def _lengths(
    reader: LedgerReader,
    published: Mapping[str, Mapping[str, str]],
    port: Port | None,
    known: MutableMapping[str, int],
) -> dict[str, int]:
    """Return how many rows each key's block has; reads only what is not known."""
    if port is None:
        return {}
    items = {key: f"{name}/{port.output}" for key, name in published[port.run].items()}
    lacking = sorted({one for one in items.values() if one not in known})
    statement = sa.select(_item.id, _item.block)
    for start in range(0, len(lacking), _CHUNK):
        chunk = _item.id.in_(lacking[start : start + _CHUNK])
        for name, block in reader.select(statement.where(chunk)):
            known[name] = _row_count(block)
    return {key: known[item] for key, item in items.items() if item in known}


def _row_count(block: bytes | None) -> int:
    if block is None:
        return 0
    # One column is enough, and a thread of its own would cost more than it saves.
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=[0])
    with pa.ipc.open_stream(pa.py_buffer(block), options=options) as stream:
        return int(stream.read_next_batch().num_rows)
