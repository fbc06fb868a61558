"""What every part of a score is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from icestream.domain import Coordinates, Ctf, MotionField
    from icestream.simulate.truth import ExposureTruth

__all__ = ["Found", "FoundMotion", "Outcome", "Pair", "Spread", "rms"]

Outcome: TypeAlias = Literal["accepted", "rejected", "failed", "undecided"]
"""Where a session leaves an exposure; skipped and unfinished ones are undecided."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundMotion:
    """How a session says that a movie moved, and how its image lies.

    Parameters
    ----------
    field
        Of the frames that were used, rows as in the image.
    first_frame, frame_count
        Number of the first of them, from 1, and how many the whole movie has.
    error_angst
        As the session foretells it; ``None`` where it does not.
    is_upside_down
        Whether the image's rows begin with the last one of the movie.
    is_as_in_first_frame
        Whether content lies where the first of these frames has it, not on the mean.
    """

    field: MotionField
    first_frame: int
    frame_count: int
    error_angst: float | None
    is_upside_down: bool
    is_as_in_first_frame: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a session made of one file.

    Parameters
    ----------
    key
        The session's name for it.
    path
        Where the session read it: the more of the path, the surer the match.
    outcome
        In the end.
    ctf, picks
        What was found; ``None`` where there is no result.
    shape, pixel_size_angst
        ``(h, w)`` of the micrograph that the picks lie in, px, and Å/px; ``None`` for
        the camera's own.
    voltage_kv
        What the session takes it for, kV; ``None`` where it does not say.
    motion
        Of a movie; ``None`` where the image came as it is.
    """

    key: str
    path: str
    outcome: Outcome = "undecided"
    ctf: Ctf | None = None
    picks: Coordinates | None = None
    shape: tuple[int, int] | None = None
    pixel_size_angst: float | None = None
    voltage_kv: float | None = None
    motion: FoundMotion | None = None

    @property
    def was_processed(self) -> bool:
        """Whether anything came of it."""
        decided = self.outcome in ("accepted", "rejected")
        return decided or self.ctf is not None or self.picks is not None


class Pair(NamedTuple):
    """An exposure whose file is sound, and what was found."""

    truth: ExposureTruth
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, 90th percentile and largest of some errors, without sign."""

    median: float
    p90: float
    worst: float

    @classmethod
    def of(cls, errors: ArrayLike) -> Self | None:
        """Sum up errors of either sign; ``None`` without any."""
        values = np.abs(np.asarray(errors, dtype=np.float64))
        if not values.size:
            return None
        median, p90 = np.percentile(values, [50, 90])
        return cls(median=float(median), p90=float(p90), worst=float(values.max()))


def rms(values: ArrayLike) -> float | None:
    """Return the root of the mean square, ``None`` without values."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(np.sqrt(np.mean(numbers**2))) if numbers.size else None
