"""Let existing files arrive in a folder the way a microscope or a transfer brings them.

Four ways, because each one catches another mistake of a reader: a file that grows, one
that was allocated in full and fills up, one that arrives by a rename, and one copied in
a single go.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import RawIOBase
    from pathlib import Path

__all__ = ["ARRIVAL_MODES", "Arrival", "ArrivalMode", "bring", "replay"]

ArrivalMode: TypeAlias = Literal["grow", "rename", "preallocate", "copy"]
ARRIVAL_MODES: tuple[ArrivalMode, ...] = get_args(ArrivalMode)

_PIECES = 8
_TEMPORARY_SUFFIX = ".downloading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One file that has arrived in full.

    Parameters
    ----------
    source, target
        From where to where.
    mode
        How it arrived.
    number, total
        1 for the first, and how many there are.
    size_bytes
        Of the file.
    """

    source: Path
    target: Path
    mode: ArrivalMode
    number: int
    total: int
    size_bytes: int


def replay(
    files: Sequence[Path],
    *,
    into: Path,
    every_s: float,
    modes: Sequence[ArrivalMode] = ARRIVAL_MODES,
    relative_to: Path | None = None,
    overwrite: bool = False,
    writing_share: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Arrival]:
    """Copy files into a folder one after another, as a microscope writes them.

    Parameters
    ----------
    files
        What to copy, in this order. The sources are only read.
    into
        The folder that a session watches; made if absent.
    every_s
        Seconds from the start of one file to the start of the next; 0 is without
        pause. A late file makes up for its delay.
    modes
        Taken in turn: ``grow`` in pieces; ``rename`` from a ``.downloading`` name in
        the same folder; ``preallocate`` in full, then fill; ``copy`` in one piece.
    relative_to
        Keep the folders below this one; ``None`` puts all files flat into ``into``.
    overwrite
        Whether files that are there may be replaced.
    writing_share
        Share of ``every_s`` over which a file in pieces is written, 0 to 1.
    clock, sleep
        Of the tests.

    Yields
    ------
    Arrival
        After each file. Closing the iterator, or an exception such as Ctrl-C, removes
        the file that is half there.

    Raises
    ------
    BadSettings
        Before anything is written: no files, a target in the folder of the sources, a
        target that exists, two files of one name, or a value out of range.
    DiskFull, FolderUnavailable, UnreadableFile
        While a file is copied.
    """
    if not files or not modes or every_s < 0 or not 0 <= writing_share <= 1:
        raise BadSettings(
            f"{len(files)} files in {len(modes)} ways every {every_s} s cannot be.",
            hint="Give one file and one way at least, and no negative times.",
        )
    unknown = set(modes) - set(ARRIVAL_MODES)
    if unknown:
        raise BadSettings(
            f"No way of arriving is called {', '.join(sorted(unknown))}.",
            hint=f"Known are {', '.join(ARRIVAL_MODES)}.",
        )
    targets = _targets(files, into, relative_to)
    _check_targets(files, targets, into, relative_to)
    if not overwrite:
        _check_absent(targets)
    pace = _Pace(every_s=every_s, writing_share=writing_share, clock=clock, sleep=sleep)
    return _arrivals(list(files), targets, tuple(modes), pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    every_s: float
    writing_share: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def wait_until(self, moment_s: float) -> None:
        pause_s = moment_s - self.clock()
        if pause_s > 0:
            self.sleep(pause_s)


def _targets(files: Sequence[Path], into: Path, relative_to: Path | None) -> list[Path]:
    if relative_to is None:
        return [into / file.name for file in files]
    try:
        return [into / file.relative_to(relative_to) for file in files]
    except ValueError as error:
        raise BadSettings(
            f"Not every file lies below {relative_to}: {error}.",
            hint="Give a folder that holds them all.",
        ) from error


def _check_targets(
    files: Sequence[Path],
    targets: Sequence[Path],
    into: Path,
    relative_to: Path | None,
) -> None:
    roots = {file.resolve().parent for file in files}
    if relative_to is not None:
        roots.add(relative_to.resolve())
    destination = into.resolve()
    inside = [root for root in roots if destination.is_relative_to(root)]
    if inside:
        raise BadSettings(
            f"{into} lies in the folder of the sources, {inside[0]}.",
            hint="Acquired files are only read: replay into another folder.",
        )
    seen: set[Path] = set()
    for target in targets:
        if target in seen:
            raise BadSettings(
                f"Two files would become {target}.",
                hint="Keep their folders (relative_to), or replay them one by one.",
            )
        seen.add(target)


def _check_absent(targets: Sequence[Path]) -> None:
    existing = [target for target in targets if target.exists()]
    if existing:
        raise BadSettings(
            f"{existing[0]} exists already, as {len(existing)} of {len(targets)} do.",
            hint="Choose an empty folder, or allow replacing.",
        )


def _arrivals(
    files: list[Path],
    targets: list[Path],
    modes: tuple[ArrivalMode, ...],
    pace: _Pace,
) -> Iterator[Arrival]:
    start_s = pace.clock()
    rows = zip(files, targets, itertools.cycle(modes), strict=False)
    for index, (source, target, mode) in enumerate(rows):
        pace.wait_until(start_s + index * pace.every_s)
        with guarding_writes(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield Arrival(
            source=source,
            target=target,
            mode=mode,
            number=index + 1,
            total=len(files),
            size_bytes=bring(
                source,
                target,
                mode=mode,
                writing_s=pace.every_s * pace.writing_share,
                sleep=pace.sleep,
            ),
        )


def bring(
    source: Path,
    target: Path,
    *,
    mode: ArrivalMode,
    writing_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Copy one file as a microscope writes it.

    Parameters
    ----------
    source, target
        From where to where; the folder exists.
    mode
        As `replay` has them.
    writing_s
        How long a file in pieces is written, s.
    sleep
        Of the tests.

    Returns
    -------
    int
        Its size, bytes. What is half there is removed if anything interrupts.

    Raises
    ------
    DiskFull, FolderUnavailable, UnreadableFile
        The file could not be copied.
    """
    suffix = _TEMPORARY_SUFFIX if mode == "rename" else ""
    written = target.with_name(target.name + suffix)
    try:
        with reading(source) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            with guarding_writes(target):
                copy = written.open("wb", buffering=0)
            with copy:
                if mode == "preallocate":
                    with guarding_writes(target):
                        os.ftruncate(copy.fileno(), size_bytes)
                pieces = 1 if mode == "copy" else _PIECES
                step_bytes = max(-(-size_bytes // pieces), 1)
                while piece := file.read(step_bytes):
                    if copy.tell() and writing_s:
                        sleep(writing_s / _PIECES)
                    with guarding_writes(target):
                        _write_all(copy, piece)
        if suffix:
            with guarding_writes(target):
                written.replace(target)
    except BaseException:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise
    return size_bytes


def _write_all(copy: RawIOBase, piece: bytes) -> None:
    """Write a piece, which a disk that is nearly full takes in part at first."""
    left = memoryview(piece)
    while left:
        left = left[copy.write(left) or 0 :]
