"""Which file of an acquisition a path of a session is."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["match_files"]

_Rank: TypeAlias = tuple[int, int, int, int]


def match_files(
    paths: Sequence[str],
    files: Sequence[str],
    *,
    root: str | None = None,
    copied: Collection[str] = (),
) -> list[int | None]:
    """Find the file of an acquisition that each path of a session is.

    A session sees an acquisition from its folder, from one inside it, from one above,
    or after a transfer that has changed the upper folders. So a path is the file with
    which it shares most names, counted from the end; the same base name in two folders
    is two files.

    Parameters
    ----------
    paths
        Of the session, with ``/``; the more of the path, the surer the match.
    files
        Of the acquisition, relative to its folder, each once.
    root
        Where that folder is; below it names are exact. Its name tells two acquisitions
        with the same names of files apart.
    copied
        Those of the files that were copied under their own name into another folder.

    Returns
    -------
    list of int or None
        For each path an index into ``files``. ``None`` where no file has its base name,
        several have as much in common with it, or another path has more in common with
        its only candidate. Several paths with the same index are as good as each other,
        or copies.
    """
    parts = [PurePosixPath(one).parts for one in files]
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, names in enumerate(parts):
        by_name[names[-1]].append(index)
    top = () if root is None else PurePosixPath(root).parts
    known = set(copied)
    copies = {index for index, one in enumerate(files) if one in known}
    chosen = []
    for path in paths:
        names = PurePosixPath(path).parts
        ranks = {
            index: rank
            for index in by_name[PurePosixPath(path).name]
            if (rank := _rank(names, parts[index], top, is_copied=index in copies))
        }
        chosen.append(_best(ranks))
    highest: dict[int, _Rank] = {}
    for rank, index in filter(None, chosen):
        highest[index] = max(rank, highest.get(index, rank))
    return [
        one[1] if one and (one[0] == highest[one[1]] or one[1] in copies) else None
        for one in chosen
    ]


def _rank(
    path: tuple[str, ...],
    file: tuple[str, ...],
    top: tuple[str, ...],
    *,
    is_copied: bool,
) -> _Rank | None:
    """Say how good a candidate is, more is better; ``None`` for none.

    It is exact; names in common at the end; those are all of the file's; names in
    common in this order, with others between.
    """
    if top and path[: len(top)] == top:
        if path == top + file:
            return 1, 0, 0, 0
        if not is_copied:
            return None
    pairs = zip(reversed(path), reversed(file), strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    left = reversed(path)
    in_order = sum(name in left for name in reversed(top[-1:] + file))
    return 0, common, int(common == len(file)), in_order


def _best(ranks: Mapping[int, _Rank]) -> tuple[_Rank, int] | None:
    """Return the best candidate, unless several are."""
    highest = max(ranks.values(), default=None)
    found = [index for index, rank in ranks.items() if rank == highest]
    return (ranks[found[0]], found[0]) if len(found) == 1 else None
