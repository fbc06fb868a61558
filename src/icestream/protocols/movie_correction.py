"""Correct one movie's file: what the step of a session and the command share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.engines.motion import Correction, CorrectionRecipe, correct_movie
from icestream.protocols.corrected_movie import (
    CorrectedMovie,
    record_motion,
    relion_motion,
    write_images,
)
from icestream.protocols.movie_plan import plan_movie
from icestream.protocols.movies import naming

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.domain import AcquisitionSetup, MovieMotion
    from icestream.protocols.corrected_movie import CorrectedFiles
    from icestream.protocols.movie_plan import MovieOptions, MoviePlan

__all__ = ["correct_movie_file"]


def correct_movie_file(
    path: Path,
    *,
    setup: AcquisitionSetup,
    options: MovieOptions,
    files: CorrectedFiles,
    counts_dose: bool = False,
    threads: int = 1,
    device: str = "cpu",
) -> CorrectedMovie:
    """Read, correct and write one movie.

    Parameters
    ----------
    path
        TIFF, MRC or EER.
    setup
        Pixel size of the stored frames, voltage, dose, gain and defects.
    options
        What is wanted.
    files
        Where to.
    counts_dose
        Whether counts may tell a dose that is not known.
    threads
        On the CPU.
    device
        Where frames are moved and added up.

    Returns
    -------
    CorrectedMovie
        The image and the motion.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        A movie, gain or list of defects that is damaged or does not fit.
    BadSettings
        Options that cannot be, or a gain that lies otherwise than declared.
    DiskFull, FolderUnavailable
        Nothing can be written.
    """
    torch.set_num_threads(threads)
    plan = plan_movie(path, setup=setup, options=options)
    with plan.checked_frames(threads) as (frames, fit), naming(path):
        plan = plan.with_counted_dose(frames) if counts_dose else plan
        done = correct_movie(
            frames,
            recipe=_recipe(plan),
            gain=plan.gain,
            defects=plan.defects,
            threads=threads,
            device=device,
        )
    image = write_images(_images(done), plan, files)
    hot_px = np.argwhere(done.is_bad)
    star = relion_motion(plan, done.motion.field, image, hot_px=hot_px)
    motion = record_motion(plan, star, files, fit)
    return CorrectedMovie(image=image, motion=_with_estimate(motion, done))


def _recipe(plan: MoviePlan) -> CorrectionRecipe:
    options = plan.options
    return CorrectionRecipe(
        pixel_size_angst=plan.pixel_size_angst,
        voltage_kv=plan.setup.voltage_kv,
        dose_e_per_angst2=plan.dose_e_per_angst2,
        before_e_per_angst2=plan.before_e_per_angst2,
        with_local=options.local,
        with_plain=True,
        with_halves=options.keep_halves,
        binning=options.binning,
    )


def _images(done: Correction) -> Mapping[str, NDArray[np.float32]]:
    """Return the images by endings; without dose weights the plain one goes on."""
    made = done.averages
    weighted = made.plain if made.dose_weighted is None else made.dose_weighted
    images = {
        ".mrc": weighted,
        "_noDW.mrc": made.plain,
        "_ODD.mrc": made.odd,
        "_EVN.mrc": made.even,
    }
    return {end: one.numpy() for end, one in images.items() if one is not None}


def _with_estimate(motion: MovieMotion, done: Correction) -> MovieMotion:
    """Return the motion with what only our estimate tells of itself."""
    estimate = done.motion
    error = float(np.sqrt(np.mean(estimate.error_angst**2)))
    unseen = "" if estimate.was_seen.any() else "No motion could be seen: frames stay."
    return replace(
        motion,
        error_angst=error if np.isfinite(error) else None,
        seen_frame_count=int(estimate.was_seen.sum()),
        local_gain=estimate.local_gain,
        still_fraction=estimate.still_fraction,
        notice=f"{motion.notice} {unseen}".strip(),
    )
