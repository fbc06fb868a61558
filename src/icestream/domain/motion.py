"""Where the content of a movie goes, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EARLY_E_PER_ANGST2", "MotionField", "MovieMotion"]

EARLY_E_PER_ANGST2 = 4.0
"""Dose up to which motion is early, e/Å2."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieMotion:
    """What became of a movie: a row for tables, its track for a plot.

    Parameters
    ----------
    movie
        Absolute path of the movie.
    star
        Its metadata and motion for RELION, relative to the session.
    star_residual_angst
        By how much RELION's polynomial misses the motion, root mean square, Å.
    shift_y_angst, shift_x_angst
        ``(frames,)`` where the content of the whole frame has gone, Å, of mean 0.
    total_angst, early_angst, late_angst
        Length of that path: all of it, up to 4 e/Å2 and from there on. The last two
        are ``None`` where the dose is not known.
    largest_step_angst
        Length of the largest step from one frame to the next, Å.
    frame_count
        Frames that were added up.
    dose_e_per_angst2
        Of each frame, e/Å2; ``None`` where not known: the image has no dose weights.
    dose_origin
        ``user``, ``metadata``, ``counts`` (an estimate) or ``unknown``.
    has_local
        Whether parts of the image move differently, as far as could be shown.
    bad_pixel_count
        Pixels that were replaced by their neighbours.
    error_angst
        Standard error of the motion along an axis, root mean square over frames, Å;
        ``None`` where none was seen. What other programs do not tell of their motion
        is ``None`` too, here and in the next three.
    seen_frame_count
        Frames that correlate with the others clearly.
    local_gain
        What local motion gains in parts that it was not made from, in standard errors;
        ``None`` where it was not tried.
    still_fraction
        Standard deviation of what stays in place while content moves, mostly errors of
        the gain, over that of one frame's noise.
    gain_correlation
        Of the pattern of the gain with that of the counts; ``None`` without a gain.
    is_as_in_first_frame
        Whether content lies in the image where the first frame that is used has it, as
        RELION wants it, and not on the mean over time.
    left_over_frame_count
        Raw frames at the end that fill no fraction and were dropped.
    notice
        What people should know of it, in plain words; empty where there is nothing.
    """

    movie: str
    star: str
    star_residual_angst: float
    shift_y_angst: NDArray[np.float64]
    shift_x_angst: NDArray[np.float64]
    total_angst: float
    early_angst: float | None
    late_angst: float | None
    largest_step_angst: float
    frame_count: int
    dose_e_per_angst2: float | None
    has_local: bool
    bad_pixel_count: int
    dose_origin: str = "unknown"
    error_angst: float | None = None
    seen_frame_count: int | None = None
    local_gain: float | None = None
    still_fraction: float | None = None
    gain_correlation: float | None = None
    is_as_in_first_frame: bool = False
    left_over_frame_count: int = 0
    notice: str = ""
