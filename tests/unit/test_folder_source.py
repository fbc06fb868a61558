"""The source that watches a folder: its parameters, real images, hints, closing."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

from icestream.domain import RawFile
from icestream.domain.errors import BadSettings
from icestream.protocols.watch_folder import WatchFolder, WatchFolderParams
from icestream.streaming import hints as hints_module
from icestream.streaming.hints import ChangeHints, is_on_local_disk
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAKEN, WAITING = SightingState.TAKEN, SightingState.WAITING


class NoHints(ChangeHints):
    """Hints of a network file system: none."""

    def follow(self, folder: str) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def source_of(folder: Path, clock: Clock, **values: Any) -> WatchFolder:
    params = WatchFolderParams(folder=str(folder), setup="krios", **values)
    return WatchFolder(params, clock=clock, hints=NoHints())


def poll(source: WatchFolder, clock: Clock, count: int = 1) -> list[Sighting]:
    found: list[Sighting] = []
    for _ in range(count):
        clock.now_s += source.interval_s
        found += source.poll()
    return found


def write_mrc(path: Path) -> None:
    generator = np.random.default_rng(1)
    data = generator.normal(size=(64, 96)).astype(np.float32)
    with mrcfile.new(path, data=data) as file:
        file.voxel_size = 1.1


def test_a_real_image_is_taken_and_a_cut_one_waits(
    tmp_path: Path, clock: Clock
) -> None:
    write_mrc(tmp_path / "a.mrc")
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "cut.mrc").write_bytes(content[:-100])
    (tmp_path / "text.mrc").write_text("not an image" * 200)
    source = source_of(tmp_path, clock)
    last = {one.path: one for one in poll(source, clock, 3)}
    taken = last[str(tmp_path / "a.mrc")]
    assert taken.state is TAKEN
    assert taken.key == "a.mrc"
    assert isinstance(taken.item, RawFile)
    assert taken.item.setup == "krios"
    assert last[str(tmp_path / "cut.mrc")].state is WAITING
    assert last[str(tmp_path / "text.mrc")].state is SightingState.UNREADABLE
    again = source_of(tmp_path, clock)
    again.resume(list(last.values()))
    assert [one for one in poll(again, clock, 12) if one.state is TAKEN] == []


def test_what_was_written_first_comes_first(tmp_path: Path, clock: Clock) -> None:
    for age, name in enumerate(("a.mrc", "b.mrc", "c.mrc")):
        write_mrc(tmp_path / name)
        os.utime(tmp_path / name, (1e9, 1e9 - age))
    taken = [one.key for one in poll(source_of(tmp_path, clock), clock, 3) if one.key]
    assert taken == ["c.mrc", "b.mrc", "a.mrc"]


def test_two_polls_too_close_together_do_not_count_as_two(
    tmp_path: Path, clock: Clock
) -> None:
    write_mrc(tmp_path / "a.mrc")
    source = source_of(tmp_path, clock, poll_s=2.0)
    assert source.interval_s == 2.0
    assert [one.state for one in source.poll()] == [WAITING]
    clock.now_s += 0.9
    assert source.poll() == []
    clock.now_s += 0.1
    assert [one.state for one in source.poll()] == [TAKEN]


def test_it_closes_when_idle_and_opens_again(tmp_path: Path, clock: Clock) -> None:
    source = source_of(tmp_path, clock, close_after_idle_s=30.0)
    poll(source, clock, 29)
    assert not source.finished
    poll(source, clock, 2)
    assert source.finished
    write_mrc(tmp_path / "a.mrc")
    poll(source, clock)
    assert not source.finished
    poll(source, clock, 40)
    assert source.finished
    (tmp_path / "cut.mrc").write_bytes(b"half")
    poll(source, clock, 100)
    assert not source.finished


def test_it_never_closes_by_itself(tmp_path: Path, clock: Clock) -> None:
    source = source_of(tmp_path, clock)
    poll(source, clock, 3)
    clock.now_s += 1e6
    poll(source, clock)
    assert not source.finished


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"folder": "movies"}, "absolute path"),
        ({"folder": "/a\0b"}, "null character"),
        ({"setup": ""}, "setup"),
        ({"patterns": ()}, "patterns"),
        ({"patterns": ("",)}, "matches nothing"),
        ({"exclude": ("/x",)}, "matches nothing"),
        ({"companion": "fixed.xml"}, "must name another file"),
        ({"companion": "{name}"}, "must name another file"),
        ({"companion": "{other}.xml"}, "must name another file"),
        ({"companion": "{stem"}, "cannot be read"),
        ({"companion": "/x/{stem}"}, "relative"),
        ({"companion": "{stem}.xml", "renamed_when_complete": True}, "contradict"),
        ({"poll_s": 0}, "poll_s"),
        ({"poll_s": float("nan")}, "poll_s"),
        ({"full_listing_every": 0}, "full_listing_every"),
        ({"close_after_idle_s": 0}, "close_after_idle_s"),
        ({"foldr": "/x"}, "foldr"),
    ],
)
def test_parameters_that_cannot_be_are_named(values: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSettings, match=part):
        WatchFolder.parse({"folder": "/data", "setup": "krios", **values})


def test_every_parameter_says_what_it_is() -> None:
    assert all(one.description for one in WatchFolderParams.model_fields.values())


@pytest.fixture
def real_source(tmp_path: Path) -> Iterator[WatchFolder]:
    params = WatchFolderParams(folder=str(tmp_path), setup="krios", poll_s=0.4)
    source = WatchFolder(params)
    yield source
    source.close()


def test_hints_wake_and_leave_no_thread(
    tmp_path: Path, real_source: WatchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "is_on_local_disk", lambda _: True)
    before = threading.active_count()
    real_source.poll()
    real_source.wait(0.05)
    timer = threading.Timer(0.2, write_mrc, [tmp_path / "a.mrc"])
    timer.start()
    started_s = time.monotonic()
    real_source.wait(60.0)
    assert time.monotonic() - started_s < 30.0
    timer.join()
    # A fresh file shortens the wait to the time it must rest.
    while TAKEN not in [one.state for one in real_source.poll()]:
        real_source.wait(60.0)
    assert time.monotonic() - started_s < 30.0
    assert threading.active_count() == before


def test_hints_show_a_rewritten_file_at_the_next_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "is_on_local_disk", lambda _: True)
    params = WatchFolderParams(
        folder=str(tmp_path), setup="krios", poll_s=0.01, full_listing_every=1000
    )
    write_mrc(tmp_path / "a.mrc")
    source = WatchFolder(params)
    try:
        while TAKEN not in [one.state for one in source.poll()]:
            time.sleep(0.01)
        (tmp_path / "a.mrc").write_bytes(b"half")
        for _ in range(50):
            time.sleep(0.02)
            if WAITING in [one.state for one in source.poll()]:
                break
        else:
            pytest.fail("the rewritten file was not looked at")
    finally:
        source.close()


def test_closing_ends_a_wait_in_another_thread(
    tmp_path: Path, real_source: WatchFolder
) -> None:
    real_source.poll()
    thread = threading.Thread(target=real_source.wait, args=(60.0,))
    thread.start()
    real_source.close()
    thread.join(timeout=20.0)
    assert not thread.is_alive()
    assert real_source.poll() == []


def test_hints_follow_a_folder_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "is_on_local_disk", lambda _: True)
    hints = ChangeHints()
    hints.follow(str(tmp_path / "later"))
    assert not hints.is_following
    (tmp_path / "later").mkdir()
    hints.follow(str(tmp_path / "later"))
    assert hints.is_following
    hints.forget()
    assert not hints.is_following
    hints.follow(str(tmp_path / "later"))
    (tmp_path / "later" / "a.mrc").write_bytes(b"x")
    assert hints.wait(30.0)
    assert str(tmp_path / "later" / "a.mrc") in hints.take()
    assert hints.take() == set()
    hints.close()
    hints.follow(str(tmp_path / "later"))
    assert not hints.is_following


@pytest.mark.parametrize(
    ("kind", "is_local"),
    [("ext4", True), ("xfs", True), ("nfs4", False), ("lustre", False), ("", False)],
)
def test_no_hints_are_asked_for_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, is_local: bool
) -> None:
    monkeypatch.setattr(hints_module, "file_system_of", lambda _: kind)
    assert is_on_local_disk(tmp_path) is is_local
    hints = ChangeHints()
    hints.follow(str(tmp_path))
    assert hints.is_following is is_local
    hints.close()
