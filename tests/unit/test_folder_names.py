"""A watched folder with real files: names, links, duplicates, and what is no file."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from icestream.streaming.folder import FolderRules, FolderWatcher
from icestream.streaming.protocol import Sighting, SightingState

TAKEN, WAITING = SightingState.TAKEN, SightingState.WAITING
IGNORED, VANISHED = SightingState.IGNORED, SightingState.VANISHED
WHOLE = b"start of a movie" + bytes(64) + b"END"


class Bench:
    """A watcher of a folder in which any file at rest is complete."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder
        self.opened: list[str] = []
        self.last: dict[str, Sighting] = {}
        self.watcher = FolderWatcher(
            folder,
            setup="krios",
            check_complete=lambda path: self.opened.append(path.name),
            rules=FolderRules(**{"patterns": ("*.mrc",), **rules}),
        )

    def write(self, name: str, content: bytes = WHOLE) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def poll(self, count: int = 1) -> list[Sighting]:
        found = [one for _ in range(count) for one in self.watcher.poll()]
        self.last |= {one.path: one for one in found}
        return found

    def brief(self, count: int = 1) -> list[tuple[str, SightingState]]:
        return [(self.relative(one), one.state) for one in self.poll(count)]

    def relative(self, one: Sighting) -> str:
        return os.path.relpath(one.path, self.folder)

    def known(self, name: str) -> Sighting:
        return self.last[str(self.folder / name)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_names_that_are_left_out_are_said_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, exclude=(".*", "*.tmp"), recursive=False)
    for name in (".a.mrc", "b.mrc.tmp", "c.xml", "sub/d.mrc", "E.MRC"):
        bench.write(name)
    found = {bench.relative(one): one.reason for one in bench.poll(12)}
    assert found == {
        ".a.mrc": "its name is excluded by '.*'",
        "b.mrc.tmp": "its name is excluded by '*.tmp'",
        "c.xml": "its name matches no pattern",
        "sub": "a sub folder; recursive is off",
        "E.MRC": "complete",
    }


def test_an_excluded_folder_is_not_entered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, exclude=(".*",))
    bench.write(".snapshot/a.mrc")
    assert bench.brief(3) == [(".snapshot", IGNORED)]


def test_a_pattern_with_a_slash_is_matched_against_the_path(tmp_path: Path) -> None:
    bench = Bench(tmp_path, patterns=("Images-Disc*/*.mrc",))
    bench.write("Images-Disc1/Grid_1/a.mrc")
    bench.write("Atlas/b.mrc")
    states = dict(bench.brief(3))
    assert states == {"Images-Disc1/Grid_1/a.mrc": TAKEN, "Atlas/b.mrc": IGNORED}


def test_a_temporary_name_that_is_renamed_is_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path, exclude=(".*",))
    path = bench.write(".a.mrc.x7Fq")
    bench.poll()
    path.rename(bench.folder / "a.mrc")
    assert bench.brief(3) == [("a.mrc", WAITING), ("a.mrc", TAKEN)]


def test_special_files_are_never_opened(bench: Bench) -> None:
    os.mkfifo(bench.folder / "pipe.mrc")
    (bench.folder / "device.mrc").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(bench.folder / "s.mrc"))
        states = dict(bench.brief(12))
    assert states == dict.fromkeys(("pipe.mrc", "device.mrc", "s.mrc"), IGNORED)
    assert bench.opened == []


def test_a_fifo_in_place_of_a_taken_file_is_not_opened(bench: Bench) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    path.unlink()
    os.mkfifo(path)
    assert bench.brief(12) == [("a.mrc", IGNORED)]
    assert bench.opened == ["a.mrc"]


def test_odd_names_are_taken_or_refused_with_a_reason(bench: Bench) -> None:
    long = "x" * 251 + ".mrc"
    names = ["line\nbreak.mrc", "Å µ.mrc", " lead.mrc", "{stem}%s.mrc", long]
    for name in names:
        bench.write(name)
    bytes_name = os.fsencode(bench.folder) + b"/\xff\xfe.mrc"
    Path(os.fsdecode(bytes_name)).write_bytes(WHOLE)
    found = bench.poll(2)
    taken = {one.key for one in found if one.state is TAKEN}
    assert taken == set(names)
    (refused,) = [one for one in found if one.state is IGNORED]
    assert refused.path.endswith("/\\xff\\xfe.mrc")
    assert "UTF-8" in refused.reason
    assert all(one.path.encode() for one in found)


def test_one_name_in_two_folders_makes_two_keys(bench: Bench) -> None:
    bench.write("g1/a.mrc")
    bench.write("g2/a.mrc")
    taken = [one for one in bench.poll(2) if one.state is TAKEN]
    assert [one.key for one in taken] == ["g1/a.mrc", "g2/a.mrc"]
    assert taken[0].fingerprint != taken[1].fingerprint


@pytest.mark.parametrize("is_hard", [True, False])
def test_a_second_path_to_a_file_is_ignored(bench: Bench, *, is_hard: bool) -> None:
    path = bench.write("z.mrc")
    link = bench.folder / "a.mrc"
    if is_hard:
        bench.poll(2)
        link.hardlink_to(path)
    else:
        link.symlink_to("z.mrc")
    bench.poll(12)
    assert bench.known("z.mrc").state is TAKEN
    assert bench.known("a.mrc").state is IGNORED
    assert bench.known("a.mrc").reason == "the same file as 'z.mrc'"
    assert bench.opened == ["z.mrc"]


def test_the_second_path_takes_over_when_the_first_goes(bench: Bench) -> None:
    first = bench.write("a.mrc")
    bench.poll(2)
    (bench.folder / "b.mrc").hardlink_to(first)
    bench.poll(3)
    first.unlink()
    assert bench.brief(3) == [("a.mrc", VANISHED), ("b.mrc", TAKEN)]


def test_a_renamed_file_comes_again_under_its_new_key(bench: Bench) -> None:
    bench.write("a.mrc")
    bench.poll(2)
    (bench.folder / "a.mrc").rename(bench.folder / "b.mrc")
    states = bench.brief(3)
    assert states[0] == ("a.mrc", VANISHED)
    assert states[-1] == ("b.mrc", TAKEN)


def test_a_deleted_file_s_inode_may_be_used_again(bench: Bench) -> None:
    for number in range(5):
        path = bench.write(f"{number}.mrc", WHOLE)
        bench.poll(2)
        assert bench.known(f"{number}.mrc").state is TAKEN
        path.unlink()


def test_links_to_files_and_folders_are_followed(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "disc").mkdir()
    (outside / "disc" / "a.mrc").write_bytes(WHOLE)
    (outside / "b.mrc").write_bytes(WHOLE + b"END")
    (bench.folder / "disc1").symlink_to(outside / "disc")
    (bench.folder / "b.mrc").symlink_to(outside / "b.mrc")
    assert set(bench.brief(2)) >= {("disc1/a.mrc", TAKEN), ("b.mrc", TAKEN)}


def test_a_dangling_link_waits_for_its_file(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("outside") / "a.mrc"
    (bench.folder / "a.mrc").symlink_to(target)
    (bench.folder / "self.mrc").symlink_to("self.mrc")
    assert bench.brief(12) == [("a.mrc", WAITING), ("self.mrc", IGNORED)]
    target.write_bytes(WHOLE)
    assert bench.brief(3)[-1] == ("a.mrc", TAKEN)


def test_loops_of_links_end_and_are_said(bench: Bench) -> None:
    bench.write("g/a.mrc")
    (bench.folder / "g" / "up").symlink_to("..")
    (bench.folder / "again").symlink_to("g")
    found = {bench.relative(one): one for one in bench.poll(12)}
    assert set(found) == {"g/a.mrc", "g/up", "again"}
    assert found["g/up"].state is IGNORED
    assert found["g/up"].reason == "leads to the folder '.', which is watched"
    assert found["again"].reason == "leads to the folder 'g', which is watched"


def test_a_name_left_out_that_goes_is_forgotten(bench: Bench) -> None:
    path = bench.write("note.txt")
    assert bench.brief(2) == [("note.txt", IGNORED)]
    path.unlink()
    assert bench.brief(2) == []
    bench.write("note.txt")
    assert bench.brief(2) == [("note.txt", IGNORED)]


def test_a_link_whose_file_turns_into_a_fifo_is_not_opened(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("outside") / "a.mrc"
    target.write_bytes(WHOLE)
    (bench.folder / "a.mrc").symlink_to(target)
    bench.poll(2)
    target.rename(target.with_name("away"))
    os.mkfifo(target)
    assert bench.brief(12) == [("a.mrc", IGNORED)]
    assert bench.opened == ["a.mrc"]


def test_a_link_to_a_disc_that_is_mounted_later_is_followed(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("outside") / "disc"
    (bench.folder / "disc").symlink_to(target)
    bench.poll(3)
    target.mkdir()
    (target / "a.mrc").write_bytes(WHOLE)
    assert ("disc/a.mrc", TAKEN) in bench.brief(12)


def test_a_folder_in_place_of_a_file_is_entered(bench: Bench) -> None:
    path = bench.write("a.mrc")
    bench.poll(2)
    path.unlink()
    bench.write("a.mrc/b.mrc")
    states = bench.brief(3)
    assert ("a.mrc", VANISHED) in states
    assert ("a.mrc/b.mrc", TAKEN) in states
