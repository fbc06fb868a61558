"""How a specimen moves and is damaged while it is exposed, as known functions of dose.

Convention: ``frame_t(x) = I0(x - d(x, t))``. What lies at ``x`` in frame 0 lies at
about ``x + d(x, t)`` in frame t; d is a mean over the frame's dose, 0 in frame 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.scattering import velocity_squared

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = [
    "MotionField",
    "blur_filter",
    "critical_dose_e_per_angst2",
    "damage_filter",
    "simulate_motion",
]

# Grant & Grigorieff (2015), rotavirus VP6 at 300 kV, eq. 3.
_DAMAGE_SCALE, _DAMAGE_POWER, _DAMAGE_FLOOR = 0.24499, -1.6649, 2.8141
# Share of the critical dose at lower voltage.
_DAMAGE_KV, _DAMAGE_SHARE = (100.0, 200.0, 300.0), (0.64, 0.8, 1.0)
# Below this phase of the blur, half turns, its sinc is 1 to a thousandth.
_LEAST_BLUR = 0.025
# How the field of doming grows: most of it soon, the rest steadily.
_FAST_SHARE = 0.8
_DOSE_OF_DOMING_E_PER_ANGST2 = 7.0
# Random terms beside the dome, as shares of its amplitude.
_RANDOM_SHARE = 0.25
_TERMS = (
    (0, 0),
    (0, 1),
    (1, 0),
    (0, 2),
    (1, 1),
    (2, 0),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionField:
    """Where everything moves, frame by frame.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image, px.
    pixel_size_angst
        Å/px.
    global_angst
        ``(frames, 2)`` y and x, the same everywhere; row 0 is 0.
    modes
        ``(frames, m)`` how much of each local field a frame has; row 0 is 0.
    coefficients
        ``(m, 10, 2)`` polynomials of the local fields, Å: terms v^i u^j with i + j <= 3
        by rising degree, v = 2 y / h - 1 and u = 2 x / w - 1; y and x of the shift.
    blur_angst
        ``(frames, 2)`` way from the start to the end of a frame, y and x, Å.

    Raises
    ------
    BadSettings
        Arrays that do not fit each other, or motion in frame 0.
    """

    shape: tuple[int, int]
    pixel_size_angst: float
    global_angst: NDArray[np.float64]
    modes: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    blur_angst: NDArray[np.float64]

    def __post_init__(self) -> None:
        frames, modes = self.global_angst.shape[0], self.modes.shape[1]
        fits = (
            self.global_angst.shape == (frames, 2)
            and self.blur_angst.shape == (frames, 2)
            and self.modes.shape == (frames, modes)
            and self.coefficients.shape == (modes, len(_TERMS), 2)
        )
        if not fits or self.global_angst[0].any() or self.modes[0].any():
            raise BadSettings(
                "This motion has arrays that do not fit, or moves in frame 0.",
                hint="Give one row a frame, the first of them 0.",
            )

    @property
    def frame_count(self) -> int:
        """How many frames."""
        return int(self.global_angst.shape[0])

    def shift_angst(
        self, frame: int, y_px: ArrayLike, x_px: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the whole shift d at some places.

        Parameters
        ----------
        frame
            Counted from 0.
        y_px, x_px
            Places in the image, px; broadcast against each other.

        Returns
        -------
        ndarray
            ``(*broadcast, 2)`` y and x, Å.
        """
        local = self.local_angst(frame, y_px, x_px)
        whole: NDArray[np.float64] = local + self.global_angst[frame]
        return whole

    def local_angst(
        self, frame: int, y_px: ArrayLike, x_px: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the shift less `global_angst`, ``(*broadcast, 2)``, Å."""
        v, u = np.broadcast_arrays(
            2 * np.asarray(y_px, dtype=float) / self.shape[0] - 1,
            2 * np.asarray(x_px, dtype=float) / self.shape[1] - 1,
        )
        return _polynomial(self.modes[frame] @ self.coefficients.swapaxes(0, 1), v, u)

    def lattice(
        self, *, side: int = 9, margin_px: float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the truth on a lattice of places.

        Parameters
        ----------
        side
            Places along each axis.
        margin_px
            Distance of the outermost from the border, px.

        Returns
        -------
        places, shifts
            ``(side, side, 2)`` y and x, px; ``(frames, side, side, 2)`` y and x, Å.
        """
        y, x = (np.linspace(margin_px, n - 1 - margin_px, side) for n in self.shape)
        places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
        shifts = [
            self.shift_angst(frame, places[..., 0], places[..., 1])
            for frame in range(self.frame_count)
        ]
        return places, np.stack(shifts)


def simulate_motion(
    generator: np.random.Generator,
    *,
    shape: tuple[int, int],
    pixel_size_angst: float,
    frame_count: int,
    dose_e_per_angst2: float,
    jump_angst: float = 10.0,
    jump_dose_e_per_angst2: float = 3.0,
    drift_angst: float = 4.0,
    jitter_angst: float = 0.1,
    doming_angst: float = 3.0,
) -> MotionField:
    """Draw a motion: a jump that dies out, drift, jitter, and doming of the ice.

    Parameters
    ----------
    generator
        The source of randomness.
    shape, pixel_size_angst
        ``(h, w)``, px; Å/px.
    frame_count
        How many frames.
    dose_e_per_angst2
        Of each frame, e/Å2.
    jump_angst, jump_dose_e_per_angst2
        The first jump goes as 1 - exp(-N / N0) with the dose N; typically 5-20 Å and
        2-4 e/Å2. The share of it that falls within frame 0 blurs that frame.
    drift_angst
        Steady drift over the whole exposure, Å, up to about 35° beside the jump.
    jitter_angst
        Standard deviation of a random walk's step from frame to frame, Å.
    doming_angst
        Largest local shift in the image at the end, against frame 0; 1-5 Å.

    Returns
    -------
    MotionField
        The same from the same generator and values.

    Raises
    ------
    BadSettings
        No frame, or no dose.
    """
    if frame_count < 1 or not (dose_e_per_angst2 > 0 and jump_dose_e_per_angst2 > 0):
        raise BadSettings(
            f"{frame_count} frames of {dose_e_per_angst2} e/Å2 do not move.",
            hint="Give at least one frame and doses above 0.",
        )
    angle = generator.uniform(0, 2 * math.pi)
    aside = angle + generator.normal(0, 0.6)
    jump, drift = (
        length * np.array([math.sin(a), math.cos(a)])
        for length, a in ((jump_angst, angle), (drift_angst, aside))
    )
    edges = dose_e_per_angst2 * np.arange(frame_count + 1, dtype=np.float64)
    decay, rise = _relaxation(edges, jump_dose_e_per_angst2)
    steps = generator.normal(0, jitter_angst, size=(frame_count, 2))
    path = decay[:, None] * jump
    path += np.arange(frame_count)[:, None] / frame_count * drift
    path += np.cumsum(steps, axis=0)
    doming, _ = _relaxation(edges, _DOSE_OF_DOMING_E_PER_ANGST2)
    modes = np.stack([doming, np.arange(frame_count) / frame_count], axis=1)
    modes -= modes[0]
    return MotionField(
        shape=shape,
        pixel_size_angst=pixel_size_angst,
        global_angst=path - path[0],
        modes=modes,
        coefficients=_draw_doming(generator, modes[-1], doming_angst),
        blur_angst=rise[:, None] * jump + drift / frame_count,
    )


def critical_dose_e_per_angst2(
    frequency_per_angst: Tensor, *, voltage_kv: float
) -> Tensor:
    """Return the dose that lowers an amplitude to exp(-1/2).

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    voltage_kv
        kV.

    Returns
    -------
    Tensor
        Same shape, e/Å2; infinite at 0.

    Notes
    -----
    Rotavirus VP6, Grant & Grigorieff, eLife 4 (2015) e06980, eq. 3: 0.24499 g^-1.6649 +
    2.8141 at 300 kV; 0.8 of that at 200 kV and 0.64 at 100 kV (Peet, Henderson & Russo,
    Ultramicroscopy 203 (2019) 125: damage is 1.57 times that at 300 kV), linear
    between. Beyond them nobody measured: as the square of the velocity from there.
    """
    known_kv = min(max(voltage_kv, _DAMAGE_KV[0]), _DAMAGE_KV[-1])
    share = float(np.interp(known_kv, _DAMAGE_KV, _DAMAGE_SHARE))
    share *= velocity_squared(voltage_kv) / velocity_squared(known_kv)
    curve = _DAMAGE_SCALE * frequency_per_angst**_DAMAGE_POWER + _DAMAGE_FLOOR
    return share * curve


def damage_filter(
    frequency_per_angst: Tensor,
    *,
    start_e_per_angst2: float,
    stop_e_per_angst2: float,
    voltage_kv: float,
) -> Tensor:
    """Return what damage leaves of amplitudes in a frame, the mean over its dose.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    start_e_per_angst2, stop_e_per_angst2
        Dose before and after the frame, e/Å2.
    voltage_kv
        kV.

    Returns
    -------
    Tensor
        Same shape, 0 to 1: the mean of exp(-N / (2 Ne)).
    """
    rate = 0.5 / critical_dose_e_per_angst2(frequency_per_angst, voltage_kv=voltage_kv)
    within = (rate * (stop_e_per_angst2 - start_e_per_angst2)).clamp(min=1e-6)
    return torch.exp(-rate * start_e_per_angst2) * (-torch.expm1(-within) / within)


def blur_filter(
    way_px: NDArray[np.float64], y_per_px: Tensor, x_per_px: Tensor
) -> Tensor | None:
    """Return what the way within a frame leaves of its amplitudes.

    Parameters
    ----------
    way_px
        y and x from the start to the end of the frame, px.
    y_per_px, x_per_px
        Frequencies that broadcast to the result, 1/px.

    Returns
    -------
    Tensor or None
        The sinc of the way along the frequency, to 1e-4; ``None`` where it is 1 to a
        thousandth everywhere.
    """
    half_turns = float(np.abs(way_px).sum()) / 2
    if half_turns < _LEAST_BLUR:
        return None
    phase = float(way_px[1]) * x_per_px + float(way_px[0]) * y_per_px
    if half_turns > 0.5:
        return torch.sinc(phase)
    square = phase.mul_(math.pi).square_()
    blur: Tensor = 1 + square * (-1 / 6 + square * (1 / 120 - square / 5040))
    return blur


def _relaxation(
    edges: NDArray[np.float64], constant: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 1 - exp(-N / c), its mean in each frame and its growth there."""
    fall = np.exp(-edges / constant)
    growth = fall[:-1] - fall[1:]
    return 1 - constant * growth / np.diff(edges), growth


def _polynomial(
    coefficients: NDArray[np.float64], v: NDArray[np.float64], u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``(*places, 2)`` values; coefficients are ``(terms, 2)`` in any order."""
    terms = np.stack([v**i * u**j for i, j in _TERMS], axis=-1)
    values: NDArray[np.float64] = terms @ coefficients
    return values


def _draw_doming(
    generator: np.random.Generator, last: NDArray[np.float64], largest_angst: float
) -> NDArray[np.float64]:
    """Return ``(2, 10, 2)``: radial fields about a centre off the middle, and more.

    The first mode has the dome, s (0.6 + 0.25 r^2) with s the way from its centre in
    half widths; both have random terms. The largest shift at the end is as asked.
    """
    coefficients = np.zeros((2, len(_TERMS), 2))
    centre = generator.uniform(-0.3, 0.3, size=2)
    side = np.linspace(-1, 1, 9)
    v, u = (grid.ravel() for grid in np.meshgrid(side, side, indexing="ij"))
    away = np.stack([v, u], axis=-1) - centre
    dome = away * (0.6 + 0.25 * (away**2).sum(axis=-1, keepdims=True))
    basis = np.stack([v**i * u**j for i, j in _TERMS], axis=-1)
    coefficients[0] = np.linalg.lstsq(basis, dome)[0]
    coefficients += generator.normal(0, _RANDOM_SHARE / 2, size=coefficients.shape)
    coefficients *= np.array([_FAST_SHARE, 1 - _FAST_SHARE])[:, None, None]
    coefficients[:, 0] = 0
    shift = basis @ np.einsum("m,mtc->tc", last, coefficients)
    largest = np.linalg.norm(shift, axis=-1).max()
    return coefficients * (largest_angst / largest if largest > 0 else 0.0)
