"""A watched folder in trouble: unmounted, refused, restarted; and when it is idle."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from icestream.streaming.folder import FolderRules, FolderWatcher
from icestream.streaming.listing import DiskLister, Entry
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from pathlib import Path

TAKEN, WAITING = SightingState.TAKEN, SightingState.WAITING
IGNORED, UNREADABLE = SightingState.IGNORED, SightingState.UNREADABLE
VANISHED = SightingState.VANISHED


class TroubledLister(DiskLister):
    """The disk, but for errors by path, other devices, and a count of the calls."""

    def __init__(self) -> None:
        self.errors: dict[str, OSError] = {}
        self.devices: dict[str, int] = {}
        self.inodes: dict[str, int] = {}
        self.frozen_mtime_ns: dict[str, int] = {}
        self.scanned: list[str] = []

    def stat(self, path: str) -> os.stat_result:
        if path in self.errors and self.errors[path].errno == 116:
            raise self.errors[path]
        status = super().stat(path)
        fields = {name: getattr(status, name) for name in dir(status) if "st_" in name}
        fields["st_mtime_ns"] = self.frozen_mtime_ns.get(path, status.st_mtime_ns)
        first = list(status)
        first[1] = self.inodes.get(path, status.st_ino)
        first[2] = self.devices.get(path, status.st_dev)
        return os.stat_result(first, fields)

    def scan(self, path: str) -> list[Entry]:
        self.scanned.append(path)
        if path in self.errors:
            raise self.errors[path]
        return super().scan(path)


class Bench:
    """A watcher of a folder in which any file at rest is complete."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder
        self.lister = TroubledLister()
        self.rules = FolderRules(patterns=("*.mrc",), **rules)
        self.now_s = 0.0
        self.opened: list[str] = []
        self.last: dict[str, Sighting] = {}
        self.watcher = self.new_watcher()

    def new_watcher(self) -> FolderWatcher:
        return FolderWatcher(
            self.folder,
            setup="krios",
            check_complete=lambda path: self.opened.append(path.name),
            rules=self.rules,
            clock=lambda: self.now_s,
            lister=self.lister,
        )

    def write(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        return path

    def poll(self, count: int = 1) -> list[tuple[str, SightingState]]:
        found = []
        for _ in range(count):
            self.now_s += 1.0
            found += self.watcher.poll()
        self.last |= {one.path: one for one in found}
        return [(os.path.relpath(one.path, self.folder), one.state) for one in found]

    def restart(self, *, forget_items: bool = False) -> None:
        seen = list(self.last.values())
        if forget_items:
            seen = [replace(one, item=None) for one in seen]
        self.watcher = self.new_watcher()
        self.watcher.resume(seen)
        self.opened.clear()

    def known(self, name: str) -> Sighting:
        return self.last[os.path.normpath(self.folder / name)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "acquisition"
    folder.mkdir()
    one = Bench(folder)
    one.write("a.mrc")
    one.write("grid/b.mrc")
    one.poll(3)
    return one


def test_a_folder_that_vanishes_is_one_sighting(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    assert bench.poll(12) == [(".", VANISHED)]
    assert "keep their state" in bench.known("").reason
    away.rename(bench.folder)
    bench.write("c.mrc")
    assert bench.poll(12) == [(".", IGNORED), ("c.mrc", WAITING), ("c.mrc", TAKEN)]


def test_an_empty_mount_point_is_not_believed(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    bench.folder.mkdir()
    bench.lister.devices[str(bench.folder)] = 99
    assert bench.poll(12) == [(".", VANISHED)]
    assert "unmounted?" in bench.known("").reason
    bench.folder.rmdir()
    away.rename(bench.folder)
    assert bench.poll(12) == [(".", IGNORED)]


def test_files_that_are_deleted_one_and_all_are_said_one_by_one(bench: Bench) -> None:
    shutil.rmtree(bench.folder / "grid")
    (bench.folder / "a.mrc").unlink()
    assert sorted(bench.poll(3)) == [("a.mrc", VANISHED), ("grid/b.mrc", VANISHED)]


@pytest.mark.parametrize("number", [5, 13, 116])
def test_a_sub_folder_that_cannot_be_listed_stops_nothing(
    bench: Bench, number: int
) -> None:
    grid = str(bench.folder / "grid")
    bench.lister.errors[grid] = OSError(number, os.strerror(number), grid)
    bench.write("grid/hidden.mrc")
    bench.write("c.mrc")
    states = dict(bench.poll(25))
    assert states == {"grid": UNREADABLE, "c.mrc": TAKEN}
    assert os.strerror(number) in bench.known("grid").reason
    bench.lister.errors.clear()
    assert dict(bench.poll(25)) == {"grid": IGNORED, "grid/hidden.mrc": TAKEN}


def test_trouble_is_said_once_and_does_not_flicker(bench: Bench) -> None:
    grid = str(bench.folder / "grid")
    bench.lister.errors[grid] = PermissionError(13, "Permission denied", grid)
    assert bench.poll(40) == [("grid", UNREADABLE)]


def test_a_sub_folder_in_trouble_that_is_removed_is_gone(bench: Bench) -> None:
    grid = str(bench.folder / "grid")
    bench.lister.errors[grid] = PermissionError(13, "Permission denied", grid)
    bench.poll(12)
    bench.lister.errors.clear()
    shutil.rmtree(grid)
    assert sorted(bench.poll(3)) == [("grid", VANISHED), ("grid/b.mrc", VANISHED)]


def test_trouble_within_trouble_lasts_as_long_as_its_own(bench: Bench) -> None:
    root, grid = str(bench.folder), str(bench.folder / "grid")
    bench.lister.errors[grid] = PermissionError(13, "Permission denied", grid)
    assert bench.poll(12) == [("grid", UNREADABLE)]
    bench.lister.errors[root] = PermissionError(13, "Permission denied", root)
    assert bench.poll(12) == [(".", UNREADABLE)]
    del bench.lister.errors[root]
    assert bench.poll(12) == [(".", IGNORED)]
    bench.lister.errors.clear()
    assert bench.poll(12) == [("grid", IGNORED)]


def test_a_linked_folder_off_line_keeps_its_files(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "d.mrc").write_bytes(b"d")
    (bench.folder / "disc").symlink_to(tmp_path / "disc")
    bench.poll(3)
    (tmp_path / "disc").rename(tmp_path / "away")
    bench.write("c.mrc")
    assert dict(bench.poll(12)) == {"disc": VANISHED, "c.mrc": TAKEN}
    (tmp_path / "away").rename(tmp_path / "disc")
    assert bench.poll(12) == [("disc", IGNORED)]


def test_quiet_folders_are_listed_in_turn_only(bench: Bench) -> None:
    bench.poll(5)
    bench.lister.scanned.clear()
    assert bench.poll(20) == []
    assert (
        sorted(bench.lister.scanned)
        == [str(bench.folder)] * 2 + [str(bench.folder / "grid")] * 2
    )


def test_a_stale_folder_time_hides_a_file_for_some_polls_only(bench: Bench) -> None:
    bench.poll(5)
    path = str(bench.folder)
    bench.lister.frozen_mtime_ns[path] = bench.folder.stat().st_mtime_ns
    bench.write("late.mrc")
    assert bench.poll(11)[-1] == ("late.mrc", TAKEN)


def test_a_change_within_one_tick_of_the_folder_s_time_is_seen(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, full_listing_every=1000)
    bench.write("a.mrc")
    bench.poll()
    bench.lister.frozen_mtime_ns[str(tmp_path)] = tmp_path.stat().st_mtime_ns
    bench.write("b.mrc")
    assert ("b.mrc", TAKEN) in bench.poll(2)


def test_a_file_moved_from_a_folder_with_a_stale_time_is_no_duplicate(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, full_listing_every=1000)
    path = bench.write("g1/a.mrc")
    bench.poll(3)
    frozen = (tmp_path / "g1").stat().st_mtime_ns
    bench.lister.frozen_mtime_ns[str(tmp_path / "g1")] = frozen
    path.rename(tmp_path / "a.mrc")
    assert bench.poll(3) == [("a.mrc", WAITING), ("a.mrc", TAKEN)]


def test_inodes_that_are_not_unique_hide_no_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for name in ("a.mrc", "other.mrc", "zero1.mrc", "zero2.mrc"):
        bench.write(name)
        inode = 0 if "zero" in name else 7
        bench.lister.inodes[str(tmp_path / name)] = inode
    states = bench.poll(2)
    assert [one for one, state in states if state is TAKEN] == [
        *("a.mrc", "other.mrc", "zero1.mrc", "zero2.mrc")
    ]


@pytest.mark.parametrize("forget_items", [True, False])
def test_a_restart_takes_nothing_twice(bench: Bench, *, forget_items: bool) -> None:
    bench.write("note.txt")
    os.link(bench.folder / "a.mrc", bench.folder / "z.mrc")
    bench.poll(3)
    before = dict(bench.last)
    bench.restart(forget_items=forget_items)
    bench.poll(12)
    assert {path: one.fingerprint for path, one in bench.last.items()} == {
        path: one.fingerprint for path, one in before.items()
    }
    if not forget_items:
        assert bench.last == before
        assert bench.opened == []


def test_a_restart_sees_what_changed_meanwhile(bench: Bench) -> None:
    bench.write("gone.mrc")
    bench.poll(3)
    before = bench.known("a.mrc")
    (bench.folder / "gone.mrc").unlink()
    (bench.folder / "a.mrc").write_bytes(b"another movie")
    bench.write("new.mrc")
    bench.restart()
    states = bench.poll(3)
    assert dict(states) == {"gone.mrc": VANISHED, "a.mrc": TAKEN, "new.mrc": TAKEN}
    assert bench.known("a.mrc").key == before.key
    assert bench.known("a.mrc").fingerprint != before.fingerprint


def test_a_file_back_after_a_restart_is_read_before_it_is_believed(
    bench: Bench,
) -> None:
    before = bench.known("a.mrc")
    status = (bench.folder / "a.mrc").stat()
    (bench.folder / "a.mrc").unlink()
    bench.poll()
    gone = bench.known("a.mrc")
    # A ledger may keep what it knew of the last revision.
    bench.last[gone.path] = replace(
        gone, key=before.key, item=before.item, fingerprint=before.fingerprint
    )
    bench.restart()
    assert bench.poll(2) == []
    bench.write("a.mrc")
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(bench.folder / "a.mrc", ns=times)
    bench.poll(3)
    assert bench.known("a.mrc").fingerprint == before.fingerprint
    assert bench.opened == ["a.mrc"]


def test_a_restart_on_an_empty_mount_point_believes_nothing(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    bench.folder.mkdir()
    bench.restart()
    assert bench.poll(12) == [(".", VANISHED)]
    bench.folder.rmdir()
    assert bench.poll(12) == [(".", VANISHED)]
    away.rename(bench.folder)
    assert bench.poll(12) == [(".", IGNORED)]


def test_a_restart_while_the_folder_is_away_says_so(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    bench.poll()
    bench.restart()
    assert bench.poll(3) == []
    away.rename(bench.folder)
    assert bench.poll(3) == [(".", IGNORED)]


def test_a_restart_clears_trouble_that_has_passed(bench: Bench) -> None:
    grid = str(bench.folder / "grid")
    bench.lister.errors[grid] = PermissionError(13, "Permission denied", grid)
    bench.poll(12)
    bench.lister.errors.clear()
    bench.restart()
    assert bench.poll(12) == [("grid", IGNORED)]


def test_a_restart_waits_for_a_folder_in_trouble(bench: Bench) -> None:
    grid = str(bench.folder / "grid")
    bench.lister.errors[grid] = PermissionError(13, "Permission denied", grid)
    bench.restart()
    assert bench.poll(12) == [("grid", UNREADABLE)]
    (bench.folder / "grid" / "b.mrc").unlink()
    bench.lister.errors.clear()
    assert bench.poll(12) == [("grid", IGNORED), ("grid/b.mrc", VANISHED)]


def test_a_moved_acquisition_folder_is_known_by_its_keys(bench: Bench) -> None:
    bench.folder.rename(bench.folder.with_name("elsewhere"))
    bench.folder = bench.folder.with_name("elsewhere")
    bench.restart()
    assert bench.poll(12) == []
    assert bench.opened == []


def test_idle_time_counts_from_the_last_change(bench: Bench) -> None:
    bench.poll(3)
    idle_s = bench.watcher.idle_s
    assert idle_s > 0
    bench.now_s += 100.0
    assert bench.watcher.idle_s == idle_s
    bench.poll()
    assert bench.watcher.idle_s == idle_s + 101.0
    bench.write("c.mrc")
    bench.poll()
    assert bench.watcher.idle_s == 0.0
    bench.poll(3)
    assert bench.watcher.idle_s == 2.0
    bench.folder.rename(bench.folder.with_name("away"))
    bench.poll(50)
    assert bench.watcher.idle_s == 0.0
