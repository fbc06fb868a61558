"""Room for the files of a program that runs, which goes when it has ended."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from icestream.io import guarding_writes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["scratch_folder"]

_LOCK = "in-use"


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a folder on the local disk for temporary files, and remove it after use.

    What processes of this machine that were killed have left under the same prefix is
    removed first: the kernel has released their locks.

    Parameters
    ----------
    prefix
        Of its name.

    Yields
    ------
    Path
        A folder that nobody else may open; a file in it is its lock.

    Raises
    ------
    DiskFull, FolderUnavailable
        It cannot be made.
    """
    above = Path(tempfile.gettempdir())
    _sweep(above, prefix)
    with guarding_writes(above):
        folder = tempfile.TemporaryDirectory(
            prefix=prefix, dir=above, ignore_cleanup_errors=True
        )
    with folder as place:
        # Locked before it has its name, so it is never found unlocked while in use.
        unnamed = Path(place, f".{_LOCK}")
        with guarding_writes(unnamed):
            file = unnamed.open("wb")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            unnamed.rename(Path(place, _LOCK))
            yield Path(place)


def _sweep(above: Path, prefix: str) -> None:
    for lock in above.glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
