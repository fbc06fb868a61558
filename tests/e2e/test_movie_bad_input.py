"""A session of movies among which many are no good: each is told, the others go on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.streaming.inline import InlineExecutor
from movie_scene import PIXEL_ANGST, draw_frames, write_movie

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE = 256
GOOD = ["plain.tif", "a blank.tif", 'it\'s "so".tif', "-dash.tif", "half.mrc"]

_AS_NOBODY = """
import os, sys
from icestream.cli import main

def leave(*args):
    try:
        main(["motion", *args, "--pixel-size-angst", "1", "--voltage-kv", "300"])
    except SystemExit as left:
        print(left.code, flush=True)

shut, out = sys.argv[1:]
leave(shut + ".absent", "--out", out)  # what is imported late is imported now
if not os.geteuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
leave(shut, "--out", out)
"""


def with_nan(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = frames.astype(np.float32)
    values[3, 7, 9] = np.nan
    return values


BAD: dict[str, tuple[Callable[[NDArray[np.uint8]], NDArray[Any]], str, str]] = {
    "blank.tif": (lambda frames: 0 * frames, "motion", "is blank"),
    "alike.tif": (lambda frames: 0 * frames + 3, "motion", "pixels are alike"),
    "nan.mrc": (with_nan, "motion", "no numbers"),
    "narrow.tif": (lambda frames: frames[:, :, :20], "motion", "256 x 20 px"),
    "one.tif": (lambda frames: frames[:1], "import", "has one frame"),
}


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return draw_frames(electrons=20.0)[:, :SIDE, :SIDE].copy()


@pytest.fixture
def movies(frames: NDArray[np.uint8], tmp_path: Path) -> Path:
    folder = tmp_path / "movies"
    folder.mkdir()
    for name in GOOD:
        half = frames.astype(np.float16) if name == "half.mrc" else frames
        write_movie(folder / name, half)
    for name, (spoil, _, _) in BAD.items():
        write_movie(folder / name, spoil(frames))
    whole = (folder / "plain.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").touch()
    (folder / "text.mrc").write_text("no movie at all\n" * 500)
    (folder / "folder.tif").mkdir()
    return folder


def looked_at(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in a folder, with inode, size and time."""
    stats = {str(one): one.stat() for one in sorted(folder.rglob("*"))}
    return {
        name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in stats.items()
    }


def rows(session: Session, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(session.ledger_path)) as database:
        return database.execute(query).fetchall()


def test_each_is_told_and_the_others_go_on(movies: Path, tmp_path: Path) -> None:
    before = looked_at(movies)
    session = create_session(
        tmp_path / "session",
        template="movies",
        changes=[
            f"sources.grid.folder={movies}",
            "sources.grid.poll_s=0.05",
            f"setups.grid.pixel_size_angst={PIXEL_ANGST}",
            "setups.grid.voltage_kv=300",
            "pick.diameter_angst=[110,140]",
        ],
    )
    run_session(session, executor=InlineExecutor(), finish=True)
    reader = session.read()
    try:
        failed = {one.key: (one.run, one.message) for one in reader.failed_attempts()}
        corrected = set(reader.records("motion", "micrograph"))
    finally:
        reader.close()
    assert corrected == {f"grid/{name}" for name in GOOD}
    assert {key: run for key, (run, _) in failed.items()} == {
        f"grid/{name}": run for name, (_, run, _) in BAD.items()
    }
    for name, (_, _, said) in BAD.items():
        reason = failed[f"grid/{name}"][1]
        assert str(movies / name) in reason
        assert said in reason
    waits = dict(rows(session, "SELECT path, state FROM ingest"))
    assert waits[str(movies / "cut.tif")] == "waiting"
    assert waits[str(movies / "empty.tif")] == "waiting"
    assert waits[str(movies / "text.mrc")] == "unreadable"
    assert looked_at(movies) == before
    products = session.folder / "products"
    there = {one for one in products.rglob("*") if one.is_file()}
    known = {
        session.folder / name for (name,) in rows(session, "SELECT path FROM artifact")
    }
    assert there == known


def test_a_movie_that_may_not_be_read_is_the_fault_of_that_movie(
    frames: NDArray[np.uint8],
) -> None:
    with tempfile.TemporaryDirectory() as name:  # where nobody may look, too
        folder = Path(name)
        folder.chmod(0o777)
        shut = write_movie(folder / "shut.tif", frames)
        shut.chmod(0)
        out = folder / "out"
        out.mkdir()
        out.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(shut), str(out)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert list(out.iterdir()) == []
    assert done.stdout.split() == ["3", "3"], done.stderr
    assert f"{shut} may not be read: permission denied" in done.stderr
    assert "Traceback" not in done.stderr
