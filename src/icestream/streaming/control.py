"""Talking to a running service: JSON lines over a Unix socket that only its user opens.

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
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import (
    BadSettings,
    FolderUnavailable,
    ServiceUnreachable,
    SessionError,
    SessionInUse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["ControlServer", "request", "writer_lock"]

_LONGEST = 1 << 20
_PATIENCE_S = 60.0
_REFUSALS = (SessionError, ValueError, RecursionError, CancelledError, TimeoutError)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold a session's writer lock; the kernel releases it when the process ends.

    Raises
    ------
    SessionInUse
        Another process holds it.
    FolderUnavailable
        The folder may not be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            raise SessionInUse(
                f"The session {path.parent} is in use by process {holder or '?'}.",
                hint="`icestream status` shows it; `icestream stop` ends it.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


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
    FolderUnavailable
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
            raise _not_writable(path, error) from error
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


def _not_writable(path: Path, error: OSError) -> FolderUnavailable:
    return FolderUnavailable(
        f"{path} cannot be made or opened: {error.strerror or error}.",
        hint=f"Check that {path.parent} exists and that you may write in it.",
    )


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a socket's address that is short in any folder (107 bytes are the limit)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
