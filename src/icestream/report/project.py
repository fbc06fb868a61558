"""A folder in which RELION can start: links to the session's and the raw files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from icestream.domain.errors import FolderUnavailable
from icestream.io.access import guarding_writes
from icestream.io.relion import safe_name

if TYPE_CHECKING:
    from icestream.streaming.plan import Plan

__all__ = ["Project"]

_MICROGRAPHS = "micrographs"
_RENAMED = "renamed"


class Project:
    """A RELION project's folder.

    RELION opens names relative to the folder in which it was started, and makes the
    names of its own files from them, so that they must neither be absolute nor leave
    the folder. Hence links: ``products`` to the session's, ``micrographs/SOURCE`` to
    each acquisition folder. Nothing is copied, and nothing is written in either. A file
    whose name RELION cannot read (white space, quotes) gets a link of its own in
    ``micrographs/renamed``.

    Parameters
    ----------
    folder
        The project; made if need be.
    session_folder
        The session whose files are shown.
    plan
        Says which folder each source watches.

    Raises
    ------
    FolderUnavailable
        The folder cannot be made, or a file stands where a link belongs.
    """

    def __init__(self, folder: Path, *, session_folder: Path, plan: Plan) -> None:
        self.folder = folder
        self._session = session_folder.resolve()
        self._sources = {
            name: Path(str(run.params["folder"]))
            for name, run in plan.runs.items()
            if "folder" in run.params
        }
        self._linked: set[Path] = set()
        with guarding_writes(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def name_of(self, path: str, *, key: str = "") -> str:
        """Return a file's name within the project, and make the link that it needs.

        Parameters
        ----------
        path
            Absolute, or relative to the session.
        key
            The exposure that it belongs to.
        """
        given = Path(path)
        if not given.is_absolute():
            top = given.parts[0]
            return self._name(Path(path), top=Path(top), target=self._session / top)
        source = key.partition("/")[0]
        folder = self._sources.get(source)
        if folder is None or not given.is_relative_to(folder):
            return self._renamed(given)
        top_link = Path(_MICROGRAPHS, safe_name(source))
        name = top_link / given.relative_to(folder)
        return self._name(name, top=top_link, target=folder)

    def _name(self, name: Path, *, top: Path, target: Path) -> str:
        if safe_name(str(name)) != str(name):
            return self._renamed(target / name.relative_to(top))
        self._link(top, target)
        return str(name)

    def _renamed(self, target: Path) -> str:
        digest = hashlib.blake2b(os.fsencode(target), digest_size=6).hexdigest()
        name = Path(_MICROGRAPHS, _RENAMED, f"{digest}_{safe_name(target.name)}")
        self._link(name, target)
        return str(name)

    def _link(self, name: Path, target: Path) -> None:
        if name in self._linked:
            return
        link = self.folder / name
        with guarding_writes(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.exists() and not link.is_symlink():
                raise FolderUnavailable(
                    f"{link} is not a link that an export has made.",
                    hint="Export into a folder of its own.",
                )
            fresh = link.with_name(f".{link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._reach(link, target))
            fresh.replace(link)
        self._linked.add(name)

    def _reach(self, link: Path, target: Path) -> str:
        """Point inside the session relatively, so that the session can be moved."""
        place = link.parent.resolve()
        if place.is_relative_to(self._session) and target.is_relative_to(self._session):
            return os.path.relpath(target, place)
        return str(target)
