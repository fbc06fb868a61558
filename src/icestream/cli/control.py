"""Commands to a session, running or not: pause, resume, stop, retry, set, override."""

import time
from pathlib import Path
from typing import Annotated

import typer

from icestream.app.session import Session
from icestream.cli.arguments import SessionDir
from icestream.cli.output import say, stderr, stdout
from icestream.domain.errors import BadSettings, SessionInUse
from icestream.streaming.control import writer_lock

__all__ = [
    "accept_command",
    "pause_command",
    "reject_command",
    "reset_command",
    "resume_command",
    "retry_command",
    "set_command",
    "stop_command",
]

_LOOK_EVERY_S = 0.1

OneRun = Annotated[str | None, typer.Argument(metavar="RUN", help="Of this run only.")]
Gate = Annotated[str, typer.Argument(metavar="GATE", help="The gate's run.")]
Keys = Annotated[
    list[str],
    typer.Argument(metavar="KEY", help="Exposures, as `status --json` lists them."),
]
GivenSession = Annotated[
    Path, typer.Argument(metavar="SESSION_DIR", help="The session's folder.")
]


def pause_command(session_dir: SessionDir = Path(), run: OneRun = None) -> None:
    """Start nothing more, of one run or at all.

    What runs is finished. New files are still noticed. A pause survives a restart.
    """
    Session(session_dir).send("pause", run=run)
    say(stdout(), f"Paused: {run or 'the whole session'}. `icestream resume` goes on.")


def resume_command(session_dir: SessionDir = Path(), run: OneRun = None) -> None:
    """Go on after a pause."""
    session = Session(session_dir)
    session.send("resume", run=run)
    hint = "" if session.is_running() else " Not running: `icestream start` it."
    say(stdout(), f"Resumed: {run or 'the whole session'}.{hint}")


def stop_command(
    session_dir: SessionDir = Path(),
    when_finished: Annotated[
        bool,
        typer.Option(
            "--when-finished",
            help="Let it end once its sources are quiet and all is done.",
        ),
    ] = False,
) -> None:
    """End a running service, wait until it ended.

    Running tasks are finished first, for half a minute at most; nothing is lost in
    either case. Given a second time, it ends at once. Ctrl-C ends the waiting only.
    """
    session = Session(session_dir)
    session.send("finish" if when_finished else "stop")
    doing = "It ends when all is done" if when_finished else "Running tasks end"
    with stderr().status(f"{doing} ..."):
        _wait_for_end(session)
    say(stdout(), "Ended.")


def retry_command(
    session_dir: SessionDir = Path(),
    run: OneRun = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Of this exposure only.", show_default="all"),
    ] = None,
) -> None:
    """Queue what failed again."""
    count = Session(session_dir).send("retry", run=run, key=key)
    if key is not None and not count:
        raise BadSettings(
            f"Exposure {key!r} has not failed in {run or 'any run'}.",
            hint="`icestream status` lists what failed.",
        )
    say(stdout(), f"Queued again: {count}.")


def set_command(
    session_dir: GivenSession,
    changes: Annotated[
        list[str],
        typer.Argument(metavar="RUN.PARAM=VALUE", help="e.g. ctf_limits.score_min=0.1"),
    ],
) -> None:
    """Change parameters; results follow.

    What follows from them is made anew, at once or when the session starts. Moving the
    limits of a gate decides again and recomputes no image. Values are YAML: null for
    none, '[110, 140]' for a range. session.yaml is changed with it.
    """
    changed = Session(session_dir).send("set", changes=changes)
    say(
        stdout(),
        f"Changed: {', '.join(changed)}." if changed else "Nothing has changed.",
    )


def accept_command(session_dir: GivenSession, gate: Gate, keys: Keys) -> None:
    """Accept exposures at a gate by hand.

    A person's word beats every rule and survives recomputation; `reset` undoes it.
    """
    _override("accept", session_dir, gate, keys)


def reject_command(session_dir: GivenSession, gate: Gate, keys: Keys) -> None:
    """Reject exposures at a gate by hand.

    A person's word beats every rule and survives recomputation; `reset` undoes it.
    """
    _override("reject", session_dir, gate, keys)


def reset_command(session_dir: GivenSession, gate: Gate, keys: Keys) -> None:
    """Let a gate's rule decide again."""
    _override("reset", session_dir, gate, keys)


def _override(command: str, session_dir: Path, gate: str, keys: list[str]) -> None:
    session = Session(session_dir)
    for key in keys:
        session.send(command, run=gate, key=key)
        say(stdout(), f"{command}: {key}")


def _wait_for_end(session: Session) -> None:
    """Return once no service answers and the writer's lock is free."""
    while session.is_running():
        time.sleep(_LOOK_EVERY_S)
    while True:
        try:
            with writer_lock(session.lock_path):
                return
        except SessionInUse:
            time.sleep(_LOOK_EVERY_S)
