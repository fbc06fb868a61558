"""The gain references of a source: which are there, and which is a movie's."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from icestream.domain import RawFile
from icestream.domain.errors import (
    IcestreamError,
    IncompleteFile,
    InternalError,
    UnreadableFile,
)
from icestream.engines.gain import CameraMode, KnownGain, match_gain
from icestream.io.gain import GAIN_SUFFIXES, read_gain
from icestream.io.movie import read_movie_header
from icestream.streaming.arrival import read_ends
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BoundFiles", "BoundGain", "GainShelf", "require_same_gain"]


class BoundGain(NamedTuple):
    """A gain that belongs to a movie: its absolute path, and what was in it."""

    path: str
    fingerprint: str


@dataclass(slots=True, kw_only=True)
class _Seen:
    """A file as it was seen last, since when, and what it is once it is at rest."""

    size_bytes: int
    mtime_ns: int
    since_s: float
    fingerprint: str = ""
    shape: tuple[int, int] | None = None

    @property
    def taken_at(self) -> datetime:
        return datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)


class GainShelf:
    """One gain reference, or several, some of which may come late.

    Parameters
    ----------
    where
        Absolute path of a file, of a folder of gains, or a pattern with ``*``.
    settle_s
        Two looks at least this far apart must agree on size and time.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, where: str, *, settle_s: float, clock: Callable[[], float]
    ) -> None:
        self.where = where
        self._settle_s = settle_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def look(self) -> bool:
        """Look at the files; return whether a gain has come, gone or changed."""
        before = self._at_rest()
        now_s = self._clock()
        self._seen = {
            path: seen
            for path in self._paths()
            if (seen := self._look_at(path, now_s)) is not None
        }
        return self._at_rest() != before

    def includes(self, path: str) -> bool:
        """Whether a file is one of the gains, by its name."""
        if glob.has_magic(self.where):
            return fnmatch.fnmatchcase(path, self.where)
        return path == self.where or (
            os.path.dirname(path) == self.where.rstrip("/")  # noqa: PTH120 - of text
            and path.lower().endswith(GAIN_SUFFIXES)
        )

    def lacking(self) -> str:
        """Return why movies wait; nothing where there is a gain."""
        return "" if self._at_rest() else f"{self.where!r}, which is not there yet"

    def choose(self, movie: RawFile, current: BoundGain | None) -> BoundGain | None:
        """Return the gain of a movie: by the shape of its frames, then by time.

        Parameters
        ----------
        movie
            Its time is that of its file.
        current
            What it had so far: kept while it is gone, and while there is none.
        """
        gains = self._at_rest()
        if not gains:
            return current
        if current and self.includes(current.path) and current.path not in gains:
            return current
        if len(gains) == 1:
            return BoundGain(*next(iter(gains.items())))
        chosen = self._match(movie)
        return None if chosen is None else BoundGain(chosen, gains[chosen])

    def _match(self, movie: RawFile) -> str | None:
        known = [
            KnownGain(name=path, mode=CameraMode(shape=shape), taken_at=seen.taken_at)
            for path, seen in self._seen.items()
            if (shape := self._shape(path, seen)) is not None
        ]
        shapes = {one.mode.shape for one in known}
        if not shapes:
            return None
        shape = shapes.pop()
        if shapes:
            try:
                header = read_movie_header(Path(movie.path))
                shape = (header.height_px, header.width_px)
            except IcestreamError:
                pass  # said where the movie is imported
        taken_at = datetime.fromtimestamp(movie.mtime_ns / 1e9, UTC)
        found = match_gain(known, CameraMode(shape=shape), acquired_at=taken_at)
        return None if found is None else found.name

    def _shape(self, path: str, seen: _Seen) -> tuple[int, int] | None:
        """Return rows and columns; of what is no gain, nothing."""
        if seen.fingerprint and seen.shape is None:
            try:
                rows, columns = read_gain(Path(path)).factors.shape
            except IcestreamError:
                return None
            seen.shape = (rows, columns)
        return seen.shape

    def _at_rest(self) -> dict[str, str]:
        return {
            path: one.fingerprint for path, one in self._seen.items() if one.fingerprint
        }

    def _paths(self) -> list[str]:
        if glob.has_magic(self.where):
            return sorted(glob.glob(self.where))  # noqa: PTH207 - a whole pattern
        folder = Path(self.where)
        if not folder.is_dir():
            return [self.where]
        return sorted(str(one) for one in folder.iterdir() if self._is_gain(one))

    def _is_gain(self, path: Path) -> bool:
        return path.suffix.lower() in GAIN_SUFFIXES and not path.name.startswith(".")

    def _look_at(self, path: str, now_s: float) -> _Seen | None:
        before = self._seen.get(path)
        try:
            status = Path(path).stat()
            is_same = before is not None and (before.size_bytes, before.mtime_ns) == (
                status.st_size,
                status.st_mtime_ns,
            )
            if before is None or not is_same:
                return _Seen(
                    size_bytes=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    since_s=now_s,
                )
            is_settled = now_s - before.since_s >= self._settle_s
            if status.st_size and is_settled and not before.fingerprint:
                before.fingerprint = _fingerprint(path)
        except OSError:
            return None
        return before


class BoundFiles:
    """What a watcher has taken, each file together with its gain.

    Parameters
    ----------
    shelf
        The gains; ``None`` where files have none.
    """

    def __init__(self, shelf: GainShelf | None) -> None:
        self._shelf = shelf
        self._where = "" if shelf is None else shelf.where
        self._is_fresh = True
        self._taken: dict[str, Sighting] = {}
        self._held: dict[str, Sighting] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether there is a file that no gain fits."""
        return bool(self._held)

    def resume(self, seen: Sequence[Sighting]) -> list[Sighting]:
        """Learn what the ledger knows; return what the watcher said of it."""
        self._taken = {one.path: one for one in seen if _is_taken(one)}
        return [one if one.item is None else _alone(one) for one in seen]

    def bind(self, poll: Callable[[], Sequence[Sighting]]) -> list[Sighting]:
        """Poll, and return what has changed: files, or gains that belong to them."""
        has_others = self._is_fresh if self._shelf is None else self._shelf.look()
        self._is_fresh = False
        seen = [self._with_gain(one) for one in poll()]
        return [*seen, *self._bound_anew()] if has_others else seen

    def _with_gain(self, one: Sighting) -> Sighting:
        before = self._taken.pop(one.path, None)
        self._held.pop(one.path, None)
        if not _is_taken(one):
            return one
        one = _alone(one)
        gain = None
        if before is not None and _alone(before).item == one.item:
            gain = _gain_of(before)
        if gain is None and self._shelf is not None:
            gain = self._shelf.choose(_file(one), None)
            if gain is None:
                self._held[one.path] = one
                return _waiting(one)
        self._taken[one.path] = _bound(one, gain, self._where)
        return self._taken[one.path]

    def _bound_anew(self) -> list[Sighting]:
        found = [self._with_gain(one) for one in list(self._held.values())]
        found = [one for one in found if _is_taken(one)]
        for one in list(self._taken.values()):
            before, gain = _gain_of(one), None
            if self._shelf is not None:
                gain = self._shelf.choose(_file(one), before) or before
            if (gain, self._where) != (before, _file(one).gain_of):
                again = replace(one, reason="complete; its gain is another one")
                self._taken[one.path] = _bound(again, gain, self._where)
                found.append(self._taken[one.path])
        return found


def _is_taken(one: Sighting) -> bool:
    return one.state is SightingState.TAKEN and one.item is not None


def _file(one: Sighting) -> RawFile:
    if not isinstance(one.item, RawFile):
        raise InternalError(f"A sighting of {one.path} without its file.")
    return one.item


def _gain_of(one: Sighting) -> BoundGain | None:
    file = _file(one)
    return None if file.gain is None else BoundGain(file.gain, file.gain_fingerprint)


def _alone(one: Sighting) -> Sighting:
    """Return a sighting of the file itself, with its own fingerprint."""
    file = replace(_file(one), gain=None, gain_fingerprint="", gain_of=None)
    return replace(one, item=file, fingerprint=file.fingerprint)


def _bound(one: Sighting, gain: BoundGain | None, where: str) -> Sighting:
    """Return a sighting of a file with its gain, and a fingerprint of both."""
    one = _alone(one)
    file = replace(_file(one), gain_of=where)
    if gain is None:
        return replace(one, item=file)
    file = replace(file, gain=gain.path, gain_fingerprint=gain.fingerprint)
    text = "\0".join((str(one.fingerprint), *gain, where))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    return replace(one, item=file, fingerprint=digest.hexdigest())


def _waiting(one: Sighting) -> Sighting:
    return Sighting(
        path=one.path,
        state=SightingState.WAITING,
        reason="waits for a gain that has the shape of its frames",
    )


def require_same_gain(path: str, fingerprint: str) -> None:
    """Make sure that a gain is the one that a movie was bound to.

    Raises
    ------
    IncompleteFile
        It was replaced since; its source will tell.
    UnreadableFile
        It cannot be read.
    """
    try:
        found = _fingerprint(path)
    except OSError as error:
        raise UnreadableFile(
            f"The gain reference {path} cannot be read: {error.strerror}.",
            hint="Bring it, or take it out of the setup, then `icestream retry`.",
        ) from error
    if found != fingerprint:
        raise IncompleteFile(
            f"The gain reference {path} is not the one that this movie came with.",
            hint="It was replaced; wait until the source has seen that.",
        )


def _fingerprint(path: str) -> str:
    """Return a hash of a gain's size and its first and last MiB; raises `OSError`."""
    size_bytes = Path(path).stat().st_size
    return read_ends(path).fingerprint("", size_bytes=size_bytes, mtime_ns=0)
