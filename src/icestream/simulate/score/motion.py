"""Errors of the motion of movies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.simulate.score.corrected import found_motion_angst, true_motion_angst
from icestream.simulate.score.values import Spread, rms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from icestream.simulate.score.values import FoundMotion, Pair
    from icestream.simulate.truth import ExposureTruth

__all__ = ["MotionScore", "motion_rmsd_angst", "score_motion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionScore:
    """Found less true motion; each movie counts by its root mean square.

    Parameters
    ----------
    movies, with_parts
        How many there are, and in how many parts of the image move by themselves.
    error_angst
        Of a component, over all frames and a lattice of places, Å.
    whole_error_angst
        The same if parts moved as the whole.
    uncorrected_angst
        The same if nothing had been done.
    worst_key
        Where the error is largest.
    pull_rms
        RMS of error / foretold error: 1 where what is foretold is honest; ``None``
        where nothing is.
    """

    movies: int
    with_parts: int
    error_angst: Spread
    whole_error_angst: Spread
    uncorrected_angst: Spread
    worst_key: str
    pull_rms: float | None


def score_motion(pairs: Sequence[Pair]) -> MotionScore | None:
    """Compare motion with the truth, as the image shows it; ``None`` without movies."""
    moved = [
        (one.found.key, one.found.motion, _errors(one.truth, one.found.motion))
        for one in pairs
        if one.found.motion is not None
    ]
    field = Spread.of([one.field for _, _, one in moved])
    whole = Spread.of([one.whole for _, _, one in moved])
    nothing = Spread.of([one.nothing for _, _, one in moved])
    if field is None or whole is None or nothing is None:
        return None
    return MotionScore(
        movies=len(moved),
        with_parts=sum(one.field.local_angst is not None for _, one, _ in moved),
        error_angst=field,
        whole_error_angst=whole,
        uncorrected_angst=nothing,
        worst_key=max(moved, key=lambda one: one[2].field)[0],
        pull_rms=rms(
            [
                errors.field / one.error_angst
                for _, one, errors in moved
                if one.error_angst
            ]
        ),
    )


class _Errors(NamedTuple):
    """Root mean squares of a movie, Å: with parts, of the whole alone, as it was."""

    field: float
    whole: float
    nothing: float


def _errors(truth: ExposureTruth, motion: FoundMotion) -> _Errors:
    true = true_motion_angst(truth, motion)
    found = found_motion_angst(truth, motion)
    whole = np.broadcast_to(motion.field.shift_angst[:, None, None], true.shape)
    return _Errors(
        field=motion_rmsd_angst(true, found),
        whole=motion_rmsd_angst(true, whole),
        nothing=motion_rmsd_angst(true, np.zeros_like(true)),
    )


def motion_rmsd_angst(
    truth_angst: NDArray[np.floating], found_angst: NDArray[np.floating]
) -> float:
    """Return the RMS difference of two motions, whatever their reference frames are.

    Parameters
    ----------
    truth_angst, found_angst
        ``(frames, *places, 2)`` y and x of the shift of each frame at the same places,
        Å.

    Returns
    -------
    float
        Å: over frames, places and both components, after the mean over time has been
        removed at each place.

    Raises
    ------
    BadSettings
        The shapes differ, or are no such motion.
    """
    shape = np.shape(truth_angst)
    if shape != np.shape(found_angst) or len(shape) < 2 or shape[-1] != 2 or 0 in shape:
        raise BadSettings(
            f"Motions of the shapes {shape} and {np.shape(found_angst)} cannot be "
            "compared.",
            hint="Give both as (frames, *places, 2), at the same places.",
        )
    difference = np.subtract(found_angst, truth_angst, dtype=np.float64)
    difference -= difference.mean(axis=0)
    return float(np.sqrt(np.mean(difference**2)))
