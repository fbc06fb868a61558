"""The program as an operator uses it: real processes, files that arrive, signals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from icestream.cli import main
from icestream.io import write_mrc
from icestream.simulate import simulate_acquisition, usual_acquisition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_PROGRAM = (sys.executable, "-c", "from icestream.cli import main; main()")
_SECONDS = 90.0


def icestream(*args: object, code: int = 0) -> str:
    """Run a command to its end, in this process; returns what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main([str(one) for one in args])
    assert left.value.code == code, out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return out.getvalue()


def run_program(*args: object, code: int = 0) -> str:
    """Run a command to its end, in a process of its own."""
    done = subprocess.run(
        [*_PROGRAM, *(str(one) for one in args)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Three micrographs, and one that is blank: every pixel is the same."""
    folder = tmp_path_factory.mktemp("microscope")
    files = simulate_acquisition(
        folder,
        usual_acquisition(3, shape=(1024, 1024), defect_share=0.0),
    )
    blank = folder / "blank.mrc"
    write_mrc(blank, np.full((768, 768), 7.0), pixel_size_angst=1.5)
    return [*files, blank]


@dataclass(frozen=True)
class Visit:
    """A session and the folder that it watches."""

    session: Path
    watched: Path

    def bring(self, *files: Path) -> None:
        self.watched.mkdir(exist_ok=True)
        for one in files:
            shutil.copy(one, self.watched / one.name)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(icestream("status", self.session, "--json"))
        return found

    def wait_for(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            status = self.status()
            if condition(status):
                return status
            time.sleep(0.2)
        raise AssertionError(f"It did not come to pass: {status}")

    @contextlib.contextmanager
    def started(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A running service, in a process group of its own; none of it stays."""
        with subprocess.Popen(
            [*_PROGRAM, "start", str(self.session), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    made = Visit(tmp_path / "session", tmp_path / "watched")
    icestream(
        "new",
        made.session,
        *("--set", f"sources.grid.folder={made.watched}"),
        *("--set", "sources.grid.poll_s=0.2"),
        *("--set", "setups.grid.pixel_size_angst=1.5"),
        *("--set", "setups.grid.voltage_kv=300"),
        *("--set", "slots=1"),
    )
    return made


def _is_running(status: dict[str, Any]) -> bool:
    return bool(status["service"]["state"] == "running")


def _standings(status: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: one["standing"] for one in status["exposures"]}


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def _end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=_SECONDS)
    return process.returncode, out, err


def test_finish_then_retry_set_and_export(
    visit: Visit, images: Sequence[Path], tmp_path: Path
) -> None:
    visit.bring(*images)
    out = run_program("start", visit.session, "--finish", code=3)
    assert "4 exposures: 3 accepted, 1 failed" in out
    assert "blank.mrc in import" in out
    report = visit.session / "report.html"
    assert out.splitlines()[-1] == f"Report: {report}"
    assert "FoilHole_0001" in report.read_text(encoding="utf-8")
    status = visit.status()
    assert _standings(status)["grid/blank.mrc"] == "failed"
    assert [one["key"] for one in status["failures"]] == ["grid/blank.mrc"]
    assert status["is_finished"]
    assert icestream("report", visit.session) == f"{report}\n"

    assert icestream("retry", visit.session, "import") == "Queued again: 1.\n"
    assert visit.status()["failures"] == []

    icestream("set", visit.session, "curate.rules.defocus_angst.maximum=2500")
    standings = _standings(visit.status())
    assert standings["grid/FoilHole_0002.mrc"] == "rejected"
    icestream("accept", visit.session, "curate", "grid/FoilHole_0002.mrc")
    icestream("set", visit.session, "curate.rules.defocus_angst.maximum=50000")
    icestream("reset", visit.session, "curate", "grid/FoilHole_0002.mrc")

    project = tmp_path / "project"
    out = icestream("export", visit.session, "--to", "star", project)
    assert "3 accepted and 0 rejected micrographs" in out
    assert "_rlnDefocusU" in (project / "micrographs_ctf.star").read_text()


def test_a_running_session_obeys(visit: Visit, images: Sequence[Path]) -> None:
    with visit.started() as process:
        visit.wait_for(_is_running)
        icestream("pause", visit.session, "ctf")
        visit.bring(images[0])
        status = visit.wait_for(lambda one: one["exposures"])
        assert status["service"]["pid"] == process.pid
        assert status["paused"] == {"ctf": "paused by hand"}
        assert "PAUSED ctf" in icestream("status", visit.session)
        icestream("start", visit.session, code=4)  # a second service is refused

        icestream("resume", visit.session, "ctf")
        visit.wait_for(lambda one: "accepted" in _standings(one).values())
        icestream("set", visit.session, "curate.rules.defocus_angst.maximum=2500")
        visit.wait_for(lambda one: "rejected" in _standings(one).values())
        icestream("accept", visit.session, "curate", "grid/FoilHole_0001.mrc")
        visit.wait_for(lambda one: "accepted" in _standings(one).values())
        assert icestream("retry", visit.session) == "Queued again: 0.\n"

        family = _family(process)
        assert icestream("stop", visit.session) == "Ended.\n"
        code, out, err = _end(process)
        assert code == 0, err
        assert "Report: " in out
        assert not psutil.wait_procs(family, timeout=5)[1]
    assert visit.status()["service"] == {"state": "stopped", "pid": None}


def test_stop_when_finished(visit: Visit, images: Sequence[Path]) -> None:
    visit.bring(images[0])
    with visit.started() as process:
        visit.wait_for(_is_running)
        icestream("stop", visit.session, "--when-finished")
        code, out, err = _end(process)
        assert code == 0, err
        assert "1 exposure: 1 accepted" in out


def test_a_source_that_never_comes_ends_with_a_code_of_its_own(visit: Visit) -> None:
    with visit.started("--finish") as process:
        code, out, err = _end(process)
    assert code == 5, err
    assert "0 exposures" in out
    assert "source 'grid' is unavailable since" in err
    assert "watched does not exist yet" in " ".join(err.split())


def test_a_service_whose_socket_was_removed(visit: Visit) -> None:
    with visit.started() as process:
        visit.wait_for(_is_running)
        (visit.session / "control.sock").unlink()
        icestream("stop", visit.session, code=4)
        process.terminate()  # as the hint says
        code, _, said = _end(process)
    assert code == 143, said


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(visit: Visit, images: Sequence[Path], times: int) -> None:
    visit.bring(*images)
    with visit.started() as process:
        visit.wait_for(lambda one: _is_running(one) and one["exposures"])
        family = _family(process)
        for _ in range(times):
            # as a terminal does: to every process of the group
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)
        code, out, err = _end(process)
        assert code == 130, err
        assert "Stopping: running tasks are finished first" in err
        assert "Traceback" not in err
        # the second may come when all has ended and only the summary lacks
        assert "Report: " in out or times == 2
        assert not psutil.wait_procs(family, timeout=5)[1]
    assert visit.status()["service"]["state"] == "stopped"


def test_demo_without_data(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (tmp_path / "none").mkdir()
    folder.mkdir()
    (folder / ".made-by-icestream-demo").touch()
    stale = folder / "watched" / "of_an_earlier_demo.mrc"
    stale.parent.mkdir()
    stale.touch()
    with contextlib.chdir(tmp_path / "none"):
        out = icestream("demo", "--keep", folder, "--movies", 3, "--rate", 7200)
    assert not stale.exists()
    assert "3 exposures: " in out
    table = {line.split("  ")[0]: line.split()[-1] for line in out.splitlines() if line}
    assert (table["taken"], table["in the session"], table["lost"]) == ("3", "3", "0")
    # Of the second one, which is blank, there is no particle to be found.
    assert float(table["F1"]) > 0.9
    assert "right to 1 %" in out
    assert out.splitlines()[-1] == f"Report: {folder / 'session' / 'report.html'}"


def test_interrupted_work_on_files_ends_at_once(
    images: Sequence[Path], tmp_path: Path
) -> None:
    into = tmp_path / "watched"
    files = [str(one) for one in images]
    args = [*_PROGRAM, "replay", *files, "--into", str(into), "--every", "30s"]
    with subprocess.Popen(
        args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + _SECONDS
        while not into.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert list(into.glob("*")) == []  # what was half there is gone
