"""The gain references of a source: which are there, and which is a movie's."""

from __future__ import annotations

import glob
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from icestream.domain import RawFile
from icestream.domain.acquisition import GAIN_SUFFIXES
from icestream.domain.errors import (
    IcestreamError,
    IncompleteFile,
    InternalError,
    UnreadableFile,
)
from icestream.engines.gain import CameraMode, KnownGain, match_gain
from icestream.io.gain import read_gain
from icestream.io.movie import read_movie_header
from icestream.streaming.arrival import read_ends
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BoundFiles", "BoundGain", "GainShelf", "require_same_gain"]

_ABSENT = "is not there yet: movies wait for it"
_UNFIT = "holds none of the shape of some movies: they wait for it"


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
        self._pattern = where.replace("[", "[[]").replace("?", "[?]")
        self._settle_s = settle_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._looked_s: list[float] = []

    def look(self) -> bool:
        """Look at the files; return whether a gain has come, gone or changed."""
        before = self._at_rest()
        now_s = self._clock()
        self._looked_s = [*self._looked_s[:1], now_s]
        self._seen = {
            path: seen
            for path in self._paths()
            if (seen := self._look_at(path, now_s)) is not None
        }
        return self._at_rest() != before

    def includes(self, path: str) -> bool:
        """Whether a file is one of the gains, by its name."""
        if "*" in self.where:
            return PurePath(path).match(self._pattern)
        return path == self.where or (
            str(PurePath(path).parent) == self.where
            and path.lower().endswith(GAIN_SUFFIXES)
        )

    def lacking(self) -> str:
        """Return why movies wait that have no gain."""
        return _ABSENT if self.is_empty else _UNFIT

    @property
    def is_empty(self) -> bool:
        """Whether there is no gain that is at rest."""
        return not self._at_rest()

    @property
    def has_settled(self) -> bool:
        """Whether a gain that was there at the first look would be at rest by now."""
        return self._looked_s[-1] - self._looked_s[0] >= self._settle_s

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
        if "*" in self.where:
            return sorted(glob.glob(self._pattern))  # noqa: PTH207 - a whole pattern
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

    A gain that movies wait for is told by a sighting of its own path, and once more
    when none waits any longer.

    Parameters
    ----------
    shelf
        The gains; ``None`` where files have none.
    """

    def __init__(self, shelf: GainShelf | None) -> None:
        self._shelf = shelf
        self._is_fresh = True
        self._taken: dict[str, Sighting] = {}
        self._held: dict[str, Sighting] = {}
        self._awaited: set[str] = set()

    @property
    def is_waiting(self) -> bool:
        """Whether there is a file that no gain fits."""
        return bool(self._held)

    def resume(self, seen: Sequence[Sighting]) -> list[Sighting]:
        """Learn what the ledger knows; return what the watcher said of it."""
        self._taken = {one.path: one for one in seen if _is_taken(one)}
        self._awaited = {one.path for one in seen if one.reason in (_ABSENT, _UNFIT)}
        files = [one for one in seen if one.path not in self._awaited]
        return [one if one.item is None else _alone(one) for one in files]

    def bind(self, poll: Callable[[], Sequence[Sighting]]) -> list[Sighting]:
        """Poll, and return what has changed: files, or gains that belong to them."""
        has_others = self._is_fresh if self._shelf is None else self._shelf.look()
        self._is_fresh = False
        seen = [self._with_gain(one) for one in poll() if one.path not in self._awaited]
        if has_others:
            seen += self._bound_anew()
        return [*seen, *self._awaiting()]

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
                return Sighting(
                    path=one.path,
                    state=SightingState.WAITING,
                    reason="waits for its gain",
                )
        self._taken[one.path] = _bound(one, gain)
        return self._taken[one.path]

    def _bound_anew(self) -> list[Sighting]:
        found = [self._with_gain(one) for one in list(self._held.values())]
        found = [one for one in found if _is_taken(one)]
        for one in list(self._taken.values()):
            before, gain = _gain_of(one), None
            if self._shelf is not None:
                gain = self._shelf.choose(_file(one), before) or before
            if gain != before:
                again = replace(one, reason="complete; its gain is another one")
                self._taken[one.path] = _bound(again, gain)
                found.append(self._taken[one.path])
        return found

    def _awaiting(self) -> list[Sighting]:
        """Tell of gains that movies wait for from now on, or no longer."""
        before, shelf = self._awaited, self._shelf
        is_owed = shelf is not None and (
            self._is_owed(shelf) if shelf.has_settled else shelf.where in before
        )
        self._awaited = {shelf.where} if shelf is not None and is_owed else set()
        found = [
            Sighting(
                path=path,
                state=SightingState.IGNORED,
                reason="a gain that no movie waits for any longer",
            )
            for path in before - self._awaited
        ]
        return found + [
            Sighting(path=path, state=SightingState.WAITING, reason=shelf.lacking())
            for path in self._awaited - before
            if shelf is not None
        ]

    def _is_owed(self, shelf: GainShelf) -> bool:
        """Whether a movie waits, or keeps a gain of elsewhere until this one comes."""
        return bool(self._held) or (
            shelf.is_empty
            and not all(
                gain is not None and shelf.includes(gain.path)
                for gain in map(_gain_of, self._taken.values())
            )
        )


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
    file = replace(_file(one), gain=None, gain_fingerprint="")
    return replace(one, item=file, fingerprint=file.fingerprint)


def _bound(one: Sighting, gain: BoundGain | None) -> Sighting:
    """Return a sighting of a file with its gain, and a fingerprint of both."""
    one = _alone(one)
    if gain is None:
        return one
    file = replace(_file(one), gain=gain.path, gain_fingerprint=gain.fingerprint)
    text = "\0".join((str(one.fingerprint), *gain))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    return replace(one, item=file, fingerprint=digest.hexdigest())


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
