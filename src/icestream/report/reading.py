"""Read a session's results from its ledger, all at one moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.report.gallery import choose
from icestream.report.pace import Pace
from icestream.report.results import (
    ExposureResult,
    FailureLine,
    RunResult,
    SessionResults,
    Snapshot,
    Standing,
)
from icestream.report.tables import read_coordinates, read_tables
from icestream.streaming.records import decode
from icestream.streaming.tasks import TERMINAL, State

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from icestream.report.roles import Roles
    from icestream.report.tables import Tables
    from icestream.streaming.answers import (
        Decision,
        FailedAttempt,
        RunStanding,
        Trouble,
    )
    from icestream.streaming.plan import Plan
    from icestream.streaming.reader import LedgerReader

__all__ = ["read_results"]


def read_results(
    reader: LedgerReader,
    plan: Plan,
    *,
    now: float | None = None,
    row_counts: MutableMapping[str, int] | None = None,
) -> SessionResults:
    """Read what a session has come to.

    Parameters
    ----------
    reader
        A fresh reader of the session's ledger.
    plan
        The session's runs.
    now
        Seconds since 1970; the clock's, if not given.
    row_counts
        Lengths of blocks by item id. Give the same mapping each time and only new
        blocks are read: items never change.

    Returns
    -------
    SessionResults
        Everything that the report shows, except the pictures themselves.
    """
    moment = time.time() if now is None else now
    tables = read_tables(reader, plan, {} if row_counts is None else row_counts)
    pace = Pace()
    pace.add(reader.moments())
    exposures = tuple(_exposure(key, tables, pace) for key in tables.arrivals)
    gallery = choose(exposures)
    runs = reader.runs()
    sources_closed = all(n in runs and runs[n].closed for n in tables.roles.sources)
    unfinished = {e.key for e in exposures if e.standing is Standing.IN_PROGRESS}
    return SessionResults(
        read_at=moment,
        roles=tables.roles,
        exposures=exposures,
        groups=tables.optics.groups,
        runs=_runs(reader, plan, runs, pace=pace, now=moment),
        failures=_failures(reader, tables),
        ingest=tuple(reader.files_not_taken()),
        notices=tuple(reader.notices()),
        snapshots=_snapshots(reader, plan, tables.roles),
        gallery=gallery,
        coordinates=read_coordinates(
            reader, tables, (one.key for group in gallery for one in group.exposures)
        ),
        paused={one.name: one.paused for one in runs.values() if one.paused},
        rates=pace.rates(unfinished, now=moment),
        is_finished=sources_closed and not unfinished,
    )


def _exposure(key: str, tables: Tables, pace: Pace) -> ExposureResult:
    states = tables.states.get(key, {})
    gate = _deciding_gate(tables, key)
    decided = tables.decisions[gate][key] if gate else None
    standing = _standing(states, tables.roles, decided)
    micrograph = tables.micrographs.get(key)
    group = tables.optics.of_key.get(key)
    setup = micrograph.setup if micrograph else ""
    motion = tables.motions.get(key, {})
    return ExposureResult(
        key=key,
        source=key.partition("/")[0],
        setup=group.setup.name if group else setup,
        arrival=tables.arrivals[key],
        arrived_at=pace.arrived_at(key),
        finished_at=pace.finished_at(key),
        standing=standing,
        states=states,
        micrograph=micrograph,
        ctf=tables.ctfs.get(key),
        group=group,
        total_motion_angst=motion.get("total_angst"),
        early_motion_angst=motion.get("early_angst"),
        numbers=tables.numbers.get(key, {}),
        verdict=decided.verdict if decided else None,
        gate=gate,
        override=decided.override if decided else None,
        pick_count=tables.pick_counts.get(key),
        particle_count=tables.particle_counts.get(key),
        reason=_reason(tables.troubles.get(key, ()), standing),
    )


def _deciding_gate(tables: Tables, key: str) -> str | None:
    """Return the first gate that rejects, else the last one that accepts."""
    found = None
    for name, decisions in tables.decisions.items():
        accepted = decisions[key].accepted if key in decisions else None
        if accepted is not None:
            found = name
        if accepted is False:
            break
    return found


def _standing(
    states: Mapping[str, State], roles: Roles, decided: Decision | None
) -> Standing:
    if not TERMINAL.issuperset(states.values()):
        return Standing.IN_PROGRESS
    failed = {run for run, one in states.items() if one is State.QUARANTINED}
    if failed - roles.spare or (failed and decided is None):
        return Standing.FAILED
    if decided is not None:
        return Standing.ACCEPTED if decided.accepted else Standing.REJECTED
    return Standing.SKIPPED if roles.gates else Standing.ACCEPTED


def _reason(troubles: Sequence[Trouble], standing: Standing) -> str:
    if standing in (Standing.ACCEPTED, Standing.REJECTED):
        return ""
    skipped = standing is Standing.SKIPPED
    for one in troubles:
        if one.reason and (one.state is State.SKIPPED) is skipped:
            return f"{one.run}: {one.reason}"
    return ""


def _runs(
    reader: LedgerReader,
    plan: Plan,
    runs: Mapping[str, RunStanding],
    *,
    pace: Pace,
    now: float,
) -> tuple[RunResult, ...]:
    counts, mean_s = reader.counts(), reader.mean_elapsed_s()
    found = []
    for name, spec in plan.workflow.runs.items():
        run, standing = plan.runs[name], runs.get(name)
        found.append(
            RunResult(
                name=name,
                protocol=run.protocol.name,
                summary=run.protocol.summary(),
                citation=run.protocol.citation,
                shape=spec.shape.value,
                params=run.params,
                counts=counts.get(name, {}),
                closed=standing is not None and standing.closed,
                paused=standing.paused if standing else None,
                rate=pace.run(name),
                rate_now=pace.run(name, now=now),
                mean_s=mean_s.get(name),
            )
        )
    return tuple(found)


def _failures(reader: LedgerReader, tables: Tables) -> tuple[FailureLine, ...]:
    last = {(one.run, one.key): one for one in reader.failed_attempts()}
    return tuple(
        _failure(one, last.get((one.run, one.key)))
        for key in tables.arrivals
        for one in tables.troubles.get(key, ())
        if one.state is not State.SKIPPED
    )


def _failure(trouble: Trouble, attempt: FailedAttempt | None) -> FailureLine:
    cause, message, details = attempt[2:] if attempt else ("", "", "")
    return FailureLine(
        run=trouble.run,
        key=trouble.key,
        cause=cause,
        reason=trouble.reason or message or "no reason was given",
        details=details,
        attempts=trouble.attempt,
        is_final=trouble.state is State.QUARANTINED,
    )


def _snapshots(reader: LedgerReader, plan: Plan, roles: Roles) -> tuple[Snapshot, ...]:
    found = []
    for name in roles.aggregates:
        record = reader.snapshot(name)
        if record is None:
            continue
        protocol = plan.runs[name].protocol
        (kind,) = protocol.outputs.values()
        item = decode(record, kind)
        scalars: dict[str, Any] = {}
        columns: dict[str, tuple[Any, ...]] = {}
        for field in (*record.scalars, *_columns_of(item)):
            value = getattr(item, field)
            if isinstance(value, np.ndarray):
                columns[field] = tuple(value.tolist())
            elif isinstance(value, list | tuple):
                columns[field] = tuple(value)
            else:
                scalars[field] = value
        found.append(
            Snapshot(
                run=name, summary=protocol.summary(), scalars=scalars, columns=columns
            )
        )
    return tuple(found)


def _columns_of(item: object) -> tuple[str, ...]:
    names = getattr(item, "__dataclass_fields__", {})
    return tuple(n for n in names if isinstance(getattr(item, n), np.ndarray))
