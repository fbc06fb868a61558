"""Hints that something changed in a folder: they make it quicker, never right.

The kernel tells of changes on a local disk at once. On a network file system it tells
nothing about other hosts, so there no hints are asked for; polling finds everything.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from watchfiles import Change
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from icestream.streaming.filesystem import file_system_of

__all__ = ["ChangeHints", "is_on_local_disk"]

# An allow-list: what is not known to be local may be written by another host.
_LOCAL = frozenset(
    {
        *("apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs"),
        *("msdos", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "vfat"),
        *("xfs", "zfs"),
    }
)
_GATHER_MS, _STEP_MS = 100, 20


class ChangeHints:
    """Follows one folder through the kernel's notification, where that is of use.

    The waiting is done by the thread that asks: there is no thread of our own, and
    the kernel's queue is closed by `close` or with the object.
    """

    def __init__(self) -> None:
        self._notify: RustNotify | None = None
        self._is_useless = False
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @property
    def is_following(self) -> bool:
        """Whether hints arrive."""
        return self._notify is not None

    def follow(self, folder: str) -> None:
        """Begin to follow a folder; do nothing where that is of no use."""
        if self._notify is not None or self._is_useless or self._stop.is_set():
            return
        if not Path(folder).is_dir():
            return
        if not is_on_local_disk(Path(folder)):
            self._is_useless = True
            return
        try:
            self._notify = RustNotify([folder], False, False, 0, True, True)
        except (OSError, WatchfilesRustInternalError):
            # No watches left (fs.inotify.max_user_watches): polling goes on.
            self._is_useless = True

    def forget(self) -> None:
        """Stop following, e.g. because the folder has gone; `follow` starts again."""
        with self._lock:
            notify, self._notify = self._notify, None
            if notify is not None:
                notify.close()
            self._changed.clear()

    def close(self) -> None:
        """Stop for good; a `wait` in another thread returns."""
        self._stop.set()
        self.forget()

    def take(self) -> set[str]:
        """Return the absolute paths that changed since the last call, at once."""
        self._gather(timeout_s=0.0)
        changed, self._changed = self._changed, set()
        return changed

    def wait(self, timeout_s: float) -> bool:
        """Wait until a name appears or goes; ``False`` after the time."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0 and not self._stop.is_set():
            if self._notify is None:
                self._stop.wait(left_s)
            elif self._gather(timeout_s=left_s):
                return True
        return False

    def _gather(self, *, timeout_s: float) -> bool:
        with self._lock:
            if self._notify is None:
                return False
            # Zero would wait for ever.
            limit_ms = max(1, round(timeout_s * 1000))
            gather_ms = min(_GATHER_MS, limit_ms)
            step_ms = min(_STEP_MS, limit_ms)
            found = self._notify.watch(gather_ms, step_ms, limit_ms, self._stop)
        if isinstance(found, str):
            if found == "signal":
                raise KeyboardInterrupt
            return False
        self._changed.update(path for _, path in found)
        return any(change != Change.modified for change, _ in found)


def is_on_local_disk(folder: Path) -> bool:
    """Whether a folder lies on a file system that only this host writes to.

    Unknown kinds count as not local, and so does a system that does not tell.
    """
    try:
        return file_system_of(folder) in _LOCAL
    except (OSError, RuntimeError, ValueError):
        return False
