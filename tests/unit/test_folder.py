"""A watched folder with real files: when a file is taken, and what comes after."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from icestream.domain import RawFile
from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.streaming.folder import FolderRules, FolderWatcher
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TAKEN, WAITING = SightingState.TAKEN, SightingState.WAITING
IGNORED, UNREADABLE = SightingState.IGNORED, SightingState.UNREADABLE
VANISHED = SightingState.VANISHED
WHOLE = b"start of a movie" + bytes(64) + b"END"


class Bench:
    """A watcher of ``tmp_path`` whose files are complete when they end in ``END``."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder
        self.rules = FolderRules(**{"patterns": ("*.mrc",), **rules})
        self.now_s = 1000.0
        self.opened: list[str] = []
        self.read: Callable[[Path], None] = self.check
        self.last: dict[str, Sighting] = {}
        self.watcher = self._new_watcher()

    def _new_watcher(self) -> FolderWatcher:
        return FolderWatcher(
            self.folder,
            setup="krios",
            check_complete=lambda path: self.read(path),
            rules=self.rules,
            clock=lambda: self.now_s,
        )

    def check(self, path: Path) -> None:
        self.opened.append(str(path.relative_to(self.folder)))
        content = path.read_bytes()
        if content.startswith(b"BAD"):
            raise UnreadableFile(f"{path.name} is no MRC file.")
        if not content.endswith(b"END"):
            raise IncompleteFile(f"{path.name} is cut short.")

    def write(self, name: str, content: bytes = WHOLE) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def poll(self, count: int = 1) -> list[Sighting]:
        """Poll so often, a second apart; return what all of them brought."""
        found: list[Sighting] = []
        for _ in range(count):
            self.now_s += 1.0
            found += self.watcher.poll()
        self.last |= {one.path: one for one in found}
        return found

    def brief(self, count: int = 1) -> list[tuple[str, SightingState]]:
        return [(self.relative(one), one.state) for one in self.poll(count)]

    def relative(self, one: Sighting) -> str:
        return os.path.relpath(one.path, self.folder)

    def restart(self) -> None:
        self.watcher = self._new_watcher()
        self.watcher.resume(list(self.last.values()))
        self.opened.clear()

    def known(self, name: str) -> Sighting:
        return self.last[str(self.folder / name)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def rewrite(path: Path, content: bytes) -> None:
    """Write in place, with a time that differs whatever the clock's tick."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 5_000_000_000))


def test_a_complete_file_is_taken_at_the_second_look(bench: Bench) -> None:
    path = bench.write("a b.mrc")
    assert bench.brief() == [("a b.mrc", WAITING)]
    assert bench.opened == []
    (taken,) = bench.poll()
    assert taken.state is TAKEN
    assert taken.key == "a b.mrc"
    assert taken.item == RawFile(
        path=str(path),
        size_bytes=len(WHOLE),
        mtime_ns=path.stat().st_mtime_ns,
        fingerprint=taken.fingerprint or "",
        setup="krios",
    )
    assert len(taken.fingerprint or "") == 32
    assert bench.poll(25) == []


def test_a_folder_that_does_not_exist_yet_waits_and_is_said_once(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path / "later")
    assert bench.brief(3) == [(".", WAITING)]
    bench.folder.mkdir()
    assert bench.brief(3) == [(".", IGNORED)]
    bench.write("a.mrc")
    assert bench.brief(3) == [("a.mrc", WAITING), ("a.mrc", TAKEN)]


def test_an_empty_folder_says_nothing(bench: Bench) -> None:
    assert bench.poll(3) == []


def test_a_path_that_is_no_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(WHOLE)
    assert Bench(tmp_path / "file").brief(2) == [(".", UNREADABLE)]


def test_a_growing_file_is_never_opened(bench: Bench) -> None:
    path = bench.write("a.mrc", b"first")
    bench.poll()
    for _ in range(5):
        with path.open("ab") as file:
            file.write(b"more")
        assert all(one.state is WAITING for one in bench.poll())
    assert bench.opened == []
    with path.open("ab") as file:
        file.write(b"END")
    assert bench.brief(2) == [("a.mrc", TAKEN)]
    assert bench.opened == ["a.mrc"]


def test_looks_that_agree_must_lie_apart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settle_s=3.0)
    bench.write("a.mrc")
    assert bench.brief(3) == [("a.mrc", WAITING)]
    assert bench.brief() == [("a.mrc", TAKEN)]


def test_a_file_that_never_completes_waits_with_its_reason(bench: Bench) -> None:
    bench.write("a.mrc", b"half")
    assert [one.reason for one in bench.poll(30)][1:] == ["a.mrc is cut short."]
    assert bench.known("a.mrc").state is WAITING
    # It is looked into again now and then, not in every poll.
    assert 2 <= len(bench.opened) <= 4


def test_an_incomplete_file_is_looked_into_again_when_it_grew(bench: Bench) -> None:
    path = bench.write("a.mrc", b"half")
    bench.poll(3)
    with path.open("ab") as file:
        file.write(b"END")
    bench.poll(2)
    assert bench.known("a.mrc").state is TAKEN


def test_an_empty_file_waits_and_is_not_opened(bench: Bench) -> None:
    path = bench.write("a.mrc", b"")
    assert [one.reason for one in bench.poll(5)] == ["is empty"]
    assert bench.opened == []
    path.write_bytes(WHOLE)
    assert bench.brief(3)[-1] == ("a.mrc", TAKEN)


@pytest.mark.parametrize("shift_s", [-1e9, -7200, 7200, 1e9])
def test_clocks_that_differ_change_nothing(bench: Bench, shift_s: float) -> None:
    path = bench.write("a.mrc")
    os.utime(path, (time.time() + shift_s,) * 2)
    assert bench.brief(2) == [("a.mrc", WAITING), ("a.mrc", TAKEN)]


def test_nothing_in_the_folder_is_changed(bench: Bench) -> None:
    bench.write("grid/a.mrc")
    bench.write("half.mrc", b"half")
    bench.write("bad.mrc", b"BAD")
    bench.write("notes.txt")

    def tree() -> dict[str, tuple[int, ...]]:
        paths = [bench.folder, *sorted(bench.folder.rglob("*"))]
        stats = {str(one): one.stat() for one in paths}
        return {
            path: (one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_mode)
            for path, one in stats.items()
        }

    before = tree()
    bench.poll(30)
    assert bench.known("grid/a.mrc").state is TAKEN
    assert tree() == before


def test_an_unreadable_file_is_looked_at_again_when_it_changes(bench: Bench) -> None:
    path = bench.write("a.mrc", b"BAD")
    bench.poll(25)
    assert bench.known("a.mrc").state is UNREADABLE
    assert bench.known("a.mrc").reason == "a.mrc is no MRC file."
    assert bench.opened == ["a.mrc"]
    path.chmod(0o600)
    assert bench.poll(12) == []
    assert bench.opened == ["a.mrc"] * 2
    rewrite(path, WHOLE)
    assert bench.brief(12) == [("a.mrc", TAKEN)]


def test_a_file_without_permission_is_tried_again(bench: Bench) -> None:
    path = bench.write("a.mrc")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    bench.read = refuse
    bench.poll(2)
    assert bench.known("a.mrc").state is UNREADABLE
    assert bench.known("a.mrc").reason.startswith(
        f"{path} cannot be read: Permission denied"
    )
    bench.read = bench.check
    assert bench.brief(10) == [("a.mrc", TAKEN)]


def test_a_rewritten_file_is_taken_again_under_its_key(bench: Bench) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    first = bench.known("a.mrc")
    rewrite(path, b"other" + WHOLE)
    assert bench.brief(12) == [("a.mrc", WAITING), ("a.mrc", TAKEN)]
    second = bench.known("a.mrc")
    assert second.key == first.key
    assert second.fingerprint != first.fingerprint
    assert "rewritten" in second.reason


def test_a_rewritten_file_must_be_complete_again(bench: Bench) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    rewrite(path, b"half of another")
    bench.poll(12)
    assert bench.known("a.mrc").state is WAITING
    rewrite(path, b"half of another, END")
    bench.poll(3)
    assert bench.known("a.mrc").state is TAKEN


def test_a_file_replaced_with_the_same_size_and_time_is_read_again(
    bench: Bench,
) -> None:
    path = bench.write("a.mrc")
    bench.poll(3)
    before = path.stat()
    other = bench.write("b.mrc.tmp", WHOLE.replace(b"start", b"START"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)
    assert ("a.mrc", TAKEN) in bench.brief(3)


def test_a_touched_file_is_no_new_revision(bench: Bench) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    first = bench.known("a.mrc")
    os.utime(path, (1.0, 1.0))
    (touched,) = bench.poll(12)
    assert touched.state is TAKEN
    assert touched.reason.startswith("touched")
    assert (touched.key, touched.item, touched.fingerprint) == (
        first.key,
        first.item,
        first.fingerprint,
    )
    os.utime(path, (2.0, 2.0))
    assert bench.poll(12) == []
    bench.restart()
    assert bench.poll(12) == []
    rewrite(path, b"other" + WHOLE)
    bench.poll(12)
    assert bench.known("a.mrc").fingerprint != first.fingerprint


def test_a_vanished_file_is_said_and_may_come_back(bench: Bench) -> None:
    path = bench.write("a.mrc")
    waits = bench.write("b.mrc", b"half")
    bench.poll(2)
    first = bench.known("a.mrc")
    status = path.stat()
    path.unlink()
    waits.unlink()
    assert sorted(bench.brief(3)) == [("a.mrc", VANISHED), ("b.mrc", VANISHED)]
    assert "kept" in bench.known("a.mrc").reason
    bench.write("a.mrc")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bench.brief(3)[-1] == ("a.mrc", TAKEN)
    assert bench.known("a.mrc").fingerprint == first.fingerprint


def test_a_file_back_from_a_backup_without_its_time_keeps_its_fingerprint(
    bench: Bench,
) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    first = bench.known("a.mrc")
    path.unlink()
    bench.poll()
    bench.write("a.mrc")
    os.utime(path, (5.0, 5.0))
    bench.poll(3)
    assert bench.known("a.mrc").fingerprint == first.fingerprint


def test_a_companion_is_waited_for_and_is_a_sure_sign(tmp_path: Path) -> None:
    bench = Bench(tmp_path, companion="{stem}.xml", patterns=("*.mrc",))
    bench.write("a.mrc")
    found = bench.poll(5)
    assert [one.reason for one in found] == ["waits for its companion 'a.xml'"]
    bench.write("a.xml", b"<x/>")
    bench.write("b.mrc")
    bench.write("b.xml", b"<x/>")
    states = bench.brief()
    assert ("a.mrc", TAKEN) in states
    assert ("b.mrc", TAKEN) in states


def test_a_companion_does_not_replace_the_check(tmp_path: Path) -> None:
    bench = Bench(tmp_path, companion="{name}.mdoc")
    bench.write("a.mrc.mdoc", b"x")
    path = bench.write("a.mrc", b"half")
    bench.poll()
    assert bench.known("a.mrc").reason == "a.mrc is cut short."
    # The sure sign was wrong: from now on it must be at rest like any other.
    with path.open("ab") as file:
        file.write(b"END")
    assert TAKEN not in dict(bench.brief()).values()
    assert bench.brief() == [("a.mrc", TAKEN)]


def test_a_final_name_is_a_sure_sign(tmp_path: Path) -> None:
    bench = Bench(tmp_path, renamed_when_complete=True)
    bench.write("a.mrc")
    bench.write("half.mrc", b"half")
    bench.write("empty.mrc", b"")
    assert dict(bench.brief()) == {
        "a.mrc": TAKEN,
        "half.mrc": WAITING,
        "empty.mrc": WAITING,
    }
    other = bench.write("b.tmp", b"other" + WHOLE)
    other.rename(tmp_path / "a.mrc")
    assert ("a.mrc", TAKEN) in bench.brief()


def test_a_file_written_while_it_is_read_is_not_taken(bench: Bench) -> None:
    path = bench.write("a.mrc")

    def write_on(_: Path) -> None:
        bench.read = bench.check
        with path.open("ab") as file:
            file.write(b"END")

    bench.read = write_on
    assert TAKEN not in dict(bench.brief(2)).values()
    assert bench.brief(2)[-1] == ("a.mrc", TAKEN)
    item = bench.known("a.mrc").item
    assert item is not None
    assert item.size_bytes == path.stat().st_size


def test_a_companion_proves_nothing_of_a_rewritten_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, companion="{stem}.xml", full_listing_every=1)
    bench.write("a.xml", b"x")
    path = bench.write("a.mrc")
    assert ("a.mrc", TAKEN) in bench.brief()
    rewrite(path, b"other" + WHOLE)
    assert bench.brief() == [("a.mrc", WAITING)]
    assert bench.brief() == [("a.mrc", TAKEN)]
