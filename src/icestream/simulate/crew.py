"""Several processes that take exposures, in order, a few of them ahead."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from icestream.domain.errors import SessionError
from icestream.simulate.handover import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from icestream.simulate.studio import Studio, Taken
    from icestream.simulate.timetable import Entry

__all__ = ["keep_memory", "take_all"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BYTES = (1 << 28, 1 << 25)  # glibc before 2.35 refuses the first

# The studio of a worker process; each takes one image at a time.
_OWN: list[Studio] = []
_SHARED = ".shared"


def take_all(
    studio: Studio, entries: Sequence[Entry], *, workers: int
) -> Generator[tuple[Entry, Taken], None, None]:
    """Take exposures; once closed, or after an error, no process is at work any more.

    Parameters
    ----------
    studio
        Where; each process has its own. With several, this one lets go of its volumes.
    entries
        Which.
    workers
        Processes; 1 takes them in this one.

    Yields
    ------
    Entry, Taken
        In order.

    Raises
    ------
    DiskFull, FolderUnavailable
        A file could not be written.
    SessionError
        A process was ended from outside.
    """
    if workers == 1:
        for entry in entries:
            yield entry, studio.take(entry)
        return
    shared = studio.staging / _SHARED
    pack(studio, shared)
    studio.let_go()
    try:
        with _hired(shared, workers) as pool:
            yield from _taken(pool, entries, ahead=2 * workers)
    except BrokenProcessPool as error:
        raise SessionError(
            f"One of {workers} processes that take images was ended, probably for "
            "want of memory.",
            hint="Use fewer workers, or smaller images.",
        ) from error


def _taken(
    pool: Executor, entries: Sequence[Entry], *, ahead: int
) -> Iterator[tuple[Entry, Taken]]:
    """Give out so many entries ahead of the one that is waited for."""
    waiting: deque[tuple[Entry, Future[Taken]]] = deque()
    for entry in entries:
        with _ctrl_c_blocked():
            waiting.append((entry, pool.submit(_take, entry)))
        if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


@contextmanager
def _hired(shared: Path, workers: int) -> Iterator[Executor]:
    """Give processes that end with their work, or at once where something goes wrong.

    Ctrl-C comes to all processes of a terminal. It is this one's to act on it: the
    others end when their end of a pipe says that this one has let go, or has died.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    resource_tracker.ensure_running()  # or it would undo what blocks Ctrl-C
    with (
        theirs,
        ours,
        ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_move_in,
            initargs=(shared, theirs),
        ) as pool,
    ):
        try:
            yield pool
        except BaseException:
            ours.close()
            raise


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started meanwhile never hears of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _move_in(shared: Path, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    _OWN.append(unpack(shared))
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def keep_memory() -> None:
    """Tell glibc to keep large buffers that were freed: each exposure needs them again.

    Otherwise it gives them back at once, and each page is cleared anew when it is
    touched, which takes an eighth of the time of a movie. For this process and for
    good; elsewhere than with glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for kept_bytes in _KEPT_BYTES:
        if libc.mallopt(_MMAP_THRESHOLD, kept_bytes):
            libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES[0])
            break


def _leave_with(parent: Connection) -> None:
    """End this process when its parent has let go of the pipe, or has died."""
    parent.poll(None)
    os._exit(1)


def _take(entry: Entry) -> Taken:
    return _OWN[0].take(entry)
