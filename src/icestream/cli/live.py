"""The display of a running session: a live table on a terminal, lines otherwise."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from icestream.cli.output import count_of, make_table, say, seconds_text, stderr
from icestream.cli.overview import LedgerFollower
from icestream.cli.summary import rate_text
from icestream.domain.errors import LedgerUnusable
from icestream.streaming.service import LOW_ON_SPACE
from icestream.streaming.workflow import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType
    from rich.table import Table

    from icestream.app.session import Session
    from icestream.cli.overview import Overview, RunLine

__all__ = ["LiveView"]

_EVERY_S = 0.5
_LINE_EVERY_S = 5.0
_SHARE = 20
"""A look may take one part in so many of the time between two."""
_NEWS_SHOWN = 5


class LiveView:
    """Shows a session while its service runs, from a thread of its own.

    Parameters
    ----------
    session
        The session.
    expected
        Of a source: how many files will come, where that is known.
    """

    def __init__(
        self, session: Session, *, expected: Mapping[str, int] | None = None
    ) -> None:
        self._session = session
        self._expected = dict(expected or {})
        self._follower = LedgerFollower(session)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)
        self._console = stderr()
        self._live: Live | None = None
        self._note = "Starting"
        self._last_line = ("", 0.0)
        self._told_paused: set[str] = set()

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=False
            )
            self._live.start()
        else:
            self._print("Starting.")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._live is not None:
            self._live.stop()

    def begin(self) -> None:
        """Follow the ledger from now on; it exists."""
        self._note = f"Running {self._session.folder}; Ctrl-C stops"
        self._follower.begin()
        self._thread.start()

    def say(self, text: str) -> None:
        """Change the line that says what goes on. Safe in a signal handler."""
        self._note = text
        if self._live is None:
            self._print(text)

    def _run(self) -> None:
        wait = 0.0
        over = False
        while not over:
            # One look more after the end, so that the last state stays on the screen.
            over = self._stop.wait(wait)
            clock = time.perf_counter()
            try:
                self._show(self._follower.look(), over=over)
            except LedgerUnusable:
                return  # the service says why, and better
            wait = max(_EVERY_S, _SHARE * (time.perf_counter() - clock))

    def _show(self, overview: Overview, *, over: bool) -> None:
        for one in overview.news[-_NEWS_SHOWN:]:
            self._print(one, style="yellow")
        self._tell_paused(overview)
        if self._live is not None:
            self._live.update(self._render(overview, over=over), refresh=True)
            return
        text = _one_line(overview)
        before, moment = self._last_line
        is_due = over or time.monotonic() - moment >= _LINE_EVERY_S
        if text != before and is_due:
            self._last_line = (text, time.monotonic())
            self._print(text)

    def _tell_paused(self, overview: Overview) -> None:
        """Say once of each pause that it does not end by itself, and what ends it."""
        paused = {one.name: one.paused for one in overview.runs if one.paused}
        if overview.paused and not overview.paused.startswith(LOW_ON_SPACE):
            paused[""] = overview.paused
        for name, reason in paused.items():
            if name not in self._told_paused:
                self._print(
                    f"{name or 'The session'} is paused and waits for you: {reason}. "
                    f"`icestream resume {self._session.folder} {name}".rstrip()
                    + "` goes on; Ctrl-C ends.",
                    style="bold yellow",
                )
        self._told_paused = set(paused)

    def _print(self, text: str, style: str = "") -> None:
        stamp = time.strftime("%H:%M:%S")
        say(self._console, f"{stamp}  {text}", style=style)

    def _render(self, overview: Overview, *, over: bool) -> RenderableType:
        lines: list[RenderableType] = [self._table(overview)]
        if overview.paused:
            lines.append(Text(f"Paused: {overview.paused}", style="bold yellow"))
        lines.extend(
            Text(f"{one.name} is paused: {one.paused}", style="bold yellow")
            for one in overview.runs
            if one.paused
        )
        if not over:
            lines.append(Spinner("dots", Text(self._footer(overview))))
        return Group(*lines)

    def _footer(self, overview: Overview) -> str:
        parts = [self._note]
        lag_s = overview.rates.lag_s
        if lag_s is not None:
            parts.append(f"arrival to result {seconds_text(lag_s)}")
        if overview.waiting_files:
            parts.append(f"{count_of(overview.waiting_files, 'file')} not complete yet")
        return " · ".join(parts)

    def _table(self, overview: Overview) -> Table:
        numbers = ("done", "running", "waiting", "failed", "skipped", "rate")
        table = make_table("run", "", *numbers, right=numbers)
        for one in overview.runs:
            table.add_row(*self._row(one))
        return table

    def _row(self, one: RunLine) -> list[RenderableType]:
        if one.shape is Shape.AGGREGATE:
            state = f"{one.to_be_read} behind" if one.to_be_read else "up to date"
            return [one.name, Text(state, style="dim")]
        total = self._expected.get(one.name, one.total)
        if one.shape is Shape.SOURCE and one.name not in self._expected:
            bar: RenderableType = Text("watching", style="dim")
            done = f"{one.total}"
        else:
            finished = one.total if one.shape is Shape.SOURCE else one.finished
            bar = ProgressBar(total=max(total, 1), completed=finished, width=24)
            done = f"{finished}/{total}"
        rejected = f"{one.rejected} rejected" if one.rejected else ""
        return [
            one.name,
            bar,
            done,
            _number(one.running),
            _number(one.waiting),
            Text(_number(one.failed), style="red"),
            rejected or _number(one.skipped),
            rate_text(one.rate),
        ]


def _number(value: int) -> str:
    return f"{value}" if value else ""


def _one_line(overview: Overview) -> str:
    parts: list[Any] = []
    for one in overview.runs:
        if one.shape is Shape.AGGREGATE:
            continue
        if one.shape is Shape.SOURCE:
            parts.append(f"{one.name} {one.total}")
            continue
        failed = f" ({one.failed} failed)" if one.failed else ""
        rejected = f" ({one.rejected} rejected)" if one.rejected else ""
        parts.append(f"{one.name} {one.finished}/{one.total}{failed}{rejected}")
    if overview.paused or any(one.paused for one in overview.runs):
        parts.append("PAUSED")
    return ", ".join(parts)
