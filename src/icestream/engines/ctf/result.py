"""What is told of a fit: U, V and angle with their errors, and curves to look at."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from icestream.domain.ctf import Ctf, CtfRings
from icestream.domain.units import within_half_turn_deg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.ctf.profile import RingProfile
    from icestream.engines.ctf.refine import RingParameters
    from icestream.engines.ctf.tilt import TiltFit

__all__ = ["as_ctf", "as_rings", "with_tilt"]

_MAX_RANDOM_DEG = 180 / math.sqrt(12)  # error of an angle of which nothing is known
_MAX_BINS = 256


def as_ctf(
    parameters: RingParameters,
    *,
    covariance: Tensor,
    score: float,
    resolution_angst: float | None,
    aliasing_angst: float | None,
) -> Ctf:
    """Turn mean and components into U, V and angle, with first-order errors.

    Parameters
    ----------
    parameters
        The fit.
    covariance
        ``(parameter, parameter)``, Å^2 and radians; four where the phase was fitted.
    score, resolution_angst, aliasing_angst
        As `Ctf` has them.
    """
    p = parameters
    length = math.hypot(p.along_angst, p.across_angst)
    half = _without_noise(length, variance=float(covariance[1:3, 1:3].trace()) / 2)
    twice = math.atan2(p.across_angst, p.along_angst)
    c, s = math.cos(twice), math.sin(twice)
    turn = math.degrees(1 / (2 * max(length, 1e-3)))
    slopes = covariance.new_tensor(
        [[1.0, c, s], [1.0, -c, -s], [0.0, -s * turn, c * turn]]
    )
    variance = (slopes @ covariance[:3, :3] @ slopes.T).diagonal()
    u_error, v_error, angle_error = variance.clamp_min(0).sqrt().tolist()
    mean_error, *_, last = covariance.diagonal().clamp_min(0).sqrt().tolist()
    fits_phase = len(covariance) > 3
    return Ctf(
        defocus_u_angst=p.mean_angst + half,
        defocus_v_angst=p.mean_angst - half,
        defocus_angle_deg=within_half_turn_deg(math.degrees(twice) / 2),
        phase_shift_deg=within_half_turn_deg(p.phase_shift_deg)
        if fits_phase
        else p.phase_shift_deg,
        score=score,
        resolution_angst=resolution_angst,
        defocus_error_angst=mean_error,
        defocus_u_error_angst=u_error,
        defocus_v_error_angst=v_error,
        defocus_angle_error_deg=min(angle_error, _MAX_RANDOM_DEG),
        phase_shift_error_deg=min(math.degrees(last), _MAX_RANDOM_DEG)
        if fits_phase
        else None,
        aliasing_angst=aliasing_angst,
    )


def with_tilt(ctf: Ctf, tilt: TiltFit | None) -> Ctf:
    """Add a plane of defocus, where one was fitted."""
    if tilt is None:
        return ctf
    return replace(
        ctf,
        tilt_deg=tilt.tilt_deg,
        tilt_axis_deg=tilt.axis_deg,
        tilt_error_deg=tilt.tilt_error_deg,
        tilt_axis_error_deg=tilt.axis_error_deg,
    )


def _without_noise(length: float, *, variance: float) -> float:
    """Free the length of a vector of what noise adds to it (Wardle & Kronberg 1974).

    Noise makes a vector longer whatever its direction: of a round beam the astigmatism
    would always be found too large, U too high and V too low.
    """
    return math.sqrt(max(length**2 - variance, 0.0))


def as_rings(curves: RingProfile) -> CtfRings:
    """Average neighbouring bins until there are 256 at most."""
    together = math.ceil(len(curves.profile) / _MAX_BINS)
    whole = len(curves.profile) // together * together

    def column(values: Tensor) -> NDArray[np.float32]:
        bins = values[:whole].reshape(-1, together).mean(dim=1)
        return bins.float().cpu().numpy()

    return CtfRings(
        frequency_per_angst=column(curves.frequency_per_angst),
        profile=column(curves.profile),
        model=column(curves.model),
        agreement=column(curves.agreement),
    )
