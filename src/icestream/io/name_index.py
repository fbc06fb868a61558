"""Where files of some names lie below a folder, without listing all of it each time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["NameIndex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What a folder held when it was listed.

    ``is_settled`` says that its time of change was the same as at the listing before:
    what is written within one tick of a file system's clock can hide behind that time.
    """

    mtime_ns: int
    is_settled: bool
    names: frozenset[str]
    folders: tuple[str, ...]


class NameIndex:
    """Finds files by name below a folder.

    Parameters
    ----------
    root
        The folder; it may come later.
    suffixes
        Endings of the files that count, in small letters.
    """

    def __init__(self, root: Path, *, suffixes: Collection[str]) -> None:
        self._root, self._suffixes = root, tuple(suffixes)
        self._listings: dict[str, _Listing] = {}
        self._places: dict[str, set[str]] = {}
        self.trouble = ""

    def places(self, name: str) -> list[Path]:
        """Return the files of a name, as of the last refresh."""
        return [Path(folder, name) for folder in sorted(self._places.get(name, ()))]

    def refresh(self) -> None:
        """Look again: only folders that changed are listed.

        Links to folders are not followed. A folder that cannot be listed counts as
        empty, and ``trouble`` says so.
        """
        self.trouble = ""
        waiting, seen = [str(self._root)], set()
        while waiting:
            folder = waiting.pop()
            listing = self._look(folder)
            if listing is not None:
                seen.add(folder)
                waiting += listing.folders
        for folder in set(self._listings) - seen:
            self._replace(folder, None)

    def _look(self, folder: str) -> _Listing | None:
        known = self._listings.get(folder)
        try:
            mtime_ns = os.stat(folder).st_mtime_ns  # noqa: PTH116 - by the thousand
            is_same = known is not None and known.mtime_ns == mtime_ns
            if known is not None and is_same and known.is_settled:
                return known
            listing = self._list(folder, mtime_ns, is_settled=is_same)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.trouble = f"{folder} cannot be listed: {error.strerror or error}."
            return None
        self._replace(folder, listing)
        return listing

    def _list(self, folder: str, mtime_ns: int, *, is_settled: bool) -> _Listing:
        names, folders = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(self._suffixes):
                    names.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
        return _Listing(
            mtime_ns=mtime_ns,
            is_settled=is_settled,
            names=frozenset(names),
            folders=tuple(folders),
        )

    def _replace(self, folder: str, listing: _Listing | None) -> None:
        before = self._listings.pop(folder, None)
        old = before.names if before else frozenset()
        new = listing.names if listing else frozenset()
        for name in old - new:
            self._places[name].discard(folder)
            if not self._places[name]:
                del self._places[name]
        for name in new - old:
            self._places.setdefault(name, set()).add(folder)
        if listing is not None:
            self._listings[folder] = listing
