"""Several processes that take exposures, in order, a few of them ahead."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

import torch
import torch.multiprocessing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from multiprocessing.connection import Connection

    from icestream.simulate.studio import Studio, Taken
    from icestream.simulate.timetable import Entry

__all__ = ["keep_memory", "take_all"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BYTES = (1 << 28, 1 << 25)  # glibc before 2.35 refuses the first

# The studio of a worker process; each takes one image at a time.
_OWN: list[Studio] = []


def take_all(
    studio: Studio, entries: Sequence[Entry], *, workers: int
) -> Generator[tuple[Entry, Taken], None, None]:
    """Take exposures; once closed, or after an error, no process is at work any more.

    Parameters
    ----------
    studio
        Where; each process has its own.
    entries
        Which.
    workers
        Processes; 1 takes them in this one.

    Yields
    ------
    Entry, Taken
        In order.
    """
    if workers == 1:
        for entry in entries:
            yield entry, studio.take(entry)
        return
    studio.share_memory()
    with _hired(studio, workers) as pool:
        waiting: deque[tuple[Entry, Future[Taken]]] = deque()
        for entry in entries:
            with _ctrl_c_blocked():
                waiting.append((entry, pool.submit(_take, entry)))
            if len(waiting) >= 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


@contextmanager
def _hired(studio: Studio, workers: int) -> Iterator[Executor]:
    """Give processes that end with their work, or at once where something goes wrong.

    Ctrl-C comes to all processes of a terminal. It is this one's to act on it: the
    others end when their end of a pipe says that this one has let go, or has died.
    """
    context = torch.multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    resource_tracker.ensure_running()  # or it would undo what blocks Ctrl-C
    with (
        theirs,
        ours,
        ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_move_in,
            initargs=(studio, theirs),
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


def _move_in(studio: Studio, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_memory()
    _OWN.append(studio)
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
