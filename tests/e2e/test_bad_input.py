"""Bad input ends in a clear message and loses nothing: files, disks, ledgers."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile

from e2e import bad_session
from e2e.bad_session import finish, make_session, reasons, running, states
from icestream.app.reporting import update_report
from icestream.app.run import run_session
from icestream.domain.errors import (
    DiskFull,
    LedgerUnusable,
    SessionInUse,
)
from icestream.io import read_micrograph
from icestream.simulate import simulate_acquisition, usual_acquisition
from icestream.streaming.inline import InlineExecutor
from small import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from icestream.app.session import Session
    from icestream.streaming.service import Service


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    folder = tmp_path_factory.mktemp("microscope")
    shape = (1024, 1024)
    return simulate_acquisition(
        folder,
        usual_acquisition(3, shape=shape, defect_share=0.0),
    )


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


@pytest.fixture
def session(tmp_path: Path, watched: Path) -> Session:
    return make_session(tmp_path / "session", watched)


def rows(session: Session, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(session.ledger_path)) as database:
        return database.execute(query).fetchall()


def ingest(session: Session) -> dict[str, tuple[str, str]]:
    found = rows(session, "SELECT path, state, reason FROM ingest")
    return {Path(path).name: (state, reason) for path, state, reason in found}


def executions(session: Session) -> Counter[tuple[str, str]]:
    return Counter(rows(session, "SELECT run, key FROM attempt WHERE key <> ''"))


def nothing_left(session: Session) -> bool:
    """Whether every file under products is a product that the ledger knows."""
    known = {name for (name,) in rows(session, "SELECT path FROM artifact")}
    there = (one for one in (session.folder / "products").rglob("*") if one.is_file())
    return {str(one.relative_to(session.folder)) for one in there} <= known


# Files ----------------------------------------------------------------------------


def write_raw(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    with mrcfile.new(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that it holds NaN
        file.set_data(pixels)


def with_nan(path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    pixels[7, 9] = np.nan
    write_raw(path, pixels)


JUDGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.mrc": (lambda path: path.write_text("no image\n" * 500), "text.mrc"),
    "complex.mrc": (
        lambda path: write_raw(path, np.ones((64, 64), np.complex64)),
        "mode",
    ),
    "nan.mrc": (with_nan, "NaN"),
    "constant.mrc": (
        lambda path: write_raw(path, np.full((256, 256), 7, np.int16)),
        "constant",
    ),
    "colour.png": (
        lambda path: path.write_bytes(
            imagecodecs.png_encode(np.ones((64, 64, 3), np.uint8))
        ),
        "colour.png",
    ),
}


def test_bad_files_are_named_with_their_reason_and_good_ones_go_on(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    shutil.copy(images[0], watched / "good.mrc")
    for name, (make, _) in JUDGED.items():
        make(watched / name)
    service = finish(session, settling_s=0.0)
    assert states(service, "import")["good.mrc"] == "done"
    assert states(service, "curate")["good.mrc"] == "done"
    said = {n: reason for n, (_, reason) in ingest(session).items()} | {
        name: reason for name, reason in reasons(service, "import").items() if reason
    }
    for name, (_, part) in JUDGED.items():
        assert states(service, "import").get(name) != "done"
        assert part.lower() in said[name].lower(), said[name]
    assert nothing_left(session)


@pytest.mark.parametrize("size", [0, 700, 200_000])
def test_a_cut_file_waits_and_is_taken_once_it_is_whole(
    session: Session, watched: Path, images: Sequence[Path], size: int
) -> None:
    whole = images[0].read_bytes()
    path = watched / "cut.mrc"
    path.write_bytes(whole[:size])
    with running(session) as service:
        wait_for(lambda: ingest(session).get("cut.mrc", ("",))[0] == "waiting")
        wait_for(lambda: "just appeared" not in ingest(session)["cut.mrc"][1])
        assert not service.scheduler.board.tasks["import"]
        path.write_bytes(whole)
        wait_for(lambda: states(service, "curate").get("cut.mrc") == "done")
    assert set(executions(session).values()) == {1}


def test_a_file_that_goes_before_it_is_read_is_kept_for_a_retry(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    path = watched / "a.mrc"
    with running(session) as service:
        service.command(lambda t: service.pause(t, "import", "a test")).result(10)
        shutil.copy(images[0], path)
        wait_for(lambda: states(service, "import") == {"a.mrc": "ready"})
        path.unlink()
        service.command(lambda t: service.resume(t, "import")).result(10)
        wait_for(lambda: states(service, "import") == {"a.mrc": "quarantined"})
        reason = reasons(service, "import")["a.mrc"]
        assert str(path) in reason
        assert "icestream retry" in reason
        shutil.copy(images[0], path)
        asked = service.command(lambda t: service.retry(t, "import", None))
        assert asked.result(10) == 1
        wait_for(lambda: states(service, "curate").get("a.mrc") == "done")


def test_a_file_rewritten_later_replaces_its_results(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    path = watched / "a.mrc"
    with running(session) as service:
        for number, image in enumerate(images[:2]):
            shutil.copy(image, path)
            wait_for(lambda n=number: done_after(service, n + 1))
    kinds = rows(session, "SELECT run, kind FROM change WHERE run = 'import'")
    assert kinds == [("import", "added"), ("import", "replaced")]
    (mean,) = rows(
        session,
        "SELECT json_extract(scalars, '$.mean') FROM item JOIN task "
        "ON item.id = task.published || '/micrograph' WHERE task.run = 'import'",
    )
    assert mean[0] == pytest.approx(float(read_micrograph(images[1]).mean()), rel=1e-5)


def done_after(service: Service, attempts: int) -> bool:
    task = service.scheduler.board.tasks["import"].get("grid/a.mrc")
    is_done = states(service, "curate").get("a.mrc") == "done"
    return is_done and task is not None and task.attempt == attempts


def test_hostile_names_neither_collide_nor_stop_the_session(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    pixels = read_micrograph(images[0]).astype(np.uint16)[:256, :256]
    tifffile.imwrite(watched / "a.tif", pixels)
    (watched / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    deep = watched / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    for name in (
        *("a.mrc", "a.b.mrc", "new\nline.mrc", "quo'te\".mrc", "{stem} %s.mrc"),
        *(
            "<script>alert(1)<script>.mrc",
            "é😀.mrc",
            "#hash?%20.mrc",
            "esc\x1b[31m.mrc",
        ),
        *("l" * 251 + ".mrc", "m" * 230 + ".mrc", f"{deep.relative_to(watched)}/n.mrc"),
    ):
        write_raw(watched / name, pixels)
    bad = os.fsencode(watched) + b"/bad\xff.mrc"
    shutil.copy(os.fsencode(images[0]), bad)
    with running(session) as service:
        wait_for(lambda: len(states(service, "import")) == 14)
        wait_for(lambda: set(states(service, "import").values()) == {"done"})
        assert service.scheduler.board.runs[""].paused is None
    paths = rows(
        session, "SELECT path FROM artifact WHERE path LIKE 'products/import%'"
    )
    assert len(set(paths)) == 14
    assert nothing_left(session)
    assert "not valid UTF-8" in ingest(session)["bad\\xff.mrc"][1]
    update_report(session, running=False)
    assert "<script>alert" not in session.report_path.read_text(encoding="utf-8")


# Folders and permissions ----------------------------------------------------------


def test_a_folder_that_goes_and_comes_back(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    away = watched.with_name("away")
    shutil.copy(images[0], watched / "a.mrc")
    with running(session) as service:
        wait_for(lambda: states(service, "curate") == {"a.mrc": "done"})
        watched.rename(away)
        wait_for(lambda: ingest(session).get("watched", ("",))[0] == "vanished")
        assert "keep their state" in ingest(session)["watched"][1]
        assert states(service, "curate") == {"a.mrc": "done"}
        away.rename(watched)
        shutil.copy(images[1], watched / "b.mrc")
        wait_for(lambda: states(service, "curate").get("b.mrc") == "done")
    assert set(executions(session).values()) == {1}


def test_missing_permissions_are_named_and_lose_nothing(
    tmp_path: Path, images: Sequence[Path]
) -> None:
    made = {}
    for name in ("warm", "image", "listing", "session", "settings", "ledger", "made"):
        made[name] = make_session(tmp_path / name, tmp_path / f"{name}_watched")
        shutil.copy(images[0], tmp_path / f"{name}_watched" / "a.mrc")
    finish(made["ledger"])
    (tmp_path / "made" / "products" / "import").mkdir(parents=True)
    if not os.geteuid():
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, bad_session.NOBODY, bad_session.NOBODY)
    closed = {
        "image": tmp_path / "image_watched" / "a.mrc",
        "listing": tmp_path / "listing_watched",
        "settings": made["settings"].settings_path,
        "ledger": made["ledger"].ledger_path,
    }
    for path in closed.values():
        path.chmod(0o000)
    made["session"].folder.chmod(0o555)
    (tmp_path / "made" / "products" / "import").chmod(0o555)
    said = as_nobody([tmp_path / name for name in made], tmp_path)
    for path in closed.values():
        path.chmod(0o755)
    assert said["image"] == ("paused", "None")
    assert said["listing"][0] == "SourceUnavailable"
    assert "listing_watched" in said["listing"][1]
    state, reason = ingest(made["image"])["a.mrc"]
    assert state == "unreadable"
    assert "permission denied" in reason
    state, reason = ingest(made["listing"])["listing_watched"]
    assert state == "unreadable"
    assert "Permission denied" in reason
    assert said["session"][0] == "FolderUnavailable"
    assert "session/ledger.lock cannot be written" in said["session"][1]
    assert said["settings"][0] == "FolderUnavailable"
    assert "session.yaml cannot be read: Permission denied" in said["settings"][1]
    assert said["ledger"][0] == "LedgerUnusable"
    assert "Check the permissions" in said["ledger"][1]
    assert said["made"][0] == "paused"
    assert "products/import/grid/" in said["made"][1]
    for name in ("image", "listing"):
        service = finish(made[name])
        assert states(service, "curate") == {"a.mrc": "done"}, name
    (tmp_path / "made" / "products" / "import").chmod(0o755)
    made["made"].send("resume")
    service = finish(made["made"])
    assert states(service, "curate") == {"a.mrc": "done"}


def as_nobody(folders: Sequence[Path], scratch: Path) -> dict[str, tuple[str, str]]:
    """Run sessions as a user who may do nothing but what files allow."""
    modes = {one: one.stat().st_mode for one in (scratch, *scratch.parents)}
    shut = {one: mode for one, mode in modes.items() if not mode & 0o001}
    tests = Path(__file__).parents[1]
    try:
        for one, mode in shut.items():
            one.chmod(mode | 0o001)
        done = subprocess.run(
            [sys.executable, bad_session.__file__, *(str(one) for one in folders)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=scratch,
            env=os.environ | {"PYTHONPATH": str(tests)},
        )
    finally:
        for one, mode in shut.items():
            one.chmod(mode)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(one) for one in done.stdout.splitlines()]
    return {name: (kind, text) for name, kind, text in lines}


# Disks ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "none", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here; see the injected errors")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
                return filler


def test_a_full_disk_of_products_pauses_and_nothing_is_lost(
    tmp_path: Path, watched: Path, small_disk: Path, images: Sequence[Path]
) -> None:
    session = make_session(small_disk / "session", watched, f"ledger={tmp_path}")
    filler = fill(small_disk)
    shutil.copy(images[0], watched / "a.mrc")
    with running(session) as service:
        board = service.scheduler.board
        wait_for(lambda: board.runs[""].paused is not None)
        assert "No space left on device" in str(board.runs[""].paused)
        assert str(small_disk) in str(board.runs[""].paused)
        assert states(service, "import") == {"a.mrc": "ready"}
        filler.unlink()
        service.command(lambda t: service.resume(t, None)).result(10)
        wait_for(lambda: states(service, "curate") == {"a.mrc": "done"})
    assert nothing_left(session)


def test_a_full_disk_of_the_ledger_ends_the_session_and_nothing_is_lost(
    tmp_path: Path, watched: Path, small_disk: Path, images: Sequence[Path]
) -> None:
    session = make_session(tmp_path / "session", watched, f"ledger={small_disk}")
    shutil.copy(images[0], watched / "a.mrc")
    finish(session)
    filler = fill(small_disk)
    for number in range(40):
        shutil.copy(images[1], watched / f"b{number}.mrc")
    with pytest.raises(DiskFull, match="nothing committed is lost"):
        finish(session)
    filler.unlink()
    for number in range(3, 40):
        (watched / f"b{number}.mrc").unlink()
    service = finish(session)
    done = states(service, "curate")
    assert {done[name] for name in ("a.mrc", "b0.mrc", "b1.mrc", "b2.mrc")} == {"done"}
    assert executions(session)["import", "grid/a.mrc"] == 1
    assert rows(session, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_and_no_quota_pause_and_nothing_is_lost(
    session: Session,
    watched: Path,
    images: Sequence[Path],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    write = Path.write_bytes
    refusing = [True]

    def write_bytes(path: Path, data: bytes) -> int:
        if refusing[0] and path.is_relative_to(session.folder / "products"):
            raise OSError(number, os.strerror(number), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    shutil.copy(images[0], watched / "a.mrc")
    with running(session) as service:
        board = service.scheduler.board
        wait_for(lambda: board.runs[""].paused is not None)
        assert os.strerror(number) in str(board.runs[""].paused)
        refusing[0] = False
        service.command(lambda t: service.resume(t, None)).result(10)
        wait_for(lambda: states(service, "curate") == {"a.mrc": "done"})
    assert nothing_left(session)


def test_a_ledger_whose_quota_is_used_up(
    session: Session, watched: Path, images: Sequence[Path]
) -> None:
    """A limit on the size of files fails in SQLite just as a quota does."""
    shutil.copy(images[0], watched / "a.mrc")
    finish(session)
    shutil.copy(images[1], watched / "b.mrc")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(DiskFull, match="quota"):
            finish(session)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    service = finish(session)
    assert states(service, "curate") == {"a.mrc": "done", "b.mrc": "done"}
    assert executions(session)["import", "grid/a.mrc"] == 1


# Services and ledgers -------------------------------------------------------------


def test_a_second_service_is_refused(session: Session) -> None:
    with running(session) as service:
        with pytest.raises(SessionInUse, match=f"in use by process {os.getpid()}"):
            run_session(session, executor=InlineExecutor())
        with pytest.raises(SessionInUse):
            session.send("pause")
        assert service.scheduler.board.runs[""].paused is None


def test_a_ledger_on_a_network_file_system_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def read_text(path: Path, *args: Any, **options: Any) -> str:
        if path == Path("/proc/self/mountinfo"):
            return "1 0 0:1 / / rw - nfs4 server:/home rw\n"
        return read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(LedgerUnusable, match=r"network file system \(nfs4\).*ledger:"):
        run_session(session, executor=InlineExecutor())
    assert not session.ledger_path.exists()


def test_a_newer_ledger_is_refused_and_untouched(session: Session) -> None:
    finish(session)
    with closing(sqlite3.connect(session.ledger_path)) as database:
        database.execute("UPDATE meta SET value = '99 beta'")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = session.ledger_path.read_bytes()
    with pytest.raises(LedgerUnusable, match="schema version 99 beta"):
        run_session(session, executor=InlineExecutor())
    with pytest.raises(LedgerUnusable, match="another version"):
        session.read()
    assert session.ledger_path.read_bytes() == before


@pytest.mark.parametrize("kept", [0.5, 0.02])
def test_a_damaged_ledger_is_refused_and_a_copy_goes_on(
    session: Session, watched: Path, images: Sequence[Path], kept: float
) -> None:
    shutil.copy(images[0], watched / "a.mrc")
    finish(session)
    good = session.ledger_path.read_bytes()
    session.ledger_path.write_bytes(good[: int(len(good) * kept)])
    with pytest.raises(LedgerUnusable, match="restore a copy"):
        finish(session)
    session.ledger_path.write_bytes(good)
    finish(session)
    assert set(executions(session).values()) == {1}


def test_a_ledger_that_is_removed_while_in_use_ends_the_session(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icestream.streaming.service.SPACE_EVERY_S", 0.05)
    path = session.ledger_path
    timers: list[threading.Timer] = []

    def started(service: Service) -> None:
        timers.append(threading.Timer(0.5, path.rename, [path.with_name("away.db")]))
        timers.append(threading.Timer(15, service.stop))
        for one in timers:
            one.start()

    try:
        with pytest.raises(LedgerUnusable, match="removed or replaced"):
            run_session(session, executor=InlineExecutor(), started=started)
    finally:
        for one in timers:
            one.cancel()
            one.join()


@pytest.mark.parametrize("name", ["100%_a#1", "what?", "a=b&c;d 'e\""])
def test_a_session_folder_may_have_any_name(
    tmp_path: Path, watched: Path, images: Sequence[Path], name: str
) -> None:
    session = make_session(tmp_path / "sessions" / name, watched)
    shutil.copy(images[0], watched / "a.mrc")
    finish(session)
    update_report(session, running=False)
    assert "a.mrc" in session.report_path.read_text(encoding="utf-8")
    assert [one.name for one in (tmp_path / "sessions").iterdir() if one.is_dir()] == [
        name
    ]
    assert session.ledger_path.exists()
