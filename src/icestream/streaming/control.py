"""Talking to a running service: JSON lines over a Unix socket that only its user opens.

Whether a service runs is told by `find_service`, and nowhere else.

A request is one line, ``{"command": name, ...}``; the answer is one line,
``{"ok": true, "result": ...}`` or ``{"ok": false, "error": ...}``, sent after the
request is stored as events.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import (
    BadSettings,
    ServiceUnreachable,
    SessionError,
    SessionInUse,
    cannot_write,
)
from icestream.streaming.processes import ProcessRecord, is_alive, record_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "ControlServer",
    "ServiceState",
    "ServiceStatus",
    "find_service",
    "in_use",
    "request",
    "writer_lock",
]

_LONGEST = 1 << 20
_PATIENCE_S = 60.0
_REFUSALS = (SessionError, ValueError, RecursionError, CancelledError, TimeoutError)


class ServiceState(StrEnum):
    """Whether a service runs; ``busy``: it has the session, but answers nobody."""

    RUNNING = "running"
    BUSY = "busy"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What is known of a session's service; ``pid`` where its process is known."""

    state: ServiceState
    pid: int | None = None


def find_service(socket_path: Path, lock_path: Path) -> ServiceStatus:
    """Return whether a service runs on a session, and as which process.

    Parameters
    ----------
    socket_path, lock_path
        The session's socket and its writer lock.

    Returns
    -------
    ServiceStatus
        ``busy`` while a service starts or ends, and where its socket was removed.
    """
    try:
        return ServiceStatus(ServiceState.RUNNING, request(socket_path, "ping"))
    except ServiceUnreachable:
        pass
    try:
        descriptor = os.open(lock_path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ServiceStatus(ServiceState.STOPPED)
    except OSError:  # not ours to look at: who has it cannot be told
        return ServiceStatus(ServiceState.BUSY)
    try:
        if _lock(descriptor, fcntl.LOCK_SH):
            return ServiceStatus(ServiceState.STOPPED)
        return ServiceStatus(ServiceState.BUSY, _holder(descriptor))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold a session's writer lock; the kernel releases it when the process ends.

    Raises
    ------
    SessionInUse
        Another process holds it.
    FolderUnavailable, DiskFull
        The folder may not be written.
    """
    with contextlib.ExitStack() as stack:
        is_there = False
        while not is_there:  # another file may have taken its name before it was locked
            stack.close()
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise cannot_write(path, error) from error
            stack.callback(os.close, descriptor)
            if not _lock(descriptor, fcntl.LOCK_EX):
                raise in_use(path.parent, _holder(descriptor))
            is_there = _is_file_of(descriptor, path)
        _sign(descriptor)
        yield


def in_use(folder: Path, holder: int | None) -> SessionInUse:
    """Return what to raise where a process, known by its id or not, has a session."""
    who = f"process {holder}" if holder else "another process"
    return SessionInUse(
        f"The session {folder} is in use by {who}.",
        hint="`icestream status` shows it; `icestream stop` ends it.",
    )


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int) -> bool:
    """Lock a file; looked at again, since `find_service` locks it for a moment."""
    for wait_s in (0.01, 0.05, 0.1, 0.0):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        time.sleep(wait_s)
    return False


def _sign(descriptor: int) -> None:
    """Leave in the lock file who holds it: for people, since the lock is the truth."""
    record = json.dumps(asdict(record_process("service", os.getpid(), "")))
    with contextlib.suppress(OSError):  # a full disk does not keep anybody out
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, record.encode() + b"\n", 0)


def _holder(descriptor: int) -> int | None:
    """Return the process that holds a lock file, where it has signed and is alive."""
    try:
        record = ProcessRecord(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None
    return record.pid if is_alive(record) else None


class ControlServer:
    """Answers requests on a session's socket, each in its own thread.

    Parameters
    ----------
    path
        The socket; made with mode 600, removed at the end.
    answer
        Takes a request and returns what JSON can hold; may raise a ``SessionError``.

    Raises
    ------
    FolderUnavailable, DiskFull
        The socket cannot be made.
    """

    def __init__(self, path: Path, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self._path = path
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            with _short(path) as address:
                self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise cannot_write(path, error) from error
        finally:
            os.umask(mask)
        # Who finds the queue full is refused at once, as if no service ran.
        self._socket.listen(socket.SOMAXCONN)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more and remove the socket."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE_S)
            threading.Thread(
                target=self._talk, args=(connection,), name="request", daemon=True
            ).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            try:
                asked = _parse(_line(connection))
                reply = {"ok": True, "result": self._answer(asked)}
            except _REFUSALS as error:
                reply = {"ok": False, "error": str(error) or "the service is ending"}
            connection.sendall(json.dumps(reply).encode() + b"\n")


def request(path: Path, command: str, **values: object) -> Any:  # noqa: ANN401 - JSON
    """Ask a running service for something and return its answer.

    Raises
    ------
    ServiceUnreachable
        Nobody listens on this socket, or no answer comes.
    BadSettings
        The service refused; the message says why.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_S)
        try:
            with _short(path) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"command": command} | values).encode())
            connection.sendall(b"\n")
            reply = json.loads(_line(connection))
        except (OSError, ValueError) as error:
            raise ServiceUnreachable(
                f"No service answers for the session {path.parent} ({error}).",
                hint="`icestream start` starts one.",
            ) from error
    if not reply["ok"]:
        raise BadSettings(reply["error"])
    return reply["result"]


def _parse(line: bytes) -> Mapping[str, Any]:
    asked = json.loads(line)
    if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
        raise BadSettings('A request is {"command": name, ...}.')
    return asked


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        more = connection.recv(65536)
        if not more or len(received) > _LONGEST:
            raise ValueError("the line is cut or too long")
        received += more
    return bytes(received)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a socket's address that is short in any folder (107 bytes are the limit)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
