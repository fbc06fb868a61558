"""Commands to a session, running or not: pause, resume, stop, retry, set, override."""

import time
from pathlib import Path
from typing import Annotated

import typer

from icestream.app.session import Session
from icestream.cli.arguments import SessionDir, with_absolute_path
from icestream.cli.output import say, stderr, stdout
from icestream.domain.errors import BadSettings, ServiceUnreachable
from icestream.streaming.control import ServiceState
from icestream.streaming.workflow import Shape

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
Overridden = Annotated[
    list[str],
    typer.Argument(
        metavar="[SESSION_DIR] [GATE] KEY",
        help="The session's folder (default: this folder); the gate's run (default: "
        "the only one); exposures, as `status --json` lists them.",
    ),
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
    is_stopped = session.service().state is ServiceState.STOPPED
    hint = " Not running: `icestream start` it." if is_stopped else ""
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
    _require_answer(session)
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
        typer.Argument(metavar="RUN.PARAM=VALUE", help="e.g. ctf.box_px=1024"),
    ],
) -> None:
    """Change parameters; results follow.

    What follows from them is made anew, at once or when the session starts. Moving the
    limits of a gate decides again and recomputes no image. Values are YAML: null for
    none, '[110, 140]' for a range. session.yaml is changed with it, unless it has these
    values already, by hand perhaps: then a running service only hears of them.
    """
    changed = Session(session_dir).send(
        "set", changes=[with_absolute_path(one) for one in changes]
    )
    if changed:
        say(stdout(), f"Changed: {', '.join(changed)}.")
    else:
        say(stdout(), "Nothing has changed: these values hold already.")


def accept_command(keys: Overridden) -> None:
    """Accept exposures at a gate by hand.

    The gate need not be named where the session has only one.

    A person's word beats every rule and survives recomputation; `reset` undoes it.
    """
    _override("accept", keys)


def reject_command(keys: Overridden) -> None:
    """Reject exposures at a gate by hand.

    The gate need not be named where the session has only one.

    A person's word beats every rule and survives recomputation; `reset` undoes it.
    """
    _override("reject", keys)


def reset_command(keys: Overridden) -> None:
    """Let a gate's rule decide again.

    The gate need not be named where the session has only one.
    """
    _override("reset", keys)


def _override(command: str, given: list[str]) -> None:
    session, names = _session_and_rest(given)
    gate, keys = _gate_and_keys(session, names)
    for key in keys:
        session.send(command, run=gate, key=key)
        say(stdout(), f"{command}: {key}")


def _session_and_rest(given: list[str]) -> tuple[Session, list[str]]:
    """Take the session's folder off, where the first name is one."""
    first, *rest = given
    is_here = (Path() / "session.yaml").exists()
    if is_here and not (Path(first) / "session.yaml").exists():
        return Session(Path()), given
    return Session(Path(first)), rest


def _gate_and_keys(session: Session, names: list[str]) -> tuple[str, list[str]]:
    """Take the gate off, where the first name is a run; else there must be one only."""
    runs = session.plan.workflow.runs
    if names and names[0] in runs:
        gate, keys = names[0], names[1:]
    else:
        gates = [n for n, one in runs.items() if one.shape is Shape.GATE]
        if len(gates) != 1:
            raise BadSettings(
                "Name the gate before the exposures.",
                hint=f"There are: {', '.join(gates) or 'none in this session'}.",
            )
        gate, keys = gates[0], names
    if not keys:
        raise BadSettings(
            f"No exposure is given for {gate!r}.",
            hint="`icestream status --json` lists the keys.",
        )
    return gate, keys


def _require_answer(session: Session) -> None:
    """Refuse where a process holds the session but cannot be spoken to."""
    found = session.service()
    if found.state is not ServiceState.BUSY:
        return
    holder = f"Process {found.pid}" if found.pid else "A process that cannot be named"
    ending = f"`kill {found.pid}` ends it as Ctrl-C does" if found.pid else "end it"
    raise ServiceUnreachable(
        f"{holder} holds the session {session.folder}, but nobody answers at "
        f"{session.socket_path}.",
        hint="It may be starting or ending: try again in a moment. Where its socket "
        f"was removed, {ending}: nothing is lost.",
    )


def _wait_for_end(session: Session) -> None:
    """Return once no service answers and the writer's lock is free."""
    while session.service().state is not ServiceState.STOPPED:
        time.sleep(_LOOK_EVERY_S)
