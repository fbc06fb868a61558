"""Processes of the execution engine: to know them again, and to end them for certain.

A process is known by host, boot, pid and start time, so that a pid in use again is
never mistaken for it. Its descendants are known by a mark in their environment, so that
they are found even when they left its process group and their parent is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MARK",
    "ProcessRecord",
    "die_before_others",
    "die_with_parent",
    "end_processes",
    "is_alive",
    "read_orphans",
    "read_records",
    "reap_strays",
    "record_process",
    "write_records",
]

MARK = "ICESTREAM_PROCESS"
"""Environment variable that an engine process hands to all its descendants."""

PR_SET_PDEATHSIG = 1
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """What identifies one engine process for ever.

    Parameters
    ----------
    name
        Its slot, ``scheduler``, or ``service``.
    host, boot
        Host name and the kernel's boot id: after a reboot nothing is alive.
    pid, started_ticks
        Process id and start time, in clock ticks since boot.
    mark
        Value of `MARK` in its environment and in that of its descendants.
    """

    name: str
    host: str
    boot: str
    pid: int
    started_ticks: int
    mark: str


def record_process(name: str, pid: int, mark: str) -> ProcessRecord:
    """Return the record of a process that was started just now."""
    return ProcessRecord(
        name=name,
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=pid,
        started_ticks=_started_ticks(pid) or 0,
        mark=mark,
    )


def is_alive(record: ProcessRecord) -> bool:
    """Return whether exactly this process still runs on this host."""
    return _is_here(record) and _started_ticks(record.pid) == record.started_ticks


def write_records(path: Path, records: Sequence[ProcessRecord]) -> None:
    """Replace a file of records as a whole; this process is their service."""
    service = record_process("service", os.getpid(), "")
    text = json.dumps([asdict(one) for one in (service, *records)], indent=1)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    temporary.replace(path)


def read_records(path: Path) -> list[ProcessRecord]:
    """Return the records in a file; none where it is absent or from another version."""
    return _read(path)[1:]


def read_orphans(path: Path) -> list[ProcessRecord]:
    """Return the records in a file whose service is dead; none while it lives.

    The file may lie in a copy of a session that runs elsewhere: what it names is not
    ours to end.
    """
    records = _read(path)
    return [] if not records or is_alive(records[0]) else records[1:]


def reap_strays(
    records: Iterable[ProcessRecord], *, wait_s: float = 5.0
) -> list[ProcessRecord]:
    """End what an earlier service left behind on this host.

    Returns
    -------
    list of ProcessRecord
        Those of which the process or a descendant had still been alive.
    """
    here = [one for one in records if _is_here(one)]
    strays = [one for one in here if is_alive(one) or _marked([one.mark])]
    end_processes(strays, wait_s=wait_s)
    return strays


def end_processes(records: Sequence[ProcessRecord], *, wait_s: float = 0.0) -> bool:
    """Kill processes with their groups and descendants.

    Parameters
    ----------
    records
        The processes; those that are gone may still have descendants.
    wait_s
        How long to wait until all are gone; 0 signals once and returns.

    Returns
    -------
    bool
        Whether nothing was left.
    """
    deadline = time.monotonic() + wait_s
    while victims := _victims(records):
        for pid in victims:
            _kill(pid)
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Parameters
    ----------
    parent
        Process id of the parent; where it is gone already, this process ends at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def die_before_others() -> None:
    """Have the kernel choose this process, not the service, when memory runs out."""
    path = PROC / "self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError):
        path.write_text(str(min(1000, int(path.read_text()) + 300)))


def _read(path: Path) -> list[ProcessRecord]:
    """Return the record of the service, then the others."""
    try:
        return [ProcessRecord(**one) for one in json.loads(path.read_text())]
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return []


def _victims(records: Sequence[ProcessRecord]) -> set[int]:
    found = _marked([one.mark for one in records])
    for record in records:
        if is_alive(record):
            found |= {record.pid, *_descendants(record.pid)}
    return found - {os.getpid()}


def _descendants(pid: int) -> list[int]:
    try:
        return [one.pid for one in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _marked(marks: Sequence[str]) -> set[int]:
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    found = set()
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # A zombie has no environment left, so what is found here can be killed.
            variables = (folder / "environ").read_bytes().split(b"\0")
            if not wanted.isdisjoint(variables):
                found.add(int(folder.name))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _is_here(record: ProcessRecord) -> bool:
    return record.host == socket.gethostname() and record.boot == _boot_id()


def _boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _started_ticks(pid: int) -> int | None:
    """Return when a process started; ``None`` where it is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold blanks and brackets itself: count from its end.
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
