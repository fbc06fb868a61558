"""Amorphous ice under the beam: water walks, so the noise of ice changes with dose."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.ice import radial_frequency, radial_values

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["WATER_B_ANGST2_PER_DOSE", "IceMotion", "frame_correlation"]

WATER_B_ANGST2_PER_DOSE = 34.0
"""How the B factor of water grows, Å2 per e/Å2 (Himes & Grigorieff 2021)."""

_BLOCK = 1 << 16
_LEAST_STEP = 1e-6


def frame_correlation(
    frequency_per_angst: Tensor,
    dose_e_per_angst2: float,
    *,
    lag: int,
    b_angst2_per_dose: float = WATER_B_ANGST2_PER_DOSE,
) -> Tensor:
    """Return the covariance of the ice in two frames, each a mean over its dose.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    dose_e_per_angst2
        Of one frame, e/Å2.
    lag
        How many frames lie between; 0 is the variance.
    b_angst2_per_dose
        Å2 per e/Å2.

    Returns
    -------
    Tensor
        Same shape, float64; 1 is the power of ice that stands still.

    Notes
    -----
    Molecules that walk at random by <u^2> = b N / (8 pi^2) along each axis correlate
    as exp(-b N g^2 / 4) after the dose N. With x = b N g^2 / 4 of one frame, means over
    frames have the variance 2 (x - 1 + e^-x) / x^2 and, k frames apart, the covariance
    ((1 - e^-x) / x)^2 e^-(k-1)x.
    """
    g = frequency_per_angst.double()
    step = (b_angst2_per_dose * dose_e_per_angst2 * g**2 / 4).clamp(min=_LEAST_STEP)
    if lag == 0:
        series = 1 - step / 3 + step**2 / 12 - step**3 / 60 + step**4 / 360
        direct = 2 * (step + torch.expm1(-step)) / step**2
        return torch.where(step < 0.02, series, direct)
    return (torch.expm1(-step) / step) ** 2 * torch.exp(-(lag - 1) * step)


class IceMotion:
    """White noise whose frames decorrelate with dose as amorphous ice does.

    Parameters
    ----------
    shape
        ``(h, w)``, px; both even.
    pixel_size_angst
        Å/px.
    dose_e_per_angst2
        Of each frame, e/Å2.
    b_angst2_per_dose
        Å2 per e/Å2; 0 is ice that stands still.
    generator
        The source of randomness; its device is where the field lives.

    Raises
    ------
    BadSettings
        An odd side, or a dose or B factor below 0.

    Notes
    -----
    Each coefficient follows an Ornstein-Uhlenbeck process, exp(-b N g^2 / 4). A frame
    is its mean over the frame's dose, so the blur within a frame is in it. Such means
    are an ARMA(1, 1) process, z' = rho z + s (e' + theta e), which has exactly the
    covariances of `frame_correlation` with one fresh draw a frame.

    Columns come first, ``(w // 2 + 1, h)``, real and imaginary parts as planes: so the
    inverse transform runs along memory, three times as fast.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        pixel_size_angst: float,
        dose_e_per_angst2: float,
        b_angst2_per_dose: float = WATER_B_ANGST2_PER_DOSE,
        generator: Generator,
    ) -> None:
        if shape[0] % 2 or shape[1] % 2:
            raise BadSettings(f"Ice of {shape} px.", hint="Both sides are even.")
        if dose_e_per_angst2 < 0 or b_angst2_per_dose < 0:
            raise BadSettings(
                f"Ice moving by {b_angst2_per_dose} Å2 for {dose_e_per_angst2} e/Å2.",
                hint="Neither is below 0.",
            )
        self.shape = shape
        self._generator = generator
        frequency = radial_frequency(shape, pixel_size_angst, device=generator.device)
        blur = dose_e_per_angst2, b_angst2_per_dose
        self._keep, self._carry, self._fresh, self._first = _coefficients(
            frequency.T.contiguous(), *blur
        )
        size = (2, shape[1] // 2 + 1, shape[0])
        self._state = torch.empty(size, device=generator.device)
        self._drawn = torch.empty(size, device=generator.device)
        # E|F|^2 of white noise is h w, half in each plane. The inverse transform keeps
        # half of the power in the two columns that are their own mirror images.
        self._root = math.sqrt(shape[0] * shape[1] / 2)
        self._started = False

    def columns(self) -> list[slice]:
        """Return the blocks in which a frame must be advanced, in order."""
        count = self.shape[1] // 2 + 1
        step = max(_BLOCK // self.shape[0], 1)
        return [slice(i, min(i + step, count)) for i in range(0, count, step)]

    def begin(self) -> None:
        """Draw the first frame."""
        self._drawn.normal_(0, self._root, generator=self._generator)
        self._state.normal_(0, self._root, generator=self._generator)
        for mirror in (0, -1):
            self._drawn[:, mirror] *= math.sqrt(2)
            self._state[:, mirror] *= math.sqrt(2)
        self._state *= self._first
        self._state.addcmul_(self._drawn, self._fresh)
        self._started = True

    def advance(self, block: slice) -> None:
        """Move some columns on by one frame."""
        for plane, drawn in zip(self._state, self._drawn, strict=True):
            state, noise = plane[block], drawn[block]
            state *= self._keep[block]
            state.addcmul_(noise, self._carry[block])
            noise.normal_(0, self._root, generator=self._generator)
            if block.start == 0:
                noise[0] *= math.sqrt(2)
            if block.stop == self.shape[1] // 2 + 1:
                noise[-1] *= math.sqrt(2)
            state.addcmul_(noise, self._fresh[block])

    def next_frame(self) -> Tensor:
        """Return the next frame's transform; a view that the next call changes.

        Returns
        -------
        Tensor
            ``(2, w // 2 + 1, h)``: real and imaginary plane, columns first, of the
            rfft2 of noise with variance 1 where ice does not move.
        """
        if not self._started:
            self.begin()
            return self._state
        for block in self.columns():
            self.advance(block)
        return self._state

    def planes(self, block: slice) -> Tensor:
        """Return some columns of the present frame, ``(2, n, h)``, a view."""
        return self._state[:, block]

    @property
    def is_started(self) -> bool:
        """Whether there is a present frame."""
        return self._started


def _coefficients(
    frequency_per_angst: Tensor, dose_e_per_angst2: float, b_angst2_per_dose: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rho, s theta, s, and the rest of the first frame, float32."""

    def table(g: Tensor, part: int) -> Tensor:
        now, after = (
            frame_correlation(
                g, dose_e_per_angst2, lag=lag, b_angst2_per_dose=b_angst2_per_dose
            )
            for lag in (0, 1)
        )
        step = b_angst2_per_dose * dose_e_per_angst2 * g**2 / 4
        keep = torch.exp(-step.clamp(min=_LEAST_STEP))
        own = now * (1 + keep**2) - 2 * keep * after
        shared = after - keep * now
        theta = 2 * shared / (own + (own**2 - 4 * shared**2).clamp(min=0).sqrt())
        fresh = (own / (1 + theta**2)).sqrt()
        first = (now - fresh**2).clamp(min=0).sqrt()
        return (keep, fresh * theta, fresh, first)[part]

    keep, carry, fresh, first = (
        radial_values(frequency_per_angst, partial(table, part=part))
        for part in range(4)
    )
    return keep, carry, fresh, first
