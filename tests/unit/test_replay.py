"""Files arrive as a microscope brings them; what is half there goes away."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from icestream.domain.errors import (
    BadSettings,
    FolderUnavailable,
    IcestreamError,
    UnreadableFile,
)
from icestream.simulate import ARRIVAL_MODES, Arrival, ArrivalMode, replay
from icestream.simulate.replay import bring

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Time that passes only by sleeping; looks at the folder while it sleeps."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.folder = folder
        self.seen: list[dict[str, bytes]] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        assert pause_s > 0
        self.now_s += pause_s
        self.seen.append(contents(self.folder))


class InterruptedClock(Clock):
    """Ctrl-C during the third sleep."""

    def sleep(self, pause_s: float) -> None:
        super().sleep(pause_s)
        if len(self.seen) == 3:
            raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "source"
    paths = [folder / f"square_{i % 2}" / f"image_{i}.mrc" for i in range(5)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i + 1]) * (1000 + i))
    return paths


def play(
    sources: list[Path],
    into: Path,
    mode: ArrivalMode,
    clock: Clock,
) -> list[Arrival]:
    return list(
        replay(
            sources, into=into, every_s=8, modes=[mode], clock=clock, sleep=clock.sleep
        )
    )


@pytest.mark.parametrize("mode", ARRIVAL_MODES)
def test_all_arrive_whole_and_in_order(
    sources: list[Path], tmp_path: Path, mode: ArrivalMode
) -> None:
    into = tmp_path / "into"
    arrivals = play(sources, into, mode, Clock(into))

    assert [arrival.source for arrival in arrivals] == sources
    assert [arrival.number for arrival in arrivals] == [1, 2, 3, 4, 5]
    assert {arrival.total for arrival in arrivals} == {5}
    assert {arrival.mode for arrival in arrivals} == {mode}
    assert contents(into) == {path.name: path.read_bytes() for path in sources}
    for arrival in arrivals:
        assert arrival.size_bytes == arrival.target.stat().st_size


def test_growing_files_grow(sources: list[Path], tmp_path: Path) -> None:
    clock = Clock(tmp_path / "into")
    play(sources[:1], tmp_path / "into", "grow", clock)

    sizes = [len(seen["image_0.mrc"]) for seen in clock.seen]
    assert sizes == [125 * i for i in range(1, 8)]


def test_preallocated_files_have_their_length_and_zeros(
    sources: list[Path], tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "into")
    play(sources[:1], tmp_path / "into", "preallocate", clock)

    for i, seen in enumerate(clock.seen, start=1):
        assert len(seen["image_0.mrc"]) == 1000
        assert seen["image_0.mrc"].count(0) == 1000 - 125 * i


def test_renamed_files_have_another_name_before(
    sources: list[Path], tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "into")
    play(sources[:1], tmp_path / "into", "rename", clock)

    assert clock.seen
    for seen in clock.seen:
        assert list(seen) == ["image_0.mrc.downloading"]


def test_the_rhythm_is_kept(sources: list[Path], tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    starts = [
        clock.now_s
        for _ in replay(
            sources,
            into=tmp_path / "into",
            every_s=8,
            modes=["copy"],
            clock=clock,
            sleep=clock.sleep,
        )
    ]

    assert starts == [100, 108, 116, 124, 132]


def test_ways_are_taken_in_turn_and_without_pause(
    sources: list[Path], tmp_path: Path
) -> None:
    clock = Clock(tmp_path)
    arrivals = list(
        replay(
            sources, into=tmp_path / "into", every_s=0, clock=clock, sleep=clock.sleep
        )
    )

    assert [a.mode for a in arrivals] == [
        "grow",
        "rename",
        "preallocate",
        "copy",
        "grow",
    ]
    assert not clock.seen


def test_folders_are_kept_on_request(sources: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "source"
    into = tmp_path / "into"
    list(replay(sources, into=into, every_s=0, relative_to=root))

    assert contents(into) == contents(root)


@pytest.mark.parametrize("mode", ["grow", "rename", "preallocate"])
def test_an_interrupt_leaves_no_half_file(
    sources: list[Path], tmp_path: Path, mode: ArrivalMode
) -> None:
    into = tmp_path / "into"
    with pytest.raises(KeyboardInterrupt):
        play(sources, into, mode, InterruptedClock(into))

    assert contents(into) == {}


def test_closing_stops(sources: list[Path], tmp_path: Path) -> None:
    arrivals = replay(sources, into=tmp_path / "into", every_s=0)
    next(arrivals)
    del arrivals

    assert list(contents(tmp_path / "into")) == ["image_0.mrc"]


def test_existing_targets_are_refused_unless_allowed(
    sources: list[Path], tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "image_3.mrc").write_bytes(b"precious")

    with pytest.raises(BadSettings, match=r"image_3\.mrc exists"):
        replay(sources, into=into, every_s=0)
    assert contents(into) == {"image_3.mrc": b"precious"}

    list(replay(sources, into=into, every_s=0, overwrite=True))
    assert contents(into)["image_3.mrc"] == sources[3].read_bytes()


def test_the_folder_of_the_sources_is_refused(
    sources: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "source"
    before = contents(root)
    link = tmp_path / "link"
    link.symlink_to(root / "square_0")

    for into, relative_to in (
        (root / "square_0", None),
        (root / "square_0" / "below", None),
        (link, None),
        (root, root),
        (root / "other", root),
    ):
        with pytest.raises(BadSettings, match="folder of the sources"):
            replay(
                sources,
                into=into,
                every_s=0,
                relative_to=relative_to,
                overwrite=True,
            )
    assert contents(root) == before


def test_two_files_of_one_name_are_refused(sources: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "source" / "other" / "image_0.mrc"
    twin.parent.mkdir()
    twin.write_bytes(b"x")

    with pytest.raises(BadSettings, match="Two files"):
        replay([*sources, twin], into=tmp_path / "into", every_s=0)


def test_nonsense_is_refused_before_anything_is_written(
    sources: list[Path], tmp_path: Path
) -> None:
    into = tmp_path / "into"
    with pytest.raises(BadSettings):
        replay([], into=into, every_s=1)
    with pytest.raises(BadSettings):
        replay(sources, into=into, every_s=-1)
    with pytest.raises(BadSettings):
        replay(sources, into=into, every_s=1, writing_share=1.5)
    with pytest.raises(BadSettings, match="teleport"):
        replay(sources, into=into, every_s=1, modes=["teleport"])  # type: ignore[list-item]
    with pytest.raises(BadSettings, match="below"):
        replay(sources, into=into, every_s=1, relative_to=tmp_path / "elsewhere")
    assert not into.exists()


def test_a_vanished_source_and_a_bad_target_are_said(
    sources: list[Path], tmp_path: Path
) -> None:
    sources[0].unlink()
    with pytest.raises(UnreadableFile, match="image_0"):
        list(replay(sources, into=tmp_path / "into", every_s=0))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FolderUnavailable):
        list(replay(sources[1:], into=tmp_path / "file", every_s=0))


@pytest.mark.parametrize("mode", ["copy", "grow", "rename"])
def test_a_disk_that_takes_a_part_of_a_piece_is_full(
    mode: ArrivalMode, tmp_path: Path
) -> None:
    """A limit on the size of files cuts the last write as a full disk does."""
    source, target = tmp_path / "movie.tiff", tmp_path / "arrived.tiff"
    source.write_bytes(b"x" * 1_100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_090_000, hard))
    try:
        with pytest.raises(IcestreamError, match="arrived"):
            bring(source, target, mode=mode, writing_s=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()
