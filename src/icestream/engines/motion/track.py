"""How a whole image moves from frame to frame.

Each frame is correlated with the sum of all others, moved by what is known so far,
until nothing changes (as MotionCor2 does: Zheng et al., Nature Methods 14 (2017) 331).
What is found has the noise of its frame; `smoothing` takes away what no stage can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import quick_even_side
from icestream.engines.motion.smoothing import smoothed_track

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Track", "estimate_track"]

# Of protein in ice, 7 to 10 Å a pixel serve best; 14 and more lose signal.
_PIXEL_ANGST = 10.0
_B_FACTOR_ANGST2 = 1000.0
_COARSEST_ANGST = 200.0
_MOST_ROUNDS = 10
_ENOUGH_ANGST = 0.02
# Fewer frames are not smoothed; smaller ones are not aligned.
_LEAST_FRAMES, _LEAST_SIDE_PX = 5, 16
# A correlation so many times its own spread is no chance: 1e-7 a place.
_CLEAR = 5.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Where the content of a movie has gone.

    Parameters
    ----------
    shift_angst
        ``(frames, 2)`` y and x, Å, of mean 0: content at ``r`` on the average lies at
        ``r + shift`` in a frame.
    measured_angst
        The same as each frame alone says, before smoothing.
    error_angst
        ``(frames,)`` standard error of ``shift_angst`` along an axis, Å, by the model
        of the smoothing; not a number without it.
    was_seen
        ``(frames,)`` whether a frame correlates with the others clearly. The others
        lie between their neighbours; all are where they were if fewer than half are
        seen.
    """

    shift_angst: NDArray[np.float64]
    measured_angst: NDArray[np.float64]
    error_angst: NDArray[np.float64]
    was_seen: NDArray[np.bool_]


def estimate_track(
    frames: Tensor, *, pixel_size_angst: float, dose_e_per_angst2: float = 1.0
) -> Track:
    """Estimate the motion of whole frames.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` real, times the gain; binned or not, at most 10 Å a pixel.
    pixel_size_angst
        Å/px of these frames.
    dose_e_per_angst2
        Of each frame, e/Å2: what moves fast, moves so for some e/Å2.

    Returns
    -------
    Track
        Not smoothed where there are fewer than 5 frames, or none is seen.

    Raises
    ------
    BadSettings
        Fewer than 2 frames, frames that are too small, a value that cannot be, or
        frames with a pixel that is no number.
    """
    if frames.ndim != 3 or len(frames) < 2:
        raise BadSettings(
            f"Motion in an array of {tuple(frames.shape)}.",
            hint="Give at least 2 frames of one shape.",
        )
    if not (pixel_size_angst > 0 and dose_e_per_angst2 > 0):
        raise BadSettings(
            f"Frames of {pixel_size_angst} Å/px and {dose_e_per_angst2} e/Å2.",
            hint="Both are above 0.",
        )
    spectra = _Spectra(frames, pixel_size_angst)
    measured, was_seen = spectra.tracked()
    shift, error = measured, np.full(len(frames), np.nan)
    if len(frames) >= _LEAST_FRAMES and was_seen.any():
        shift, error = smoothed_track(
            measured, was_seen, dose_e_per_angst2=dose_e_per_angst2
        )
    return Track(
        shift_angst=shift,
        measured_angst=measured,
        error_angst=error,
        was_seen=was_seen,
    )


class _Spectra:
    """Transforms of frames, cut to low frequencies and weighted."""

    def __init__(self, frames: Tensor, pixel_size_angst: float) -> None:
        sides = [side * pixel_size_angst for side in frames.shape[1:]]
        self.shape = tuple(
            min(quick_even_side(math.ceil(side / _PIXEL_ANGST)), px // 2 * 2)
            for side, px in zip(sides, frames.shape[1:], strict=True)
        )
        if min(self.shape) < _LEAST_SIDE_PX:
            raise BadSettings(
                f"Frames of {sides[0]:.0f} x {sides[1]:.0f} Å are too small to align.",
                hint=f"At least {_LEAST_SIDE_PX * _PIXEL_ANGST:.0f} Å a side.",
            )
        self.pixel_angst = [
            side / px for side, px in zip(sides, self.shape, strict=True)
        ]
        self.y = torch.fft.fftfreq(self.shape[0], self.pixel_angst[0])
        self.x = torch.fft.rfftfreq(self.shape[1], self.pixel_angst[1])
        self.y, self.x = self.y.to(frames.device), self.x.to(frames.device)
        weight = self._weight()
        self.values = torch.stack([self._cut(frame) * weight for frame in frames])
        if not bool(torch.isfinite(torch.view_as_real(self.values)).all()):
            raise BadSettings(
                "Frames with pixels that are no numbers.",
                hint="Look at the gain: has it values that are not finite?",
            )

    def _cut(self, frame: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(frame.float(), norm="forward")
        rows, columns = self.shape[0] // 2, self.shape[1] // 2 + 1
        return torch.cat([spectrum[:rows, :columns], spectrum[-rows:, :columns]])

    def _weight(self) -> Tensor:
        """Return the band; without the cross, where flaws of rows and columns are."""
        square = self.y[:, None] ** 2 + self.x**2
        weight = torch.exp(-_B_FACTOR_ANGST2 / 4 * square)
        weight *= 1 - torch.exp(-square * _COARSEST_ANGST**2)
        weight[0], weight[:, 0] = 0, 0
        weight[self.shape[0] // 2], weight[:, -1] = 0, 0
        return weight

    def tracked(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return shifts of mean 0, ``(frames, 2)``, Å, and which frames are seen."""
        shift = np.zeros((len(self.values), 2))
        seen = np.zeros(len(shift), dtype=bool)
        for _ in range(_MOST_ROUNDS):
            moved = self.values * self._turn(torch.from_numpy(shift))
            others = moved.sum(0) - moved
            found = torch.fft.irfft2(moved * others.conj(), s=self.shape)
            spread = found.square().mean((1, 2)).sqrt()
            seen = (found.amax((1, 2)) > _CLEAR * spread).cpu().numpy()
            if 2 * seen.sum() < len(seen):
                return np.zeros_like(shift), np.zeros_like(seen)
            before = shift
            shift = _between(shift + self._peaks(found).numpy(), seen)
            shift -= shift.mean(0)
            if np.abs(shift - before).max() < _ENOUGH_ANGST:
                break
        return shift, seen

    def _turn(self, shift: Tensor) -> Tensor:
        """Return the factors that move content back by so much."""
        y, x = shift.to(self.y)[:, :, None].unbind(1)
        along_y = torch.polar(torch.ones_like(y * self.y), 2 * math.pi * y * self.y)
        along_x = torch.polar(torch.ones_like(x * self.x), 2 * math.pi * x * self.x)
        return along_y[:, :, None] * along_x[:, None, :]

    def _peaks(self, correlation: Tensor) -> Tensor:
        """Return the highest places, ``(frames, 2)`` Å, by parabolas through three."""
        frame = torch.arange(len(correlation), device=correlation.device)
        best = correlation.flatten(1).argmax(1)
        place = [best // self.shape[1], best % self.shape[1]]
        found = []
        for axis, (side, pixel) in enumerate(
            zip(self.shape, self.pixel_angst, strict=True)
        ):
            three = []
            for aside in (-1, 0, 1):
                at = list(place)
                at[axis] = (place[axis] + aside) % side
                three.append(correlation[frame, at[0], at[1]].double())
            curve = three[0] - 2 * three[1] + three[2]
            part = torch.where(curve < 0, (three[0] - three[2]) / (2 * curve), 0)
            whole = (place[axis] + side // 2) % side - side // 2
            found.append((whole + part) * pixel)
        return torch.stack(found, 1).cpu()


def _between(
    shift: NDArray[np.float64], is_known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return shifts of which those that are not known lie between their neighbours."""
    frame = np.arange(len(shift))
    known = frame[is_known]
    return np.stack([np.interp(frame, known, one[known]) for one in shift.T], axis=1)
