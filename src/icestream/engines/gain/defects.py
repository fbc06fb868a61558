"""Pixels that cannot be believed: hot, dead, flickering; whole lines of them.

A pixel is judged by its counts in a whole movie against those of its neighbours. The
measure is the deviance of the Poisson distribution, whose root is a number of standard
deviations also where counts are few. Nothing is assumed of the image but that it is
smooth over some pixels: edges of ice, carbon and gold are no defects. Hot pixels come
and go, so each movie is looked at; what is bad in many is bad for the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from icestream.compiled import compiled
from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DefectTally", "find_defects", "sum_frames"]

# 1e-9 a pixel: one in 60 movies of 4096 x 4096.
_DEVIATIONS = 6.0
# Half the deviations on the scale of roots that make a pixel worth a closer look.
_SUSPECT = 2.0
_BLOCK_PX = 32
_REACH_PX = 2
_LEAST_NEIGHBOURS = 6
_SEGMENT_BLOCKS = 8
_LINE_CONTRAST = 0.25
_SESSION_SHARE = 0.3
_LEAST_SIDE_PX = 16
_SCATTER_ROWS = 512
_GOOD, _SUSPECTED, _BAD = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DefectTally:
    """In how many movies each pixel was bad.

    Parameters
    ----------
    seen
        ``(h, w)`` uint32 movies.
    movie_count
        All movies looked at.
    """

    seen: NDArray[np.uint32]
    movie_count: int

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> DefectTally:
        """Return the tally of no movie."""
        return cls(seen=np.zeros(shape, dtype=np.uint32), movie_count=0)

    @property
    def is_bad(self) -> NDArray[np.bool_]:
        """``(h, w)``, bad in more than 30 % of the movies, and in two at least."""
        is_bad: NDArray[np.bool_] = self.seen > max(
            _SESSION_SHARE * self.movie_count, 1
        )
        return is_bad

    def plus(self, is_bad: NDArray[np.bool_]) -> DefectTally:
        """Return the tally with one more movie.

        Raises
        ------
        BadSettings
            Another shape than before.
        """
        if is_bad.shape != self.seen.shape:
            raise BadSettings(
                f"Defects of {is_bad.shape} px among those of {self.seen.shape} px.",
                hint="Keep a tally for each acquisition setup.",
            )
        return DefectTally(
            seen=np.add(self.seen, is_bad, dtype=np.uint32),
            movie_count=self.movie_count + 1,
        )


def sum_frames(frames: NDArray[Any]) -> NDArray[np.float32]:
    """Add up the frames of a movie.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` of any real type.

    Returns
    -------
    ndarray
        ``(h, w)`` float32; exact for whole numbers up to 2^24.
    """
    total = np.zeros(frames.shape[1:], dtype=np.float32)
    _add_up(np.ascontiguousarray(frames), total)
    return total


def find_defects(
    counts: NDArray[np.float32], gain: NDArray[np.float32] | None = None
) -> NDArray[np.bool_]:
    """Find the bad pixels of one movie.

    Parameters
    ----------
    counts
        ``(h, w)`` sum over its frames, as they are in the file.
    gain
        ``(h, w)`` factors that flatten it; 0 is a dead pixel. ``None`` for none.

    Returns
    -------
    ndarray
        ``(h, w)``: dead by the gain; 6 standard deviations above or below three
        quarters of the 5 x 5 around; or in a line that is a quarter above or below both
        its sides.

    Raises
    ------
    BadSettings
        Shapes that differ, or a movie of less than 16 x 16 px.

    Notes
    -----
    Values that scatter more or less than counts do, as those that were scaled, are
    judged by their own scatter. A dead pixel shows where 18 counts are expected.
    """
    if min(counts.shape) < _LEAST_SIDE_PX or (
        gain is not None and gain.shape != counts.shape
    ):
        other = "" if gain is None else f" with a gain of {gain.shape} px"
        raise BadSettings(
            f"Defects of a movie of {counts.shape} px{other}.",
            hint="Give at least 16 x 16 px, and fit the gain to the frames first.",
        )
    flat = counts if gain is None else counts * gain
    state = np.zeros(counts.shape, dtype=np.uint8)
    if gain is not None:
        state[gain == 0] = _BAD
    scatter = _scatter(flat)
    blocks = _Blocks(flat)
    suspects = blocks.suspects(flat, state, scatter)
    state.reshape(-1)[suspects] = _SUSPECTED
    is_bad = np.zeros(suspects.size, dtype=np.bool_)
    _judge(counts, flat, state, suspects, blocks.expected(suspects), scatter, is_bad)
    state.reshape(-1)[suspects] = np.where(is_bad, _BAD, _GOOD)
    bad = np.divmod(np.flatnonzero(state == _BAD), counts.shape[1])
    lines = (blocks.column_segments(), _row_segments(flat))
    for (starts, total), places, image, found in zip(
        lines, (bad, bad[::-1]), (flat, flat.T), (state, state.T), strict=True
    ):
        _mark_lines(total, starts, places, image, found, scatter)
    return np.equal(state, _BAD)


def _scatter(flat: NDArray[np.float32]) -> float:
    """Return variance over mean, from neighbours, whose content is alike."""
    rows = flat[:: max(flat.shape[0] // _SCATTER_ROWS, 1)]
    steps = (rows[:, 1:] - rows[:, :-1]) ** 2
    edges = _edges(steps.shape[1])
    variance = np.add.reduceat(steps, edges[:-1], axis=1)
    level = np.add.reduceat(rows[:, 1:] + rows[:, :-1], edges[:-1], axis=1)
    is_lit = level > 0
    if not is_lit.any():
        return 1.0
    return float(np.median(variance[is_lit] / level[is_lit])) or 1.0


def _edges(side: int) -> NDArray[np.int64]:
    """Return where blocks begin, and the end."""
    count = max(side // _BLOCK_PX, 1)
    return np.arange(count + 1) * side // count


class _Blocks:
    """Means of squares: what to expect of a pixel, roughly."""

    def __init__(self, flat: NDArray[np.float32]) -> None:
        self.rows, self.columns = (_edges(side) for side in flat.shape)
        self.width = flat.shape[1]
        self.strips = np.zeros((self.rows.size - 1, self.width), dtype=np.float32)
        _add_rows(flat, self.rows, self.strips)
        sums = np.add.reduceat(self.strips, self.columns[:-1], axis=1)
        self.mean = sums / np.outer(np.diff(self.rows), np.diff(self.columns))

    def column_segments(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return where segments of columns begin, and their sums."""
        first = np.arange(0, len(self.strips), _SEGMENT_BLOCKS)
        total: NDArray[np.float32] = np.add.reduceat(self.strips, first, axis=0)
        return self.rows[first], total

    def suspects(
        self, flat: NDArray[np.float32], state: NDArray[np.uint8], scatter: float
    ) -> NDArray[np.int64]:
        """Return the places of pixels that stand out from all blocks around."""
        highest = maximum_filter(self.mean, 3, mode="nearest") / scatter
        lowest = minimum_filter(self.mean, 3, mode="nearest") / scatter
        high = scatter * (np.sqrt(np.maximum(highest, 0)) + _SUSPECT) ** 2
        root = np.sqrt(np.maximum(lowest, 0)) - _SUSPECT
        low = np.where(root > 0, scatter * root**2, -np.inf)
        places = np.empty(flat.size // 64 + 1, dtype=np.int64)
        limits = (high.astype(np.float32), low.astype(np.float32))
        count = _stand_out(flat, state, *limits, self.rows, self.columns, places)
        if count > places.size:
            places = np.empty(count, dtype=np.int64)
            _stand_out(flat, state, *limits, self.rows, self.columns, places)
        return places[:count]

    def expected(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean of the block of each place."""
        row = np.searchsorted(self.rows, places // self.width, side="right") - 1
        column = np.searchsorted(self.columns, places % self.width, side="right") - 1
        expected: NDArray[np.float64] = self.mean[row, column]
        return expected


def _row_segments(
    flat: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return where segments of rows begin, and their sums, ``(segments, h)``."""
    edges = _edges(flat.shape[1])
    starts = edges[:-1:_SEGMENT_BLOCKS]
    ends = [*starts[1:], flat.shape[1]]
    parts = [flat[:, i:j].sum(axis=1) for i, j in zip(starts, ends, strict=True)]
    return starts, np.stack(parts)


def _mark_lines(
    total: NDArray[np.float32],
    starts: NDArray[np.int64],
    bad: tuple[NDArray[np.int64], ...],
    flat: NDArray[np.float32],
    state: NDArray[np.uint8],
    scatter: float,
) -> None:
    """Mark segments of columns that differ from both sides, apart from bad pixels.

    One that is higher (lower) than both sides is no edge of anything.
    """
    ends = np.append(starts[1:], flat.shape[0])
    good = np.repeat((ends - starts)[:, None], total.shape[1], axis=1)
    at = (np.searchsorted(starts, bad[0], side="right") - 1, bad[1])
    np.subtract.at(good, at, 1)
    np.subtract.at(total, at, flat[bad])
    mean = total / np.maximum(good, 1)
    padded = np.pad(mean, ((0, 0), (4, 4)), mode="reflect")
    sums = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    left, right = sums[:, : mean.shape[1]] / 3, sums[:, 6:] / 3
    highest, lowest = np.maximum(left, right), np.minimum(left, right)
    chance = _DEVIATIONS * np.sqrt(
        scatter * np.maximum(highest, 0) / np.maximum(good, 1)
    )
    is_line = (mean > (1 + _LINE_CONTRAST) * highest) & (mean > highest + chance)
    is_line |= (mean < (1 - _LINE_CONTRAST) * lowest) & (mean < lowest - chance)
    for number, line in np.argwhere(is_line & (good > 0)):
        state[starts[number] : ends[number], line] = _BAD


@compiled
def _add_up(frames: NDArray[Any], total: NDArray[np.float32]) -> None:
    """Add row by row, so that a row of the sum stays in the cache."""
    for y in range(frames.shape[1]):
        row = total[y]
        for t in range(frames.shape[0]):
            one = frames[t, y]
            for x in range(row.size):
                row[x] += np.float32(one[x])


@compiled
def _add_rows(
    flat: NDArray[np.float32], edges: NDArray[np.int64], strips: NDArray[np.float32]
) -> None:
    for i in range(edges.size - 1):
        for y in range(edges[i], edges[i + 1]):
            for x in range(flat.shape[1]):
                strips[i, x] += flat[y, x]


@compiled
def _stand_out(
    flat: NDArray[np.float32],
    state: NDArray[np.uint8],
    high: NDArray[np.float32],
    low: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    places: NDArray[np.int64],
) -> int:
    """Count pixels beyond the limits of their block; list those for whom is room."""
    count = 0
    for i in range(rows.size - 1):
        for y in range(rows[i], rows[i + 1]):
            for j in range(columns.size - 1):
                most, least = high[i, j], low[i, j]
                for x in range(columns[j], columns[j + 1]):
                    value = flat[y, x]
                    if (value > most or value < least) and state[y, x] == _GOOD:
                        if count < places.size:
                            places[count] = y * flat.shape[1] + x
                        count += 1
    return count


@compiled
def _deviance(count: float, expected: float) -> float:
    """Return the deviance of a count; its root is a number of deviations."""
    if count <= 0:
        return 2 * expected
    if expected <= 0:
        return math.inf
    return 2 * (count * math.log(count / expected) - count + expected)


@compiled
def _judge(
    counts: NDArray[np.float32],
    flat: NDArray[np.float32],
    state: NDArray[np.uint8],
    places: NDArray[np.int64],
    expected: NDArray[np.float64],
    scatter: float,
    is_bad: NDArray[np.bool_],
) -> None:
    """Compare suspected pixels with what is usual around them.

    Of a hot one, suspected neighbours are left out: hot pixels come in groups, while no
    content is so bright. Content can be as dark, so of a dead one they count.
    """
    height, width = counts.shape
    around = np.empty((2 * _REACH_PX + 1) ** 2, dtype=np.float64)
    for i in range(places.size):
        y, x = places[i] // width, places[i] % width
        count, value = counts[y, x], flat[y, x]
        is_hot = value > expected[i]
        found = 0
        for v in range(max(y - _REACH_PX, 0), min(y + _REACH_PX + 1, height)):
            for u in range(max(x - _REACH_PX, 0), min(x + _REACH_PX + 1, width)):
                is_other = v != y or u != x
                if state[v, u] <= (_GOOD if is_hot else _SUSPECTED) and is_other:
                    around[found] = flat[v, u]
                    found += 1
        level = expected[i]
        if found >= _LEAST_NEIGHBOURS:
            usual = _usual(np.sort(around[:found]), is_hot, count <= 0)
            level = usual if usual > 0 else level
        # What the pixel is to count itself, by its own gain.
        if count > 0 and value > 0:
            level *= count / value
        deviates = _deviance(count / scatter, level / scatter) > _DEVIATIONS**2
        is_bad[i] = deviates and (count > level) == is_hot


@compiled
def _usual(ordered: NDArray[np.float64], is_hot: bool, is_empty: bool) -> float:
    """Return what neighbours have, the quarter of them that is most like the pixel.

    So a corner of something dark is no defect. What is empty may be part of a wide
    defect, which would have a quarter of empty neighbours.
    """
    place = ordered.size // 2 if is_empty else ordered.size // 4
    if is_hot:
        place = ordered.size - 1 - place
    return float(ordered[place])
