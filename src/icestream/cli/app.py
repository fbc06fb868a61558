"""The table of commands. A command's module is imported only when it is called."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "Entry", "build_app", "run"]

_HELP = """On-the-fly processing of single-particle cryo-EM data.

A whole session, from an empty folder to particles for RELION:

    icestream new my_session \\
        --set sources.grid1.folder=/data/grid1 \\
        --set setups.grid1.pixel_size_angst=0.885 \\
        --set setups.grid1.voltage_kv=300 \\
        --set pick.diameter_angst='\\[110, 140]'
    icestream start my_session
    icestream status my_session
    icestream set my_session curate.rules.resolution_angst.maximum=6
    icestream export my_session --to star relion_project

`new` makes the folder. `start` works until Ctrl-C; started again, it goes on. The
others work from another terminal, whether it runs or not. The report is
my_session/report.html.

Each step also works alone on files:

    icestream motion movie.tiff --pixel-size-angst 0.885 --voltage-kv 200 \\
        --dose-e-per-angst2 40 --gain gain.mrc --out corrected
    icestream ctf image.mrc --pixel-size-angst 0.885 --voltage-kv 200
    icestream pick image.mrc --pixel-size-angst 1.5 --diameter-angst 110 140

`icestream COMMAND --help` explains a command, `icestream demo` shows a session.
"""
_EPILOG = """Exit codes: 0 done; 1 our own error; 2 wrong usage or settings; 3 some
items failed; 4 the session cannot be used; 5 a source was unavailable at the end; 130
interrupted; 143 terminated."""

_SESSION = "A session"
_CONTROL = "Control of a session, running or not"
_FILES = "Steps alone on files"
_AROUND = "Around it"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command stands, its first line, and its panel in the help."""

    module: str
    help: str
    panel: str


COMMANDS = {
    "new": Entry("session", "Make a new session's folder.", _SESSION),
    "start": Entry("start", "Run a session until it is stopped.", _SESSION),
    "status": Entry("status", "Say how a session stands.", _SESSION),
    "report": Entry("session", "Write the report now, and print its path.", _SESSION),
    "export": Entry("session", "Write the results for other programs.", _SESSION),
    "pause": Entry("control", "Start nothing more, of one run or at all.", _CONTROL),
    "resume": Entry("control", "Go on after a pause.", _CONTROL),
    "stop": Entry("control", "End a running service, wait until it ended.", _CONTROL),
    "retry": Entry("control", "Queue what failed again.", _CONTROL),
    "set": Entry("control", "Change parameters; results follow.", _CONTROL),
    "accept": Entry("control", "Accept exposures at a gate by hand.", _CONTROL),
    "reject": Entry("control", "Reject exposures at a gate by hand.", _CONTROL),
    "reset": Entry("control", "Let a gate's rule decide again.", _CONTROL),
    "motion": Entry("motion", "Correct movies: gain, defects, motion, dose.", _FILES),
    "ctf": Entry("ctf", "Fit the CTF of micrographs or power spectra.", _FILES),
    "pick": Entry("pick", "Find particles in micrographs.", _FILES),
    "extract": Entry("extract", "Cut particles out of micrographs.", _FILES),
    "protocols": Entry("protocols", "List the protocols, or explain one.", _AROUND),
    "simulate": Entry(
        "simulate", "Simulate an acquisition whose truth is known.", _AROUND
    ),
    "replay": Entry("replay", "Let files arrive as from a microscope.", _AROUND),
    "score": Entry(
        "score", "Compare a session with the truth of a simulated acquisition.", _AROUND
    ),
    "demo": Entry("demo", "Show a small session from end to end.", _AROUND),
}


def run(args: Sequence[str]) -> None:
    """Run the program; it ends with one of the documented exit codes."""
    chosen = [one for one in args[:1] if one in COMMANDS]
    build_app(load=chosen)(list(args), prog_name="icestream")


def build_app(*, load: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """Assemble the program; only the commands to ``load`` know their options."""
    app = typer.Typer(
        name="icestream",
        help=_flowing(_HELP),
        epilog=_flowing(_EPILOG),
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_icestream)
    for name, entry in COMMANDS.items():
        made = _load(name, entry) if name in load else _stub(entry)
        app.command(name, rich_help_panel=entry.panel)(made)
    return app


def _icestream(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _show_version(asked=value),
            is_eager=True,
            help="Show the version and leave.",
        ),
    ] = False,
) -> None:
    """Stand before the commands."""


def _show_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"icestream {importlib.metadata.version('icestream')}")
        raise typer.Exit


def _load(name: str, entry: Entry) -> Callable[..., Any]:
    from icestream.cli.exits import guarded

    module = importlib.import_module(f"icestream.cli.{entry.module}")
    command = guarded(getattr(module, f"{name}_command"))
    command.__doc__ = _flowing(inspect.getdoc(command) or "")
    return command


def _flowing(text: str) -> str:
    """Join the lines of each paragraph, so that any width of terminal fits."""
    return "\n\n".join(
        one if one.startswith(" ") else one.replace("\n", " ")
        for one in text.split("\n\n")
    )


def _stub(entry: Entry) -> Callable[..., Any]:
    def command() -> None: ...

    command.__doc__ = entry.help
    return command
