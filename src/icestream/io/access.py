"""Open files for reading and writing; turn the system's errors into ours."""

from __future__ import annotations

import os
import stat
import uuid
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING

from icestream.domain.errors import IncompleteFile, UnreadableFile, cannot_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "SPARE_BYTES",
    "guarding_writes",
    "read_at",
    "read_into",
    "reading",
    "replacing",
]

SPARE_BYTES = 8
"""Room behind what is decoded, and behind its result, that compiled loops touch."""

_LARGEST_OFFSET_BYTES = (1 << 63) - 1


@contextmanager
def reading(path: Path) -> Iterator[FileIO]:
    """Open a regular file, unbuffered, for reading only.

    Parameters
    ----------
    path
        The file. It is neither locked nor changed.

    Yields
    ------
    FileIO
        The open file.

    Raises
    ------
    UnreadableFile
        It vanished, may not be read, is no regular file, or the disk fails; also for
        such an error while the block runs.
    IncompleteFile
        It is empty.
    """
    try:
        with FileIO(path, opener=_open_regular) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise IncompleteFile(
                    f"{path} is empty (0 bytes).",
                    hint="Wait until it is written, or transfer it again.",
                )
            yield file
    except PermissionError as error:
        raise UnreadableFile(
            f"{path} may not be read: permission denied for user id {os.geteuid()}.",
            hint="Give the user that runs icestream read permission (ls -l, chmod).",
        ) from error
    except FileNotFoundError as error:
        raise UnreadableFile(
            f"{path} does not exist.",
            hint="It may have been moved or purged; check the path and the mount.",
        ) from error
    except OSError as error:
        raise UnreadableFile(
            f"{path} could not be read: {error.strerror or error}.",
            hint="Check the disk or the network mount, then retry.",
        ) from error


def _open_regular(name: str, flags: int) -> int:
    # A named pipe would block until somebody writes to it.
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise UnreadableFile(
        f"{name} is not a regular file.",
        hint="Give the path of an image, not of a folder or device.",
    )


def read_at(file: FileIO, offset_bytes: int, count_bytes: int) -> bytes:
    """Return up to ``count_bytes`` from an offset; fewer where the file ends."""
    if offset_bytes > _LARGEST_OFFSET_BYTES:
        return b""
    return os.pread(file.fileno(), count_bytes, offset_bytes)


def read_into(file: FileIO, offset_bytes: int, buffer: NDArray[np.uint8]) -> int:
    """Fill a buffer from an offset; any number of threads may do so at a time.

    Parameters
    ----------
    file
        The file; its own position is neither used nor moved.
    offset_bytes
        Where to begin.
    buffer
        One-dimensional, contiguous.

    Returns
    -------
    int
        How many bytes were read: fewer than the buffer holds where the file ends.
    """
    view = buffer.data
    done = 0
    while done < len(view):
        count = os.preadv(file.fileno(), [view[done:]], offset_bytes + done)
        if not count:
            break
        done += count
    return done


@contextmanager
def guarding_writes(path: Path) -> Iterator[None]:
    """Turn errors of writing ``path`` inside the block into ours.

    Raises
    ------
    DiskFull
        No space or quota is left.
    FolderUnavailable
        The folder is absent, may not be written, or its disk fails.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name that takes its name when all went well.

    Parameters
    ----------
    path
        The file to be; one that exists is replaced in one step.

    Yields
    ------
    Path
        Where to write: a hidden name in the same folder. It is removed on an error.

    Raises
    ------
    DiskFull, FolderUnavailable
        As `guarding_writes` does.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with guarding_writes(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
