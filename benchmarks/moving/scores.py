"""How far a program's motion and images are from the truth.

Motion: root mean square difference of a component over 9 x 9 places, from the first to
the last pixel, and all frames, without the mean over time at each place. Both programs'
motion is read from their STAR files.

Images: Fourier ring correlation (FRC) with the contrast of everything but the ice in
frame 0, free of noise. Programs are free to choose where content lies that moves, so
the truth is moved to where an image must have it: to its true mean over time; for
RELION, whose images are as the first frame, by less the mean of the motion that it has
found. What is left of a shift of the whole is refined. 64 px at each border are cut
off, the next 64 px faded out, and values beyond 6 standard deviations clipped. Rings
are a hundredth of the sampling frequency wide; a band's value is the mean over the
rings whose middle it holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline

from icestream.engines.motion import field_on_grid
from icestream.io import read_micrograph
from icestream.io.relion_motion import read_relion_motion
from icestream.simulate.score import motion_rmsd_angst
from icestream.simulate.warp import warp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from moving.movies import Truth

BANDS_ANGST = ((20.0, 10.0), (10.0, 6.0), (6.0, 4.0), (4.0, 3.0), (3.0, 2.5))
_PLACES = 9
_CUT_PX = _FADED_PX = 64
_MOST_SD = 6.0
_RINGS = 50  # up to half the sampling frequency
# What a shift of the whole is refined by, Å.
_FINEST_ANGST = 3.0
_NEWTON_STEPS = 5


def found_motion(star: Path, truth: Truth) -> NDArray[np.float64]:
    """Return a program's motion as truth is kept: ``(frames, 9, 9, 2)`` Å.

    The STAR file's rows are upside down against a TIFF movie.
    """
    y, x = (np.linspace(0, side - 1, _PLACES) for side in truth.motion.shape)
    found = field_on_grid(read_relion_motion(star).field, y, x)
    return found[:, ::-1] * [-1.0, 1.0]


def motion_error_angst(found: NDArray[np.float64], truth: Truth) -> float:
    """Return the root mean square difference from the true motion."""
    return motion_rmsd_angst(_true_motion(truth), found)


def image_frc(
    path: Path, found_mean: NDArray[np.float64], truth: Truth
) -> tuple[float, ...]:
    """Return the FRC of a program's image in each band; its rows are turned back.

    ``found_mean`` is ``(9, 9, 2)`` Å: the mean over time of the motion that the program
    has found, against its image.
    """
    image = np.ascontiguousarray(read_micrograph(path)[::-1])
    away = _true_motion(truth).mean(0) - found_mean
    return _frc(image, _moved(truth, away), truth.motion.pixel_size_angst)


def still_frc(image: NDArray[np.float32], truth: Truth) -> tuple[float, ...]:
    """Return the FRC of an image that has never moved."""
    place = np.zeros((_PLACES, _PLACES, 2))
    return _frc(image, _moved(truth, place), truth.motion.pixel_size_angst)


def _true_motion(truth: Truth) -> NDArray[np.float64]:
    return truth.motion.lattice(side=_PLACES)[1]


def _moved(truth: Truth, away_angst: NDArray[np.float64]) -> torch.Tensor:
    """Return the image without noise, content moved by a field of 9 x 9 places."""
    shape = truth.motion.shape
    y, x = (np.linspace(0, side - 1, _PLACES) for side in shape)
    away_px = away_angst / truth.motion.pixel_size_angst
    fields = [RectBivariateSpline(y, x, away_px[..., axis]) for axis in (0, 1)]

    def at(y_px: NDArray[np.float64], x_px: NDArray[np.float64]) -> NDArray[np.float64]:
        y_px, x_px = np.broadcast_arrays(y_px, x_px)
        return np.stack([one.ev(y_px, x_px) for one in fields], axis=-1)

    return warp(truth.contrast, at, shape=shape, margin_px=truth.margin_px)


def _frc(
    image: NDArray[np.float32], wanted: torch.Tensor, pixel_angst: float
) -> tuple[float, ...]:
    seen, known = _transform(torch.from_numpy(image)), _transform(wanted)
    height, width = (side - 2 * _CUT_PX for side in image.shape)
    y = torch.fft.fftfreq(height, pixel_angst)[:, None]
    x = torch.fft.rfftfreq(width, pixel_angst)
    cross = seen * known.conj()
    shift = _left_over_shift(cross, y, x)
    turn = torch.polar(torch.ones_like(y), 2 * math.pi * shift[0] * y)
    turn = turn * torch.polar(torch.ones_like(x), 2 * math.pi * shift[1] * x)
    ring = (torch.hypot(y, x) * (2 * _RINGS * pixel_angst)).long().flatten()
    common, ours, theirs = (
        torch.bincount(ring, values.flatten().double(), minlength=_RINGS)[:_RINGS]
        for values in ((cross * turn).real, _power(seen), _power(known))
    )
    frc = (common / (ours * theirs).sqrt()).numpy()
    middle = (np.arange(_RINGS) + 0.5) / (2 * _RINGS * pixel_angst)
    return tuple(
        float(frc[(middle >= 1 / coarse) & (middle < 1 / fine)].mean())
        for coarse, fine in BANDS_ANGST
    )


def _transform(image: torch.Tensor) -> torch.Tensor:
    """Return the transform of the middle, clipped and faded out."""
    middle = image[_CUT_PX:-_CUT_PX, _CUT_PX:-_CUT_PX]
    middle = middle - middle.mean()
    most = _MOST_SD * float(middle.std())
    fades = []
    for side in middle.shape:
        place = torch.arange(side) + 0.5
        near = torch.minimum(place, side - place).div(_FADED_PX).clamp(max=1)
        fades.append(torch.sin(near * (math.pi / 2)).square())
    faded = middle.clamp(-most, most) * fades[0][:, None] * fades[1]
    spectrum: torch.Tensor = torch.fft.rfft2(faded)
    return spectrum


def _left_over_shift(
    cross: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> tuple[float, float]:
    """Return by how much content lies farther than it should, y and x, Å.

    Newton's method on the correlation, which is even over so small a shift.
    """
    chosen = (torch.hypot(y, x) < 1 / _FINEST_ANGST).nonzero(as_tuple=True)
    places = torch.stack([y.expand_as(cross)[chosen], x.expand_as(cross)[chosen]])
    places, values = places.double(), cross[chosen].to(torch.complex128)
    shift = torch.zeros(2, dtype=torch.float64)
    for _ in range(_NEWTON_STEPS):
        phase = 2 * math.pi * (shift @ places)
        turned = values * torch.polar(torch.ones_like(phase), phase)
        slope = -2 * math.pi * (places * turned.imag).sum(1)
        curve = -((2 * math.pi) ** 2) * (places * turned.real) @ places.T
        shift -= torch.linalg.solve(curve, slope)
    return float(shift[0]), float(shift[1])


def _power(values: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(values).square().sum(-1)
