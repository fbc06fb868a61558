"""The contrast transfer function of one exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.domain.errors import InternalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Ctf", "CtfRings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ctf:
    """A fitted contrast transfer function.

    Parameters
    ----------
    defocus_u_angst, defocus_v_angst
        Larger and smaller defocus, Å; > 0 is underfocus.
    defocus_angle_deg
        From +x towards increasing row index to the axis of U, degrees in [0, 180).
    phase_shift_deg
        Extra phase shift (phase plate), degrees; in [0, 180) where it was fitted, since
        half a turn more turns the contrast over and leaves the rings.
    score
        Normalised cross-correlation of model and background-free spectrum, -1 to 1.
    resolution_angst
        Å to which rings are fitted (CTFFIND's rule); ``None`` where no ring is.
    defocus_error_angst
        Standard error of the mean of U and V, Å. It and those that follow are ``None``
        where they cannot be estimated.
    defocus_u_error_angst, defocus_v_error_angst, defocus_angle_error_deg
        Standard errors.
    phase_shift_error_deg
        Standard error; ``None`` where the phase shift was known.
    tilt_deg, tilt_axis_deg
        Of the specimen, from the defocus of regions of the image: signed, and the axis
        from +x towards increasing row index in [0, 180). Of positive tilt the side at
        axis + 90° is less underfocused. ``None`` where regions are too few.
    tilt_error_deg, tilt_axis_error_deg
        Standard errors; the axis of a flat specimen is anywhere.
    directional_loss
        Share of the rings' strength that is surely lost along one axis, 0 to 1.
    smear_angst, smear_axis_deg
        Way by which the image is surely smeared along an axis, Å, by how its power
        falls; and that axis. ``None`` where the spectrum is too small to tell.
    ring_contrast
        Power of the rings' maxima over that of their zeros, less 1, at 8-4.5 Å: high
        for carbon film. ``None`` where the spectrum does not reach there.
    aliasing_angst
        Å beyond which the spectrum is too coarse for the rings, which were not fitted
        there; ``None`` where that is beyond its Nyquist frequency.
    """

    defocus_u_angst: float
    defocus_v_angst: float
    defocus_angle_deg: float
    phase_shift_deg: float = 0.0
    score: float
    resolution_angst: float | None
    defocus_error_angst: float | None = None
    defocus_u_error_angst: float | None = None
    defocus_v_error_angst: float | None = None
    defocus_angle_error_deg: float | None = None
    phase_shift_error_deg: float | None = None
    tilt_deg: float | None = None
    tilt_axis_deg: float | None = None
    tilt_error_deg: float | None = None
    tilt_axis_error_deg: float | None = None
    directional_loss: float | None = None
    smear_angst: float | None = None
    smear_axis_deg: float | None = None
    ring_contrast: float | None = None
    aliasing_angst: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.defocus_u_angst + self.defocus_v_angst)):
            raise InternalError(f"A defocus is not a number: {self}.")
        if self.defocus_u_angst < self.defocus_v_angst:
            raise InternalError(f"Defocus U is smaller than V: {self}.")
        if not 0 <= self.defocus_angle_deg < 180:
            raise InternalError(f"The angle lies outside [0, 180): {self}.")

    @property
    def defocus_angst(self) -> float:
        """Mean of U and V, Å."""
        return (self.defocus_u_angst + self.defocus_v_angst) / 2

    @property
    def astigmatism_angst(self) -> float:
        """U minus V, Å; never negative."""
        return self.defocus_u_angst - self.defocus_v_angst


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfRings:
    """The equiphase average of a spectrum beside the fitted rings, to be looked at.

    Parameters
    ----------
    frequency_per_angst
        ``(bin,)`` float32 spatial frequency at the mean defocus, 1/Å; 256 at most.
    profile
        ``(bin,)`` float32 average without its background, in units of the envelope of
        the rings.
    model
        ``(bin,)`` float32 fitted rings in the same unit, 0 to 1.
    agreement
        ``(bin,)`` float32 correlation of both in a window of some rings, -1 to 1.
    """

    frequency_per_angst: NDArray[np.float32]
    profile: NDArray[np.float32]
    model: NDArray[np.float32]
    agreement: NDArray[np.float32]

    def __post_init__(self) -> None:
        columns = (self.frequency_per_angst, self.profile, self.model, self.agreement)
        if len({column.shape for column in columns}) != 1:
            raise InternalError("The columns of CTF rings differ in length.")
