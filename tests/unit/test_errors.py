"""What the system says of files, in our words."""

from __future__ import annotations

import errno
import os

import pytest

from icestream.domain.errors import DiskFull, FolderUnavailable, cannot_write
from icestream.streaming.execution import Failure, Fault, guard


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, DiskFull, "Free space or quota of /data"),
        (errno.EDQUOT, DiskFull, "Free space or quota of /data"),
        (errno.EROFS, FolderUnavailable, "mounted for writing"),
        (errno.EACCES, FolderUnavailable, "permission to write in /data"),
        (errno.ENOENT, FolderUnavailable, "Check that /data exists"),
        (None, FolderUnavailable, "Check that /data exists"),
    ],
)
def test_an_error_of_writing_in_our_words(
    number: int | None, kind: type[Exception], hint: str
) -> None:
    error = OSError("odd") if number is None else OSError(number, os.strerror(number))
    found = cannot_write("/data/a.mrc", error)
    assert type(found) is kind
    assert found.what.startswith("/data/a.mrc cannot be written: ")
    assert hint in found.hint


@pytest.mark.parametrize(
    ("path", "culprit", "said"),
    [
        ("/data/new", "/data/new/session.yaml", "write in /data/new, or choose"),
        ("/data/new", "/data/new", "write in /data, or choose"),
        ("new", None, "write in its folder, or choose"),
    ],
)
def test_the_folder_at_fault_is_told(path: str, culprit: str | None, said: str) -> None:
    error = PermissionError(errno.EACCES, "no", culprit)
    assert said in cannot_write(path, error).hint


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTDIR])
def test_what_is_no_folder_is_told(number: int) -> None:
    error = OSError(number, "odd", "/etc/passwd")
    found = cannot_write("/etc/passwd", error, instead="name another with `ledger:`")
    assert "/etc/passwd is no folder" in found.what
    assert found.hint == "Name another with `ledger:`."


@pytest.mark.parametrize("name", ["/data/a.mrc", b"/data/a.mrc", 7, None])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_an_author_finds_full_is_the_sessions_fault(
    name: object, number: int
) -> None:
    def work() -> None:
        error = OSError(number, os.strerror(number))
        error.filename = name
        raise error

    failure = guard(work)
    assert isinstance(failure, Failure)
    assert failure.fault is Fault.SESSION
    assert "cannot be written" in failure.message
