"""The source that watches an acquisition folder for complete files."""

from __future__ import annotations

import string
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from icestream.domain import RawFile
from icestream.io.completeness import check_complete
from icestream.protocols.exposure_files import ExposureFiles
from icestream.protocols.gain_shelf import BoundFiles, GainShelf
from icestream.streaming.folder import FolderRules, FolderWatcher
from icestream.streaming.hints import ChangeHints
from icestream.streaming.protocol import Params, Sighting, SightingState, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["WatchFolder", "WatchFolderParams"]

_IMAGES = ("*.mrc", "*.mrcs", "*.tif", "*.tiff", "*.png", "*.eer")
_TEMPORARY = (".*", "*.tmp", "*.part", "*.partial", "*~", "*downloading*")


class WatchFolderParams(Params):
    """Where to look, what for, and when a file counts as complete."""

    folder: str = Field(description="Folder to watch, absolute; need not exist yet.")
    setup: str = Field(
        min_length=1, description="Name of the acquisition setup of these files."
    )
    patterns: tuple[str, ...] = Field(
        default=_IMAGES,
        min_length=1,
        description="Names to take, as shell patterns; upper or lower case.",
    )
    exclude: tuple[str, ...] = Field(
        default=_TEMPORARY,
        description="Names of files and folders to leave out all the same.",
    )
    recursive: bool = Field(default=True, description="Watch sub folders too.")
    companion: str | None = Field(
        default=None,
        description="What is written last beside each file, e.g. {stem}.xml or "
        "{name}.mdoc: a file waits for it and is complete when it stands there.",
    )
    metadata_folder: str | None = Field(
        default=None,
        description="Folder of EPU's XML or SerialEM's mdoc files, where they are not "
        "beside the files. They may come late or never: nothing waits for them.",
    )
    gain: str | None = Field(
        default=None,
        description="Gain reference of the movies, absolute; a folder of several, or a "
        "pattern with *: of these, the one that fits the frames, and of those that do "
        "the last before the movie. Movies wait until there is one. That of the setup, "
        "if not given.",
    )
    renamed_when_complete: bool = Field(
        default=False,
        description="The transfer renames a file when it is done, so that a new name "
        "is complete at once.",
    )
    close_after_idle_s: float | None = Field(
        default=None,
        gt=0,
        description="Close when nothing changed or waited for so many seconds; a later "
        "file opens it again. Never, if not given.",
    )
    poll_s: float = Field(
        default=1.0, gt=0, le=3600, description="Seconds from one look to the next."
    )
    full_listing_every: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Look at everything, changed or not, once in so many polls.",
    )

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, folder: str) -> str:
        if "\0" in folder:
            raise ValueError("a path cannot hold a null character")
        if not Path(folder).is_absolute():
            raise ValueError(
                "give an absolute path: a relative one would change its meaning when "
                "the service is started somewhere else"
            )
        return folder

    @field_validator("patterns", "exclude")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for one in patterns:
            if not one or one.startswith("/"):
                raise ValueError(
                    f"{one!r} matches nothing: give a name like '*.mrc' or a path "
                    "relative to the folder"
                )
        return patterns

    @field_validator("companion")
    @classmethod
    def _names_the_file(cls, companion: str | None) -> str | None:
        if companion is None:
            return None
        try:
            fields = {part[1] for part in string.Formatter().parse(companion)} - {None}
        except ValueError as error:
            raise ValueError(f"{companion!r} cannot be read: {error}") from error
        if not fields or not fields <= {"stem", "name"} or companion == "{name}":
            raise ValueError(
                f"{companion!r} must name another file by {{stem}} or {{name}}, e.g. "
                "'{stem}.xml' or '{name}.mdoc'"
            )
        if PurePosixPath(companion).is_absolute():
            raise ValueError(f"{companion!r} must be relative to the file's folder")
        return companion

    @model_validator(mode="after")
    def _has_one_sure_sign(self) -> Self:
        if self.companion is not None and self.renamed_when_complete:
            raise ValueError(
                "companion and renamed_when_complete contradict each other: give one"
            )
        return self

    @model_validator(mode="after")
    def _has_gains_apart(self) -> Self:
        if self.gain is not None and Path(self.gain) == Path(self.folder):
            raise ValueError(
                "gain is the watched folder: give the gains a folder of their own, or "
                "a pattern that no movie matches"
            )
        return self


class WatchFolder(Source[WatchFolderParams]):
    """Take each file of an acquisition folder once it is complete.

    The folder is only read: nothing in it is written, renamed, locked or deleted. A
    file's key is its path relative to the folder. What its header, and EPU's XML or
    SerialEM's mdoc, tell of how it was taken goes with it, also when they come late. A
    movie is taken together with its gain: it comes again when a gain that belongs to it
    arrives or is replaced. `FolderWatcher` says what becomes of rewritten, touched,
    linked and vanished files.
    """

    name: ClassVar[str] = "watch_folder"
    Params: ClassVar[type[Params]] = WatchFolderParams
    outputs: ClassVar[Mapping[str, type]] = {"files": RawFile}

    def __init__(
        self,
        params: WatchFolderParams,
        *,
        clock: Callable[[], float] = time.monotonic,
        hints: ChangeHints | None = None,
    ) -> None:
        super().__init__(params)
        shelf = None
        if params.gain is not None:
            where = str(Path(params.gain))
            shelf = GainShelf(where, settle_s=params.poll_s / 2, clock=clock)
        self._gains = BoundFiles(shelf)
        self._watcher = FolderWatcher(
            Path(params.folder),
            setup=params.setup,
            check_complete=check_complete,
            rules=FolderRules(
                patterns=params.patterns,
                exclude=params.exclude,
                recursive=params.recursive,
                companion=params.companion,
                is_apart=None if shelf is None else shelf.includes,
                renamed_when_complete=params.renamed_when_complete,
                full_listing_every=params.full_listing_every,
                # Hints may bring two polls close together; half a period between
                # looks that agree lets a poll come a little early.
                settle_s=params.poll_s / 2,
            ),
            clock=clock,
            hints=ChangeHints() if hints is None else hints,
        )
        other = params.metadata_folder
        self._files = ExposureFiles(
            Path(params.folder),
            metadata_folder=None if other is None else Path(other),
            clock=clock,
        )

    @property
    def interval_s(self) -> float:
        """Seconds from one poll to the next."""
        return self.params.poll_s

    def poll(self) -> Sequence[Sighting]:
        """Return what changed since the last call; trouble is a sighting, no error.

        Of files that came together the one that was written first comes first: it is
        the one that its setup was declared for.
        """
        seen = sorted(self._gains.bind(self._watcher.poll), key=_written_at)
        return [*self._files.described(seen), *self._files.late()]

    def resume(self, seen: Sequence[Sighting]) -> None:
        """Learn what the ledger already knows, before the first poll."""
        self._watcher.resume(self._gains.resume(seen))
        self._files.resume(seen)

    def wait(self, timeout_s: float) -> None:
        """Wait for the next poll: less than the time when something appears."""
        self._watcher.wait(timeout_s)

    def close(self) -> None:
        """Let go of the kernel's notifications; a `wait` in another thread returns."""
        self._watcher.close()

    @property
    def finished(self) -> bool:
        """Whether nothing changed for so long, and nothing waits."""
        limit_s = self.params.close_after_idle_s
        if limit_s is None or self._gains.is_waiting:
            return False
        return self._watcher.idle_s >= limit_s


def _written_at(sighting: Sighting) -> int:
    """Return the time of a file that is taken; before it, what is none."""
    if sighting.state is not SightingState.TAKEN or sighting.item is None:
        return 0
    return int(sighting.item.mtime_ns)
