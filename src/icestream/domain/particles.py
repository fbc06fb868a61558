"""Where particles are, and their images: many alike, so columns in one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from icestream.domain.errors import InternalError

__all__ = ["Column", "Coordinates", "Particles"]

Column: TypeAlias = NDArray[np.float32]
"""One value per particle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Particle centres in one micrograph, best first.

    Parameters
    ----------
    x_px, y_px
        ``(n,)`` centres in pixels of the micrograph as stored; x along the row, y the
        row's index; the centre of the first pixel of the first row is (0, 0).
    score
        ``(n,)`` the picker's own score, larger is better.
    diameter_angst
        ``(n,)`` estimated particle diameter, Å.
    masked_count
        Picks that a mask has taken away.
    """

    x_px: Column
    y_px: Column
    score: Column
    diameter_angst: Column
    masked_count: int = 0

    def __post_init__(self) -> None:
        _check_columns(self.x_px, self.y_px, self.score, self.diameter_angst)

    def __len__(self) -> int:
        return len(self.x_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """Extracted particle images of one micrograph.

    Parameters
    ----------
    path
        Stack (``.mrcs``), relative to the session; image i belongs to row i. ``None``
        where there are no particles.
    micrograph
        Path of the micrograph that they were cut from.
    box_px
        Side of the stored images, px.
    pixel_size_angst
        Of the stored images, Å/px.
    setup
        Name of the acquisition setup.
    x_px, y_px
        ``(n,)`` centres in pixels of the micrograph.
    score
        ``(n,)`` picker's score.
    defocus_u_angst, defocus_v_angst, defocus_angle_deg, phase_shift_deg
        ``(n,)`` contrast transfer function of each particle.
    """

    path: str | None
    micrograph: str
    box_px: int
    pixel_size_angst: float
    setup: str
    x_px: Column
    y_px: Column
    score: Column
    defocus_u_angst: Column
    defocus_v_angst: Column
    defocus_angle_deg: Column
    phase_shift_deg: Column

    def __post_init__(self) -> None:
        _check_columns(
            self.x_px,
            self.y_px,
            self.score,
            self.defocus_u_angst,
            self.defocus_v_angst,
            self.defocus_angle_deg,
            self.phase_shift_deg,
        )

    def __len__(self) -> int:
        return len(self.x_px)


def _check_columns(*columns: Column) -> None:
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        raise InternalError("Columns of one block have different lengths.")
