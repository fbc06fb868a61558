"""Ctrl-C while several processes take exposures: one word, and nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from icestream.simulate.truth import TRUTH_NAME, read_truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SECONDS = 120.0


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process(process.pid).children()
        if any("spawn_main" in part for part in one.cmdline())
    ]


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_so() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_so()
    assert process.poll() is None


@pytest.mark.parametrize("moment", ["start", "import", "work"])
def test_ctrl_c_is_one_line_wherever_it_comes(tmp_path: Path, moment: str) -> None:
    folder = tmp_path / "out"
    options = "--count 1000 --size 256x256 --frames 4 --workers 2 --defects 0%"
    command = "from icestream.cli import main; main()"
    args = [sys.executable, "-c", command, "simulate", str(folder), *options.split()]
    with subprocess.Popen(
        args,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: len(workers_of(process)) == 2, process)
        family = workers_of(process)
        if moment == "import":
            time.sleep(1)
        elif moment == "work":
            # The row of the first one is written before the second one is delivered.
            wait_until(lambda: len(list(folder.glob("*.mrc"))) > 1, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=_SECONDS)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert not psutil.wait_procs(family, timeout=5)[1]
    assert not (folder / ".camera").exists()
    if moment == "work":
        assert read_truth(folder / TRUTH_NAME).exposures


def test_workers_end_with_whoever_started_them(tmp_path: Path) -> None:
    options = "--count 1000 --size 256x256 --frames 4 --workers 2"
    command = "from icestream.cli import main; main()"
    args = [sys.executable, "-c", command, "simulate", str(tmp_path), *options.split()]
    with subprocess.Popen(args, text=True, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(tmp_path.glob("*.mrc")), process)
        family = workers_of(process)
        process.kill()
    assert len(family) == 2
    assert not psutil.wait_procs(family, timeout=20)[1]
