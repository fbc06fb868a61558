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
from icestream.engines.picking.peaks import find_peaks, is_near, outshone
from icestream.engines.picking.reduce import reduce_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.picking.peaks import Peaks

__all__ = ["pick_particles"]

_PIXELS_PER_DIAMETER = 16  # of the smallest particle
_BACKGROUND_DIAMETERS = 1.0  # of the largest particle
_CONTRAST_RATIO = 2.5  # to the median pick: more is contamination
_RESIDUAL_RATIO = 1.4  # to the median peak: more than particles in noise leave
_SURE_FRACTION = 0.1  # of false ones among the picks of that median
_REACH = 0.85  # diameters from a particle to the end of its bright rim


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
    """Find round particles, full or hollow, that stand above the image's own noise.

    Parameters
    ----------
    image
        ``(h, w)`` micrograph, any real or integer type, any scale and offset.
    pixel_size_angst
        Its pixel size, Å/px.
    diameter_angst
        Smallest and largest diameter of the particles, Å; they may be equal.
    threshold
        Least score, a correlation coefficient from 0 to 1. Noise is kept out without
        it; raise it for fewer picks that look more alike.
    false_fraction
        Share of picks that may be noise, 0 to 1, where there are many of them. 0 keeps
        those only that noise would hardly reach once; 1 leaves all to ``threshold``.
    contrast
        Particles are darker (underfocus, as stored) or brighter than ice.
    distance_fraction
        Least distance of a pick from a better one, as a fraction of that one's
        diameter.
    border_fraction
        Least distance of a centre from the edge of the image, as a fraction of the
        diameter. Particles cut by the edge are found down to that.

    Returns
    -------
    Coordinates
        Best first, none where nothing is above noise; the score is the correlation
        coefficient, the diameter that of the best template, which goes down to
        0.9 times the smallest asked for.

    Raises
    ------
    BadSettings
        A size is 0 or less, or the smaller diameter is not the first.
    UnusableImage
        The image has no two axes of 8 px, or holds NaN or one constant value.

    Notes
    -----
    Work is done at 1/16 of the smallest diameter per pixel. See ``correlate`` for the
    score and ``limit`` for what counts as noise. Peaks of far more contrast than the
    usual pick, or in far more uneven surroundings, are contamination and left out.
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
    picks = _above_noise(
        found,
        decoys,
        threshold=threshold,
        false_fraction=false_fraction,
        pixel_size_angst=reduced.pixel_size_angst,
    )
    return Coordinates(
        x_px=(picks.x_px * reduced.step_x_px).astype(np.float32),
        y_px=(picks.y_px * reduced.step_y_px).astype(np.float32),
        score=picks.score.astype(np.float32),
        diameter_angst=picks.diameter_angst.astype(np.float32),
    )


def _check(pixel_size_angst: float, diameter_angst: tuple[float, float]) -> None:
    low_angst, high_angst = diameter_angst
    if not (0 < low_angst <= high_angst < math.inf and 0 < pixel_size_angst < math.inf):
        raise BadSettings(
            f"Particles of {low_angst} to {high_angst} Å at {pixel_size_angst} Å/px"
            " cannot be picked.",
            hint="Give sizes above 0, the smaller diameter first.",
        )


def _above_noise(
    found: Peaks,
    decoys: Peaks,
    *,
    threshold: float,
    false_fraction: float,
    pixel_size_angst: float,
) -> Peaks:
    """Return peaks that are neither noise nor contamination.

    Contamination is what no template explains, or has more contrast than particles.
    It answers templates and decoys, so that the limit of noise is set without it.
    """
    clean, clean_decoys = (
        _even(peaks, found, decoys, pixel_size_angst) for peaks in (found, decoys)
    )
    limit_at = partial(_limit, clean, clean_decoys, pixel_size_angst=pixel_size_angst)
    sure = clean.only(clean.score >= limit_at(_SURE_FRACTION))
    picks = found.only(found.score >= max(threshold, limit_at(false_fraction)))
    return picks.only(_is_alike(picks, sure)) if len(sure) else picks


def _even(peaks: Peaks, found: Peaks, decoys: Peaks, pixel_size_angst: float) -> Peaks:
    """Leave out peaks beside one whose window is far more uneven than is usual.

    Where that would be most of them, it is usual: without noise, or in a crowd.
    """
    residual = np.concatenate([found.residual, decoys.residual])
    most = _RESIDUAL_RATIO * float(np.median(residual)) if len(residual) else 0.0
    is_beside = partial(is_near, pixel_size_angst=pixel_size_angst, reach=1.0)
    is_even = ~(
        is_beside(peaks, found.only(found.residual > most))
        | is_beside(peaks, decoys.only(decoys.residual > most))
    )
    return peaks.only(is_even) if 2 * is_even.sum() > len(peaks) else peaks


def _is_alike(picks: Peaks, sure: Peaks) -> NDArray[np.bool_]:
    """Say which picks have the contrast and the surroundings of most.

    A neighbour may leave as much unexplained as a particle has contrast.
    """
    usual = float(np.median(sure.contrast))
    most = math.hypot(_RESIDUAL_RATIO * float(np.median(sure.residual)), usual)
    is_alike: NDArray[np.bool_] = picks.contrast <= _CONTRAST_RATIO * usual
    return is_alike & (picks.residual <= most)


def _limit(
    found: Peaks, decoys: Peaks, false_fraction: float, *, pixel_size_angst: float
) -> float:
    """Return the noise limit from peaks that no better one of other sign is near.

    The bright rims of dark particles are no noise: they would raise the limit.
    """
    is_outshone = partial(outshone, pixel_size_angst=pixel_size_angst, reach=_REACH)
    return noise_limit(
        found.score[~is_outshone(found, decoys)],
        decoys.score[~is_outshone(decoys, found)],
        false_fraction=false_fraction,
    )
