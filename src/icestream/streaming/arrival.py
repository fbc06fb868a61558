"""One file on its way in: what was seen of it, and whether it may be opened yet."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable

    from icestream.domain import RawFile

__all__ = ["Arrival", "Ends", "FolderRules", "Stamp", "read_ends"]

_MIB = 1 << 20
_APPEARED = "just appeared; its size and time must hold until the next look"
_GROWING = "is still being written: its size or time changed"
_CHANGED = "has changed since it was taken; it must be at rest and complete again"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRules:
    """What is looked for in a folder and when a file counts as complete.

    Parameters
    ----------
    patterns, exclude
        Shell patterns of names that are wanted, and of those left out all the same.
    recursive
        Whether sub folders are watched too.
    companion
        Name, with ``{stem}`` or ``{name}`` of the file in it, of what is written last
        beside it. A file waits for its companion and is complete when both stand there.
    is_apart
        Whether a file is none of those that are looked for, by its absolute path: a
        gain reference among movies.
    renamed_when_complete
        The transfer renames when it is done: a new name is complete at once.
    full_listing_every
        Every folder and every settled file is looked at once in so many polls.
    settle_s
        Two looks at least this far apart must agree on size and time.
    """

    patterns: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    recursive: bool = True
    companion: str | None = None
    is_apart: Callable[[str], bool] | None = None
    renamed_when_complete: bool = False
    full_listing_every: int = 10
    settle_s: float = 0.0

    def companion_of(self, path: str) -> str | None:
        """Return the path of a file's companion, or ``None`` if none is asked for."""
        if self.companion is None:
            return None
        file = PurePosixPath(path)
        name = self.companion.format(stem=file.stem, name=file.name)
        return str(file.parent / name)


class Stamp(NamedTuple):
    """What tells two looks at a file apart; never held against a clock."""

    size_bytes: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file status."""
        return cls(
            status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The first and the last MiB of a file; of a small file they overlap."""

    first: bytes
    last: bytes

    def fingerprint(self, path: str, *, size_bytes: int, mtime_ns: int) -> str:
        """Return 32 hexadecimal digits for a file, by its path in the folder."""
        digest = hashlib.blake2b(digest_size=16)
        head = (path.encode(), b"%d" % size_bytes, b"%d" % mtime_ns)
        for part in (*head, self.first, self.last):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.hexdigest()


def read_ends(path: str) -> Ends:
    """Read both ends of a file that is at rest.

    Raises
    ------
    OSError
        It cannot be opened or read.
    """
    # Should a FIFO have taken the file's place: do not wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        first = _read(descriptor, 0)
        last = _read(descriptor, max(0, size_bytes - _MIB))
    finally:
        os.close(descriptor)
    return Ends(first=first, last=last)


def _read(descriptor: int, start: int) -> bytes:
    parts: list[bytes] = []
    left = _MIB
    while left and (part := os.pread(descriptor, left, start)):
        parts.append(part)
        start += len(part)
        left -= len(part)
    return b"".join(parts)


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A file that matches the patterns, from its first look to its last.

    Parameters
    ----------
    path
        Relative to the watched folder.
    is_link
        Whether it is a symbolic link.
    turn
        In which of the polls it is looked at when settled.
    item, fingerprint
        Of its last revision that was taken.
    confirmed
        Size, time and (unless from the ledger) inode at which the fingerprint was
        found true the last time.
    stamp
        The last look.
    is_tried_again
        Whether what went wrong may pass without a trace on the file: permissions of
        a folder above, a disk error.
    """

    path: str
    is_link: bool = False
    turn: int = 0
    item: RawFile | None = None
    fingerprint: str | None = None
    confirmed: tuple[int, int, int | None] | None = None
    stamp: Stamp | None = None
    is_tried_again: bool = False
    _looks: int = 0
    _since_s: float = 0.0
    _is_new_inode: bool = True
    _has_grown: bool = False
    _refused: Stamp | None = None
    _refused_at: int = 0

    @classmethod
    def remembered(cls, path: str, sighting: Sighting) -> Arrival:
        """Return a file as the ledger knows it."""
        arrival = cls(path=path, fingerprint=sighting.fingerprint)
        arrival.item = sighting.item
        if sighting.item is not None and sighting.state is SightingState.TAKEN:
            item: RawFile = sighting.item
            arrival.confirmed = (item.size_bytes, item.mtime_ns, None)
        return arrival

    def observe(self, stamp: Stamp, *, now_s: float) -> bool:
        """Note a look; return whether size or time differ from the look before."""
        before, self.stamp = self.stamp, stamp
        self._is_new_inode = before is None or before.inode != stamp.inode
        if before is not None and before[:2] == stamp[:2]:
            self._looks += 1
            return False
        self._has_grown = before is not None
        self._looks, self._since_s = 1, now_s
        return True

    @property
    def is_confirmed(self) -> bool:
        """Whether it is, by its stamp, the very file that was taken."""
        if self.confirmed is None or self.stamp is None:
            return False
        size_bytes, mtime_ns, inode = self.confirmed
        return (size_bytes, mtime_ns) == self.stamp[:2] and (
            inode is None or inode == self.stamp.inode
        )

    @property
    def may_be_touched(self) -> bool:
        """Whether it has the size it had when it was taken: perhaps the same bytes."""
        if self.item is None or self.stamp is None:
            return False
        return self.item.size_bytes == self.stamp.size_bytes

    def confirm(self) -> None:
        """Note that the present stamp belongs to the fingerprint."""
        if self.stamp is not None:
            self.confirmed = self.stamp[:3]

    def is_at_rest(
        self, rules: FolderRules, *, now_s: float, has_companion: bool
    ) -> bool:
        """Whether it may be opened.

        The sure signs (companion, final name) hold for a file's first revision, or a
        new inode, and only until the check has refused it once.
        """
        if self._refused is None:
            if has_companion and self.fingerprint is None:
                return True
            if rules.renamed_when_complete and self._is_new_inode:
                return True
        return self._looks >= 2 and now_s - self._since_s >= rules.settle_s

    def why_moving(self) -> str:
        """Return why it is not yet at rest."""
        if self.fingerprint is not None:
            return _CHANGED
        return _GROWING if self._has_grown else _APPEARED

    def refuse(self, *, poll: int) -> None:
        """Note that the check said no to the present stamp."""
        self._refused, self._refused_at = self.stamp, poll

    def is_refused(self, *, poll: int, again_after: int) -> bool:
        """Whether the check said no to just this stamp, not too long ago."""
        is_same = self._refused is not None and self._refused == self.stamp
        return is_same and poll - self._refused_at < again_after
