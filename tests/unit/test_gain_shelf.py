"""Movies are taken together with their gains: late, replaced, several of them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.domain import RawFile
from icestream.domain.errors import BadSettings, IncompleteFile, UnreadableFile
from icestream.io.writing import write_mrc
from icestream.protocols.gain_shelf import require_same_gain
from icestream.protocols.watch_folder import WatchFolder, WatchFolderParams
from icestream.simulate.instrument import write_mrc_movie
from icestream.streaming.hints import ChangeHints
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from pathlib import Path

TAKEN, WAITING = SightingState.TAKEN, SightingState.WAITING
SMALL, LARGE = (32, 48), (64, 80)
HOUR_S = 3600


class NoHints(ChangeHints):
    """Hints of a network file system: none."""

    def follow(self, folder: str) -> None:
        pass


class Bench:
    """A source of movies and what the ledger would know of them."""

    def __init__(self, folder: Path, gain: Path | None, **values: Any) -> None:
        self.folder, self.gain, self.values = folder / "movies", gain, values
        self.folder.mkdir(exist_ok=True)
        self.now_s = 50.0
        self.last: dict[str, Sighting] = {}
        self.source = self._new_source()

    def _new_source(self) -> WatchFolder:
        gain = None if self.gain is None else str(self.gain)
        params = WatchFolderParams(
            folder=str(self.folder), setup="krios", gain=gain, **self.values
        )
        return WatchFolder(params, clock=lambda: self.now_s, hints=NoHints())

    def restart(self, gain: Path | None) -> None:
        self.gain = gain
        self.source = self._new_source()
        self.source.resume(list(self.last.values()))

    def poll(self, count: int = 3) -> list[Sighting]:
        found: list[Sighting] = []
        for _ in range(count):
            self.now_s += 1.0
            found += self.source.poll()
        for one in found:
            before = self.last.get(one.path)
            if before is not None and one.item is None:
                # As the ledger: item and fingerprint outlive a later state.
                one = Sighting(
                    path=one.path,
                    state=one.state,
                    reason=one.reason,
                    key=before.key,
                    item=before.item,
                    fingerprint=before.fingerprint,
                )
            self.last[one.path] = one
        return found

    def movie(
        self,
        name: str,
        shape: tuple[int, int] = SMALL,
        *,
        hours: float = 10,
        value: int = 1,
    ) -> None:
        path = self.folder / name
        frames = np.full((3, *shape), value, np.uint8)
        write_mrc_movie(path, frames, pixel_size_angst=1.0)
        os.utime(path, (hours * HOUR_S,) * 2)

    def gain_of(self, name: str) -> str | None:
        one = self.last[str(self.folder / name)]
        assert one.state is TAKEN
        assert isinstance(one.item, RawFile)
        return one.item.gain

    def fingerprint(self, name: str) -> str | None:
        return self.last[str(self.folder / name)].fingerprint


def write_gain(
    path: Path,
    shape: tuple[int, int] = SMALL,
    *,
    hours: float = 1,
    value: float = 1.0,
) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_mrc(path, np.full(shape, value, np.float32), pixel_size_angst=1.0)
    os.utime(path, (hours * HOUR_S,) * 2)
    return path


def test_movies_wait_for_a_late_gain_and_are_bound_to_it(tmp_path: Path) -> None:
    """One that comes into the same folder, and grows."""
    gain = tmp_path / "movies" / "gain.mrc"
    bench = Bench(tmp_path, gain)
    bench.movie("a.mrc")
    seen = bench.poll(5)
    waits = bench.last[str(bench.folder / "a.mrc")]
    assert (waits.state, waits.reason) == (WAITING, "waits for its gain")
    (told,) = [one for one in seen if one.path == str(gain)]
    assert told.state is WAITING
    assert told.reason == "is not there yet: movies wait for it"
    bench.restart(gain)
    assert str(gain) not in {one.path for one in bench.poll(3)}, "it was told"
    gain.write_bytes(b"half")
    assert TAKEN not in {one.state for one in bench.poll(1)}
    write_gain(gain)
    assert TAKEN not in {one.state for one in bench.poll(1)}
    bench.poll()
    assert bench.gain_of("a.mrc") == str(gain)
    assert bench.last[str(gain)].state is SightingState.IGNORED
    gain.unlink()
    bench.movie("b.mrc")
    bench.poll(5)
    assert bench.last[str(bench.folder / "b.mrc")].state is WAITING
    assert bench.last[str(gain)].state is WAITING
    assert bench.gain_of("a.mrc") == str(gain), "it keeps what it had"


def test_a_replaced_gain_brings_its_movies_again(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc")
    first = gain.read_bytes()
    bench = Bench(tmp_path, gain)
    bench.movie("a.mrc")
    bench.poll()
    before = bench.fingerprint("a.mrc")
    os.utime(gain, (5 * HOUR_S,) * 2)
    assert bench.poll(5) == [], "it was only touched"
    write_gain(gain, value=2.0)
    (again,) = bench.poll(5)
    assert (again.state, again.reason) == (TAKEN, "complete; its gain is another one")
    assert bench.fingerprint("a.mrc") != before
    gain.write_bytes(first)
    bench.poll(5)
    assert bench.fingerprint("a.mrc") == before, "as it was"


@pytest.mark.parametrize("is_rewritten", [False, True])
def test_a_gain_that_comes_or_goes_between_two_starts(
    tmp_path: Path, is_rewritten: bool
) -> None:
    bench = Bench(tmp_path, None)
    bench.movie("a.mrc")
    bench.movie("b.mrc")
    bench.poll()
    plain = bench.fingerprint("a.mrc")
    assert bench.gain_of("a.mrc") is None
    gain = write_gain(tmp_path / "gain.mrc")
    bench.restart(gain)
    if is_rewritten:
        bench.movie("a.mrc", hours=11, value=2)
    bench.poll()
    assert bench.gain_of("a.mrc") == bench.gain_of("b.mrc") == str(gain)
    bench.restart(gain)
    assert bench.poll(12) == [], "nothing has changed"
    bench.restart(None)
    bench.poll()
    assert bench.gain_of("a.mrc") is bench.gain_of("b.mrc") is None
    assert (bench.fingerprint("a.mrc") == plain) is not is_rewritten


def test_the_gain_is_chosen_by_shape_then_by_time(tmp_path: Path) -> None:
    gains = tmp_path / "gains"
    write_gain(gains / "early.mrc", hours=1)
    write_gain(gains / "late.mrc", hours=9)
    write_gain(gains / "large.mrc", LARGE, hours=5)
    (gains / "notes.txt").write_text("no gain")
    (gains / "broken.mrc").write_bytes(b"no gain either")
    bench = Bench(tmp_path, gains)
    bench.movie("a.mrc", hours=8)
    bench.movie("b.mrc", hours=10)
    bench.movie("c.mrc", LARGE, hours=2)
    bench.movie("d.mrc", hours=0.5)
    bench.poll(4)
    found = {name: bench.gain_of(f"{name}.mrc") for name in "abcd"}
    names = {"a": "early", "b": "late", "c": "large", "d": "early"}
    assert found == {key: str(gains / f"{one}.mrc") for key, one in names.items()}


def test_a_gain_that_comes_later_takes_only_the_movies_after_it(tmp_path: Path) -> None:
    gains = tmp_path / "gains"
    early = write_gain(gains / "early.mrc", hours=1)
    write_gain(gains / "other.txt")
    bench = Bench(tmp_path, gains / "*.mrc")
    for name, hours in (("a", 8), ("b", 10)):
        bench.movie(f"{name}.mrc", hours=hours)
    bench.poll()
    late = write_gain(gains / "late.mrc", hours=9)
    (again,) = bench.poll(4)
    assert again.path == str(bench.folder / "b.mrc")
    assert bench.gain_of("a.mrc") == str(early)
    assert bench.gain_of("b.mrc") == str(late)
    bench.restart(gains / "*.mrc")
    assert bench.poll(12) == []


def test_a_movie_that_no_gain_fits_waits_for_one(tmp_path: Path) -> None:
    gains = tmp_path / "gains"
    write_gain(gains / "small.mrc", hours=1)
    write_gain(gains / "half.mrc", (16, 24), hours=2)
    bench = Bench(tmp_path, gains, close_after_idle_s=5)
    bench.movie("a.mrc", LARGE)
    bench.poll(10)
    waits = bench.last[str(bench.folder / "a.mrc")]
    assert waits.state is WAITING
    assert waits.reason == "waits for its gain"
    told = bench.last[str(gains)]
    assert told.state is WAITING
    assert "none of the shape of some movies" in told.reason
    assert not bench.source.finished
    bench.restart(gains)
    large = write_gain(gains / "large.mrc", LARGE, hours=3)
    bench.poll(5)
    assert bench.gain_of("a.mrc") == str(large)
    bench.poll(6)
    assert bench.last[str(gains)].state is SightingState.IGNORED
    assert bench.source.finished


def test_movies_keep_what_they_had_until_another_gain_comes(tmp_path: Path) -> None:
    first = write_gain(tmp_path / "first.mrc")
    bench = Bench(tmp_path, first)
    bench.movie("a.mrc")
    bench.poll()
    other = tmp_path / "other.mrc"
    bench.restart(other)
    (told,) = bench.poll(5)
    assert (told.path, told.state) == (str(other), WAITING)
    assert bench.gain_of("a.mrc") == str(first)
    bench.restart(first)
    (told,) = bench.poll(5)
    assert (told.path, told.state) == (str(other), SightingState.IGNORED)
    bench.restart(other)
    write_gain(other)
    assert [one.path for one in bench.poll(5)] == [str(bench.folder / "a.mrc")]
    assert bench.gain_of("a.mrc") == str(other)


def test_a_gain_that_is_there_is_never_awaited(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc")
    bench = Bench(tmp_path, gain, renamed_when_complete=True)
    bench.movie("a.mrc")
    assert str(gain) not in {one.path for one in bench.poll(5)}


def test_only_a_star_makes_a_pattern(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "[2024] K3?" / "gain.mrc")
    for where in (gain, gain.parent, gain.parent / "*.mrc"):
        bench = Bench(tmp_path, where)
        bench.movie("a.mrc")
        bench.poll()
        assert bench.gain_of("a.mrc") == str(gain)


def test_a_star_stays_within_its_folder(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc")
    bench = Bench(tmp_path, tmp_path / "*.mrc")
    bench.movie("a.mrc")
    bench.poll()
    assert bench.gain_of("a.mrc") == str(gain)


def test_gains_do_not_lie_among_the_movies(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="gain is the watched folder"):
        WatchFolder.parse(
            {"folder": str(tmp_path), "setup": "krios", "gain": f"{tmp_path}/"}
        )


def test_a_gain_that_was_replaced_is_not_used(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc")
    bench = Bench(tmp_path, gain)
    bench.movie("a.mrc")
    bench.poll()
    file = bench.last[str(bench.folder / "a.mrc")].item
    assert isinstance(file, RawFile)
    shutil.copy(gain, tmp_path / "copy.mrc")
    require_same_gain(str(tmp_path / "copy.mrc"), file.gain_fingerprint)
    write_gain(gain, value=2.0)
    with pytest.raises(IncompleteFile, match="not the one that this movie came with"):
        require_same_gain(str(gain), file.gain_fingerprint)
    gain.unlink()
    with pytest.raises(UnreadableFile, match=f"{gain} cannot be read"):
        require_same_gain(str(gain), file.gain_fingerprint)


@settings(max_examples=15)
@given(st.permutations(["g1", "g2", "g3", "m0", "m1", "m2", "m3", "stop", "stop"]))
def test_in_whatever_order_they_come_the_end_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    """Gains at 1, 2 and 3 o'clock, movies half an hour before and after each."""
    folder = tmp_path_factory.mktemp("shelf")
    gains = folder / "gains"
    gains.mkdir()
    bench = Bench(folder, gains)
    for one in order:
        if one == "stop":
            bench.restart(gains)
        elif one.startswith("g"):
            write_gain(gains / f"{one}.mrc", hours=int(one[1]))
        else:
            bench.movie(f"{one}.mrc", hours=int(one[1]) + 0.5)
        bench.poll(2)
    bench.poll(2)
    found = {name: bench.gain_of(f"{name}.mrc") for name in ("m0", "m1", "m2", "m3")}
    names = {"m0": "g1", "m1": "g1", "m2": "g2", "m3": "g3"}
    assert found == {key: str(gains / f"{one}.mrc") for key, one in names.items()}
