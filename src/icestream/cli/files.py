"""Working through files one after the other, where a bad one does not end the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from icestream.cli.output import print_json, progress_bar, say
from icestream.domain.errors import BadSettings, ItemError
from icestream.io import guarding_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "FileResult",
    "each_file",
    "make_folder",
    "print_results_json",
    "require_distinct_stems",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileResult(Generic[T]):
    """What came of one file: a value, or an error."""

    file: Path
    value: T | None = None
    error: ItemError | None = None


def each_file(
    files: Sequence[Path], work: Callable[[Path], T], *, doing: str
) -> list[FileResult[T]]:
    """Do some work on each file, with a bar; errors are told on standard error."""
    bar, task = progress_bar(doing, len(files))
    with bar:
        results = []
        for one in _attempts(files, work):
            if one.error is not None:
                text = str(one.error)
                if str(one.file) not in text:
                    text = f"{one.file}: {text}"
                say(bar.console, text, style="red")
            results.append(one)
            bar.update(task, advance=1)
    return results


def _attempts(
    files: Sequence[Path], work: Callable[[Path], T]
) -> Iterator[FileResult[T]]:
    for file in files:
        try:
            yield FileResult(file, value=work(file))
        except ItemError as error:
            yield FileResult(file, error=error)


def require_distinct_stems(files: Sequence[Path]) -> None:
    """Refuse files whose results would have the same name.

    Raises
    ------
    BadSettings
        Two are called the same but for folder and suffix.
    """
    seen: dict[str, Path] = {}
    for one in files:
        if one.stem in seen:
            raise BadSettings(
                f"{seen[one.stem]} and {one} would be written under one name.",
                hint="Work on them one by one, into different folders.",
            )
        seen[one.stem] = one


def make_folder(folder: Path) -> None:
    """Make a folder for results; raises ``FolderUnavailable`` where it cannot be."""
    with guarding_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)


def print_results_json(
    results: Sequence[FileResult[T]], describe: Callable[[T], Mapping[str, Any]]
) -> None:
    """Print a list of objects: what is described, or the error, of each file."""
    rows: list[Mapping[str, Any]] = []
    for one in results:
        head = {"file": os.fspath(one.file)}
        if one.value is None:
            rows.append(head | {"error": str(one.error)})
        else:
            rows.append(head | dict(describe(one.value)))
    print_json(rows)
