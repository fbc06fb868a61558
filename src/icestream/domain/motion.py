"""Where the content of a movie goes, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MotionField"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionField:
    """Where content goes: as a whole, and in each part of the image besides.

    Parameters
    ----------
    shape_px
        Rows and columns of a frame.
    shift_angst
        ``(frames, 2)`` y and x, Å: what lies at ``r`` on the average over time lies
        at ``r + shift`` in a frame.
    local_angst
        ``(frames, rows, columns, 2)`` Å, what is added in parts of the image: at nodes
        that lie evenly from the first pixel to the last of each axis, at least 4, with
        a cubic spline (not a knot) between them. ``None`` where nothing is.

    Raises
    ------
    BadSettings
        Shapes that do not fit, or a value that is no number.
    """

    shape_px: tuple[int, int]
    shift_angst: NDArray[np.float64]
    local_angst: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        frames, local = len(self.shift_angst), self.local_angst
        fits = self.shift_angst.shape == (frames, 2) and frames > 0
        if local is not None:
            fits &= local.ndim == 4 and local.shape[::3] == (frames, 2)
            fits &= min(local.shape[1:3]) >= 4
        if not fits or min(self.shape_px) < 1:
            raise BadSettings(
                f"A motion field of {self.shift_angst.shape} shifts, "
                f"{None if local is None else local.shape} local ones, for "
                f"{self.shape_px} px.",
                hint="Give (frames, 2), and (frames, rows, columns, 2) or none.",
            )
        for values in (self.shift_angst, local):
            if values is not None and not np.isfinite(values).all():
                raise BadSettings(
                    "A motion field with values that are no numbers.",
                    hint="Leave such frames at the shift of their neighbours.",
                )

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.shift_angst)
