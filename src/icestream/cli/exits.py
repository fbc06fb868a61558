"""Exit codes, and how an error is shown: one clear message, or a crash if it is ours.

==== ==========================================================================
code meaning
==== ==========================================================================
0    done
1    our own error: a traceback is shown
2    wrong usage, or a setting that cannot be
3    some items failed (a file, or an exposure of ``start --finish``), others not
4    the session cannot be used: in use, no service, ledger, folder, disk
5    finished, but a source was unavailable: there may be more
130  interrupted (Ctrl-C)
143  terminated (SIGTERM)
==== ==========================================================================
"""

from __future__ import annotations

import functools
import math
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec

import typer
from rich.text import Text

from icestream.cli.output import say, stderr
from icestream.domain.errors import (
    BadSettings,
    IcestreamError,
    ItemError,
    SessionError,
    SourceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

__all__ = ["INTERRUPTED", "ITEMS_FAILED", "TERMINATED", "guarded", "terminable"]

_USAGE = 2
ITEMS_FAILED = 3
_SESSION_UNUSABLE = 4
_SOURCE_UNAVAILABLE = 5
INTERRUPTED = 130
TERMINATED = 143

P = ParamSpec("P")

_CODES: tuple[tuple[type[IcestreamError], int], ...] = (
    (BadSettings, _USAGE),
    (ItemError, ITEMS_FAILED),
    (SourceUnavailable, _SOURCE_UNAVAILABLE),
    (SessionError, _SESSION_UNUSABLE),
)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command end with a documented code; what is our own fault crashes.

    Options that are no number (nan) or no finite one (inf) are refused for all commands
    here: a check of limits lets them through.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _refuse_what_is_no_number(kwargs)
            command(*args, **kwargs)
        except IcestreamError as error:
            code = next((c for kind, c in _CODES if isinstance(error, kind)), None)
            if code is None:
                raise
            _show(error)
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            say(stderr(), "Interrupted.")
            raise typer.Exit(INTERRUPTED) from None

    return run


def _refuse_what_is_no_number(options: Mapping[str, object]) -> None:
    for name, given in options.items():
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, float) and not math.isfinite(one):
                raise BadSettings(
                    f"--{name.replace('_', '-')} {one} cannot be.",
                    hint="Give a finite number.",
                )


class _Terminated(BaseException):
    """SIGTERM came: no error, so that nothing takes it for one."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what runs as Ctrl-C does, cleanly; a second one ends it at once.

    For a command that has something to clear up; in the main thread only.

    Raises
    ------
    typer.Exit
        With the code of SIGTERM, after it came.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        say(stderr(), "Terminated.")
        raise typer.Exit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(error: IcestreamError) -> None:
    """Print what happened, and on a line of its own what to do next."""
    console = stderr()
    say(console, Text.assemble(("Error: ", "bold red"), error.what))
    if error.hint:
        say(console, f"  {error.hint}")
