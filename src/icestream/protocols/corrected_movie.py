"""What comes of a movie, whoever corrected it: its files, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain import AcquisitionSetup, Micrograph, MovieMotion
from icestream.domain.motion import EARLY_E_PER_ANGST2
from icestream.engines.ctf import power_spectra
from icestream.io import THUMBNAIL_SUFFIX, write_mrc, write_thumbnail
from icestream.io.relion_motion import RelionMotion, write_relion_motion
from icestream.protocols.gain_shelf import require_same_gain
from icestream.protocols.movie_plan import SPECTRUM_PX
from icestream.streaming.protocol import Keep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.domain import MotionField, Movie
    from icestream.engines.gain import GainCandidate
    from icestream.protocols.movie_plan import MoviePlan
    from icestream.streaming.protocol import Context

__all__ = [
    "READS",
    "CorrectedFiles",
    "CorrectedMovie",
    "WrittenImage",
    "correct_item",
    "path_lengths_angst",
    "record_motion",
    "relion_motion",
    "write_images",
]

READS = (
    "pixel_size_angst",
    "voltage_kv",
    "dose_before_e_per_angst2",
    "defects",
    "setup",
)
"""Fields of the acquisition that a correction reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedFiles:
    """Where to write: one file for each of the options' endings, and a thumbnail."""

    by_ending: Mapping[str, Path]
    thumbnail: Path
    thumbnail_px: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImage:
    """The image that goes on, as it was written."""

    height_px: int
    width_px: int
    pixel_size_angst: float
    mean: float
    standard_deviation: float
    spectrum_pixel_size_angst: float
    spectrum_tile_count: tuple[int, ...]
    spectrum_y_angst: tuple[float, ...]
    spectrum_x_angst: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedMovie:
    """What came of a movie's file."""

    image: WrittenImage
    motion: MovieMotion


def correct_item(
    context: Context,
    movie: Movie,
    correct: Callable[[AcquisitionSetup, CorrectedFiles], CorrectedMovie],
    *,
    endings: tuple[str, ...],
    thumbnail_px: int,
) -> Mapping[str, Micrograph | MovieMotion]:
    """Correct a movie of a session.

    Parameters
    ----------
    context
        Of the step; see `READS` for the fields of the acquisition.
    movie
        To be corrected.
    correct
        Does it: from the movie's own setup into files.
    endings
        Of the names of these files.
    thumbnail_px
        Longer side of the thumbnail.

    Returns
    -------
    Mapping
        ``micrograph`` and ``motion``, under their names in the session.

    Raises
    ------
    UnreadableFile, IncompleteFile
        The gain is not there, or another one than the movie was bound to.
    """
    fields = context.acquisition
    if movie.gain is not None and movie.gain_fingerprint:
        require_same_gain(movie.gain, movie.gain_fingerprint)
    setup = AcquisitionSetup(
        name=fields.setup,
        pixel_size_angst=movie.pixel_size_angst,
        voltage_kv=fields.voltage_kv,
        dose_e_per_angst2=movie.dose_e_per_angst2,
        dose_before_e_per_angst2=fields.dose_before_e_per_angst2,
        gain=movie.gain,
        gain_mirror=movie.gain_mirror,
        gain_turn_deg=movie.gain_turn_deg,
        gain_divides=movie.gain_divides,
        defects=fields.defects,
    )
    products = {ending: context.product(ending) for ending in endings}
    thumbnail = context.product(THUMBNAIL_SUFFIX, keep=Keep.CACHE)
    files = CorrectedFiles(
        by_ending={end: one.temporary for end, one in products.items()},
        thumbnail=thumbnail.temporary,
        thumbnail_px=thumbnail_px,
    )
    done = correct(setup, files)
    image = done.image
    micrograph = Micrograph(
        path=products[".mrc"].path,
        height_px=image.height_px,
        width_px=image.width_px,
        pixel_size_angst=image.pixel_size_angst,
        setup=movie.setup,
        mean=image.mean,
        standard_deviation=image.standard_deviation,
        thumbnail=thumbnail.path,
        spectrum=products["_spectrum.mrc"].path,
        spectrum_pixel_size_angst=image.spectrum_pixel_size_angst,
        spectrum_tile_count=image.spectrum_tile_count,
        spectrum_y_angst=image.spectrum_y_angst,
        spectrum_x_angst=image.spectrum_x_angst,
    )
    motion = replace(done.motion, star=products[".star"].path)
    if movie.dose_e_per_angst2 is not None:
        motion = replace(motion, dose_origin=movie.dose_origin)
    return {"micrograph": micrograph, "motion": motion}


def write_images(
    images: Mapping[str, NDArray[np.float32]], plan: MoviePlan, files: CorrectedFiles
) -> WrittenImage:
    """Write images, the spectra of regions for the CTF, and the thumbnail.

    Parameters
    ----------
    images
        ``(h, w)`` by endings: ``.mrc`` goes on, ``_noDW.mrc`` is without dose weights,
        for the spectra. Those that no file is for are not written.
    plan
        Of the movie.
    files
        Where to.

    Raises
    ------
    DiskFull, FolderUnavailable
        Nothing can be written.
    """
    best = images[".mrc"]
    height, width = best.shape
    pixel_size_angst = plan.pixel_size_angst * plan.header.height_px / height
    for ending in images.keys() & files.by_ending.keys():
        write_mrc(
            files.by_ending[ending],
            images[ending],
            pixel_size_angst=pixel_size_angst,
            dtype=plan.options.number_format,
        )
    spectra = power_spectra(
        torch.from_numpy(images["_noDW.mrc"]),
        pixel_size_angst=pixel_size_angst,
        box_px=SPECTRUM_PX,
    )
    write_mrc(
        files.by_ending["_spectrum.mrc"],
        _on_mean_one(spectra.power.sqrt()).numpy(),
        pixel_size_angst=spectra.pixel_size_angst,
        is_stack=True,
    )
    write_thumbnail(best, files.thumbnail, side_px=files.thumbnail_px)
    return WrittenImage(
        height_px=height,
        width_px=width,
        pixel_size_angst=pixel_size_angst,
        mean=float(best.mean(dtype=np.float64)),
        standard_deviation=float(best.std(dtype=np.float64)),
        spectrum_pixel_size_angst=spectra.pixel_size_angst,
        spectrum_tile_count=tuple(spectra.tile_count.int().tolist()),
        spectrum_y_angst=tuple(spectra.place_angst[:, 0].tolist()),
        spectrum_x_angst=tuple(spectra.place_angst[:, 1].tolist()),
    )


def record_motion(
    plan: MoviePlan,
    star: RelionMotion,
    files: CorrectedFiles,
    fit: GainCandidate | None,
) -> MovieMotion:
    """Write a movie's motion for RELION, and tell what every correction can.

    Parameters
    ----------
    plan
        Of the movie.
    star
        Its motion, against the image.
    files
        Where to.
    fit
        How well the gain fits the counts.

    Raises
    ------
    DiskFull, FolderUnavailable
        Nothing can be written.
    """
    residual = write_relion_motion(files.by_ending[".star"], star)
    shift = star.field.shift_angst - star.field.shift_angst.mean(0)
    total, early, late = path_lengths_angst(
        shift,
        dose_e_per_angst2=plan.dose_e_per_angst2,
        before_e_per_angst2=plan.before_e_per_angst2,
    )
    left = plan.header.left_over_frame_count
    notices = (
        "The dose is not known: no dose weights." if early is None else "",
        plan.dose_notice,
        f"{left} raw frames at the end fill no fraction and were dropped."
        if left
        else "",
    )
    return MovieMotion(
        movie=str(plan.path),
        star=str(files.by_ending[".star"]),
        star_residual_angst=residual,
        shift_y_angst=shift[:, 0].copy(),
        shift_x_angst=shift[:, 1].copy(),
        total_angst=total,
        early_angst=early,
        late_angst=late,
        largest_step_angst=float(_steps_angst(shift).max(initial=0.0)),
        frame_count=len(shift),
        dose_e_per_angst2=plan.dose_e_per_angst2,
        dose_origin=_dose_origin(plan),
        has_local=star.field.local_angst is not None,
        bad_pixel_count=len(star.hot_px),
        gain_correlation=None if fit is None else fit.correlation,
        left_over_frame_count=left,
        notice=" ".join(one for one in notices if one),
    )


def relion_motion(
    plan: MoviePlan,
    field: MotionField,
    image: WrittenImage,
    *,
    hot_px: NDArray[np.int64],
) -> RelionMotion:
    """Return a movie and its motion as they are written for RELION.

    Parameters
    ----------
    plan
        Of the movie.
    field
        Where content goes, against the image.
    image
        That image.
    hot_px
        ``(n, 2)`` y and x of pixels that were replaced.
    """
    sampling = plan.sampling
    return RelionMotion(
        movie=str(plan.path),
        pixel_size_angst=plan.pixel_size_angst,
        field=field,
        frame_count=plan.header.frame_count,
        first_frame=plan.frames.start + 1,
        binning=image.pixel_size_angst / plan.pixel_size_angst,
        dose_e_per_angst2=plan.dose_e_per_angst2,
        pre_exposure_e_per_angst2=plan.setup.dose_before_e_per_angst2,
        voltage_kv=plan.setup.voltage_kv,
        gain=plan.setup.gain,
        eer_grouping=sampling.frames_per_fraction if sampling else None,
        eer_upsampling=sampling.upsampling if sampling else None,
        hot_px=hot_px,
    )


def path_lengths_angst(
    shift_angst: NDArray[np.float64],
    *,
    dose_e_per_angst2: float | None,
    before_e_per_angst2: float = 0.0,
) -> tuple[float, float | None, float | None]:
    """Return how far content has gone: in all, up to 4 e/Å2, and from there on.

    Parameters
    ----------
    shift_angst
        ``(frames, 2)`` Å.
    dose_e_per_angst2
        Of each frame, e/Å2; ``None`` where not known: the parts are then ``None`` too.
    before_e_per_angst2
        Dose before the first of them.

    Notes
    -----
    Between the middles of two frames content goes evenly with the dose. RELION counts
    whole steps instead, those that end in a frame which is over at 4 e/Å2.
    """
    way = np.concatenate([[0.0], np.cumsum(_steps_angst(shift_angst))])
    total = float(way[-1])
    if dose_e_per_angst2 is None:
        return total, None, None
    middles = before_e_per_angst2 + dose_e_per_angst2 * (np.arange(len(way)) + 0.5)
    early = float(np.interp(EARLY_E_PER_ANGST2, middles, way))
    return total, early, total - early


def _steps_angst(shift_angst: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length of each step from one frame to the next."""
    steps: NDArray[np.float64] = np.linalg.norm(np.diff(shift_angst, axis=0), axis=1)
    return steps


def _dose_origin(plan: MoviePlan) -> str:
    if plan.dose_e_per_angst2 is None:
        return "unknown"
    return "counts" if plan.dose_notice else "user"


def _on_mean_one(amplitude: torch.Tensor) -> torch.Tensor:
    """Bring amplitudes to where float16 is fine, whatever the unit of the image."""
    return amplitude / amplitude.mean()
