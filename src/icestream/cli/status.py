"""How a session stands, for people and for machines."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from icestream.app.session import Session
from icestream.cli.arguments import Json, SessionDir
from icestream.cli.output import make_table, print_json, say, seconds_text, stdout
from icestream.cli.summary import NOT_TAKEN, count_text, load_results, rate_text
from icestream.domain.errors import LedgerUnusable
from icestream.report.results import Rate, Rates, RunResult, SessionResults
from icestream.streaming.answers import NoticeLine
from icestream.streaming.control import ServiceState, ServiceStatus
from icestream.streaming.tasks import State

__all__ = ["status_command"]

_SHOWN = 10
_BEFORE = (State.WAITING, State.READY, State.FAILED, State.STALE)


def status_command(session_dir: SessionDir = Path(), json: Json = False) -> None:
    """Say how a session stands.

    Works while it runs and while it does not. --json gives all exposures with their
    keys and states, runs, failures with reasons, files that wait, and notices.
    """
    session = Session(session_dir)
    service = session.service()
    results = _results(session, is_busy=service.state is ServiceState.BUSY)
    if json:
        print_json(_as_json(session, service, results))
    else:
        _print(stdout(), session, service, results)


def _results(session: Session, *, is_busy: bool) -> SessionResults | None:
    """Return the results, unless the ledger is still to be made."""
    if not session.ledger_path.exists():
        return None
    try:
        return load_results(session)
    except LedgerUnusable:
        if is_busy:
            return None  # it is being made at this moment
        raise


def _as_json(
    session: Session, service: ServiceStatus, results: SessionResults | None
) -> Mapping[str, Any]:
    head = {
        "session": os.fspath(session.folder),
        "title": session.settings.title,
        "service": asdict(service),
        "report": os.fspath(session.report_path),
    }
    if results is None:
        lists = ("runs", "exposures", "failures", "ingest", "notices")
        return (
            head
            | {"is_finished": False, "paused": {}, "rates": {}}
            | dict.fromkeys(lists, ())
        )
    return head | {
        "is_finished": results.is_finished,
        "paused": dict(results.paused),
        "rates": _rates_json(results.rates),
        "runs": [_run_json(one) for one in results.runs],
        "exposures": [_exposure_json(one) for one in results.exposures],
        "failures": [asdict(one) for one in results.failures],
        "ingest": [asdict(one) for one in results.ingest],
        "notices": [_notice_json(one) for one in results.notices],
    }


def _rates_json(rates: Rates) -> Mapping[str, float | None]:
    return {
        "arrived_per_hour": _per_hour(rates.arrived),
        "processed_per_hour": _per_hour(rates.processed),
        "arrived_per_hour_now": _per_hour(rates.arrived_now),
        "processed_per_hour_now": _per_hour(rates.processed_now),
        "lag_s": rates.lag_s,
        "oldest_unprocessed_s": rates.oldest_unprocessed_s,
    }


def _run_json(run: RunResult) -> Mapping[str, Any]:
    names = "name protocol shape params counts closed paused"
    return {name: getattr(run, name) for name in names.split()} | {
        "per_hour": _per_hour(run.rate),
        "per_hour_now": _per_hour(run.rate_now),
        "mean_s": run.mean_s,
    }


def _per_hour(rate: Rate | None) -> float | None:
    return None if rate is None else rate.per_hour


def _notice_json(notice: NoticeLine) -> Mapping[str, Any]:
    return {name: getattr(notice, name) for name in ("time", "run", "message")}


def _exposure_json(exposure: Any) -> Mapping[str, Any]:  # noqa: ANN401
    names = (
        "key source setup arrived_at finished_at standing states override pick_count "
        "particle_count reason"
    )
    verdict = exposure.verdict
    return {name: getattr(exposure, name) for name in names.split()} | {
        "verdict": None if verdict is None else asdict(verdict)
    }


def _print(
    console: Console,
    session: Session,
    service: ServiceStatus,
    results: SessionResults | None,
) -> None:
    state = {
        ServiceState.RUNNING: f"running, process {service.pid}",
        ServiceState.BUSY: "starting or ending",
        ServiceState.STOPPED: "not running; `icestream start` goes on",
    }[service.state]
    say(console, f"{session.folder}: {state}")
    if results is None:
        say(console, "It has no results yet.")
        return
    for run, reason in results.paused.items():
        say(console, f"PAUSED {run or 'session'}: {reason}", style="bold yellow")
    console.print(
        _runs_table(results, is_running=service.state is ServiceState.RUNNING)
    )
    say(console, count_text(results) + ".")
    rates = results.rates
    if rates.lag_s is not None:
        text = (
            f"Arrival to result: {seconds_text(rates.lag_s)} (median of the last 50)."
        )
        if rates.oldest_unprocessed_s is not None:
            oldest = seconds_text(rates.oldest_unprocessed_s)
            text += f" The oldest unfinished one waits for {oldest}."
        say(console, text)
    _print_trouble(console, results)
    say(console, f"Report: {session.report_path}", in_one_line=True)


def _runs_table(results: SessionResults, *, is_running: bool) -> Any:  # noqa: ANN401
    numbers = ("done", "running", "waiting", "failed", "skipped", "rate")
    table = make_table("run", "protocol", *numbers, right=numbers)
    for one in results.runs:
        counts = one.counts
        waiting = sum(counts.get(state, 0) for state in _BEFORE)
        rate = one.rate_now if is_running else one.rate
        if not counts:
            table.add_row(one.name, one.protocol)
            continue
        table.add_row(
            one.name,
            one.protocol,
            *(
                str(number)
                for number in (
                    counts.get(State.DONE, 0),
                    counts.get(State.RUNNING, 0),
                    waiting,
                    counts.get(State.QUARANTINED, 0),
                    counts.get(State.SKIPPED, 0),
                )
            ),
            rate_text(rate),
        )
    return table


def _print_trouble(console: Console, results: SessionResults) -> None:
    failures = [
        f"{one.run}: {one.key}: {one.reason}"
        + ("" if one.is_final else " (tried again)")
        for one in results.failures
    ]
    waiting = [
        f"{one.run}: {one.path}: {one.reason}"
        for one in results.ingest
        if one.state in NOT_TAKEN
    ]
    notices = [f"{f'{n.run}: ' if n.run else ''}{n.message}" for n in results.notices]
    for title, lines in (
        ("Failed", failures),
        ("Files not taken yet", waiting),
        ("Notices", notices),
    ):
        if not lines:
            continue
        say(console, f"{title} ({len(lines)}):")
        for line in lines[-_SHOWN:]:
            say(console, f"  {line}")
