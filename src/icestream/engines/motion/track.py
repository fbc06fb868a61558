"""How a whole image moves from frame to frame.

Each frame is correlated with the sum of all others, moved by what is known so far,
until nothing changes (as MotionCor2 does: Zheng et al., Nature Methods 14 (2017) 331).
What is found has the noise of its frame; `smoothing` takes away what no stage can do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.engines.motion.smoothing import UNKNOWN, fit_smoother

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.spectra import Spectra

__all__ = ["Track", "track_whole"]

# Finer pixels say little more of the whole.
_PIXEL_ANGST = 10.0
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 10
_ENOUGH_ANGST = 0.02
# A correlation so many times its own spread is no chance: 1e-7 a place.
_CLEAR = 5.2
# Frames that are too faint are added up: so many at most, and so many sums at least.
_MOST_ADDED, _LEAST_SUMS = 16, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Where whole frames have gone.

    Parameters
    ----------
    shift_angst
        ``(frames, 2)`` y and x, Å, of mean 0: content at ``r`` on the average lies at
        ``r + shift`` in a frame.
    measured_angst
        The same as each frame alone says, before smoothing.
    error_angst
        ``(frames,)`` standard error of ``shift_angst`` along an axis, Å, by the model
        of the smoothing; not a number where none is seen.
    was_seen
        ``(frames,)`` whether a frame, or the sum of a few, correlates with the others
        clearly. The rest lies between its neighbours; all are where they were if fewer
        than half are seen.
    """

    shift_angst: NDArray[np.float64]
    measured_angst: NDArray[np.float64]
    error_angst: NDArray[np.float64]
    was_seen: NDArray[np.bool_]


def track_whole(spectra: Spectra, *, dose_e_per_angst2: float) -> Track:
    """Follow whole frames.

    Parameters
    ----------
    spectra
        ``(frames, rows, columns)`` of the frames.
    dose_e_per_angst2
        Of each frame, e/Å2: what moves fast, moves so for some e/Å2.

    Returns
    -------
    Track
        At rest where none is seen.
    """
    count, added = len(spectra.values), 1
    low = spectra.coarser(_PIXEL_ANGST)
    while True:
        sums = _added(low, added)
        measured, variance = _measured(sums)
        was_seen = variance < UNKNOWN
        if was_seen.any() or not _can_add(count, 2 * added):
            break
        added *= 2
    shift, error = measured, np.full(len(measured), np.nan)
    if was_seen.any():
        smoother = fit_smoother(
            measured, variance, dose_e_per_angst2=dose_e_per_angst2 * added
        )
        shift, error = smoother.matrix @ measured, smoother.error_angst
    return Track(
        shift_angst=_of_frames(shift, count, added),
        measured_angst=_of_frames(measured, count, added),
        error_angst=_of_frames(error[:, None], count, added)[:, 0],
        was_seen=was_seen[np.minimum(np.arange(count) // added, len(was_seen) - 1)],
    )


def _can_add(count: int, added: int) -> bool:
    return added <= _MOST_ADDED and count >= _LEAST_SUMS * added


def _added(spectra: Spectra, added: int) -> Spectra:
    """Add neighbours up; what is left over at the end goes with the last sum."""
    if added == 1:
        return spectra
    whole = len(spectra.values) // added
    each = spectra.values[: whole * added]
    values = each.reshape(whole, added, *each.shape[1:]).sum(1)
    values[-1] += spectra.values[whole * added :].sum(0)
    return replace(
        spectra,
        values=values,
        still_power=spectra.still_power * added**2,
        noise_power=spectra.noise_power * added,
    )


def _of_frames(
    values: NDArray[np.float64], count: int, added: int
) -> NDArray[np.float64]:
    """Return what frames have of what their sums have: lines between the middles."""
    if added == 1:
        return values
    middle = added * np.arange(len(values)) + (added - 1) / 2
    frame = np.arange(count)
    found = np.stack([np.interp(frame, middle, one) for one in values.T], axis=1)
    return found - found.mean(0) if values.shape[1] == 2 else found


def _measured(spectra: Spectra) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shifts of mean 0, Å, and their variance, Å2: `UNKNOWN` if not seen."""
    shift = np.zeros((len(spectra.values), 2))
    for number in range(_MOST_ROUNDS):
        product = spectra.with_others(torch.from_numpy(shift))
        found = torch.fft.irfft2(product, s=spectra.shape)
        spread = found.square().mean((1, 2)).sqrt()
        seen = (found.amax((1, 2)) > _CLEAR * spread).cpu().numpy()
        if 2 * seen.sum() < len(seen):
            return np.zeros_like(shift), np.full(len(seen), UNKNOWN)
        before = shift
        shift = _between(shift + _peaks(found, spectra).numpy(), seen)
        shift -= shift.mean(0)
        has_settled = np.abs(shift - before).max() < _ENOUGH_ANGST
        if has_settled and number + 1 >= _LEAST_ROUNDS:
            break
    slope = spectra.slopes(spectra.with_others(torch.from_numpy(shift)))
    variance = (slope.variance / slope.curvature.square()).mean(-1).numpy()
    return shift, np.where(seen & (variance < UNKNOWN), variance, UNKNOWN)


def _peaks(correlation: Tensor, spectra: Spectra) -> Tensor:
    """Return the highest places, ``(frames, 2)`` Å, by parabolas through three."""
    frame = torch.arange(len(correlation), device=correlation.device)
    best = correlation.flatten(1).argmax(1)
    shape = spectra.shape
    pixel = [float(1 / (shape[0] * spectra.y[1])), float(1 / (shape[1] * spectra.x[1]))]
    place = [best // shape[1], best % shape[1]]
    found = []
    for axis, side in enumerate(shape):
        three = []
        for aside in (-1, 0, 1):
            at = list(place)
            at[axis] = (place[axis] + aside) % side
            three.append(correlation[frame, at[0], at[1]].double())
        curve = three[0] - 2 * three[1] + three[2]
        part = torch.where(curve < 0, (three[0] - three[2]) / (2 * curve), 0)
        whole = (place[axis] + side // 2) % side - side // 2
        found.append((whole + part) * pixel[axis])
    return torch.stack(found, 1).cpu()


def _between(
    shift: NDArray[np.float64], is_known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return shifts of which those that are not known lie between their neighbours."""
    frame = np.arange(len(shift))
    known = frame[is_known]
    return np.stack([np.interp(frame, known, one[known]) for one in shift.T], axis=1)
