"""Find what EPU or SerialEM wrote of an exposure, by its name."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from icestream.domain.errors import UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.io.epu import exposure_stem, read_epu_name, read_epu_xml
from icestream.io.name_index import NameIndex
from icestream.io.serialem import read_mdoc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FoundMetadata", "MetadataFinder"]

_SUFFIXES = (".xml", ".mdoc")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMetadata:
    """What is known of one exposure now.

    Parameters
    ----------
    metadata
        From all files of the exposure, and from its name.
    files
        Those that were read, absolute; none where they are late or will never come.
    notice
        What is wrong with a file, in plain words; empty where nothing is.
    is_complete
        Whether the file that tells most was read, and nothing is wrong.
    """

    metadata: ExposureMetadata
    files: tuple[str, ...] = ()
    notice: str = ""
    is_complete: bool = False


class MetadataFinder:
    """Joins movies and metadata by the name of the exposure.

    Parameters
    ----------
    movie_root
        The folder that keys are relative to.
    metadata_root
        Where metadata lie, if not beside the movies.
    refresh_s
        How long what was found of a folder tree is trusted, s.
    clock
        Seconds that only grow.

    Notes
    -----
    The same relative folder is tried first, below either root. Only where it holds
    nothing is an index by name asked, which lists the folders that changed, once in
    ``refresh_s`` at most. A file from another folder is taken where the end of its path
    is that of the movie's, or the other way round: numbers start anew with each grid.
    """

    def __init__(
        self,
        movie_root: Path,
        *,
        metadata_root: Path | None = None,
        refresh_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = metadata_root or movie_root
        self._roots = dict.fromkeys((self._root, movie_root))
        self._index = NameIndex(self._root, suffixes=_SUFFIXES)
        self._refresh_s, self._clock = refresh_s, clock
        self._refreshed_at = -float("inf")

    def find(self, key: str) -> FoundMetadata:
        """Return what is known of an exposure.

        Parameters
        ----------
        key
            Path of its movie, relative to the movie root.

        Returns
        -------
        FoundMetadata
            A file that is damaged or still being written is left out and told of:
            the movie is not to be lost with it.
        """
        movie = PurePosixPath(key)
        stem, names = exposure_stem(movie.name), _names(movie)
        main = self._beside(movie, names) or self._elsewhere(movie, names)
        sister = self._beside(movie, [f"{stem}_Fractions.xml"], near=main)
        # What was recorded goes before what was asked for.
        paths = [path for path in (sister, main) if path is not None]
        found = self._read(movie, paths)
        return replace(found, is_complete=main is not None and not found.notice)

    def is_listed(self, key: str) -> bool:
        """Whether a file with a name that fits was there at the last `refresh`."""
        return any(self._index.places(name) for name in _names(PurePosixPath(key)))

    def refresh(self) -> None:
        """Look for files that have come or gone."""
        self._index.refresh()
        self._refreshed_at = self._clock()

    def _beside(
        self, movie: PurePosixPath, names: list[str], *, near: Path | None = None
    ) -> Path | None:
        """Look into the movie's folder below either root, and that of a file found."""
        folders = [root / movie.parent for root in self._roots]
        folders += [near.parent] if near else []
        paths = (folder / name for folder in folders for name in names)
        return next((path for path in paths if _is_file(path)), None)

    def _elsewhere(self, movie: PurePosixPath, names: list[str]) -> Path | None:
        if self._clock() - self._refreshed_at >= self._refresh_s:
            self.refresh()
        chosen = (self._choose(movie, self._index.places(name)) for name in names)
        return next((path for path in chosen if path is not None), None)

    def _choose(self, movie: PurePosixPath, places: list[Path]) -> Path | None:
        """Return the place that fits the movie's folder best, if only one does."""
        folder = _from_square(movie.parent)
        lengths = {
            path: length
            for path in places
            if (
                length := _fit(
                    folder, _from_square(path.relative_to(self._root).parent)
                )
            )
            is not None
        }
        best = [path for path in lengths if lengths[path] == max(lengths.values())]
        return best[0] if len(best) == 1 else None

    def _read(self, movie: PurePosixPath, paths: list[Path]) -> FoundMetadata:
        metadata, files = ExposureMetadata(), []
        notices = [self._index.trouble] if self._index.trouble else []
        for path in paths:
            try:
                told = read_epu_xml(path) if path.suffix == ".xml" else read_mdoc(path)
            except UnreadableFile as error:
                notices.append(str(error))
                continue
            metadata = metadata.filled_by(told)
            files.append(str(path))
            if told.movie_name and PurePath(told.movie_name).stem != movie.stem:
                notices.append(f"{path} tells of another movie, {told.movie_name}.")
        return FoundMetadata(
            metadata=metadata.filled_by(read_epu_name(movie)),
            files=tuple(files),
            notice=" ".join(notices),
        )


def _names(movie: PurePosixPath) -> list[str]:
    """Return what the metadata of a movie may be called."""
    stem = exposure_stem(movie.name)
    return [f"{stem}.xml", f"{movie.name}.mdoc", f"{movie.stem}.mdoc"]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered
        return False


def _from_square(folder: PurePath) -> tuple[str, ...]:
    """Return the parts of a path from EPU's grid square on; all without one."""
    parts = folder.parts
    squares = [at for at, part in enumerate(parts) if part.startswith("GridSquare_")]
    return parts[squares[-1] :] if squares else parts


def _fit(movie: tuple[str, ...], other: tuple[str, ...]) -> int | None:
    """Return how many parts agree from the end; ``None`` where both go on apart."""
    least = min(len(movie), len(other))
    ends_alike = least == 0 or movie[-least:] == other[-least:]
    return least if ends_alike else None
