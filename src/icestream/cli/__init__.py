"""The command line: the front door on a terminal. `main` is the program.

All else is imported only when Ctrl-C is taken care of: an import that is interrupted
would show a traceback, or be told as a fault of the module.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["main"]

_INTERRUPTED = 130
_IMPORT = "importlib._bootstrap"


def main(args: Sequence[str] | None = None) -> None:
    """Run the program; it ends with one of the documented exit codes."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        _run(args)  # somebody wants Ctrl-C otherwise, or ignored
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _run(args)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(args: Sequence[str] | None) -> None:
    from icestream.cli.app import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be no text
            stream.reconfigure(errors="backslashreplace")
    run(sys.argv[1:] if args is None else args)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End at once within an import, else as Python does."""
    inner = frame
    while inner is not None:
        if inner.f_globals.get("__name__") == _IMPORT:
            os._exit(_INTERRUPTED)
        inner = inner.f_back
    signal.default_int_handler(number, frame)
