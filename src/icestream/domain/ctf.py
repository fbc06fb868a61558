"""The contrast transfer function of one exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icestream.domain.errors import InternalError

__all__ = ["Ctf"]


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
        Extra phase shift (phase plate), degrees.
    score
        Normalised cross-correlation of model and background-free spectrum, -1 to 1.
    resolution_angst
        Å to which rings are fitted (CTFFIND's rule); ``None`` where no ring is.
    defocus_u_error_angst, defocus_v_error_angst, defocus_angle_error_deg
        Standard errors; ``None`` where they cannot be estimated.
    """

    defocus_u_angst: float
    defocus_v_angst: float
    defocus_angle_deg: float
    phase_shift_deg: float = 0.0
    score: float
    resolution_angst: float | None
    defocus_u_error_angst: float | None = None
    defocus_v_error_angst: float | None = None
    defocus_angle_error_deg: float | None = None

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
