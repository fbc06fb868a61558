"""One process of the execution engine as the service sees it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from icestream.streaming.processes import MARK, end_processes, record_process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Child", "describe_exit", "tail_of", "trim_log"]

COMMAND = "from icestream.streaming.dask_node import main; main()"
THREAD_POOLS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
TAIL_BYTES = 2_000


class Child:
    """An engine process: started, spoken to by lines of JSON, and ended for certain.

    It leads its own session, so Ctrl-C at the service's terminal does not reach it. It
    must be made in a thread that lives as long as it shall: the kernel ends it with
    that thread.

    Parameters
    ----------
    name
        Its slot, or ``scheduler``.
    folder
        Its working directory; holds its log.
    threads
        Cap of the thread pools of the libraries it loads.
    environment
        Variables beside those of the service.
    """

    def __init__(
        self, name: str, folder: Path, *, threads: int, environment: Mapping[str, str]
    ) -> None:
        mark = secrets.token_hex(16)
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", COMMAND, name, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={
                    **os.environ,
                    **dict.fromkeys(THREAD_POOLS, str(threads)),
                    **environment,
                    MARK: mark,
                },
                start_new_session=True,
            )
        self.record = record_process(name, self._process.pid, mark)
        self._partial = b""
        os.set_blocking(self._pipe(self._process.stdout), False)

    def order(self, **message: str) -> None:
        """Send an order; one that has ended cannot hear it."""
        line = json.dumps(message).encode() + b"\n"
        try:
            os.write(self._pipe(self._process.stdin), line)
        except BrokenPipeError:
            return

    def reports(self) -> list[dict[str, Any]]:
        """Return what it reported since the last call, without waiting."""
        try:
            self._partial += os.read(self._pipe(self._process.stdout), 65_536)
        except BlockingIOError:
            return []
        *lines, self._partial = self._partial.split(b"\n")
        return [json.loads(line) for line in lines]

    def exit_status(self) -> int | None:
        """Return how it ended, ``None`` while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it with its descendants, without waiting."""
        end_processes([self.record])

    def bury(self, *, wait_s: float = 2.0) -> None:
        """End what it left behind, and wait for it, once it was killed or has ended."""
        end_processes([self.record], wait_s=wait_s)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(wait_s)

    @staticmethod
    def _pipe(pipe: Any) -> int:  # noqa: ANN401 - IO[bytes] | None
        return int(pipe.fileno())


def describe_exit(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"left with status {status}"
    known = {one.value: f" ({one.name})" for one in signal.Signals}
    return f"ended by signal {-status}{known.get(-status, '')}"


def tail_of(log: Path) -> str:
    """Return the end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def trim_log(log: Path, *, limit_bytes: int) -> None:
    """Move a log that grew too long aside, over the one moved before.

    It is copied and cut, not renamed: processes hold it open for appending.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return
        with log.open("rb") as file:
            file.seek(-limit_bytes, os.SEEK_END)
            log.with_suffix(".log.1").write_bytes(file.read(limit_bytes))
        os.truncate(log, 0)
    except OSError:
        return
