"""Folders of temporary files go with those who made them, however they end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from icestream.domain.errors import FolderUnavailable
from icestream.external.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDER = """
import sys, tempfile
from icestream.external.scratch import scratch_folder
tempfile.tempdir = sys.argv[1]
with scratch_folder("one-") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "large.mrc").write_bytes(bytes(1000))
    print(folder.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(disk: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a folder, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(disk)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def name_of(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def test_it_goes_when_all_went_well_or_not(disk: Path) -> None:
    with scratch_folder("one-") as folder:
        (folder / "file").touch()
        assert folder.parent == disk
        assert folder.stat().st_mode & 0o077 == 0
    assert list(disk.iterdir()) == []
    with pytest.raises(ValueError, match="on purpose"), scratch_folder("one-"):
        raise ValueError("on purpose")
    assert list(disk.iterdir()) == []


def test_what_the_killed_left_goes_with_the_next(
    disk: Path, holder: subprocess.Popen[str]
) -> None:
    left = disk / name_of(holder)
    holder.kill()
    holder.wait()
    assert (left / "deep" / "large.mrc").is_file()
    with scratch_folder("one-") as folder:
        assert list(disk.iterdir()) == [folder]


def test_what_is_in_use_or_of_others_stays(
    disk: Path, holder: subprocess.Popen[str]
) -> None:
    theirs = disk / name_of(holder)
    (disk / "one-of-somebody").mkdir()
    with scratch_folder("one-"), scratch_folder("one-"):
        assert (theirs / "deep" / "large.mrc").is_file()
    assert sorted(disk.iterdir()) == sorted([theirs, disk / "one-of-somebody"])


def test_a_disk_that_takes_nothing_is_told(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk / "absent"))
    with pytest.raises(FolderUnavailable, match="absent"), scratch_folder("one-"):
        pass
