"""What stands in a folder: names, kinds and inodes, found by listing; opens nothing.

A folder is listed again when its modification time changed, once more after that
(two changes may share one tick of the file system's clock), and in any case every few
looks, in turn, because a network file system may show an old time for a minute.
Everything else costs one ``stat`` per folder and look.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from icestream.streaming.protocol import SightingState

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Changes",
    "Claims",
    "DiskLister",
    "Entry",
    "EntryKind",
    "FolderTree",
    "Lister",
    "NameRules",
    "Trouble",
    "absolute",
]

Identity: TypeAlias = tuple[int, int]


class EntryKind(Enum):
    """What a name in a folder stands for."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    """A symbolic link as listed; the tree resolves it to one of the next three."""
    LINKED_FILE = auto()
    LINKED_FOLDER = auto()
    DANGLING = auto()
    SPECIAL = auto()
    IGNORED = auto()


_FOLDERS = frozenset({EntryKind.FOLDER, EntryKind.LINKED_FOLDER})


class Entry(NamedTuple):
    """A name, its kind, and the inode that the listing gave for free."""

    name: str
    kind: EntryKind
    inode: int


class Trouble(NamedTuple):
    """Why a folder is not looked into."""

    state: SightingState
    reason: str


class Lister(Protocol):
    """The two questions that are put to a file system."""

    def stat(self, path: str) -> os.stat_result:
        """Return the status of what a path leads to. Raises ``OSError``."""

    def scan(self, path: str) -> list[Entry]:
        """Return the entries of a folder, links unresolved. Raises ``OSError``."""


class DiskLister:
    """Asks the operating system."""

    def stat(self, path: str) -> os.stat_result:
        """Return the status of what a path leads to. Raises ``OSError``."""
        return os.stat(path)  # noqa: PTH116 - a Path costs more than the call

    def scan(self, path: str) -> list[Entry]:
        """Return the entries of a folder, links unresolved. Raises ``OSError``."""
        with os.scandir(path) as entries:
            return [
                # The one kind there are thousands of is asked for without a call.
                Entry(one.name, EntryKind.FILE, one.inode())
                if one.is_file(follow_symlinks=False)
                else Entry(one.name, _listed_kind(one), one.inode())
                for one in entries
            ]


class NameRules:
    """Which names are wanted, by shell patterns that do not mind upper or lower case.

    A pattern that holds a slash is matched against the path relative to the folder,
    any other against the bare name.
    """

    def __init__(
        self, *, patterns: Iterable[str], exclude: Iterable[str], is_recursive: bool
    ) -> None:
        self.is_recursive = is_recursive
        self._patterns = _compile(patterns)
        self._exclude = _compile(exclude)

    def why_excluded(self, path: str, name: str) -> str | None:
        """Return why a name is left out whatever it stands for, or ``None``."""
        try:
            name.encode()
        except UnicodeEncodeError:
            return "its name is not valid UTF-8 and cannot be stored: rename it"
        pattern = _first_match(self._exclude, path, name)
        return None if pattern is None else f"its name is excluded by {pattern!r}"

    def why_unwanted(self, path: str, entry: Entry) -> str | None:
        """Return why an entry of a resolved kind is left out, or ``None``."""
        if entry.kind in _FOLDERS:
            return None if self.is_recursive else "a sub folder; recursive is off"
        if entry.kind is EntryKind.SPECIAL:
            return "neither a file nor a folder (a FIFO, socket or device); not opened"
        if _first_match(self._patterns, path, entry.name) is None:
            return "its name matches no pattern"
        return None


class Claims:
    """Who came first to an inode, so that two paths to one thing count once."""

    def __init__(self, root: str, lister: Lister) -> None:
        self._root = root
        self._lister = lister
        self._owners: dict[Identity, str] = {}
        self._claimed: dict[str, Identity] = {}

    def claim(self, path: str, status: os.stat_result) -> str | None:
        """Claim an inode; return the path that holds it already, or ``None``.

        The holder is asked again: inodes are re-used as soon as a file is deleted.
        """
        if not status.st_ino:
            return None
        identity = (status.st_dev, status.st_ino)
        owner = self._owners.get(identity)
        if owner == path:
            return None
        if owner is not None and self._is_same(owner, status):
            return owner
        self.release(path)
        self._owners[identity] = path
        self._claimed[path] = identity
        return None

    def release(self, path: str) -> None:
        """Forget a path."""
        identity = self._claimed.pop(path, None)
        if identity is not None and self._owners.get(identity) == path:
            del self._owners[identity]

    def _is_same(self, owner: str, status: os.stat_result) -> bool:
        try:
            other = self._lister.stat(absolute(self._root, owner))
        except OSError:
            return False
        if not os.path.samestat(other, status):
            return False
        # Guards against file systems whose inodes are not unique. A folder may change
        # between the two looks.
        return stat.S_ISDIR(status.st_mode) or (
            other.st_size == status.st_size and other.st_mtime_ns == status.st_mtime_ns
        )


@dataclass(slots=True)
class Changes:
    """What differs from the look before.

    ``appeared`` also names files whose inode changed. ``troubles`` is the whole
    present list, not a difference; paths are relative, ``""`` is the root.
    """

    appeared: list[tuple[str, Entry]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    troubles: dict[str, Trouble] = field(default_factory=dict)


@dataclass(slots=True)
class _Folder:
    turn: int
    identity: Identity | None = None
    mtime_ns: int = -1
    was_quiet: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    folders: list[Entry] = field(default_factory=list)


class FolderTree:
    """A folder and all below it, as of the last look.

    Parameters
    ----------
    root
        Absolute path; need not exist yet.
    names
        Which names are wanted.
    lister
        Asks the file system.
    full_listing_every
        Each folder is listed at least once in so many looks.
    """

    def __init__(
        self,
        root: str,
        *,
        names: NameRules,
        lister: Lister,
        full_listing_every: int,
    ) -> None:
        self._root = root
        self._names = names
        self._lister = lister
        self._every = full_listing_every
        self._is_expected = False
        self._folders: dict[str, _Folder] = {}
        self._claims = Claims(root, lister)
        self._looks = 0
        self._turns = 0
        self._troubles: dict[str, Trouble] = {}

    def expect(self) -> None:
        """Do not believe an empty root: files were taken from it in an earlier life."""
        self._is_expected = True

    def look(self) -> Changes:
        """Walk over all folders and list those that changed or are due."""
        self._looks += 1
        changes = Changes()
        kept: set[str] = set()
        # Links come last: a folder goes by its own name rather than by a link's.
        queue, links = deque([""]), deque[str]()
        while queue or links:
            is_link = not queue
            path = links.popleft() if is_link else queue.popleft()
            folder = self._visit(path, changes, is_link=is_link)
            if folder is None:
                if path in changes.troubles and _may_return(changes.troubles[path]):
                    kept.update(_below(path, self._folders))
                    # Trouble further down is not over because it is out of sight.
                    for one in _below(path, self._troubles):
                        changes.troubles.setdefault(one, self._troubles[one])
                continue
            kept.add(path)
            for entry in folder.folders:
                target = queue if entry.kind is EntryKind.FOLDER else links
                target.append(_join(path, entry.name))
        for path in self._folders.keys() - kept:
            self._drop(path, changes)
        self._troubles = changes.troubles
        return changes

    def is_listed(self, path: str) -> bool:
        """Whether a folder of this relative path was listed."""
        return path in self._folders

    def is_absent(self, path: str) -> bool:
        """Whether a listing showed that a file is not there (not: could not tell)."""
        parent, _, name = path.rpartition("/")
        folder = self._folders.get(parent)
        if folder is not None and parent not in self._troubles:
            return name not in folder.entries
        ancestors = ["", *_ancestors(path)]
        return not any(
            one in self._troubles and _may_return(self._troubles[one])
            for one in ancestors
        )

    def _visit(self, path: str, changes: Changes, *, is_link: bool) -> _Folder | None:
        try:
            status = self._stat_folder(path)
            owner = self._claims.claim(path, status)
            if owner is not None:
                reason = f"leads to the folder {owner or '.'!r}, which is watched"
                changes.troubles[path] = Trouble(SightingState.IGNORED, reason)
                return None
            folder = self._folders.get(path) or self._new_folder()
            if self._is_due(folder, status):
                self._list(path, folder, status, changes)
            self._folders[path] = folder
        except (FileNotFoundError, NotADirectoryError) as error:
            if not path or is_link:
                changes.troubles[path] = self._missing(path, error)
            return None
        except OSError as error:
            reason = f"cannot be listed: {error.strerror or error}"
            changes.troubles[path] = Trouble(SightingState.UNREADABLE, reason)
            return None
        return None if path in changes.troubles else folder

    def _stat_folder(self, path: str) -> os.stat_result:
        status = self._lister.stat(absolute(self._root, path))
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError
        return status

    def _is_due(self, folder: _Folder, status: os.stat_result) -> bool:
        is_quiet = status.st_mtime_ns == folder.mtime_ns
        is_due = not (is_quiet and folder.was_quiet)
        folder.was_quiet = is_quiet
        return is_due or (self._looks + folder.turn) % self._every == 0

    def _list(
        self, path: str, folder: _Folder, status: os.stat_result, changes: Changes
    ) -> None:
        # Until a listing succeeds, it is tried at every look.
        folder.mtime_ns = -1
        listed = self._lister.scan(absolute(self._root, path))
        identity = (status.st_dev, status.st_ino)
        if not listed and self._is_suspicious(path, folder, identity):
            reason = "is empty, but files were seen in it before: unmounted?"
            changes.troubles[path] = Trouble(SightingState.VANISHED, reason)
            return
        folder.identity, folder.mtime_ns = identity, status.st_mtime_ns
        before, folder.entries = folder.entries, {}
        for raw in listed:
            old = before.pop(raw.name, None)
            if old is not None and (old == raw or _is_same(old, raw)):
                folder.entries[raw.name] = old
                continue
            folder.entries[raw.name] = self._judge(path, raw, old, changes)
        folder.folders = [
            one for one in folder.entries.values() if one.kind in _FOLDERS
        ]
        self._forget(path, before.values(), changes)

    def _is_suspicious(self, path: str, folder: _Folder, identity: Identity) -> bool:
        if folder.identity is None:
            return not path and self._is_expected
        # The mount point that an unmounted disk leaves behind is another folder.
        return bool(folder.entries) and folder.identity[0] != identity[0]

    def _judge(
        self, folder: str, raw: Entry, old: Entry | None, changes: Changes
    ) -> Entry:
        path = _join(folder, raw.name)
        entry = raw
        reason = self._names.why_excluded(path, raw.name)
        if reason is None:
            entry = raw._replace(kind=self._resolve(path, raw, old))
            reason = self._names.why_unwanted(path, entry)
        if reason is not None:
            changes.ignored.append((path, reason))
            return raw._replace(kind=EntryKind.IGNORED)
        if entry.kind not in _FOLDERS:
            changes.appeared.append((path, entry))
        elif old is not None and old.kind not in _FOLDERS:
            changes.gone.append(path)
        return entry

    def _resolve(self, path: str, raw: Entry, old: Entry | None) -> EntryKind:
        if raw.kind is not EntryKind.LINK:
            return raw.kind
        try:
            mode = self._lister.stat(absolute(self._root, path)).st_mode
        except OSError:
            # A linked folder that went off line is not taken for a file.
            was_folder = old is not None and old.kind is EntryKind.LINKED_FOLDER
            return EntryKind.LINKED_FOLDER if was_folder else EntryKind.DANGLING
        if stat.S_ISDIR(mode):
            return EntryKind.LINKED_FOLDER
        return EntryKind.LINKED_FILE if stat.S_ISREG(mode) else EntryKind.SPECIAL

    def _missing(self, path: str, error: OSError) -> Trouble:
        if isinstance(error, NotADirectoryError):
            return Trouble(SightingState.UNREADABLE, "is not a folder")
        if path in self._folders or self._is_expected:
            reason = "has vanished (unmounted?); its files keep their state"
            return Trouble(SightingState.VANISHED, reason)
        return Trouble(SightingState.WAITING, "does not exist yet")

    def _new_folder(self) -> _Folder:
        self._turns += 1
        return _Folder(turn=self._turns)

    def _drop(self, path: str, changes: Changes) -> None:
        self._claims.release(path)
        self._forget(path, self._folders.pop(path).entries.values(), changes)

    def _forget(self, folder: str, entries: Iterable[Entry], changes: Changes) -> None:
        changes.gone.extend(
            _join(folder, one.name) for one in entries if one.kind not in _FOLDERS
        )


def absolute(root: str, path: str) -> str:
    """Return the absolute form of a path relative to the root."""
    return f"{root}/{path}" if path else root


def _listed_kind(entry: os.DirEntry[str]) -> EntryKind:
    if entry.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    return EntryKind.LINK if entry.is_symlink() else EntryKind.SPECIAL


def _is_same(old: Entry, raw: Entry) -> bool:
    if old.inode != raw.inode:
        return False
    if raw.kind is EntryKind.LINK:
        # A link that led nowhere, or to a folder, may lead elsewhere today.
        return old.kind is EntryKind.LINKED_FILE
    return old.kind is raw.kind or old.kind is EntryKind.IGNORED


def _may_return(trouble: Trouble) -> bool:
    return trouble.state is not SightingState.IGNORED


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _below(path: str, paths: Iterable[str]) -> list[str]:
    start = path + "/" if path else ""
    return [one for one in paths if one == path or one.startswith(start)]


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _compile(patterns: Iterable[str]) -> list[tuple[str, re.Pattern[str]]]:
    return [
        (one, re.compile(fnmatch.translate(one), re.IGNORECASE)) for one in patterns
    ]


def _first_match(
    patterns: list[tuple[str, re.Pattern[str]]], path: str, name: str
) -> str | None:
    for text, pattern in patterns:
        if pattern.match(path if "/" in text else name):
            return text
    return None
