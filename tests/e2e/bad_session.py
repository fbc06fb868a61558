"""A session of real protocols for tests of bad input; run as a program: as nobody."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from icestream.app.session import Session, create_session
from icestream.domain.errors import IcestreamError
from icestream.streaming.control import writer_lock
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.recorder import Limits
from icestream.streaming.service import Service
from small import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["finish", "make_session", "reasons", "running", "states"]

NOBODY = 65534
_TEMPLATE = """
schema_version: 1
setups: {grid: {pixel_size_angst: 1.5, voltage_kv: 300}}
sources: {}
runs:
  import: {protocol: import_micrographs, inputs: {file: sources}}
  ctf: {protocol: estimate_ctf, inputs: {micrograph: import.micrograph}}
  curate: {protocol: curate_exposures, inputs: {ctf: ctf.ctf}}
  statistics: {protocol: session_statistics, inputs: {ctf: curate.accepted}}
"""
_LIMITS = {"free_gb": 0.0, "look_again_s": 0.2}


def make_session(folder: Path, watched: Path, *changes: str) -> Session:
    """Make a session that watches one folder."""
    template = watched.with_name(f"{watched.name}.template.yaml")
    folder.parent.mkdir(exist_ok=True)
    template.write_text(_TEMPLATE, encoding="utf-8")
    watched.mkdir(exist_ok=True)
    given = (f"sources.grid.folder={watched}", "sources.grid.poll_s=0.05")
    return create_session(folder, template=str(template), changes=[*given, *changes])


@contextmanager
def running(session: Session, **limits: float) -> Iterator[Service]:
    """A service at work in a thread; what ended it too early is raised here."""
    with _at_work(session, **limits) as (service, _):
        yield service


@contextmanager
def _at_work(
    session: Session, **limits: float
) -> Iterator[tuple[Service, Future[None]]]:
    with writer_lock(session.lock_path):
        ledger = Ledger(session.ledger_path)
        service = Service(
            session.plan,
            ledger,
            InlineExecutor(),
            session_folder=session.folder,
            limits=Limits(**{**_LIMITS, **limits}),  # type: ignore[arg-type]
        )

        with ThreadPoolExecutor(1) as threads:
            work = threads.submit(service.run)
            try:
                yield service, work
            finally:
                service.stop()
                wait([work], timeout=30)
                ledger.close()
            work.result()


def finish(session: Session, **limits: float) -> Service:
    """Run a session until its source is quiet and all is done."""
    with writer_lock(session.lock_path):
        ledger = Ledger(session.ledger_path)
        try:
            service = Service(
                session.plan,
                ledger,
                InlineExecutor(),
                session_folder=session.folder,
                limits=Limits(**{**_LIMITS, **limits}),  # type: ignore[arg-type]
            )
            service.command(service.finish)
            service.run()
        finally:
            ledger.close()
    return service


def states(service: Service, run: str) -> dict[str, str]:
    """States of a run's tasks by the name of the file."""
    tasks = service.scheduler.board.tasks[run].items()
    return {key.removeprefix("grid/"): one.state.value for key, one in tasks}


def reasons(service: Service, run: str) -> dict[str, str]:
    """Reasons of a run's tasks by the name of the file."""
    tasks = service.scheduler.board.tasks[run].items()
    return {key.removeprefix("grid/"): one.reason for key, one in tasks}


def main() -> None:
    """Run sessions one after the other; the first one still with all permissions.

    Prints one line of JSON each: what ended it, or why it is paused.
    """
    first, *others = (Path(one) for one in sys.argv[1:])
    finish(Session(first))  # all that is imported late is imported now
    if not os.geteuid():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for folder in others:
        said = _try(folder)
        sys.stdout.write(json.dumps([folder.name, *said]) + "\n")


def _try(folder: Path) -> tuple[str, str]:
    try:
        with _at_work(Session(folder)) as (service, work):
            board = service.scheduler.board
            service.command(service.finish)
            wait_for(lambda: board.runs[""].paused is not None or work.done())
            return "paused", str(board.runs[""].paused)
    except IcestreamError as error:
        return type(error).__name__, str(error)


if __name__ == "__main__":
    main()
