"""What a session has come to, in a few lines at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icestream.cli.output import count_of, say, seconds_text, stdout
from icestream.report.reading import read_results
from icestream.report.results import Rate, SessionResults, Standing
from icestream.streaming.protocol import SightingState

if TYPE_CHECKING:
    from icestream.app.session import Session

__all__ = ["NOT_TAKEN", "count_text", "load_results", "print_summary", "rate_text"]

NOT_TAKEN = (SightingState.WAITING, SightingState.UNREADABLE)
"""States of files that somebody should look after."""

_FAILURES_SHOWN = 5


def load_results(session: Session) -> SessionResults:
    """Read all results of a session at this moment."""
    reader = session.read()
    try:
        return read_results(reader, session.plan)
    finally:
        reader.close()


def count_text(results: SessionResults) -> str:
    """Say how many exposures stand where, and what was found in them."""
    counts = ", ".join(
        f"{results.count(standing)} {standing.value}"
        for standing in Standing
        if results.count(standing)
    )
    text = count_of(len(results.exposures), "exposure")
    text += f": {counts}" if counts else ""
    if results.roles.coordinates is not None:
        picks, particles = results.pick_count, results.particle_count
        text += f"; {count_of(picks, 'pick')}, {count_of(particles, 'particle')}"
    return text


def rate_text(rate: Rate | None) -> str:
    """Say a rate: ``450/h``; ``18 in 42 s`` where that says nothing of an hour yet."""
    if rate is None:
        return ""
    if rate.per_hour is None and rate.span_s < 1:
        return f"{rate.count:,} at once"
    if rate.per_hour is None:
        return f"{rate.count:,} in {seconds_text(rate.span_s)}"
    return f"{rate.per_hour:,.0f}/h"


def print_summary(session: Session, results: SessionResults) -> None:
    """Print the numbers, the reasons of failures, and the report's path."""
    lines = [count_text(results)]
    if results.rates.lag_s is not None:
        lag = seconds_text(results.rates.lag_s)
        lines.append(f"{lag} from arrival to the last result (median)")
    final = [one for one in results.failures if one.is_final]
    lines += [
        f"failed: {f.key} in {f.run}: {f.reason}" for f in final[:_FAILURES_SHOWN]
    ]
    if len(final) > _FAILURES_SHOWN:
        lines.append(f"... and {len(final) - _FAILURES_SHOWN} more: see the report")
    lines += [
        f"not taken: {one.path}: {one.reason}"
        for one in results.ingest
        if one.state in NOT_TAKEN
    ][:_FAILURES_SHOWN]
    lines += [
        f"paused: {run or 'the session'}: {reason}"
        for run, reason in results.paused.items()
    ]
    console = stdout()
    for line in lines:
        say(console, line)
    say(console, f"Report: {session.report_path}", in_one_line=True)
