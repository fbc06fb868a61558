"""Watch a folder: which files are complete, which wait, which are left out, and why.

A file's way::

    seen -> WAITING (just appeared, growing, empty, no companion, incomplete)
         -> TAKEN | UNREADABLE | IGNORED (the same file under a second name)
    TAKEN -> changed -> WAITING -> TAKEN (rewritten, or only touched)
    any  -> VANISHED -> back -> WAITING -> TAKEN

Nothing in the folder is written, renamed, locked or deleted, and no file is opened
before its size and modification time held over two looks (or a sure sign of
completeness that the rules name). Times of files are compared with each other only,
never with a clock of this host. Files that wait are looked at in each poll; settled
ones in turn, each once in ``full_listing_every`` polls.

Touched
    A taken file whose modification time changed while its size and its first and last
    MiB did not is *no* new revision: a restored backup or a ``touch -R`` must not
    recompute a session. It is reported as TAKEN with its old item and fingerprint, so
    that the ledger keeps them across restarts. What is missed: an in-place change of
    the middle alone.
Duplicates
    Of several paths to one inode (hard or symbolic links) the first taken counts, the
    others are IGNORED; a plain path goes before a link seen in the same poll. When the
    first path vanishes, the next takes its place under its own key. So a taken file
    that is renamed comes again, under its new key.
Folders
    Trouble with a folder is one sighting on the folder's path; what lies in it keeps
    its state until a listing shows that it is gone. When the folder can be listed
    (again), its path is reported as IGNORED with that reason.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from icestream.domain import RawFile
from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.streaming.arrival import Arrival, Ends, FolderRules, Stamp, read_ends
from icestream.streaming.arrivals import Arrivals
from icestream.streaming.listing import (
    Changes,
    DiskLister,
    EntryKind,
    FolderTree,
    Lister,
    NameRules,
    absolute,
)
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from icestream.streaming.hints import ChangeHints

__all__ = ["FolderRules", "FolderWatcher"]

_COMPLETE = "complete"
_REWRITTEN = "complete; rewritten since it was taken before"
_UNCHANGED = "complete; unchanged since it was taken before"
_TOUCHED = "touched: only its modification time changed, so it is not processed again"
_EMPTY = "is empty"
_APART = "what the others need; it is none of them"
_LISTED = "a folder, which can be listed now"

_ONCE_SEEN = frozenset(
    {SightingState.TAKEN, SightingState.WAITING, SightingState.UNREADABLE}
)
_JUDGED = frozenset({SightingState.UNREADABLE, SightingState.IGNORED})


class FolderWatcher:
    """Polls a folder and says what changed. Knows no file format.

    Parameters
    ----------
    folder
        Absolute; need not exist yet.
    setup
        Name of the acquisition setup that its files belong to.
    check_complete
        Raises ``IncompleteFile`` (wait) or ``UnreadableFile`` (leave it).
    rules
        What to look for.
    clock
        Monotonic seconds.
    lister
        Asks the file system.
    hints
        Tells of changes early; ``None`` to do without.
    """

    def __init__(
        self,
        folder: Path,
        *,
        setup: str,
        check_complete: Callable[[Path], None],
        rules: FolderRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        lister: Lister | None = None,
        hints: ChangeHints | None = None,
    ) -> None:
        self._root = str(folder)
        self._setup = setup
        self._check_complete = check_complete
        self._rules = rules or FolderRules()
        self._clock = clock
        self._lister = lister or DiskLister()
        self._hints = hints
        self._tree = self._new_tree()
        self._arrivals = Arrivals(
            self._root, lister=self._lister, turns=self._rules.full_listing_every
        )
        self._polls = 0
        self._polled_s = self._changed_s = clock()
        self._needs_time = False
        self._unconfirmed: set[str] = set()
        self._troubled: set[str] = set()
        self._reported: dict[str, tuple[SightingState, str, str | None]] = {}
        self._sightings: list[Sighting] = []

    @property
    def idle_s(self) -> float:
        """For how long nothing had changed at the last poll; 0 while a file waits."""
        if self._arrivals.has_moving or "" in self._troubled:
            return 0.0
        return self._polled_s - self._changed_s

    def resume(self, seen: Sequence[Sighting]) -> None:
        """Learn what the ledger knows, before the first poll.

        Parameters
        ----------
        seen
            The last sighting of each path. Where a path was ever taken, its ``item``
            and ``fingerprint`` help, whatever its state is now.
        """
        for one in seen:
            path = self._relative(one.path)
            path = one.key if path is None else path
            if path is None:
                continue
            self._reported[path] = (one.state, one.reason, one.fingerprint)
            self._unconfirmed.add(path)
            if one.fingerprint is not None:
                self._arrivals.remember(Arrival.remembered(path, one))
                self._tree.expect()

    def poll(self) -> list[Sighting]:
        """Return what changed since the last poll: a path's state or its reason."""
        self._polls += 1
        self._polled_s = self._clock()
        self._needs_time = False
        changes = self._tree.look()
        self._note_troubles(changes)
        if "" not in changes.troubles:
            self._note_names(changes)
            self._follow_hints()
            self._glance(self._arrivals.due(self._polls))
            for one in self._arrivals.moving():
                self._examine(one)
        elif self._hints is not None:
            self._hints.forget()
        sightings, self._sightings = self._sightings, []
        if sightings:
            self._changed_s = self._polled_s
        return sightings

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is worth polling again, for so long at most.

        Returns
        -------
        bool
            Whether something appeared or went; always ``False`` without hints.
        """
        if self._needs_time and self._rules.settle_s > 0:
            timeout_s = min(timeout_s, self._rules.settle_s)
        if self._hints is not None:
            return self._hints.wait(timeout_s)
        time.sleep(timeout_s)
        return False

    def close(self) -> None:
        """Stop following the folder; a `wait` in another thread returns."""
        if self._hints is not None:
            self._hints.close()

    def _new_tree(self) -> FolderTree:
        names = NameRules(
            patterns=self._rules.patterns,
            exclude=self._rules.exclude,
            is_recursive=self._rules.recursive,
        )
        return FolderTree(
            self._root,
            names=names,
            lister=self._lister,
            full_listing_every=self._rules.full_listing_every,
        )

    def _relative(self, path: str) -> str | None:
        if path == self._root:
            return ""
        start = self._root.rstrip("/") + "/"
        return path[len(start) :] if path.startswith(start) else None

    def _note_troubles(self, changes: Changes) -> None:
        for path, trouble in changes.troubles.items():
            self._report(path, trouble.state, trouble.reason)
        for path in sorted(self._troubled - changes.troubles.keys()):
            if self._tree.is_listed(path):
                self._report(path, SightingState.IGNORED, _LISTED)
            else:
                self._note_gone(path)
        self._troubled = set(changes.troubles)

    def _note_names(self, changes: Changes) -> None:
        for path in changes.gone:
            self._note_gone(path)
        for path, reason in changes.ignored:
            self._arrivals.lose(path)
            self._unconfirmed.discard(path)
            self._report(path, SightingState.IGNORED, reason)
        for path, entry in changes.appeared:
            self._unconfirmed.discard(path)
            self._arrivals.enter(path, is_link=entry.kind is not EntryKind.FILE)
        for path in sorted(self._unconfirmed):
            self._confirm(path)

    def _confirm(self, path: str) -> None:
        """Hold a path from the ledger against what is there now."""
        if self._tree.is_listed(path):
            self._report(path, SightingState.IGNORED, _LISTED)
        elif self._tree.is_absent(path):
            self._note_gone(path)
        else:
            return
        self._unconfirmed.discard(path)

    def _note_gone(self, path: str) -> None:
        self._arrivals.lose(path)
        state = self._state(path)
        if state in _ONCE_SEEN:
            kept = "; what was made of it is kept"
            kept = kept if state is SightingState.TAKEN else ""
            self._report(path, SightingState.VANISHED, f"no longer there{kept}")
        if not self._arrivals.was_taken(path):
            self._reported.pop(path, None)

    def _follow_hints(self) -> None:
        if self._hints is None:
            return
        paths = [self._relative(one) for one in self._hints.take()]
        self._hints.follow(self._root)
        settled = (self._arrivals.settled(one) for one in paths if one)
        self._glance(one for one in settled if one is not None)

    def _glance(self, arrivals: Iterable[Arrival]) -> None:
        """Look whether settled files are still what they were."""
        for one in arrivals:
            try:
                stamp = Stamp.of(self._lister.stat(absolute(self._root, one.path)))
            except OSError:
                # Gone: the listing tells. Off line: it keeps its state.
                continue
            has_changed = one.stamp is None or stamp[:3] != one.stamp[:3]
            if not has_changed and self._state(one.path) is not SightingState.TAKEN:
                # A change of permissions shows in ctime alone.
                has_changed = one.is_tried_again or stamp != one.stamp
            if has_changed:
                self._arrivals.move(one)

    def _examine(self, arrival: Arrival) -> None:
        status = self._look(arrival)
        if status is None:
            return
        if arrival.is_confirmed:
            self._arrivals.claim(arrival, status)
            self._accept(arrival, _UNCHANGED)
            return
        if self._is_apart(arrival.path):
            self._dismiss(arrival, SightingState.IGNORED, _APART)
            return
        if self._must_wait(arrival):
            return
        owner = self._arrivals.claim(arrival, status)
        if owner is not None:
            reason = f"the same file as {owner!r}"
            self._dismiss(arrival, SightingState.IGNORED, reason)
            return
        self._open(arrival)

    def _look(self, arrival: Arrival) -> os.stat_result | None:
        try:
            status = self._lister.stat(absolute(self._root, arrival.path))
        except FileNotFoundError:
            # A plain file went after the listing: the next one tells.
            if arrival.is_link:
                reason = "a link to a file that does not exist"
                self._report(arrival.path, SightingState.WAITING, reason)
            return None
        except OSError as error:
            is_loop = error.errno == errno.ELOOP
            state = SightingState.IGNORED if is_loop else SightingState.UNREADABLE
            self._dismiss(arrival, state, error.strerror or str(error))
            arrival.is_tried_again = True
            return None
        if not stat.S_ISREG(status.st_mode):
            self._dismiss(arrival, SightingState.IGNORED, "no longer a file")
            return None
        if arrival.observe(Stamp.of(status), now_s=self._polled_s):
            self._changed_s = self._polled_s
        return status

    def _must_wait(self, arrival: Arrival) -> bool:
        path, companion = arrival.path, self._rules.companion_of(arrival.path)
        if arrival.stamp is not None and not arrival.stamp.size_bytes:
            self._report(path, SightingState.WAITING, _EMPTY)
            return True
        if companion is not None and not self._exists(companion):
            reason = f"waits for its companion {companion!r}"
            self._report(path, SightingState.WAITING, reason)
            return True
        if not arrival.is_at_rest(
            self._rules, now_s=self._polled_s, has_companion=companion is not None
        ):
            self._needs_time = True
            if self._state(path) not in _JUDGED and not arrival.may_be_touched:
                self._report(path, SightingState.WAITING, arrival.why_moving())
            return True
        return arrival.is_refused(
            poll=self._polls, again_after=self._rules.full_listing_every
        )

    def _exists(self, path: str) -> bool:
        try:
            self._lister.stat(absolute(self._root, path))
        except OSError:
            return False
        return True

    def _is_apart(self, path: str) -> bool:
        """Whether it is none of the files that are looked for."""
        is_apart = self._rules.is_apart
        return is_apart is not None and is_apart(absolute(self._root, path))

    def _open(self, arrival: Arrival) -> None:
        verdict = self._read(absolute(self._root, arrival.path))
        before = arrival.stamp
        if self._look(arrival) is None:
            return
        if before is None or arrival.stamp is None or before[:3] != arrival.stamp[:3]:
            # It was written while it was read; what was read counts for nothing.
            self._report(arrival.path, SightingState.WAITING, arrival.why_moving())
        elif isinstance(verdict, Ends):
            self._take(arrival, verdict, arrival.stamp)
        elif isinstance(verdict, IncompleteFile):
            arrival.refuse(poll=self._polls)
            self._report(arrival.path, SightingState.WAITING, str(verdict))
        else:
            arrival.is_tried_again = isinstance(verdict.__cause__, OSError)
            self._dismiss(arrival, SightingState.UNREADABLE, str(verdict))

    def _read(self, path: str) -> Ends | UnreadableFile:
        try:
            self._check_complete(Path(path))
            return read_ends(path)
        except UnreadableFile as error:
            return error
        except OSError as error:
            unreadable = UnreadableFile(
                f"{path} cannot be read: {error.strerror or error}.",
                hint="Check its permissions and the disk that it lies on.",
            )
            unreadable.__cause__ = error
            return unreadable

    def _take(self, arrival: Arrival, ends: Ends, stamp: Stamp) -> None:
        path, old = arrival.path, arrival.item
        size_bytes, mtime_ns = stamp.size_bytes, stamp.mtime_ns
        fingerprint = ends.fingerprint(path, size_bytes=size_bytes, mtime_ns=mtime_ns)
        if old is not None and arrival.fingerprint == ends.fingerprint(
            path, size_bytes=size_bytes, mtime_ns=old.mtime_ns
        ):
            is_same = mtime_ns == old.mtime_ns
            self._accept(arrival, _UNCHANGED if is_same else _TOUCHED)
            return
        reason = _REWRITTEN
        if arrival.fingerprint is None:
            reason = _COMPLETE
        elif arrival.fingerprint == fingerprint:
            reason = _UNCHANGED
        arrival.fingerprint = fingerprint
        arrival.item = RawFile(
            path=absolute(self._root, path),
            size_bytes=size_bytes,
            mtime_ns=mtime_ns,
            fingerprint=fingerprint,
            setup=self._setup,
        )
        self._accept(arrival, reason)

    def _accept(self, arrival: Arrival, reason: str) -> None:
        arrival.confirm()
        self._arrivals.settle(arrival)
        if reason is _UNCHANGED and self._state(arrival.path) is SightingState.TAKEN:
            return
        self._report(arrival.path, SightingState.TAKEN, reason, arrival=arrival)

    def _dismiss(self, arrival: Arrival, state: SightingState, reason: str) -> None:
        self._report(arrival.path, state, reason)
        self._arrivals.settle(arrival)

    def _state(self, path: str) -> SightingState | None:
        before = self._reported.get(path)
        return None if before is None else before[0]

    def _report(
        self,
        path: str,
        state: SightingState,
        reason: str,
        *,
        arrival: Arrival | None = None,
    ) -> None:
        fingerprint = None if arrival is None else arrival.fingerprint
        report = (state, reason, fingerprint)
        if self._reported.get(path) == report:
            return
        self._reported[path] = report
        self._sightings.append(
            Sighting(
                path=_storable(absolute(self._root, path)),
                state=state,
                reason=reason,
                key=None if arrival is None else path,
                item=None if arrival is None else arrival.item,
                fingerprint=fingerprint,
            )
        )


def _storable(path: str) -> str:
    """Return a path as text: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
