"""Does the gain reference of a setup fit this movie? Asked before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from typing import Protocol as Contract

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.engines.gain import (
    ORIENTATIONS,
    CountSums,
    GainCandidate,
    Orientation,
    check_gain,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.domain import AcquisitionSetup

__all__ = [
    "DeclaredGain",
    "declared_orientation",
    "require_fitting_gain",
    "way_to_declare",
]

# The middle of a movie says enough: every way was found with 30 counts a pixel.
_SIDE_PX = 512
# By so many standard errors another way must fit, and better than the declared one.
_CLEAR = 10.0
_MOST_BY_NOISE = 0.5


class DeclaredGain(Contract):
    """A gain reference and what is to be done to it first, as a setup says."""

    @property
    def gain(self) -> str | None:
        """Absolute path; none where movies are corrected already."""

    @property
    def gain_mirror(self) -> bool:
        """Whether its columns are reversed."""

    @property
    def gain_turn_deg(self) -> int:
        """By how much it is turned then."""

    @property
    def gain_divides(self) -> bool:
        """Whether counts are divided by it."""


def require_fitting_gain(
    frames: NDArray[Any], factors: NDArray[np.float32], setup: AcquisitionSetup
) -> GainCandidate | None:
    """Compare a gain with a movie's counts in all sixteen ways.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` counts as they are in the file.
    factors
        ``(h, w)`` as declared.
    setup
        That declares it.

    Returns
    -------
    GainCandidate or None
        How well it fits as declared; ``None`` for a gain without a pattern.

    Raises
    ------
    BadSettings
        It fits clearly in another way than declared: says which, with both
        correlations. Nothing is said of a gain that fits in no way: one movie cannot
        tell whether it is corrected already.
    """
    counts = _middle(frames).sum(axis=0, dtype=np.float32)
    if not counts.any():
        return None
    sums = CountSums.empty((counts.shape[0], counts.shape[1])).plus(counts)
    candidates = check_gain(sums, np.ascontiguousarray(_middle(factors))).candidates
    if not candidates:
        return None
    declared, *others = candidates
    if frames.dtype.kind == "f":
        # Corrected movies look like the inverse of a poor gain, but less.
        others = [
            one for one in others if not one.is_inverse or one.slope > _MOST_BY_NOISE
        ]
    best = max(others, key=lambda one: one.z_score, default=declared)
    if best.z_score < _CLEAR or best.z_score - declared.z_score < _CLEAR:
        return declared
    how = f"{best.orientation}{', inverted' if best.is_inverse else ''}"
    raise BadSettings(
        f"The gain reference {setup.gain} of setup {setup.name!r} does not lie as "
        "declared: its pattern has a correlation with the movie's counts of "
        f"{declared.correlation:.3f}, but of {best.correlation:.3f} {how} "
        f"({best.z_score:.0f} standard errors).",
        hint=f"It fits with {way_to_declare(setup, best)}; or give the right file.",
    )


def way_to_declare(
    declared: DeclaredGain, found: GainCandidate, *, prefix: str = ""
) -> str:
    """Return the settings with which a gain fits that was found to lie otherwise.

    Parameters
    ----------
    declared
        What its setup says so far.
    found
        How the gain lies, as it is brought into the frames now.
    prefix
        What stands before the name of each setting.
    """
    right = _after(declared_orientation(declared), found.orientation)
    divides = declared.gain_divides != found.is_inverse
    return (
        f"{prefix}gain_mirror={str(right.is_mirrored).lower()} "
        f"{prefix}gain_turn_deg={90 * right.quarter_turns} "
        f"{prefix}gain_divides={str(divides).lower()}"
    )


def declared_orientation(declared: DeclaredGain) -> Orientation:
    """Return what is to be done to a gain first."""
    return Orientation(
        quarter_turns=declared.gain_turn_deg // 90, is_mirrored=declared.gain_mirror
    )


def _after(first: Orientation, then: Orientation) -> Orientation:
    """Return the one orientation that does what two do one after the other."""
    probe = np.arange(6).reshape(2, 3)
    wanted = then.apply(first.apply(probe))
    return next(one for one in ORIENTATIONS if np.array_equal(one.apply(probe), wanted))


def _middle(array: NDArray[Any]) -> NDArray[Any]:
    """Return the middle of the last two axes, as far from both ends of each."""
    margins = [max(side - _SIDE_PX + 1, 0) // 2 for side in array.shape[-2:]]
    rows, columns = (
        slice(margin, side - margin)
        for margin, side in zip(margins, array.shape[-2:], strict=True)
    )
    middle: NDArray[Any] = array[..., rows, columns]
    return middle
