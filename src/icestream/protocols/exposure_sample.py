"""Choosing some exposures of many, which stay chosen."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from pydantic import Field

from icestream.domain import Verdict
from icestream.domain.rules import column_of
from icestream.streaming.protocol import Params

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from icestream.domain.table import Table

__all__ = ["SampleParams", "chance", "sample_by_defocus", "sample_rows", "spread"]

Column: TypeAlias = "NDArray[np.float64]"
Rows: TypeAlias = "NDArray[np.intp]"
Choice: TypeAlias = "Callable[[Column, Rows, Rows, int], Rows]"

_CHOSEN = Verdict(accepted=True, rule="all", reason="one of the sample")
_LEFT = Verdict(accepted=False, rule="sample", reason="not one of the sample")
# Bins reach from here to here, %: a wrong fit far off leaves none of them empty.
_ENDS_PERCENT = (2.0, 98.0)


class SampleParams(Params):
    """How many are chosen, and of how many."""

    count: int = Field(default=25, ge=1, description="Exposures that are let pass.")
    from_exposures: int = Field(
        default=100,
        ge=1,
        description="Exposures to wait for before any is chosen; fewer where no more "
        "come.",
    )
    bins: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Ranges of defocus, equally wide, that get as many exposures each "
        "as they have.",
    )
    seed: int = Field(default=0, description="Another one chooses others.")


def sample_rows(
    table: Table, params: SampleParams, name: str, choose: Choice
) -> list[Verdict | None]:
    """Say for each row that is asked for whether it belongs to the sample.

    Parameters
    ----------
    table
        Its accepted rows are in the sample and stay there; they count.
    params
        How many, of how many.
    name
        The number that is chosen by; a row without it is never chosen.
    choose
        Takes that number ``(row,)``, rows that may be chosen, rows that are, and how
        many more are wanted; returns so many.

    Returns
    -------
    list
        ``None`` holds a row until enough of them have the number, or no more will come.
        What was chosen before that stands, and what was left.
    """
    value = column_of(table, name)
    missing = Verdict(accepted=False, rule=name, reason="missing")
    if value is None:
        return [replace(missing, reason="missing: its input is not connected")] * len(
            table.asked
        )
    is_known = np.isfinite(value)
    is_chosen, is_left = table.standing == 1, table.standing == 0
    if table.is_complete or np.count_nonzero(is_known) >= params.from_exposures:
        is_free = np.isin(np.arange(len(value)), table.asked) & is_known & ~is_chosen
        free, taken = np.flatnonzero(is_free), np.flatnonzero(is_chosen)
        wanted = min(len(free), max(0, params.count - len(taken)))
        is_chosen[choose(value, free, taken, wanted)] = True
        is_left = ~is_chosen
    left = [_LEFT if one else missing for one in is_known]
    return [
        _CHOSEN if is_chosen[row] else left[row] if is_left[row] else None
        for row in table.asked.tolist()
    ]


def sample_by_defocus(table: Table, params: SampleParams) -> list[Verdict | None]:
    """Say for each row that is asked for whether it belongs to an even spread."""
    luck = chance(table, params.seed)

    def choose(value: Column, free: Rows, taken: Rows, wanted: int) -> Rows:
        return spread(value, luck, params.bins, free=free, taken=taken, wanted=wanted)

    return sample_rows(table, params, "defocus_angst", choose)


def chance(table: Table, seed: int) -> Column:
    """Return ``(row,)`` numbers from 0 to 1 that belong to the exposures themselves.

    They follow from setup and rank: neither the order of rows nor who else is there
    changes them.
    """
    setups = table.words.get("setup")
    names = [""] * len(table.rank) if setups is None else [str(one) for one in setups]
    salts = {name: zlib.crc32(f"{seed} {name}".encode()) for name in set(names)}
    salt = np.array([salts[name] for name in names], np.uint64)
    mixed = table.rank.astype(np.uint64) + (salt << np.uint64(32))
    # The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) / 2.0**64)


def spread(
    value: Column,
    luck: Column,
    bins: int,
    *,
    free: Rows,
    taken: Rows,
    wanted: int,
) -> Rows:
    """Choose rows so that bins of a value fill evenly.

    Parameters
    ----------
    value
        ``(row,)`` NaN where it is missing.
    luck
        ``(row,)`` decides within a bin, and between bins that have as many.
    bins
        How many, equally wide.
    free, taken, wanted
        Rows that may be chosen, rows that are, and how many more are wanted.

    Returns
    -------
    array
        Rows, so many as are wanted; a bin that runs out leaves its share to others.
    """
    low, high = np.nanpercentile(value, _ENDS_PERCENT) if wanted else (0.0, 0.0)
    width = (high - low) / bins or 1.0
    known = np.flatnonzero(np.isfinite(value))
    bin_of = np.full(len(value), -1)
    bin_of[known] = np.clip((value[known] - low) // width, 0, bins - 1)
    filled = np.bincount(bin_of[taken][bin_of[taken] >= 0], minlength=bins)
    waiting = {
        one: sorted(free[bin_of[free] == one], key=lambda row: -luck[row])
        for one in np.unique(bin_of[free]).tolist()
    }
    chosen: list[int] = []
    while len(chosen) < wanted:
        one = min(waiting, key=lambda n: (filled[n], luck[waiting[n][-1]]))
        chosen.append(int(waiting[one].pop()))
        filled[one] += 1
        if not waiting[one]:
            del waiting[one]
    return np.array(chosen, np.intp)
