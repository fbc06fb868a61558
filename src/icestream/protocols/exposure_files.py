"""What is told of an exposure: by its file's header, and by what lies beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icestream.domain.arrangement import Told
from icestream.domain.errors import ItemError
from icestream.io.exposure_metadata import MetadataFinder
from icestream.io.movie import read_movie_header
from icestream.streaming.protocol import Sighting, SightingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["ExposureFiles"]

_LOOK_EVERY_S = 10.0
# Files that are read again in one look: the others are not to wait for them.
_AT_ONCE = 200


class ExposureFiles:
    """Adds to each file that is taken what is told of it, now or when that comes.

    Nothing waits for metadata. A file that came without them is remembered, and told of
    again when there are any; names are looked up in an index, so that this costs little
    where none will ever come.

    Parameters
    ----------
    folder
        That keys are relative to.
    metadata_folder
        Where metadata lie, if not beside the files.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metadata_folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._finder = MetadataFinder(
            folder, metadata_root=metadata_folder, clock=clock
        )
        self._clock = clock
        self._looked_s = -float("inf")
        self._lacking: dict[str, Sighting] = {}

    def resume(self, seen: Iterable[Sighting]) -> None:
        """Learn which files the ledger knows, and what was told of them."""
        for one in seen:
            self._remember(one)

    def described(self, sightings: Iterable[Sighting]) -> Sequence[Sighting]:
        """Return what was seen, with what is told of it by now."""
        return [self._described(one) for one in sightings]

    def late(self) -> Sequence[Sighting]:
        """Return files of which more is told than when they were seen."""
        now_s = self._clock()
        if not self._lacking or now_s - self._looked_s < _LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        self._finder.refresh()
        listed = [
            one
            for one in self._lacking.values()
            if self._finder.is_listed(str(one.key))
        ]
        found = []
        for before in listed[:_AT_ONCE]:
            after = self._described(before)
            if after.acquisition != _told_part(before.acquisition):
                found.append(after)
        return found

    def _described(self, sighting: Sighting) -> Sighting:
        self._lacking.pop(sighting.path, None)
        if sighting.state is not SightingState.TAKEN or sighting.item is None:
            return sighting
        told = self._told(Path(sighting.item.path), str(sighting.key))
        sighting = replace(sighting, acquisition=told.plain() if told else {})
        self._remember(sighting)
        return sighting

    def _remember(self, sighting: Sighting) -> None:
        """Keep what may still be told of."""
        if sighting.state is not SightingState.TAKEN or sighting.item is None:
            return
        told = Told.of(sighting.acquisition)
        if told is None or not told.is_complete:
            self._lacking[sighting.path] = sighting

    def _told(self, path: Path, key: str) -> Told | None:
        """Return what is told; nothing of single images without metadata."""
        found = self._finder.find(key)
        try:
            header = read_movie_header(path)
        except ItemError:
            return None  # whoever decodes it says why
        if header.raw_frame_count < 2 and not found.files:
            return None
        return Told(
            frame_shape=(header.height_px, header.width_px),
            metadata=found.metadata,
            files=found.files,
            notice=found.notice,
            is_complete=found.is_complete,
        )


def _told_part(acquisition: Mapping[str, Any]) -> Mapping[str, Any]:
    told = Told.of(acquisition)
    return told.plain() if told else {}
