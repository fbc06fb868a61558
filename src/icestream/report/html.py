"""The report: one HTML file that needs no network, written in one step."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from icestream.io import replacing
from icestream.report import wording
from icestream.report.axis import round_step
from icestream.report.chart import histogram, over_time
from icestream.report.gallery import embed
from icestream.report.results import Standing
from icestream.report.series import QUALITY, all_series
from icestream.streaming.protocol import SightingState
from icestream.streaming.state import SESSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.report.results import (
        ExposureResult,
        FailureLine,
        RunResult,
        SessionResults,
        Snapshot,
    )
    from icestream.streaming.answers import SeenFile

__all__ = ["write_report"]

_REFRESH_S = 15
_EXPOSURES = 500
_FAILURES = 60
_DETAILS_CHARACTERS = 4_000
_FILES = 40
_EXAMPLES = 8
_NOTICES = 30
_CLOCKS = 7
_MOST_COLUMNS = 8
_ROWS = 50


def write_report(
    results: SessionResults,
    *,
    session_folder: Path,
    path: Path,
    title: str,
    running: bool,
) -> None:
    """Write the report of a session as one file.

    Parameters
    ----------
    results
        As read by `read_results`.
    session_folder
        Where the thumbnails lie.
    path
        The file; a browser never sees half of it.
    title
        Of the session, any text.
    running
        Whether a service works on it now: the page then loads itself again and again.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.

    Notes
    -----
    A session of any length gives a file of at most some 10 MB: 48 pictures, 500
    exposures, 60 failures; what is left out is counted.
    """
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        results=results,
        state=_state(results, running=running),
        refresh_s=_REFRESH_S if running else None,
        pictures=embed(results, session_folder=session_folder),
        tally=_tally(results),
        version=importlib.metadata.version("icestream"),
        **_charts(results),
        **_tables(results),
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("icestream.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "clock": wording.clock,
        "moment": wording.day_and_time,
        "duration": wording.duration,
        "number": wording.number,
        "plain": wording.plain,
        "rate": wording.rate_text,
        "sentence": wording.verdict_sentence,
    }
    environment.globals |= {
        "percent": wording.percent,
        "quantity": wording.quantity,
        "snapshot_rows": _snapshot_rows,
        "snapshot_lines": _snapshot_lines,
        "Standing": Standing,
    }
    return environment


def _state(results: SessionResults, *, running: bool) -> str:
    if results.is_finished and results.exposures:
        return "finished"
    if SESSION in results.paused:
        return "paused"
    return "running" if running else "stopped"


def _tally(results: SessionResults) -> Mapping[str, int]:
    counts = Counter(one.standing.value for one in results.exposures)
    return {one.value: counts[one.value] for one in Standing}


def _charts(results: SessionResults) -> dict[str, Any]:
    series = all_series(results)
    clocks = _clocks(results.exposures)
    count = len(results.exposures)
    return {
        "motion_charts": [
            over_time(series[name], clocks=clocks, count=count)
            for name in ("motion", "early_motion")
            if series[name].points
        ],
        "without_dose": sum(
            one.total_motion_angst is not None and one.early_motion_angst is None
            for one in results.exposures
        ),
        "quality_charts": [
            over_time(series[name], clocks=clocks, count=count)
            for name in QUALITY
            if series[name].points
        ],
        "charts": [
            over_time(series[name], clocks=clocks, count=count)
            for name in ("defocus", "resolution", "astigmatism")
        ],
        "histograms": [
            histogram(series[name])
            for name in ("defocus", "resolution", "astigmatism", "picks")
        ],
        "no_rings": sum(
            one.ctf is not None and one.ctf.resolution_angst is None
            for one in results.exposures
        ),
    }


def _clocks(exposures: Sequence[ExposureResult]) -> list[tuple[int, str]]:
    """Return round places in the order, counted from 1, and the time of day there."""
    count = len(exposures)
    step = max(int(round_step(count / _CLOCKS)), 1)
    places = [1, *range(step, count + 1, step)] if step > 1 else range(1, count + 1)
    times = [exposures[place - 1].arrived_at for place in places if place <= count]
    return [
        (place, "" if time is None else wording.clock(time))
        for place, time in zip(places, times, strict=False)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FailureGroup:
    """Failures of one run for one cause; ``lines`` are the newest few."""

    run: str
    cause: str
    count: int
    lines: Sequence[FailureLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileGroup:
    """Files of one state and reason; ``paths`` are the newest few."""

    state: str
    reason: str
    count: int
    paths: Sequence[str]


def _tables(results: SessionResults) -> dict[str, Any]:
    newest = results.exposures[: -_EXPOSURES - 1 : -1]
    return {
        "newest": newest,
        "left_out": len(results.exposures) - len(newest),
        "failure_groups": _failure_groups(results.failures),
        "details_characters": _DETAILS_CHARACTERS,
        "file_groups": _file_groups(results.ingest),
        "notices": results.notices[: -_NOTICES - 1 : -1],
        "cited": [one for one in results.runs if one.citation],
        "setup_counts": Counter(one.setup for one in results.exposures),
        "setup_sources": _setup_sources(results.exposures),
        "waiting_files": sum(
            one.state == SightingState.WAITING.value for one in results.ingest
        ),
        "bars": {one.name: _bar(one) for one in results.runs},
        "rules": _rules(results.exposures),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _RuleLine:
    """How often a rule of a gate has rejected, and has been broken without that."""

    gate: str
    rule: str
    rejected: int = 0
    noted: int = 0


def _rules(exposures: Sequence[ExposureResult]) -> list[_RuleLine]:
    """Count which rules decide, the most frequent first; a person's word is a rule."""
    rejected: Counter[tuple[str, str]] = Counter()
    noted: Counter[tuple[str, str]] = Counter()
    for one in exposures:
        if one.gate is None or one.verdict is None:
            continue
        if one.override is False:
            rejected[one.gate, "by hand"] += 1
        elif one.accepted is False:
            rejected[one.gate, one.verdict.rule] += 1
        elif one.verdict.rule != "all":
            noted[one.gate, one.verdict.rule] += 1
    lines = [
        _RuleLine(
            gate=gate,
            rule=rule,
            rejected=rejected[gate, rule],
            noted=noted[gate, rule],
        )
        for gate, rule in rejected | noted
    ]
    return sorted(lines, key=lambda one: (-one.rejected, -one.noted, one.rule))


def _failure_groups(failures: Sequence[FailureLine]) -> list[_FailureGroup]:
    found: dict[tuple[str, str], list[FailureLine]] = {}
    for one in failures:
        found.setdefault((one.run, one.cause), []).append(one)
    share = max(_FAILURES // max(len(found), 1), 1)
    return [
        _FailureGroup(run=run, cause=cause, count=len(lines), lines=lines[-share:])
        for (run, cause), lines in list(found.items())[:_FAILURES]
    ]


def _file_groups(lines: Sequence[SeenFile]) -> list[_FileGroup]:
    found: dict[tuple[str, str], list[SeenFile]] = {}
    for one in lines:
        found.setdefault((one.state, one.reason), []).append(one)
    order = [SightingState.UNREADABLE, SightingState.WAITING, SightingState.VANISHED]
    ranks = {state.value: rank for rank, state in enumerate(order)}
    groups = sorted(found.items(), key=lambda item: ranks.get(item[0][0], len(ranks)))
    share = min(max(_FILES // max(len(groups), 1), 3), _EXAMPLES)
    return [
        _FileGroup(
            state=state,
            reason=reason,
            count=len(some),
            paths=[one.path for one in sorted(some, key=lambda one: -one.time)[:share]],
        )
        for (state, reason), some in groups[:_FILES]
    ]


def _snapshot_rows(snapshot: Snapshot) -> list[list[tuple[str, Any]]]:
    names = list(snapshot.columns)
    rows = itertools.zip_longest(*snapshot.columns.values())
    return [list(zip(names, row, strict=True)) for row in itertools.islice(rows, _ROWS)]


def _snapshot_lines(snapshot: Snapshot) -> list[list[tuple[str, Any]]]:
    """Return the columns as lines, where a table would be too wide; else none.

    Without those that are empty throughout.
    """
    if len(snapshot.columns) <= _MOST_COLUMNS:
        return []
    lines = map(list, zip(*_snapshot_rows(snapshot), strict=True))
    return [one for one in lines if any(value not in (None, "") for _, value in one)]


def _setup_sources(exposures: Sequence[ExposureResult]) -> Mapping[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for one in exposures:
        found.setdefault(one.setup, {})[one.source] = None
    return {setup: list(sources) for setup, sources in found.items()}


def _bar(run: RunResult) -> list[tuple[str, int]]:
    """Return the run's counts from done to waiting, without the zeros."""
    order = ("done", "quarantined", "skipped", "stale", "running", "failed")
    counts = dict(run.counts)
    shown = [(state, counts.pop(state, 0)) for state in order]
    return [(s, n) for s, n in (*shown, ("waiting", sum(counts.values()))) if n]
