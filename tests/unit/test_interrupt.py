"""Ctrl-C before a command has begun: quiet, wherever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import typer

from icestream.cli import main
from icestream.cli.exits import terminable
from icestream.cli.start import Interruption
from icestream.simulate import TRUTH_NAME, read_truth

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import os, signal, sys

def hook(event, given):
    if event == "import" and given[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
from icestream.cli import main
main({args!r})
"""

_SETTINGS = (
    *("--set", "sources.grid.folder=/data"),
    *("--set", "setups.grid.pixel_size_angst=1"),
    *("--set", "setups.grid.voltage_kv=300"),
)


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("typer", ["--help"]),
        ("rich.text", ["status"]),
        ("sqlalchemy", ["start"]),
        ("torch", ["ctf", "a.mrc"]),
        # imported by a protocol: what fails there is told as the protocol's fault
        ("torch", ["new", "visit", *_SETTINGS]),
    ],
)
def test_ctrl_c_within_an_import_ends_quietly(
    tmp_path: Path, module: str, args: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(module=module, args=args)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_sigterm_ends_a_simulation_as_ctrl_c_does(tmp_path: Path) -> None:
    args = ("simulate", "images", "--count", "500", "--size", "128x128", "--pixel", "4")
    code = f"from icestream.cli import main; main({[*args, '--workers', '2']!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            while not list(tmp_path.glob("images/*.mrc")):
                assert program.poll() is None
                time.sleep(0.05)
            program.terminate()
            _, told = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 143, told
    assert told.strip() == "Terminated."
    images = len(list(tmp_path.glob("images/*.mrc")))
    # An image may have come whose truth has not.
    assert images - len(read_truth(tmp_path / "images" / TRUTH_NAME).exposures) < 2
    assert not (tmp_path / "images" / ".camera").exists()


def test_sigterm_is_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as left, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert left.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_is_imported_before_ctrl_c_is_taken_care_of() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import icestream.cli\n"
        "more = {one.partition('.')[0] for one in set(sys.modules) - before}\n"
        "print(sorted(more - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['icestream']\n"


class _Stopped:
    """A service and a view at once: says how often it was stopped."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stops = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_third_signal_is_not_ours(number: signal.Signals) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    stopped: Any = _Stopped()
    try:
        with Interruption() as interruption:
            interruption.watch(stopped, stopped)
            for _ in range(2):
                signal.raise_signal(number)
            assert stopped.stops == 2
            assert stopped.said[0].startswith("Stopping")
            assert stopped.said[1].startswith("Ending at once")
            for one in before:
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(one)
        with pytest.raises(typer.Exit) as left:
            interruption.leave()
        assert left.value.exit_code == 128 + number
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_who_ignores_ctrl_c_still_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main(["--version"])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out.startswith("icestream")
