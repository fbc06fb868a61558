"""Ctrl-C before a command has begun: quiet, wherever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from icestream.cli import main

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


def test_who_ignores_ctrl_c_still_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main(["--version"])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out.startswith("icestream")
