"""The picker: from an image to coordinates, best first."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.domain.particles import Coordinates
from icestream.engines.picking.correlate import correlate_bank
from icestream.engines.picking.limit import noise_limit
from icestream.engines.picking.peaks import find_peaks, outshone
from icestream.engines.picking.reduce import reduce_image

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.picking.peaks import Peaks

__all__ = ["pick_particles"]

_PIXELS_PER_DIAMETER = 16  # of the smallest particle
_BACKGROUND_DIAMETERS = 1.0  # of the largest particle
_CONTRAST_RATIO = 2.5  # to the median pick: more is contamination
_REACH = 0.75  # diameters from a particle to the end of its bright rim
_SURE_FRACTION = 0.1  # of false ones among the picks of that median


def pick_particles(
    image: Tensor,
    *,
    pixel_size_angst: float,
    diameter_angst: tuple[float, float],
    threshold: float = 0.1,
    false_fraction: float = 0.1,
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
    limits = partial(_limit, pixel_size_angst=reduced.pixel_size_angst)
    sure = found.only(found.score > limits(found, decoys, _SURE_FRACTION))
    if len(sure):  # contamination raises decoys around it, too: without either
        most = _CONTRAST_RATIO * float(np.median(sure.contrast))
        found = found.only(found.contrast <= most)
        decoys = decoys.only(decoys.contrast <= most)
    limit = max(threshold, limits(found, decoys, false_fraction))
    picks = found.only(found.score > limit)
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


def _limit(
    found: Peaks, decoys: Peaks, false_fraction: float, *, pixel_size_angst: float
) -> float:
    """Return the noise limit from peaks that no better one of other sign is near.

    The bright rims of dark particles are no noise: they would raise the limit.
    """
    reach = {"pixel_size_angst": pixel_size_angst, "reach": _REACH}
    return noise_limit(
        found.score[~outshone(found, decoys, **reach)],
        decoys.score[~outshone(decoys, found, **reach)],
        false_fraction=false_fraction,
    )
