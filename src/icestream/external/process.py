"""Run one program to its end: followed while it runs, ended for certain, told exactly.

The program leads its own session. It ends with the thread that runs it, with its time,
or by itself; whichever it is, what it started ends too. Its environment is ours, so an
engine process that is killed still finds what the program left behind by its mark.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from icestream.domain.errors import BadSettings, ProgramFailed
from icestream.io import guarding_writes
from icestream.streaming.children import describe_exit, tail_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ProgramRun", "find_program", "run_program"]

_LOG_BYTES = 4 << 20
_READ_BYTES = 1 << 20  # more than a pipe holds
_LOOK_S = 0.05
_BURY_S = 10.0
_LAST_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """A program that ended well.

    Parameters
    ----------
    command
        As a shell would take it.
    seconds
        From its start to its end.
    log
        What it wrote, to standard output and error.
    """

    command: str
    seconds: float
    log: Path


def find_program(name: str, *, hint: str) -> str:
    """Return the path of a program.

    Parameters
    ----------
    name
        Its name, to be found on the PATH, or its path.
    hint
        How to get it.

    Raises
    ------
    BadSettings
        It is not there, or may not be run.
    """
    found = shutil.which(name)
    if found is None:
        raise BadSettings(f"The program {name} is not on the PATH.", hint=hint)
    return found


def run_program(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    timeout_s: float,
    answers: Path | None = None,
    log_limit_bytes: int = _LOG_BYTES,
) -> ProgramRun:
    """Run a program, without a shell, until it has ended.

    Parameters
    ----------
    command
        The program, as `find_program` returns it, and its arguments.
    folder
        Its working directory.
    log
        File for its output, written while it runs. Of what is too long, the first half
        is kept and, added at the end, the last.
    timeout_s
        After this time it is ended.
    answers
        File that it reads as its standard input; ``None`` for none.
    log_limit_bytes
        Longest output that is kept.

    Raises
    ------
    ProgramFailed
        It left with another status than 0, was ended by a signal, or took too long; its
        last lines stand in the message.
    DiskFull, FolderUnavailable
        The log could not be written.
    """
    started = time.monotonic()
    with guarding_writes(log):
        file = FileIO(log, "w")
    with file:
        kept = _KeptOutput(log, file, log_limit_bytes)
        process, output = _start(command, folder, answers or Path(os.devnull))
        with output:
            try:
                in_time = _follow(process.pid, output, kept, started + timeout_s)
            finally:
                status = _end(process)
            kept.take(output.read(_READ_BYTES) or b"")
        kept.finish()
    told = shlex.join(command)
    if answers is not None:
        told = f"{told} < {shlex.quote(str(answers))}"
    run = ProgramRun(command=told, seconds=time.monotonic() - started, log=log)
    if not in_time:
        raise _failure(f"was ended after {timeout_s:g} s, its time-out", run)
    if status != 0:
        guess = "Memory may have run out. " if status == -signal.SIGKILL else ""
        how = f"{describe_exit(status)} after {run.seconds:.1f} s"
        raise _failure(how, run, guess=guess)
    return run


class _KeptOutput:
    """The first and the last part of what a program writes."""

    def __init__(self, path: Path, file: FileIO, limit_bytes: int) -> None:
        self._path = path
        self._file = file
        self._room = self._last_bytes = limit_bytes // 2
        self._last = b""
        self._left_out = 0

    def take(self, data: bytes) -> bool:
        """Write what still has room, keep the rest; return whether there was any."""
        head, rest = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._write(head)
        self._last += rest
        too_many = max(len(self._last) - self._last_bytes, 0)
        self._left_out += too_many
        self._last = self._last[too_many:]
        return bool(data)

    def finish(self) -> None:
        """Write the end."""
        if self._left_out:
            self._write(b"\n[%d bytes are left out]\n" % self._left_out)
        self._write(self._last)

    def _write(self, data: bytes) -> None:
        with guarding_writes(self._path):
            self._file.write(data)


def _start(
    command: Sequence[str], folder: Path, answers: Path
) -> tuple[subprocess.Popen[bytes], FileIO]:
    """Return the process, and its output to be read without waiting."""
    launch = [sys.executable, "-P", "-m", "icestream.external.launch"]
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with FileIO(writing, "w") as output, FileIO(answers) as told:
        process = subprocess.Popen(
            [*launch, str(os.getpid()), *command],
            stdin=told,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    return process, FileIO(reading)


def _follow(pid: int, output: FileIO, kept: _KeptOutput, deadline: float) -> bool:
    """Take its output until it has ended; return whether that was in time.

    The output's end is not waited for: what the program started may hold it open.
    """
    open_outputs = [output]
    while not _has_ended(pid):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        ready, _, _ = select.select(open_outputs, [], [], min(_LOOK_S, left_s))
        if ready and not kept.take(output.read(_READ_BYTES) or b""):
            open_outputs.clear()
    return True


def _has_ended(pid: int) -> bool:
    """Return whether a child has ended; it stays a zombie, so its id stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the program with its group and what has left it; return its status."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in family:
        with contextlib.suppress(psutil.Error):
            one.kill()
    try:
        return process.wait(_BURY_S)
    except subprocess.TimeoutExpired:
        # It hangs in the kernel, as on a dead network mount, and ends when it can.
        return -signal.SIGKILL


def _failure(how: str, run: ProgramRun, *, guess: str = "") -> ProgramFailed:
    lines = tail_of(run.log).replace("\r", "\n").splitlines()
    said = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    name = Path(shlex.split(run.command)[0]).name
    words = f"It said last: {' | '.join(said)}" if said else "It said nothing."
    return ProgramFailed(
        f"{name} {how}. {words}",
        hint=f"{guess}Its output is in {run.log}; the command was: {run.command}",
    )
