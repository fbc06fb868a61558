"""Running a session in the foreground."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Self

import typer

from icestream.app.run import run_session
from icestream.app.session import Session
from icestream.cli.arguments import SessionDir
from icestream.cli.exits import INTERRUPTED, ITEMS_FAILED, TERMINATED
from icestream.cli.live import LiveView
from icestream.cli.summary import load_results, print_summary
from icestream.domain.errors import SourceUnavailable
from icestream.report.results import Standing
from icestream.streaming.service import Service

__all__ = ["Interruption", "start_command"]


def start_command(
    session_dir: SessionDir = Path(),
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="End once the sources are quiet and all is done."
        ),
    ] = False,
) -> None:
    """Run a session until it is stopped.

    It goes on where it was, also after a crash. Ctrl-C (or `icestream stop`) finishes
    what runs, then ends; a second Ctrl-C ends at once, and a third without a report.
    Nothing is lost in any case. The table is for terminals; elsewhere, a line is
    printed every few seconds.

    A run of which many exposures fail for the same cause pauses and waits for a person,
    with `--finish` too: it says so, and `icestream resume` lets it go on.
    """
    session = Session(session_dir)
    _ = session.plan  # imports: Ctrl-C ends them at once, before the view has begun
    away: SourceUnavailable | None = None
    with LiveView(session) as view, Interruption() as interruption:

        def started(service: Service) -> None:
            interruption.watch(view, service)
            view.begin()

        try:
            run_session(session, finish=finish, started=started)
        except SourceUnavailable as error:
            away = error
    results = load_results(session)
    print_summary(session, results)
    interruption.leave()
    if away is not None:
        raise away
    if finish and results.count(Standing.FAILED):
        raise typer.Exit(ITEMS_FAILED)


class Interruption:
    """Ends a service on Ctrl-C and SIGTERM; twice: at once. It says so, and with what.

    A third signal finds what was there before, so it ends the program in any case.

    The one place where the program takes signals while a service runs. Used as a
    context, it lets go of them at the end.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def watch(self, view: LiveView, service: Service) -> None:
        """Take signals from now on."""

        def obey(number: int, _frame: FrameType | None) -> None:
            again = self._signal is not None
            self._signal = number
            view.say(
                "Ending at once; Ctrl-C once more does without the report"
                if again
                else "Stopping: running tasks are finished first; Ctrl-C ends at once"
            )
            service.stop()
            if again:
                self._let_go()

        for one in (signal.SIGINT, signal.SIGTERM):
            self._before[one] = signal.signal(one, obey)

    def _let_go(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before.clear()

    def leave(self) -> None:
        """Let go of signals; end the program with the code of the one that came."""
        self._let_go()
        if self._signal == signal.SIGINT:
            raise typer.Exit(INTERRUPTED)
        if self._signal == signal.SIGTERM:
            raise typer.Exit(TERMINATED)
