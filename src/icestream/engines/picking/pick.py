"""The picker: from an image to coordinates, best first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.domain.particles import Coordinates
from icestream.engines.picking.correlate import correlate_bank
from icestream.engines.picking.limit import noise_limit
from icestream.engines.picking.peaks import find_peaks
from icestream.engines.picking.reduce import reduce_image

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.picking.peaks import Peaks

__all__ = ["pick_particles"]

_PIXELS_PER_DIAMETER = 16  # of the smallest particle
_BACKGROUND_DIAMETERS = 1.0  # of the largest particle
_CONTRAST_RATIO = 3.0  # to the median pick: more is contamination


def pick_particles(
    image: Tensor,
    *,
    pixel_size_angst: float,
    diameter_angst: tuple[float, float],
    threshold: float = 0.1,
    false_fraction: float = 0.05,
    contrast: Literal["dark", "bright"] = "dark",
    distance_fraction: float = 0.5,
    border_fraction: float = 0.1,
) -> Coordinates:
    """Find round particles.

    """
    _check(pixel_size_angst, diameter_angst)
    low_angst, high_angst = diameter_angst
    reduced = reduce_image(
        image,
        pixel_size_angst=pixel_size_angst,
        target_pixel_angst=low_angst / _PIXELS_PER_DIAMETER,
        background_angst=_BACKGROUND_DIAMETERS * high_angst,
        is_dark=contrast == "dark",
    )
    found, decoys = (
        find_peaks(
            maps,
            pixel_size_angst=reduced.pixel_size_angst,
            distance_fraction=distance_fraction,
            border_fraction=border_fraction,
        )
        for maps in correlate_bank(reduced, limits_angst=diameter_angst)
    )
    picks = _above_noise(found, decoys, threshold, false_fraction)
    return Coordinates(
        x_px=np.float32(picks.x_px * reduced.step_x_px),
        y_px=np.float32(picks.y_px * reduced.step_y_px),
        score=np.float32(picks.score),
        diameter_angst=np.float32(picks.diameter_angst),
    )


def _check(pixel_size_angst: float, diameter_angst: tuple[float, float]) -> None:
    low_angst, high_angst = diameter_angst
    if not (0 < low_angst <= high_angst < math.inf and pixel_size_angst > 0):
        raise BadSettings(
            f"Particles of {low_angst} to {high_angst} Å at {pixel_size_angst} Å/px"
            " cannot be picked.",
            hint="Give sizes above 0, the smaller diameter first.",
        )


def _above_noise(
    found: Peaks, decoys: Peaks, threshold: float, false_fraction: float
) -> Peaks:
    """Return peaks above the image's noise, without contamination.

    Contamination stands out by its contrast. It also raises decoys around it, so the
    limit is set again without them.
    """
    for _ in range(2):
        limit = noise_limit(found.score, decoys.score, false_fraction=false_fraction)
        picks = found.only(found.score > max(limit, threshold))
        if not len(picks):
            return picks
        usual = _CONTRAST_RATIO * float(np.median(picks.contrast))
        found = found.only(found.contrast <= usual)
        decoys = decoys.only(decoys.contrast <= usual)
        picks = picks.only(picks.contrast <= usual)
    return picks
