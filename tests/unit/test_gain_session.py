"""Gains in a session: none at first, one that comes later, one that is replaced."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.cli import main
from icestream.domain import AcquisitionSetup, MovieMotion, RawFile
from icestream.domain.errors import SourceUnavailable
from icestream.io.writing import write_mrc
from icestream.protocols.follow_gain import GainStandings
from icestream.protocols.import_movies import ImportMovies
from icestream.streaming import schema
from icestream.streaming.execution import Fault
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.protocol import AcquisitionView, Context, Params
from icestream.streaming.records import decode, encode
from movie_scene import PIXEL_ANGST, draw_frames, write_movie
from movie_step import OURS, run_step

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.streaming.service import Service

MOVIES = 3
WORKFLOW = """\
title: Gains
setups: {}
sources: {}
runs:
  import: {protocol: import_movies, inputs: {file: sources}}
  gain: {protocol: follow_gain, inputs: {movie: import.movie}}
  motion:
    protocol: correct_motion
    inputs: {movie: import.movie}
    params: {local: false}
"""


def true_gain() -> NDArray[np.float32]:
    chance = np.random.default_rng(7)
    return (1 / chance.normal(1, 0.1, (512, 512))).astype(np.float32)


def made(folder: Path, *changes: str) -> Session:
    """A session of movies whose camera has a pattern of 10 %, with no gain yet."""
    (folder / "movies").mkdir()
    for number in range(MOVIES):
        frames = draw_frames(frames=3, seed=number) / true_gain()
        write_movie(folder / "movies" / f"{number}.mrc", frames.round().astype("u1"))
    (folder / "mine.yaml").write_text(WORKFLOW)
    return create_session(
        folder / "session",
        template=str(folder / "mine.yaml"),
        changes=[
            f"sources.grid.folder={folder / 'movies'}",
            "sources.grid.poll_s=0.1",
            f"setups.grid.pixel_size_angst={PIXEL_ANGST}",
            "setups.grid.voltage_kv=300",
            *changes,
        ],
    )


def work(session: Session) -> tuple[GainStandings, list[MovieMotion], int]:
    """Run it to its end; return what it knows, and how many corrections it took."""
    run_session(session, executor=InlineExecutor(), finish=True)
    with closing(session.read()) as reader:
        record = reader.snapshot("gain")
        assert record is not None
        motions = [
            decode(one, MovieMotion)
            for one in reader.records("motion", "motion").values()
        ]
        attempts = reader.rows(schema.attempt, schema.attempt.c.run == "motion")
        assert not reader.failed_attempts()
    return decode(record, GainStandings), motions, len(attempts)


def notices(session: Session) -> list[str]:
    with closing(session.read()) as reader:
        return [one.message for one in reader.notices()]


def write_gain(path: Path, gain: NDArray[np.float32]) -> Path:
    write_mrc(path, gain, pixel_size_angst=PIXEL_ANGST, dtype=np.float32)
    return path


def test_movies_without_their_gain_are_made_anew_when_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = made(tmp_path)
    found, motions, attempts = work(session)
    assert found.verdict == ("missing: the movies have a fixed pattern",)
    assert attempts == MOVIES
    assert [one.gain_correlation for one in motions] == [None] * MOVIES
    (told,) = notices(session)
    assert "The gain of setup 'grid' is missing: 3 movies" in told
    assert "fixed pattern of" in told
    with suppress(SystemExit):
        main(["status", str(session.folder)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "gain: The gain of setup 'grid' is missing" in shown

    gain = write_gain(tmp_path / "gain.mrc", true_gain())
    changed = session.send("set", changes=[f"setups.grid.gain={gain}"])
    assert changed == ["session.yaml", "grid"]
    found, motions, attempts = work(Session(session.folder))
    assert attempts == 2 * MOVIES
    assert found.verdict == ("as declared",)
    assert found.movies == (MOVIES,)
    assert all((one.gain_correlation or 0) > 0.5 for one in motions)
    assert all(str(gain) in (session.folder / one.star).read_text() for one in motions)

    Session(session.folder).send("set", changes=["setups.grid.gain=null"])
    found, motions, attempts = work(Session(session.folder))
    assert attempts == 2 * MOVIES, "the results without it are still there"
    assert [one.gain_correlation for one in motions] == [None] * MOVIES
    assert found.verdict == ("missing: the movies have a fixed pattern",)


def test_a_gain_that_was_replaced_makes_its_movies_stale(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc", true_gain())
    session = made(tmp_path, f"setups.grid.gain={gain}")
    _, motions, attempts = work(session)
    assert attempts == MOVIES
    stars = {one.star for one in motions}
    assert work(Session(session.folder))[2] == MOVIES, "nothing has changed"
    better = true_gain()
    better[10, 10] = 0
    write_gain(gain, better)
    _, motions, attempts = work(Session(session.folder))
    assert attempts == 2 * MOVIES
    assert stars.isdisjoint(one.star for one in motions)


def test_a_gain_that_lies_otherwise_is_told_and_mended(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc", np.rot90(true_gain()).copy())
    session = made(tmp_path, f"setups.grid.gain={gain}")
    session.send("pause", run="motion")
    assert run_until_told(session) == "turned"
    (told,) = [one for one in notices(session) if "does not lie as declared" in one]
    session.send("set", changes=told.partition(" Set ")[2].rstrip(".").split())
    session.send("resume", run="motion")
    found, motions, _ = work(Session(session.folder))
    assert found.verdict == ("as declared",)
    assert len(motions) == MOVIES
    assert all((one.gain_correlation or 0) > 0.5 for one in motions)


def run_until_told(session: Session) -> str:
    """Run a session whose motion is paused until its gain has been judged."""

    def watch(service: Service) -> None:
        threading.Thread(target=stop_when_told, args=(service, session)).start()

    run_session(session, executor=InlineExecutor(), started=watch)
    with closing(session.read()) as reader:
        record = reader.snapshot("gain")
    assert record is not None
    return str(record.scalars["verdict"][0])


def stop_when_told(service: Service, session: Session) -> None:
    for _ in range(200):
        time.sleep(0.05)
        if any("does not lie" in one for one in notices(session)):
            break
    service.stop()


def test_a_gain_that_was_replaced_meanwhile_is_not_used(tmp_path: Path) -> None:
    gain = write_gain(tmp_path / "gain.mrc", true_gain())
    movie = write_movie(tmp_path / "movie.mrc", draw_frames(frames=3))
    setup = AcquisitionSetup(
        name="grid", pixel_size_angst=PIXEL_ANGST, voltage_kv=300.0, gain=str(gain)
    )
    file = RawFile(
        path=str(movie),
        size_bytes=0,
        mtime_ns=0,
        fingerprint="",
        setup="grid",
        gain=str(gain),
        gain_fingerprint="of another one",
    )
    imported = run_step(
        "icestream.protocols.import_movies:ImportMovies",
        tmp_path,
        {"file": encode(file)},
        setup=setup,
    )
    movies = {"movie": imported.outputs["movie"]}
    failure = run_step(OURS, tmp_path, movies, setup=setup).failure
    assert failure is not None
    assert failure.fault is Fault.INCOMPLETE, "it is tried again"
    assert "is not the one that this movie came with" in failure.message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"gain": "/gains"}, ("/gains/1.mrc", "it")),
        ({"has_own_gain": True, "own_gain": "/other.mrc"}, ("/other.mrc", "")),
        ({"has_own_gain": True, "own_gain": None}, (None, "")),
    ],
)
def test_the_gain_is_the_sources_unless_a_setup_has_its_own(
    tmp_path: Path, fields: dict[str, Any], expected: tuple[str | None, str]
) -> None:
    movie = write_movie(tmp_path / "movie.mrc", np.ones((2, 32, 32), np.uint8))
    file = RawFile(
        path=str(movie),
        size_bytes=0,
        mtime_ns=0,
        fingerprint="",
        setup="grid",
        gain="/gains/1.mrc",
        gain_fingerprint="it",
    )
    known = {"setup": "grid", "pixel_size_angst": 1.0} | fields
    context = Context(
        key="movie",
        acquisition=AcquisitionView({n: known.get(n) for n in ImportMovies.reads}),
        session_folder=tmp_path,
        product_stem="product",
    )
    (found,) = ImportMovies(Params()).process(context, file=file).values()
    assert (found.gain, found.gain_fingerprint) == expected


def test_the_end_tells_of_a_gain_that_never_came(tmp_path: Path) -> None:
    gain = tmp_path / "late.mrc"
    session = made(tmp_path, f"setups.grid.gain={gain}", "sources.grid.poll_s=0.02")
    with pytest.raises(SourceUnavailable) as ended:
        run_session(session, executor=InlineExecutor(), finish=True)
    assert f": {gain} is not there yet: movies wait for it" in str(ended.value)
    assert "setups.NAME.gain=PATH" in str(ended.value)
    (told,) = notices(session)
    assert told == f"The gain {gain} is not there yet: movies wait for it."
    write_gain(gain, true_gain())
    found, motions, _ = work(Session(session.folder))
    assert found.verdict == ("as declared",)
    assert len(motions) == MOVIES
    assert notices(session).count(told) == 1


def test_what_is_known_of_a_changed_gain_needs_no_patience(tmp_path: Path) -> None:
    """Files that came long ago are not waited for: their import must not be early."""
    session = made(tmp_path)
    work(session)
    with closing(sqlite3.connect(session.ledger_path)) as ledger:
        ledger.execute("update ingest set time = time - 3600")
        ledger.commit()
    gain = write_gain(tmp_path / "gain.mrc", true_gain())
    session.send("set", changes=[f"setups.grid.gain={gain}"])
    _, motions, _ = work(Session(session.folder))
    assert all((one.gain_correlation or 0) > 0.5 for one in motions)
