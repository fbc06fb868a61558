"""Running a session in the foreground."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from icestream.app.run import run_session
from icestream.app.session import Session
from icestream.cli.arguments import SessionDir
from icestream.cli.exits import INTERRUPTED, ITEMS_FAILED, TERMINATED
from icestream.cli.live import LiveView
from icestream.cli.summary import load_results, print_summary
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
    what runs, then ends; a second Ctrl-C ends at once. Nothing is lost in either case.
    The table is for terminals; elsewhere, a line is printed every few seconds.
    """
    session = Session(session_dir)
    interruption = Interruption()
    with LiveView(session) as view:

        def started(service: Service) -> None:
            interruption.watch(view, service)
            view.begin()

        run_session(session, finish=finish, started=started)
    results = load_results(session)
    print_summary(session, results)
    interruption.leave()
    if finish and results.count(Standing.FAILED):
        raise typer.Exit(ITEMS_FAILED)


class Interruption:
    """Tells the user what a signal brought about, and remembers which it was."""

    def __init__(self) -> None:
        self._signal: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    def watch(self, view: LiveView, service: Service) -> None:
        """Take signals from now on; `run_session` puts its own back at its end."""

        def obey(number: int, _frame: FrameType | None) -> None:
            again = self.is_there
            self._signal = number
            view.say(
                "Ending at once"
                if again
                else "Stopping: running tasks are finished first; Ctrl-C ends at once"
            )
            service.stop()

        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, obey)

    def leave(self) -> None:
        """End the program with the code of the signal, if one came."""
        if self._signal == signal.SIGINT:
            raise typer.Exit(INTERRUPTED)
        if self._signal == signal.SIGTERM:
            raise typer.Exit(TERMINATED)
