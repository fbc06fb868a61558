"""Programs that end well, badly, late or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from icestream.domain.errors import BadSettings, FolderUnavailable, ProgramFailed
from icestream.external.process import ProgramRun, find_program, run_program
from small import wait_for

SLEEPER = "import time; time.sleep(600)"


def run_shell(folder: Path, script: str, **options: Any) -> ProgramRun:
    """Run a script of `sh`, the one shell here."""
    values: dict[str, Any] = {"timeout_s": 30.0} | options
    return run_program(
        ["/bin/sh", "-c", script], folder=folder, log=folder / "log.txt", **values
    )


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def pids_in(folder: Path, count: int) -> list[int]:
    """Return the process ids that a script has written, one a file."""

    def found() -> list[int]:
        texts = [one.read_text() for one in sorted(folder.glob("*.pid"))]
        return [int(text) for text in texts if text.endswith("\n")]

    wait_for(lambda: len(found()) == count)
    return found()


def test_keeps_output_and_command(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", 'pwd; echo "$0" >&2; cat', "two words"]
    log = tmp_path / "log.txt"
    run = run_program(command, folder=tmp_path, log=log, timeout_s=30)
    assert run.log == log
    assert log.read_text().splitlines() == [str(tmp_path.resolve()), "two words"]
    assert run.command.endswith("'two words'")
    # The command, taken by a shell, is the same run.
    again = subprocess.run(
        run.command,
        shell=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    assert again.stdout == log.read_bytes()
    assert 0 < run.seconds < 30


def test_the_log_grows_while_it_runs(tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    script = f"echo first; while ! test -e {go_on}; do sleep 0.02; done; echo second"
    thread = threading.Thread(target=run_shell, args=(tmp_path, script))
    thread.start()
    log = tmp_path / "log.txt"
    wait_for(lambda: log.exists() and log.read_text() == "first\n")
    assert thread.is_alive()
    go_on.touch()
    thread.join(20)
    assert log.read_text() == "first\nsecond\n"


def test_a_long_output_loses_its_middle(tmp_path: Path) -> None:
    script = "i=0; while test $i -lt 20000; do echo line $i; i=$((i+1)); done; echo end"
    run = run_shell(tmp_path, script, log_limit_bytes=2000)
    text = run.log.read_text()
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 19999\nend\n")
    whole = sum(len(f"line {n}\n") for n in range(20_000)) + len("end\n")
    assert f"[{whole - 2000} bytes are left out]" in text
    assert len(text) < 2100


def test_output_within_the_limit_is_whole(tmp_path: Path) -> None:
    run = run_shell(tmp_path, "printf 0123456789", log_limit_bytes=10)
    assert run.log.read_text() == "0123456789"


def test_a_status_is_told_with_the_last_words(tmp_path: Path) -> None:
    script = "printf '10%%\\r20%%\\n\\nno such movie\\n'; exit 3"
    with pytest.raises(ProgramFailed) as caught:
        run_shell(tmp_path, script)
    assert "sh left with status 3 after" in caught.value.what
    assert caught.value.what.endswith("It said last: 10% | 20% | no such movie")
    assert str(tmp_path / "log.txt") in caught.value.hint
    assert "the command was: /bin/sh -c 'printf" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "guess"), [("SEGV", "Its output"), ("KILL", "Memory may have run out")]
)
def test_a_signal_is_told(tmp_path: Path, name: str, guess: str) -> None:
    with pytest.raises(ProgramFailed, match=rf"SIG{name}.*It said nothing") as caught:
        run_shell(tmp_path, f"ulimit -c 0; kill -{name} $$")
    assert caught.value.hint.startswith(guess)


def test_a_time_out_ends_the_whole_family(tmp_path: Path) -> None:
    """A child, a grandchild of another session, and one whose parent is dead."""
    script = f"""
        echo began
        sleep 600 & echo $! > 1.pid
        setsid {sys.executable} -c '{SLEEPER}' & echo $! > 2.pid
        (sleep 600 & echo $! > 3.pid)
        echo $$ > 4.pid
        wait
    """
    with pytest.raises(ProgramFailed, match=r"its time-out.*began") as caught:
        run_shell(tmp_path, script, timeout_s=3)
    assert "Memory" not in caught.value.hint
    pids = pids_in(tmp_path, 4)
    wait_for(lambda: all(is_gone(pid) for pid in pids))


def test_what_it_leaves_behind_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    """The child holds the output open."""
    started = time.monotonic()
    run = run_shell(tmp_path, "sleep 600 & echo $! > 1.pid; echo done")
    assert time.monotonic() - started < 20
    assert run.log.read_text() == "done\n"
    (pid,) = pids_in(tmp_path, 1)
    wait_for(lambda: is_gone(pid))


def test_one_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    run_shell(tmp_path, "exec >&- 2>&-; sleep 0.3; echo late > late")
    assert (tmp_path / "late").read_text() == "late\n"


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from icestream.external.process import run_program
folder = Path({str(tmp_path)!r})
run_program(
    ["/bin/sh", "-c", "echo $$ > 1.pid; exec sleep 600"],
    folder=folder, log=folder / "log.txt", timeout_s=600,
)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        (pid,) = pids_in(tmp_path, 1)
        assert not is_gone(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid))


def test_a_missing_program_is_a_matter_of_settings() -> None:
    with pytest.raises(BadSettings, match=r"no_such is not on the PATH\. Install it"):
        find_program("no_such", hint="Install it.")
    assert find_program("sh", hint="").endswith("/sh")


def test_a_log_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable):
        run_program(
            ["/bin/sh", "-c", "touch ran"],
            folder=tmp_path,
            log=tmp_path / "absent" / "log.txt",
            timeout_s=30,
        )
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_ends_the_program(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    command = ["/bin/sh", "-c", "echo $$ > 1.pid; echo much; sleep 600"]
    with pytest.raises(Exception, match=r"/dev/full cannot be written: No space left"):
        run_program(command, folder=tmp_path, log=full, timeout_s=30)
    (pid,) = pids_in(tmp_path, 1)
    wait_for(lambda: is_gone(pid))
