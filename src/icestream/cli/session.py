"""Making a session, and taking its results out: new, report, export."""

from pathlib import Path
from typing import Annotated

import typer

from icestream.app.reporting import update_report
from icestream.app.session import Session, create_session
from icestream.app.settings import template_names
from icestream.cli.arguments import SessionDir, with_absolute_path
from icestream.cli.output import count_of, make_table, say, stderr, stdout
from icestream.domain.errors import BadSettings
from icestream.streaming.control import ServiceState

__all__ = ["export_command", "new_command", "report_command"]

_FORMATS = ("star",)


def new_command(
    session_dir: Annotated[
        Path, typer.Argument(metavar="SESSION_DIR", help="The folder to be made.")
    ],
    template: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Workflow to start from: {', '.join(template_names())}; or a file.",
        ),
    ] = "micrographs",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A value of the session, any number of times: sources.NAME.folder, "
            "setups.NAME.pixel_size_angst, run.param, title, slots.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a new session's folder.

    Each source is a folder to watch and has a setup of its own name: give at least
    sources.NAME.folder, setups.NAME.pixel_size_angst and setups.NAME.voltage_kv.
    Nothing is processed before `icestream start`.
    """
    changes = [with_absolute_path(one) for one in set_ or ()]
    session = create_session(session_dir, template=template, changes=changes)
    console = stdout()
    say(console, f"Made {session.settings_path}")
    table = make_table("run", "protocol", "what it does")
    for name in session.plan.workflow.runs:
        protocol = session.plan.runs[name].protocol
        table.add_row(name, protocol.name, protocol.summary())
    console.print(table)
    command = f"icestream start {session_dir}"
    say(console, f"Next: {command}")


def report_command(session_dir: SessionDir = Path()) -> None:
    """Write the report now, and print its path.

    A running session keeps its report up to date by itself, every few seconds.
    """
    session = Session(session_dir)
    session.read().close()  # says so where there is no ledger yet
    service = session.service()
    update_report(session, running=service.state is ServiceState.RUNNING)
    typer.echo(session.report_path)


def export_command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SESSION_DIR] DIR",
            help="The session's folder (default: this folder), then the new folder.",
        ),
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="star: a RELION project.")
    ] = "star",
) -> None:
    """Write the results for other programs.

    --to star makes a RELION project: micrographs, their CTF, coordinates and particles
    as STAR files with optics groups. May be repeated while the session runs.
    """
    from icestream.report import export_star

    if to not in _FORMATS:
        raise BadSettings(
            f"There is no export to {to!r}.", hint=f"Known: {', '.join(_FORMATS)}."
        )
    if len(folders) > 2:
        raise BadSettings("Give SESSION_DIR and DIR, no more folders.")
    target = folders[-1]
    session = Session(folders[0] if len(folders) == 2 else Path())
    reader = session.read()
    try:
        with stderr().status("Writing ..."):
            done = export_star(
                reader,
                session.plan,
                session_folder=session.folder,
                folder=target.absolute(),
            )
    finally:
        reader.close()
    text = (
        f"{done.accepted_count} accepted and {done.rejected_count} rejected "
        f"micrographs, {count_of(done.particle_count, 'particle')}: {target}"
    )
    say(stdout(), text)
