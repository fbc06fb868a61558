"""Printing: consoles, JSON for machines, progress bars, tables, times in words."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "count_of",
    "make_table",
    "parse_duration",
    "print_json",
    "progress_bar",
    "say",
    "seconds_text",
    "stderr",
    "stdout",
]

_WIDTH_WITHOUT_TERMINAL = 1000
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|min|h|)\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def stdout() -> Console:
    """Return a console on standard output; it folds nothing without a terminal."""
    return _console(to_stderr=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return _console(to_stderr=True)


def _console(*, to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        stderr=to_stderr,
        highlight=False,
        emoji=False,
        markup=False,
        width=None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL,
    )


def say(
    console: Console, text: str | Text, *, style: str = "", in_one_line: bool = False
) -> None:
    """Print a sentence as it is: wrapped at words on a terminal, unless in one line."""
    plain = Text(text) if isinstance(text, str) else text
    soft_wrap = in_one_line or not console.is_terminal
    console.print(plain, style=style, soft_wrap=soft_wrap)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print a value as JSON and nothing else; of a list, each element on its line."""
    if isinstance(value, list):
        typer.echo("[" + ",\n ".join(_json(one) for one in value) + "]")
    else:
        typer.echo(_json(value, indent=1))


def _json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def make_table(
    *columns: str, title: str | None = None, right: Sequence[str] = ()
) -> Table:
    """Make a plain table; columns named in ``right`` are numbers."""
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for name in columns:
        is_number = name in right
        table.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    return table


def progress_bar(
    doing: str, total: int, *, has_begun: bool = True
) -> tuple[Progress, TaskID]:
    """Make a bar on standard error, shown on a terminal only; and its task.

    One that has not begun shows that something goes on, until its task is started.
    """
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    return bar, bar.add_task(doing, total=total, start=has_begun)


def parse_duration(text: str) -> float:
    """Read a time such as ``2s``, ``500ms``, ``1.5m`` or ``1h``; a number is seconds.

    Raises
    ------
    typer.BadParameter
        It is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no time: write 2s, 500ms, 1m or 1h.", param_hint="time"
        )
    return float(found[1]) * _UNIT_S[found[2]]


def count_of(number: int, noun: str) -> str:
    """Say how many of something: ``1 file``, ``1,200 files``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def seconds_text(seconds: float | None) -> str:
    """Say a time as people do: ``0.8 s``, ``41 s``, ``3 min``, ``2.1 h``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
