"""What the ledger holds about exposures, read in few queries and joined by key."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain import Coordinates
from icestream.report.optics import Optics
from icestream.report.roles import Roles
from icestream.streaming.records import Record, decode, row_count
from icestream.streaming.workflow import item_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence

    from icestream.streaming.answers import Decision, Trouble
    from icestream.streaming.plan import Plan
    from icestream.streaming.reader import LedgerReader
    from icestream.streaming.tasks import State
    from icestream.streaming.workflow import Port

__all__ = ["Tables", "read_coordinates", "read_tables"]


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
    motions
        By key, the single values of how a movie moved.
    numbers
        By key, further single numbers of an exposure.
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
    motions: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, Mapping[str, float]]
    pick_counts: Mapping[str, int]
    particle_counts: Mapping[str, int]


def read_tables(
    reader: LedgerReader, plan: Plan, row_counts: MutableMapping[str, int]
) -> Tables:
    """Read everything that is joined by key."""
    roles = Roles.of(plan)
    exposures = reader.exposures()
    states, published = _states(reader, plan)
    coordinates, particles = (
        _lengths(reader, published, port, row_counts)
        for port in (roles.coordinates, roles.particles)
    )
    return Tables(
        roles=roles,
        optics=Optics.of(plan, ((one.key, one.acquisition) for one in exposures)),
        arrivals={one.key: one.arrival for one in exposures},
        states=states,
        published=published,
        decisions={name: reader.decisions(name) for name in roles.gates},
        troubles=_troubles(reader, plan),
        micrographs=_items(reader, plan, roles.micrograph),
        ctfs=_items(reader, plan, roles.ctf),
        motions=reader.scalars(roles.motion.run, roles.motion.output)
        if roles.motion
        else {},
        numbers=_numbers(reader, roles.numbers),
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
    items = {item_id(published[k], port.output): k for k in keys if k in published}
    found = reader.items(items)
    return {items[name]: decode(one, Coordinates) for name, one in found.items()}


def _states(
    reader: LedgerReader, plan: Plan
) -> tuple[dict[str, dict[str, State]], dict[str, dict[str, str]]]:
    states: dict[str, dict[str, State]] = defaultdict(dict)
    published: dict[str, dict[str, str]] = defaultdict(dict)
    for run in plan.workflow.runs:
        of_run = published[run]
        for key, state, name in reader.task_states(run):
            states[key][run] = state
            if name is not None:
                of_run[key] = name
    return states, published


def _troubles(reader: LedgerReader, plan: Plan) -> dict[str, list[Trouble]]:
    found: dict[str, list[Trouble]] = defaultdict(list)
    for run in plan.workflow.runs:
        for one in reader.troubles(run):
            found[one.key].append(one)
    return found


def _items(reader: LedgerReader, plan: Plan, port: Port | None) -> dict[str, Any]:
    if port is None:
        return {}
    kind = plan.workflow.kind(port)
    found = reader.scalars(port.run, port.output)
    return {key: decode(Record(scalars=one), kind) for key, one in found.items()}


def _numbers(
    reader: LedgerReader, ports: Iterable[Port]
) -> dict[str, dict[str, float]]:
    """Read what is a number of some small items, by key and field."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for port in ports:
        for key, scalars in reader.scalars(port.run, port.output).items():
            found[key] |= {
                name: value
                for name, value in scalars.items()
                if isinstance(value, int | float)
            }
    return found


def _lengths(
    reader: LedgerReader,
    published: Mapping[str, Mapping[str, str]],
    port: Port | None,
    known: MutableMapping[str, int],
) -> dict[str, int]:
    """Return how many rows each key's block has; reads only what is not known."""
    if port is None:
        return {}
    items = {
        key: item_id(name, port.output) for key, name in published[port.run].items()
    }
    lacking = {one for one in items.values() if one not in known}
    known.update((name, row_count(block)) for name, block in reader.blocks(lacking))
    return {key: known[item] for key, item in items.items() if item in known}
