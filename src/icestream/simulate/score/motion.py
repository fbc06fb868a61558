"""Errors of a motion field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["motion_rmsd_angst"]


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
