"""The truth of a movie as its corrected image shows it.

Images have RELION's order of rows, upside down against a TIFF movie; and content lies
on its mean over time, or as in the first frame, less what the correction has missed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from icestream.engines.motion import field_on_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.simulate.score.values import FoundMotion, Pair
    from icestream.simulate.truth import ExposureTruth

__all__ = ["as_in_image", "found_motion_angst", "true_motion_angst"]


def as_in_image(pair: Pair, shape: tuple[int, int]) -> Pair:
    """Return a pair whose truth lies as the session's image.

    Parameters
    ----------
    pair
        Truth as the movie has it; one without motion is returned as it is.
    shape
        Rows and columns of the camera, px.
    """
    motion = pair.found.motion
    if motion is None:
        return pair
    truth = _turned(pair.truth, shape[0]) if motion.is_upside_down else pair.truth
    true = true_motion_angst(truth, motion)
    # The correction has taken away what it found.
    away = true.mean(0)
    if motion.is_as_in_first_frame:
        away = away - found_motion_angst(truth, motion).mean(0)
    return pair._replace(truth=_moved(truth, away, shape))


def true_motion_angst(truth: ExposureTruth, motion: FoundMotion) -> NDArray[np.float64]:
    """Return ``(frames, m, m, 2)`` Å: the truth in the middles of the frames used."""
    share = truth.frame_count / motion.frame_count
    used = motion.first_frame - 1 + np.arange(motion.field.frame_count)
    at = np.clip((used + 0.5) * share - 0.5, 0, truth.frame_count - 1)
    before = np.floor(at).astype(np.intp)
    after = np.minimum(before + 1, truth.frame_count - 1)
    part = (at - before)[:, None, None, None]
    shift = truth.motion_angst.astype(np.float64)
    found: NDArray[np.float64] = (1 - part) * shift[before] + part * shift[after]
    return found


def found_motion_angst(
    truth: ExposureTruth, motion: FoundMotion
) -> NDArray[np.float64]:
    """Return ``(frames, m, m, 2)`` Å: what was found at the places of the truth."""
    places = [
        np.linspace(0, side - 1, count)
        for side, count in zip(
            motion.field.shape_px, truth.motion_angst.shape[1:3], strict=True
        )
    ]
    return field_on_grid(motion.field, places[0], places[1])


def _turned(truth: ExposureTruth, height_px: int) -> ExposureTruth:
    """Return what is compared of it with the last row first."""
    particles = truth.particles
    return replace(
        truth,
        particles=replace(particles, y_px=height_px - 1 - particles.y_px),
        motion_angst=truth.motion_angst[:, ::-1] * np.array([-1, 1], np.float32),
        masked=truth.masked[::-1],
        defocus_angle_deg=-truth.defocus_angle_deg % 180,
    )


def _moved(
    truth: ExposureTruth, away_angst: NDArray[np.float64], shape: tuple[int, int]
) -> ExposureTruth:
    """Return it with particles moved by a field of ``(m, m, 2)`` Å."""
    particles = truth.particles
    nodes = [
        np.linspace(0, side - 1, count)
        for side, count in zip(shape, away_angst.shape[:2], strict=True)
    ]
    field = RegularGridInterpolator(nodes, away_angst, bounds_error=False)
    inside = np.clip(
        np.stack([particles.y_px, particles.x_px], axis=1), 0, np.array(shape) - 1
    )
    y_px, x_px = field(inside).T / truth.pixel_size_angst
    return replace(
        truth,
        particles=replace(
            particles, y_px=particles.y_px + y_px, x_px=particles.x_px + x_px
        ),
    )
