"""Whether every exposure is in the session, once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from icestream.simulate.score.matching import match_files
from icestream.simulate.score.values import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.simulate.score.values import Found
    from icestream.simulate.truth import ExposureTruth

__all__ = ["ItemScore", "pair_up"]

_SPOILT = {"truncated", "empty", "zero_tail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScore:
    """What became of the exposures as files; names of files, keys of the session.

    Parameters
    ----------
    taken
        Exposures that were taken.
    spoilt
        Of these, how many have a file that is cut or filled with zeros.
    seen
        Of those taken, how many are in the session.
    lost
        Sound files that are not in the session.
    to_come
        The same of a session that goes on, taken after all that it has seen: they may
        arrive yet.
    doubled
        Files of which something was made under more keys than there are files.
    copied
        Files that lie in two folders, and of which something was made twice.
    failed
        Keys of sound files that failed.
    spoilt_used
        Keys of spoilt files of which something was made.
    strays
        Keys that are no exposure's, or cannot be told apart.
    """

    taken: int
    spoilt: int
    seen: int
    lost: tuple[str, ...]
    to_come: tuple[str, ...]
    doubled: tuple[str, ...]
    copied: tuple[str, ...]
    failed: tuple[str, ...]
    spoilt_used: tuple[str, ...]
    strays: tuple[str, ...]


def pair_up(
    exposures: Sequence[ExposureTruth],
    found: Sequence[Found],
    *,
    root: str | None,
    goes_on: bool,
) -> tuple[ItemScore, list[Pair]]:
    """Join truth and results by file.

    Parameters
    ----------
    exposures
        The truth.
    found
        The session's keys.
    root
        Folder of the acquisition.
    goes_on
        Whether the session runs.

    Returns
    -------
    score, pairs
        The pairs of sound files, each exposure once: with the first key of which
        something was made, or with the first one.
    """
    indices = match_files(
        [one.path for one in found],
        [one.file for one in exposures],
        root=root,
        copied=[one.file for one in exposures if _is_copied(one)],
    )
    files = [_File(row, []) for row in exposures]
    strays = []
    for one, index in zip(found, indices, strict=True):
        if index is None:
            strays.append(one.key)
        else:
            files[index].found.append(one)
    sound = [one for one in files if not _is_spoilt(one.truth)]
    pairs = [
        Pair(one.truth, next(iter(one.used), one.found[0]))
        for one in sound
        if one.found
    ]
    return _score(files, sound, strays, goes_on=goes_on), pairs


class _File(NamedTuple):
    truth: ExposureTruth
    found: list[Found]

    @property
    def used(self) -> list[Found]:
        return [one for one in self.found if one.was_processed]

    @property
    def is_doubled(self) -> bool:
        return len(self.used) > 1 + _is_copied(self.truth)

    @property
    def is_used_with_copy(self) -> bool:
        return _is_copied(self.truth) and len(self.used) == 2


def _score(
    files: Sequence[_File],
    sound: Sequence[_File],
    strays: Sequence[str],
    *,
    goes_on: bool,
) -> ItemScore:
    seen_s = [one.truth.taken_at_s for one in files if one.found]
    # Without a session that runs, nothing is to come.
    last_s = max(seen_s, default=-math.inf) if goes_on else math.inf
    absent = [one.truth for one in sound if not one.found]
    spoilt = [one for one in files if _is_spoilt(one.truth)]
    return ItemScore(
        taken=len(files),
        spoilt=len(spoilt),
        seen=len(seen_s),
        lost=tuple(one.file for one in absent if one.taken_at_s <= last_s),
        to_come=tuple(one.file for one in absent if one.taken_at_s > last_s),
        doubled=tuple(one.truth.file for one in files if one.is_doubled),
        copied=tuple(one.truth.file for one in files if one.is_used_with_copy),
        failed=tuple(
            found.key
            for one in sound
            for found in one.found
            if found.outcome == "failed"
        ),
        spoilt_used=tuple(found.key for one in spoilt for found in one.used),
        strays=tuple(strays),
    )


def _is_copied(row: ExposureTruth) -> bool:
    return "duplicate_name" in row.faults


def _is_spoilt(row: ExposureTruth) -> bool:
    return not _SPOILT.isdisjoint(row.faults)
