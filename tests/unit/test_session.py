"""A session's settings and whose its ledger is: what is taken, and what is refused."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.app.settings import Settings
from icestream.cli.control import set_command
from icestream.domain.errors import (
    BadSettings,
    FolderUnavailable,
    LedgerUnusable,
    SessionInUse,
)
from icestream.streaming.control import writer_lock
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.workflow import Port
from icestream.testing.trivial import Tick, Ticker
from small import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icestream.streaming.service import Service

_TICKING = """
schema_version: 1
setups: {krios: {pixel_size_angst: 1.5, voltage_kv: 300}}
sources:
  ticks: {protocol: 'icestream.testing.trivial:Ticker', setup: krios, burst: 3,
          interval_s: 0.01}
runs:
  hop: {protocol: 'icestream.testing.trivial:Hop', inputs: {tick: sources}}
"""


def ticking(folder: Path, *changes: str) -> Session:
    """A session that is fed by a source from elsewhere."""
    template = folder.parent / "ticking.yaml"
    template.write_text(_TICKING, encoding="utf-8")
    return create_session(folder, template=str(template), changes=changes)


def run(session: Session) -> Session:
    run_session(session, executor=InlineExecutor(), finish=True)
    return session


@contextmanager
def at_work(session: Session) -> Iterator[Service]:
    """A service at work in a thread; stopped at the end."""
    found: list[Service] = []
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(
            run_session, session, executor=InlineExecutor(), started=found.append
        )
        try:
            wait_for(lambda: work.done() or (found and session.service().pid))
            yield found[0]
        finally:
            for one in found:
                one.stop()
            work.result(timeout=20)


def count(session: Session) -> int:
    reader = session.read()
    try:
        return len(reader.records("hop", "tick"))
    finally:
        reader.close()


def marks(session: Session) -> dict[str, str]:
    with closing(sqlite3.connect(session.ledger_path)) as database:
        rows = database.execute("SELECT name, value FROM meta").fetchall()
    return {name: value for name, value in rows if name != "schema_version"}


def without_id(session: Session) -> Session:
    """Make a session as an older icestream made it."""
    lines = session.settings_path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(one for one in lines if not one.startswith("id:"))
    session.settings_path.write_text(text, encoding="utf-8")
    return Session(session.folder)


def forget(session: Session) -> None:
    """Leave a ledger as an older icestream did."""
    with closing(sqlite3.connect(session.ledger_path)) as database:
        database.execute("DELETE FROM meta WHERE name <> 'schema_version'")
        database.commit()


class TestWhoseLedger:
    def test_each_session_has_an_id_and_marks_its_ledger(self, tmp_path: Path) -> None:
        one, other = (ticking(tmp_path / name) for name in "ab")
        assert one.settings.id
        assert one.settings.id != other.settings.id
        run(one)
        assert marks(one) == {"session": one.settings.id, "folder": str(one.folder)}

    def test_another_session_is_refused(self, tmp_path: Path) -> None:
        place = f"ledger={tmp_path / 'place'}"
        one = run(ticking(tmp_path / "a", place))
        other = ticking(tmp_path / "b", place)
        before = marks(one)
        for use in (lambda: run(other), other.read, lambda: other.send("pause")):
            with pytest.raises(
                LedgerUnusable, match="another session, last in"
            ) as said:
                use()
            assert str(one.folder) in str(said.value)
            assert f"{other.folder}/session.yaml" in str(said.value)
        assert marks(one) == before
        assert count(one) == 3

    def test_another_sessions_service_obeys_its_own(self, tmp_path: Path) -> None:
        one, other = (ticking(tmp_path / n, "ledger=../place") for n in "ab")
        with at_work(one) as service:
            for use in (lambda: run(other), lambda: other.send("pause")):
                with pytest.raises(LedgerUnusable, match="another session"):
                    use()
            assert service.scheduler.board.runs[""].paused is None
            with pytest.raises(SessionInUse):
                run(one)
            one.send("pause")
            assert service.scheduler.board.runs[""].paused

    @pytest.mark.parametrize("place", [None, "ledger=../place"])
    @pytest.mark.parametrize("old", [False, True])
    def test_a_moved_session_goes_on(
        self, tmp_path: Path, place: str | None, old: bool
    ) -> None:
        session = ticking(tmp_path / "a", *([place] if place else []))
        run(without_id(session) if old else session)
        session.folder.rename(tmp_path / "b")
        moved = Session(tmp_path / "b")
        assert count(moved) == 3, "it can be looked at before it is opened"
        run(moved)
        assert marks(moved)["folder"] == str(tmp_path / "b")
        run(ticking(tmp_path / "a"))
        assert count(run(moved)) == 3, "whoever comes to its old place is a stranger"

    @pytest.mark.parametrize("old", [False, True])
    def test_a_copy_that_names_the_same_ledger_is_refused(
        self, tmp_path: Path, old: bool
    ) -> None:
        session = ticking(tmp_path / "a", f"ledger={tmp_path / 'place'}")
        one = run(without_id(session) if old else session)
        copied = Session(shutil.copytree(one.folder, tmp_path / "b"))
        for use in (lambda: run(copied), copied.read):
            with pytest.raises(LedgerUnusable, match="is a copy") as said:
                use()
            assert f"session in {one.folder}" in str(said.value)
            assert "`ledger:`" in said.value.hint
        run(one)
        shutil.rmtree(one.folder)
        run(copied)
        assert count(copied) == 3, "it is the only one now"

    def test_a_copy_with_a_copy_of_the_ledger_is_a_session(
        self, tmp_path: Path
    ) -> None:
        one = run(ticking(tmp_path / "a"))
        copied = run(Session(shutil.copytree(one.folder, tmp_path / "b")))
        assert count(copied) == count(run(one)) == 3

    def test_another_way_to_the_same_folder_is_the_same(self, tmp_path: Path) -> None:
        one = run(ticking(tmp_path / "a"))
        (tmp_path / "link").symlink_to(one.folder)
        run(Session(tmp_path / "link"))
        assert marks(one)["folder"] == str(one.folder)

    def test_an_older_ledger_is_adopted_by_the_first(self, tmp_path: Path) -> None:
        place = f"ledger={tmp_path / 'place'}"
        one = run(ticking(tmp_path / "a", place))
        forget(one)
        assert count(one) == 3
        other = ticking(tmp_path / "b", place)
        run(one)
        with pytest.raises(LedgerUnusable):
            run(other)

    def test_two_older_sessions_do_not_share(self, tmp_path: Path) -> None:
        place = f"ledger={tmp_path / 'place'}"
        one, other = (without_id(ticking(tmp_path / n, place)) for n in "ab")
        run(one)
        with pytest.raises(LedgerUnusable, match=str(one.folder)):
            run(other)

    def test_a_persons_id_takes_over(self, tmp_path: Path) -> None:
        one = run(ticking(tmp_path / "a"))
        one.settings_path.unlink()
        again = ticking(tmp_path / "a")
        with pytest.raises(LedgerUnusable, match="another session"):
            run(again)
        text = again.settings_path.read_text(encoding="utf-8")
        taken = text.replace(str(again.settings.id), str(one.settings.id))
        again.settings_path.write_text(taken, encoding="utf-8")
        assert count(run(Session(one.folder))) == 3

    def test_the_id_is_not_set_and_not_inherited(self, tmp_path: Path) -> None:
        one = ticking(tmp_path / "a")
        with pytest.raises(BadSettings, match="id cannot be set"):
            one.send("set", changes=["id=mine"])
        template = str(one.settings_path)
        other = create_session(tmp_path / "b", template=template)
        assert other.settings.id not in (None, one.settings.id)


class TestOneWriter:
    def test_a_lock_that_was_removed_lets_nobody_in(self, tmp_path: Path) -> None:
        session = ticking(tmp_path / "a")
        with at_work(session):
            session.lock_path.unlink()
            with pytest.raises(SessionInUse, match=f"in use by process {os.getpid()}"):
                session.claim_ledger()
            assert not session.lock_path.exists()

    def test_a_lock_that_is_replaced_before_it_is_held_is_not_the_lock(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, flock = tmp_path / "ledger.lock", fcntl.flock
        replacements = [path.touch, lambda: None]

        def replaced(descriptor: int, kind: int) -> None:
            if replacements:
                path.unlink()
                replacements.pop(0)()
            flock(descriptor, kind)

        monkeypatch.setattr(fcntl, "flock", replaced)
        with (
            writer_lock(path),
            pytest.raises(SessionInUse, match=f"by process {os.getpid()}"),
            writer_lock(path),
        ):
            pass
        assert not replacements


class TestSet:
    def test_what_was_written_by_hand_reaches_a_running_service(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        session = create_session(tmp_path / "a", template="micrographs", changes=_GRID)
        path = session.settings_path
        with at_work(session) as service:
            by_hand = path.read_text(encoding="utf-8").replace(
                "    protocol: estimate_ctf\n",
                "    protocol: estimate_ctf\n    params: {box_px: 256}\n",
            )
            path.write_text(f"{by_hand}# by   hand\n", encoding="utf-8")
            before = path.read_bytes()
            set_command(session.folder, ["ctf.box_px=256"])
            assert capsys.readouterr().out == "Changed: ctf.\n"
            assert service.plan.runs["ctf"].params["box_px"] == 256
            set_command(session.folder, ["ctf.box_px=256"])
            assert capsys.readouterr().out.startswith("Nothing has changed")
        assert path.read_bytes() == before


class TestSources:
    def test_a_source_from_elsewhere_feeds_a_session(self, tmp_path: Path) -> None:
        session = run(ticking(tmp_path / "a"))
        ticks = session.plan.runs["ticks"]
        assert ticks.protocol is Ticker
        assert ticks.params["burst"] == 3
        assert session.plan.runs["hop"].spec.wiring == {"tick": ["ticks.tick"]}
        assert session.plan.workflow.kind(Port("ticks", "tick")) is Tick
        assert count(session) == 3
        reader = session.read()
        try:
            rows = reader.tasks("ticks")
        finally:
            reader.close()
        assert set(rows) == {f"ticks/{number}" for number in range(3)}

    def test_its_parameters_are_its_own(self, tmp_path: Path) -> None:
        with pytest.raises(BadSettings, match=r"Parameters of ticker: burst:"):
            ticking(tmp_path / "a", "sources.ticks.burst=many")
        with pytest.raises(BadSettings, match=r"folder: Extra inputs.*interval_s"):
            ticking(tmp_path / "b", "sources.ticks.folder=/data")

    def test_its_exposures_have_its_setup(self, tmp_path: Path) -> None:
        fields = ticking(tmp_path / "a").plan.runs["ticks"].acquisition
        assert fields is not None
        assert (
            dict(fields).items()
            >= {
                "setup": "krios",
                "pixel_size_angst": 1.5,
                "voltage_kv": 300.0,
                "spherical_aberration_mm": 2.7,
                "amplitude_contrast": 0.1,
                "dose_e_per_angst2": None,
            }.items()
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("sources.ticks.protocol=estimate_ctf", "'estimate_ctf' is no source"),
            ("sources.ticks.protocol=nothing", "no protocol 'nothing'.*watch_folder"),
            ("sources.ticks.protocol=5", r"sources\.ticks\.protocol: .* valid string"),
            ("sources.ticks.setup=titan", "setup 'titan', which is not defined"),
        ],
    )
    def test_what_cannot_be_is_said(
        self, tmp_path: Path, change: str, said: str
    ) -> None:
        with pytest.raises(BadSettings, match=said):
            ticking(tmp_path / "a", change)

    def test_a_watched_folder_needs_no_protocol(self) -> None:
        text = """
        setups: {grid: {pixel_size_angst: 1, voltage_kv: "300"}}
        sources: {grid: {folder: /data}}
        runs: {import: {protocol: import_micrographs, inputs: {file: sources}}}
        """
        plan = Settings.parse(text, where="it").plan()
        grid = plan.runs["grid"]
        assert grid.protocol.name == "watch_folder"
        assert (grid.params["folder"], grid.params["setup"]) == ("/data", "grid")
        assert plan.runs["import"].spec.wiring == {"file": ["grid.files"]}


class TestSetups:
    @pytest.mark.parametrize(
        ("setup", "said"),
        [
            ("{voltage_kv: 300}", r"setups\.grid\.pixel_size_angst: .*required"),
            ("{pixel_size_angst: 1, voltage_kv: x}", r"setups\.grid\.voltage_kv: "),
            (
                "{pixel_size_angst: 1, voltage_kv: 300, cs: 2.7}",
                r"setups\.grid\.cs: ",
            ),
            (
                "{pixel_size_angst: 1, voltage_kv: 300000}",
                r"Setup 'grid': voltage_kv is 300000.*between 20 and 1500 \(kV\)",
            ),
            ("{pixel_size_angst: .nan, voltage_kv: 300}", "pixel_size_angst is nan"),
            (
                "{name: k2, pixel_size_angst: 1, voltage_kv: 300}",
                "the word before it",
            ),
            ("null", r"setups\.grid: "),
        ],
    )
    def test_what_cannot_be_is_said(self, setup: str, said: str) -> None:
        text = f"setups: {{grid: {setup}}}\nsources: {{grid: {{}}}}\nruns: {{}}"
        with pytest.raises(BadSettings, match=said):
            Settings.parse(text, where="it")

    def test_a_name_may_have_dots(self, tmp_path: Path) -> None:
        name = "k3_96x64_0.6A_300kV"
        changes = (f"setups.{name}.pixel_size_angst=1", f"setups.{name}.voltage_kv=300")
        session = ticking(tmp_path / "a", *changes)
        assert session.settings.setups[name]["pixel_size_angst"] == 1

    def test_one_that_opens_need_not_be_told_in_full(self, tmp_path: Path) -> None:
        """As notices say: whatever else it has, it takes from the declared one."""
        name = "falcon4_4096x4096"
        changes = (f"setups.{name}.gain=/x/gain.mrc", f"setups.{name}.gain_mirror=true")
        session = ticking(tmp_path / "a", *changes)
        told = {"gain": "/x/gain.mrc", "gain_mirror": True}
        assert session.settings.setups[name] == told
        for change, said in (
            ("gain_turn_deg=45", "must be 0, 90, 180 or 270"),
            ("gain_trun=90", r"setups\.falcon4_4096x4096\.gain_trun"),
            ("gain=/x", r"falcon4_4096x4096\.gain: '/x' is no gain file"),
            ("gain='/x/*.mrc'", "only sources look into those"),
        ):
            with pytest.raises(BadSettings, match=said):
                session.send("set", changes=[f"setups.{name}.{change}"])

    def test_none_changes_under_a_service_at_work(self, tmp_path: Path) -> None:
        session = ticking(tmp_path / "a")
        changes = ["setups.other.pixel_size_angst=1", "setups.other.voltage_kv=300"]
        before = session.settings_path.read_bytes()
        with (
            at_work(session),
            pytest.raises(BadSettings, match="Setups change only while"),
        ):
            session.send("set", changes=changes)
        assert session.settings_path.read_bytes() == before
        assert session.send("set", changes=changes) == ["session.yaml"]

    def test_the_sites_table_of_pixel_sizes(self, tmp_path: Path) -> None:
        table = "[{magnification: 105000, pixel_size_angst: 0.83, detector: K3}]"
        session = ticking(tmp_path / "a", f"calibration={table}")
        (row,) = session.settings.calibration
        assert (row.magnification, row.detector) == (105_000, "K3")
        with pytest.raises(BadSettings, match="calibration"):
            ticking(tmp_path / "b", "calibration=[{magnification: 105000}]")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_ledger_whose_place_is_no_folder_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    session = ticking(tmp_path / "a", f"ledger={tmp_path / place}")
    with pytest.raises(FolderUnavailable, match=r"file.* is no folder") as said:
        session.claim_ledger()
    assert said.value.hint == "Name another with `ledger:`."


def test_comments_survive_and_the_id_stands_on_top(tmp_path: Path) -> None:
    session = create_session(tmp_path / "a", template="micrographs", changes=_GRID)
    text = session.settings_path.read_text(encoding="utf-8")
    assert "# The workflow. `sources` stands for the files of all sources." in text
    assert list(YAML().load(text))[:2] == ["schema_version", "id"]


_GRID = (
    "sources.grid.folder=/data",
    "setups.grid.pixel_size_angst=1.5",
    "setups.grid.voltage_kv=300",
)
