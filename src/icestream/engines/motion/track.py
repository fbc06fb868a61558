"""How a whole image moves from frame to frame.

Each frame is correlated with the sum of all others, moved by what is known so far,
until nothing changes (as MotionCor2 does: Zheng et al., Nature Methods 14 (2017) 331).
What is found has the noise of its frame; `smoothing` takes away what no stage can do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from icestream.engines.motion.smoothing import UNKNOWN, fit_smoother

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.spectra import Spectra

__all__ = ["Track", "track_whole"]

# Finer pixels say little more of the whole.
_PIXEL_ANGST = 10.0
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 10
_ENOUGH_ANGST = 0.02
# A correlation so many times its own spread is chance at 1e-7 of all places: in about
# one of a hundred frames of 300 x 300 places.
_CLEAR = 5.2
# How far a frame may lie from its neighbours, as a standard deviation, at least.
_LEAST_ASIDE_ANGST = 5.0
# Frames whose peaks are no higher may lie on a side lobe. They are added up while that
# is so: so many at most, and so many sums at least.
_STRONG = 7.0
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
    parts = np.array_split(np.arange(count), count)
    found = best = _measured(low)
    while found.strength < _STRONG and _can_add(count, 2 * added):
        added *= 2
        sums = np.array_split(np.arange(count), count // added)
        found = _measured(_added(low, sums))
        if found.was_seen.any():
            best, parts = found, sums
    shift, error = best.shift, np.full(len(parts), np.nan)
    if best.was_seen.any():
        smoother = fit_smoother(
            shift,
            best.variance,
            dose_e_per_angst2=dose_e_per_angst2 * count / len(parts),
        )
        shift, error = smoother.matrix @ shift, smoother.error_angst
    sizes = [len(part) for part in parts]
    return Track(
        shift_angst=_of_frames(shift, parts),
        measured_angst=_of_frames(best.shift, parts),
        error_angst=np.repeat(error, sizes),
        was_seen=np.repeat(best.was_seen, sizes),
    )


def _can_add(count: int, added: int) -> bool:
    return added <= _MOST_ADDED and count >= _LEAST_SUMS * added


class _Measured(NamedTuple):
    """Shifts of mean 0, Å; their variance, Å2: `UNKNOWN` where nothing is seen.

    And how high the peaks are, the median over frames, over the spread of what is
    around.
    """

    shift: NDArray[np.float64]
    variance: NDArray[np.float64]
    strength: float

    @property
    def was_seen(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.variance < UNKNOWN
        return found


def _added(spectra: Spectra, parts: Sequence[NDArray[np.int64]]) -> Spectra:
    """Add up neighbours, of which each part has next to the same number."""
    usual = len(spectra.values) / len(parts)
    return replace(
        spectra,
        values=torch.stack([spectra.values[part].sum(0) for part in parts]),
        still_power=spectra.still_power * usual**2,
    )


def _of_frames(
    path: NDArray[np.float64], parts: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return the path of frames from that of their sums: on lines, also at the ends."""
    if len(parts[0]) == 1:
        return path
    middle = [float(part.mean()) for part in parts]
    line = make_interp_spline(middle, path, k=1)
    found: NDArray[np.float64] = line(np.concatenate(parts))
    found -= found.mean(0)
    return found


def _measured(spectra: Spectra) -> _Measured:
    shift = np.zeros((len(spectra.values), 2))
    for number in range(_MOST_ROUNDS):
        product = spectra.with_others(torch.from_numpy(shift))
        found = torch.fft.irfft2(product, s=spectra.shape)
        found /= found.square().mean((1, 2), keepdim=True).sqrt()
        height = found.amax((1, 2)).cpu().numpy()
        seen, strength = height > _CLEAR, float(np.median(height))
        if 2 * seen.sum() < len(seen):
            nothing = np.full(len(seen), UNKNOWN)
            return _Measured(np.zeros_like(shift), nothing, strength)
        likely = _likely(found, shift, spectra) if number else found
        before = shift
        shift = _between(shift + _peaks(found, likely, spectra).numpy(), seen)
        shift -= shift.mean(0)
        has_settled = np.abs(shift - before).max() < _ENOUGH_ANGST
        if has_settled and number + 1 >= _LEAST_ROUNDS:
            break
    slope = spectra.slopes(spectra.with_others(torch.from_numpy(shift)))
    variance = (slope.variance / slope.curvature.square()).mean(-1).cpu().numpy()
    known = np.where(seen & (variance < UNKNOWN), variance, UNKNOWN)
    return _Measured(shift, known, strength)


def _likely(
    correlation: Tensor, shift: NDArray[np.float64], spectra: Spectra
) -> Tensor:
    """Return how likely a frame lies where, given its neighbours; a logarithm.

    Faint frames may have a side lobe that is higher than the peak.
    """
    frame = np.arange(len(shift))[:, None] + [-2, -1, 1, 2]
    around = shift[frame.clip(0, len(shift) - 1)]
    aside = np.median(around, axis=1) - shift
    spread = max(_LEAST_ASIDE_ANGST, float(np.sqrt(np.median(aside**2, axis=0)).max()))
    offset = torch.from_numpy(aside / spread).to(correlation)
    far = [
        (place / spread - offset[:, axis, None]).square()
        for axis, place in enumerate(_places(spectra))
    ]
    strength = correlation.amax((1, 2), keepdim=True)
    return strength * correlation - (far[0][:, :, None] + far[1][:, None, :]) / 2


def _places(spectra: Spectra) -> list[Tensor]:
    """Return where the rows and the columns of a correlation lie, Å."""
    return [
        torch.fft.fftfreq(side, device=step.device) / step[1]
        for side, step in zip(spectra.shape, (spectra.y, spectra.x), strict=True)
    ]


def _peaks(correlation: Tensor, likely: Tensor, spectra: Spectra) -> Tensor:
    """Return the likeliest places, ``(frames, 2)`` Å, by parabolas through three."""
    frame = torch.arange(len(correlation), device=correlation.device)
    best = likely.flatten(1).argmax(1)
    shape = spectra.shape
    places = _places(spectra)
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
        found.append(places[axis][place[axis]] + part.clamp(-1, 1) * places[axis][1])
    return torch.stack(found, 1).cpu()


def _between(
    shift: NDArray[np.float64], is_known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return shifts of which those that are not known lie between their neighbours."""
    frame = np.arange(len(shift))
    known = frame[is_known]
    return np.stack([np.interp(frame, known, one[known]) for one in shift.T], axis=1)
