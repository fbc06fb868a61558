from __future__ import annotations

import inspect
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from ruamel.yaml import YAML
from typer.main import get_command

from icestream.cli import main
from icestream.cli.app import COMMANDS, build_app
from icestream.cli.exits import guarded
from icestream.domain import errors
from icestream.streaming.control import (
    ServiceState,
    ServiceStatus,
    find_service,
    writer_lock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[..., tuple[int, str, str]]

_CTF_OF_A = ("ctf", "a.mrc", "--pixel-size-angst", "1", "--voltage-kv")
_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(one) for one in args])
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, captured.out, captured.err

    return call


def _new(run: Run, folder: Path, *more: str) -> Path:
    session = folder / "session"
    code, _, error = run(
        "new",
        session,
        "--set",
        f"sources.grid.folder={folder / 'watched'}",
        "--set",
        "setups.grid.pixel_size_angst=1.5",
        "--set",
        "setups.grid.voltage_kv=300",
        *more,
    )
    assert code == 0, error
    return session


# Help -------------------------------------------------------------------------------


def test_help_lists_every_command_and_teaches(run: Run) -> None:
    code, text, _ = run("--help")
    assert code == 0
    assert all(f" {name} " in text for name in COMMANDS)
    assert "icestream start my_session" in text
    assert "Exit codes" in text


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from icestream.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'sqlalchemy', 'distributed', 'scipy', 'numpy', 'pandas'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_version(run: Run) -> None:
    code, text, _ = run("--version")
    assert (code, text.split()[0]) == (0, "icestream")


@pytest.mark.parametrize("name", COMMANDS)
def test_first_line_of_each_command_is_that_of_the_table(name: str) -> None:
    app = build_app(load=[name])
    found = next(one for one in app.registered_commands if one.name == name)
    assert found.callback is not None
    text = inspect.getdoc(found.callback) or ""
    assert text.partition("\n")[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_reference_page(name: str) -> None:
    page = _PAGE.read_text(encoding="utf-8")
    section = page.partition(f"\n## `icestream {name}`")[2].partition("\n## ")[0]
    assert section, f"{_PAGE} has no section on `icestream {name}`"
    command = get_command(build_app(load=[name])).commands[name]  # type: ignore[attr-defined]
    for option in command.params:
        for spelt in option.opts if option.param_type_name == "option" else ():
            assert f"`{spelt}" in section, f"{spelt} lacks in {_PAGE}"


# Exit codes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadSettings("A value cannot be."), 2),
        (errors.UnreadableFile("A file."), 3),
        (errors.SessionInUse("In use."), 4),
        (errors.LedgerUnusable("Newer."), 4),
        (errors.FolderUnavailable("Gone."), 4),
        (errors.DiskFull("Full."), 4),
        (errors.ServiceUnreachable("No answer."), 4),
        (errors.SourceUnavailable("Gone."), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_of_errors(error: BaseException, code: int) -> None:
    with pytest.raises(typer.Exit) as left:
        guarded(_raising(error))()
    assert left.value.exit_code == code


def test_error_is_shown_with_its_hint_and_without_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = errors.DiskFull("/data is full [0 bytes].", hint="Free some space.")
    with pytest.raises(typer.Exit):
        guarded(_raising(error))()
    shown = capsys.readouterr()
    assert shown.err == "Error: /data is full [0 bytes].\n  Free some space.\n"
    assert shown.out == ""


@pytest.mark.parametrize("error", [errors.InternalError("Ours."), ZeroDivisionError()])
def test_our_own_error_crashes_loudly(error: Exception) -> None:
    with pytest.raises(type(error)):
        guarded(_raising(error))()


def _raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    "args",
    [
        ["no_such_command"],
        ["status", "--no-such-option"],
        ["replay", "a.mrc"],
        ["replay", "a.mrc", "--into", "b", "--every", "soon"],
        ["ctf", "a.mrc", "--voltage-kv", "300"],
        [*_CTF_OF_A, "3"],
        [*_CTF_OF_A, "300", "--box-px", "1"],
        ["export", "a", "b", "c"],
        ["export", "a", "b", "--to", "paper"],
        ["protocols", "no_such_protocol"],
        ["status", "/no/such/session"],
    ],
)
def test_wrong_usage_is_code_2_and_one_message(run: Run, args: Sequence[str]) -> None:
    code, out, err = run(*args)
    assert code == 2
    assert out == ""
    assert "Error" in err
    assert "Traceback" not in err


# Sessions without a service ---------------------------------------------------------


def test_new_says_what_it_made_and_what_comes_next(run: Run, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    code, out, _ = run(
        "new",
        session,
        "--set",
        f"sources.grid.folder={tmp_path}",
        "--set",
        "setups.grid.pixel_size_angst=1.5",
        "--set",
        "setups.grid.voltage_kv=300",
    )
    assert code == 0
    assert (session / "session.yaml").exists()
    assert "estimate_ctf" in out
    assert f"Next: icestream start {session}" in out


def test_new_takes_a_relative_folder_from_where_the_user_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = _new(run, tmp_path, "--set", "sources.grid.folder=raw")
    assert f"folder: {tmp_path / 'raw'}" in (session / "session.yaml").read_text()


def test_a_gain_is_named_from_where_the_user_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = _new(run, tmp_path, "--set", "setups.grid.gain=gains/one.mrc")
    settings = session / "session.yaml"

    def gain() -> str | None:
        found: str | None = YAML().load(settings)["setups"]["grid"]["gain"]
        return found

    assert gain() == str(tmp_path / "gains" / "one.mrc")
    assert run("set", session, "setups.grid.gain=two.mrc")[0] == 0
    assert gain() == str(tmp_path / "two.mrc")
    assert run("set", session, "setups.grid.gain=null")[0] == 0
    assert gain() is None
    settings.write_text(settings.read_text().replace("gain:", "gain: here.mrc  #"))
    code, _, err = run("status", session)
    assert (code, "gain is 'here.mrc'" in err) == (2, True)
    assert "absolute path" in err


def test_new_refuses_a_session_that_exists(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    code, _, err = run("new", session, "--set", "title=Other")
    assert code == 2
    assert "holds a session already" in err


def test_status_before_the_first_start(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    code, out, _ = run("status", session, "--json")
    status = json.loads(out)
    assert code == 0
    assert status["service"] == {"state": "stopped", "pid": None}
    assert status["exposures"] == status["failures"] == []
    assert "no results yet" in run("status", session)[1]


def test_status_while_a_service_makes_the_ledger(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    sqlite3.connect(session / "ledger.db").close()
    (session / "ledger.db").touch()
    with writer_lock(session / "ledger.lock"):
        code, out, err = run("status", session)
    assert code == 0, err
    assert "starting or ending" in out
    assert run("status", session)[0] == 4  # nobody makes it: it is damaged


def test_pause_set_resume_without_a_service(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    assert run("pause", session, "ctf")[0] == 0
    status = json.loads(run("status", session, "--json")[1])
    assert status["paused"] == {"ctf": "paused by hand"}
    assert "PAUSED ctf" in run("status", session)[1]
    assert run("resume", session, "ctf")[0] == 0
    assert json.loads(run("status", session, "--json")[1])["paused"] == {}
    code, out, _ = run("set", session, "curate.rules.resolution_angst.maximum=6")
    assert (code, out) == (0, "Changed: session.yaml, curate.\n")
    status = json.loads(run("status", session, "--json")[1])
    limits = next(one for one in status["runs"] if one["name"] == "curate")
    assert limits["params"]["rules"]["resolution_angst"]["maximum"] == 6


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["stop"], 4),
        (["report"], 4),
        (["pause", "no_such_run"], 2),
        (["set", "ctf.no_such=1"], 2),
        (["set", "ctf.box_px=many"], 2),
        (["accept", "ctf", "a.mrc"], 2),
        (["accept", "curate"], 2),
        (["accept"], 2),
        (["reject", "curate", "a.mrc"], 2),
        (["retry", "--key", "a.mrc"], 2),
    ],
)
def test_commands_that_cannot_be(
    run: Run, tmp_path: Path, args: list[str], code: int
) -> None:
    session = _new(run, tmp_path)
    found, _, err = run(args[0], session, *args[1:])
    assert found == code
    assert err.startswith("Error: ")


def test_the_only_gate_need_not_be_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _new(run, tmp_path)
    for command in ("accept", "reject", "reset"):
        code, _, err = run(command, session, "grid/a.mrc")
        assert code == 2
        assert "Gate 'curate' knows no exposure 'grid/a.mrc'" in err
    monkeypatch.chdir(session)
    assert "Gate 'curate' knows no exposure" in run("accept", "grid/a.mrc")[2]
    assert "No exposure is given for 'curate'" in run("accept", "curate")[2]
    monkeypatch.chdir(tmp_path)
    assert "is no session" in run("accept", "grid/a.mrc")[2]


def test_of_several_gates_one_must_be_named(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    path = session / "session.yaml"
    more = "  strict:\n    protocol: curate_exposures\n    inputs: {ctf: ctf.ctf}\n"
    path.write_text(path.read_text().replace("\nruns:\n", f"\nruns:\n{more}"))
    code, _, err = run("accept", session, "grid/a.mrc")
    assert code == 2
    assert "Name the gate" in err
    assert "There are: strict, curate." in err
    assert "Gate 'strict' knows no" in run("accept", session, "strict", "grid/a.mrc")[2]


def test_setting_what_is_set_already_changes_nothing(run: Run, tmp_path: Path) -> None:
    session = _new(run, tmp_path)
    path = session / "session.yaml"
    run("set", session, "curate.rules.resolution_angst.maximum=6")
    path.write_text(path.read_text() + "\n# by   hand\n")
    before, status = path.read_bytes(), path.stat()
    revisions = _count(session, "revision")
    code, out, _ = run("set", session, "curate.rules.resolution_angst.maximum=6.0")
    assert (code, out.partition(":")[0]) == (0, "Nothing has changed")
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert _count(session, "revision") == revisions
    assert run("set", session, "title=Other")[1] == "Changed: session.yaml.\n"
    limit = "curate.rules.resolution_angst.maximum=7"
    assert run("set", session, limit)[1] == "Changed: session.yaml, curate.\n"


def _count(session: Path, table: str) -> int:
    connection = sqlite3.connect(session / "ledger.db")
    try:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        connection.close()
    return found


def test_stop_names_who_holds_a_session_that_answers_nobody(
    run: Run, tmp_path: Path
) -> None:
    session = _new(run, tmp_path)
    with writer_lock(session / "ledger.lock"):
        code, out, err = run("stop", session)
    assert (code, out) == (4, "")
    assert f"Process {os.getpid()} holds the session" in err
    assert f"`kill {os.getpid()}`" in err


def test_a_signature_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    nobody = tmp_path / "control.sock"
    assert find_service(nobody, path) == ServiceStatus(ServiceState.STOPPED)
    with writer_lock(path):
        mine = find_service(nobody, path)
        assert mine == ServiceStatus(ServiceState.BUSY, os.getpid())
        signed = json.loads(path.read_text())
        signed["started_ticks"] += 1  # the pid is in use again
        for text in (json.dumps(signed), "123\n", "{}", ""):
            path.write_text(text)
            assert find_service(nobody, path) == ServiceStatus(ServiceState.BUSY)
            with (
                pytest.raises(errors.SessionInUse, match="by another process"),
                writer_lock(path),
            ):
                pass
    assert find_service(nobody, path) == ServiceStatus(ServiceState.STOPPED)


def test_a_lock_that_may_not_be_read_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, nobody = tmp_path / "ledger.lock", tmp_path / "control.sock"
    path.touch()
    opened = os.open

    def refuse(name: Path, *given: int) -> int:
        if name == path:
            raise PermissionError
        return opened(name, *given)

    monkeypatch.setattr(os, "open", refuse)
    assert find_service(nobody, path) == ServiceStatus(ServiceState.BUSY)
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "ledger.lock"
    assert find_service(nobody, below) == ServiceStatus(ServiceState.STOPPED)


# Around -----------------------------------------------------------------------------


def test_protocols_are_listed_and_explained(run: Run) -> None:
    assert "estimate_ctf" in run("protocols")[1]
    text = run("protocols", "estimate_ctf")[1]
    assert "defocus_max_angst" in text
    assert "50000.0" in text
    assert "Please cite: Rohou" in text


def test_replay_copies(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "microscope" / "a.mrc"
    source.parent.mkdir()
    source.write_bytes(bytes(range(200)))
    into = tmp_path / "watched"
    code, out, _ = run("replay", source, "--into", into, "--every", "10ms")
    assert (code, out) == (0, f"Arrived in {into}: 1 file.\n")
    assert (into / "a.mrc").read_bytes() == source.read_bytes()
    code, _, err = run("replay", source, "--into", into)
    assert code == 2
    assert "exists already" in err
