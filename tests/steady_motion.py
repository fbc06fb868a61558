"""A movie that moves evenly, but for its last step."""

from __future__ import annotations

import numpy as np

from icestream.domain import MovieMotion
from icestream.protocols.corrected_movie import path_lengths_angst


def steady_motion(
    *, frames: int, dose: float | None, before: float = 0.0
) -> MovieMotion:
    """Along x by 1 Å from frame to frame, and once by 3."""
    steps = np.ones(frames - 1)
    steps[-1:] = 3.0
    x = np.concatenate([[0.0], np.cumsum(steps)])
    shift = np.stack([np.zeros(frames), x], axis=1)
    total, early, late = path_lengths_angst(
        shift, dose_e_per_angst2=dose, before_e_per_angst2=before
    )
    return MovieMotion(
        movie="m.tiff",
        star="m.star",
        star_residual_angst=0.0,
        shift_y_angst=shift[:, 0],
        shift_x_angst=shift[:, 1],
        total_angst=total,
        early_angst=early,
        late_angst=late,
        largest_step_angst=float(steps.max(initial=0.0)),
        frame_count=frames,
        dose_e_per_angst2=dose,
        has_local=False,
        bad_pixel_count=0,
    )
