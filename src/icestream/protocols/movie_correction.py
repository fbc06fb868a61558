"""Correct one movie's file: what the step of a session and the command share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from icestream.domain import AcquisitionSetup, MovieMotion
from icestream.domain.errors import UnusableImage
from icestream.engines.ctf import power_spectra
from icestream.engines.motion import Correction, CorrectionRecipe, correct_movie
from icestream.io import write_mrc, write_thumbnail
from icestream.io.eer import EerSampling, frames_per_fraction
from icestream.io.movie import read_movie_header
from icestream.io.relion_motion import RelionMotion, write_relion_motion
from icestream.protocols.gain_check import require_fitting_gain
from icestream.protocols.movies import load_defects, load_gain, loaded_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from icestream.engines.gain import GainCandidate
    from icestream.io.header import MovieHeader

__all__ = ["CorrectedFiles", "CorrectedMovie", "MovieOptions", "correct_movie_file"]

_SPECTRUM_PX = 512
_EARLY_E_PER_ANGST2 = 4.0
# Raw frames in a fraction of an EER movie whose dose is not known.
_USUAL_EER_FRAMES = 40
# A frame that holds less than this of what the others do is blank.
_LEAST_SHARE = 0.2
_SPARSE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieOptions:
    """As the parameters of `correct_motion` have them."""

    local: bool = True
    binning: float = 1.0
    first_frame: int = 1
    last_frame: int | None = None
    eer_dose_e_per_angst2: float = 1.0
    eer_frames: int | None = None
    eer_upsampling: Literal[1, 2] = 1
    keep_plain: bool = False
    keep_halves: bool = False
    number_format: Literal["float16", "float32"] = "float16"

    @property
    def endings(self) -> tuple[str, ...]:
        """What a movie leaves, by the endings of names."""
        plain = ("_noDW.mrc",) if self.keep_plain else ()
        halves = ("_ODD.mrc", "_EVN.mrc") if self.keep_halves else ()
        return (".mrc", ".star", "_spectrum.mrc", *plain, *halves)

    def bytes_per_exposure(self, shape: tuple[int, int]) -> int:
        """Return about how much is written for a movie of frames of this shape."""
        pixels = int(shape[0] * shape[1] * (self.eer_upsampling / self.binning) ** 2)
        size = 2 if self.number_format == "float16" else 4
        images = 1 + self.keep_plain + 2 * self.keep_halves
        return images * (pixels * size + 1024) + 4 * _SPECTRUM_PX**2 + (1 << 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedFiles:
    """Where to write: one file for each of the options' endings, and a thumbnail."""

    by_ending: Mapping[str, Path]
    thumbnail: Path | None = None
    thumbnail_px: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedMovie:
    """What came of a movie's file."""

    height_px: int
    width_px: int
    pixel_size_angst: float
    mean: float
    standard_deviation: float
    spectrum_pixel_size_angst: float
    motion: MovieMotion

    def as_motion(self, *, star: str, notice: str) -> MovieMotion:
        """Return the motion with the name and the notice that a session has."""
        return dataclasses.replace(self.motion, star=star, notice=notice)


def correct_movie_file(
    path: Path,
    *,
    setup: AcquisitionSetup,
    options: MovieOptions,
    files: CorrectedFiles,
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
    threads
        On the CPU.
    device
        Where frames are moved and added up.

    Returns
    -------
    CorrectedMovie
        Sizes, statistics and the motion.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        A movie, gain or list of defects that is damaged or does not fit.
    BadSettings
        Options that cannot be, or a gain that lies otherwise than declared.
    DiskFull, FolderUnavailable
        Nothing can be written.
    """
    sampling = _sampling(path, setup, options)
    header = read_movie_header(path, eer=sampling)
    chosen = _frames(path, header, options)
    dose = _frame_dose(setup, header, sampling)
    recipe = CorrectionRecipe(
        pixel_size_angst=setup.pixel_size_angst / options.eer_upsampling
        if sampling
        else setup.pixel_size_angst,
        voltage_kv=setup.voltage_kv,
        dose_e_per_angst2=dose,
        before_e_per_angst2=setup.dose_before_e_per_angst2
        + (dose or 0.0) * chosen.start,
        with_local=options.local,
        with_plain=True,
        with_halves=options.keep_halves,
        binning=options.binning,
    )
    shape = (header.height_px, header.width_px)
    found = load_gain(setup, is_for_eer=header.format == "eer", frame_shape=shape)
    gain, defects = (None, None) if found is None else found
    if setup.defects is not None:
        listed = load_defects(Path(setup.defects), frame_shape=shape)
        defects = listed if defects is None else defects | listed
    fit = None
    with loaded_frames(
        path, frames=chosen, sampling=sampling, threads=threads
    ) as frames:
        _check_light(frames, path)
        if gain is not None:
            fit = require_fitting_gain(frames, gain, setup)
        done = correct_movie(
            frames,
            recipe=recipe,
            gain=gain,
            defects=defects,
            threads=threads,
            device=device,
        )
    image, spectrum_angst = _write_images(done, options, files)
    star = _relion_motion(path, setup, recipe, header, chosen, done, sampling)
    residual = write_relion_motion(files.by_ending[".star"], star)
    return CorrectedMovie(
        height_px=image.shape[0],
        width_px=image.shape[1],
        pixel_size_angst=done.pixel_size_angst,
        mean=float(image.mean(dtype=np.float64)),
        standard_deviation=float(image.std(dtype=np.float64)),
        spectrum_pixel_size_angst=spectrum_angst,
        motion=_record(path, files, done, dose, residual, header, fit),
    )


def _sampling(
    path: Path, setup: AcquisitionSetup, options: MovieOptions
) -> EerSampling | None:
    """Return how an EER movie is read; nothing for others."""
    header = read_movie_header(path)
    if header.format != "eer":
        return None
    count = options.eer_frames
    if count is None and setup.dose_e_per_angst2 is not None:
        count = frames_per_fraction(
            header.raw_frame_count,
            dose_e_per_angst2=setup.dose_e_per_angst2,
            fraction_dose_e_per_angst2=options.eer_dose_e_per_angst2,
        )
    return EerSampling(
        upsampling=options.eer_upsampling,
        frames_per_fraction=count or _USUAL_EER_FRAMES,
    )


def _frames(path: Path, header: MovieHeader, options: MovieOptions) -> range:
    last = header.frame_count if options.last_frame is None else options.last_frame
    chosen = range(options.first_frame - 1, last)
    if len(chosen) < 2 or last > header.frame_count:
        raise UnusableImage(
            f"{path} has {header.frame_count} frames; asked for were "
            f"{options.first_frame} to {last}.",
            hint="Give 2 frames at least, of those that every movie has.",
        )
    return chosen


def _frame_dose(
    setup: AcquisitionSetup, header: MovieHeader, sampling: EerSampling | None
) -> float | None:
    """Return the dose of a decoded frame, e/Å2."""
    if setup.dose_e_per_angst2 is None:
        return None
    raw = setup.dose_e_per_angst2 / header.raw_frame_count
    return raw * (sampling.frames_per_fraction if sampling else 1)


def _check_light(frames: NDArray[Any], path: Path) -> None:
    """Refuse movies that nothing was recorded in."""
    sparse = frames[:, ::_SPARSE, ::_SPARSE].astype(np.float64)
    if not np.isfinite(sparse).all():
        raise UnusableImage(
            f"{path} holds pixels that are no numbers.",
            hint="Look at the program that wrote it; leave this movie out.",
        )
    means = sparse.mean(axis=(1, 2))
    lit = int((means > _LEAST_SHARE * np.median(means)).sum())
    if sparse.std() == 0 or not means.max() > 0 or 2 * lit < len(means):
        raise UnusableImage(
            f"{path} is blank: {len(means) - lit} of {len(means)} frames hold next to "
            "nothing.",
            hint="Was the beam on, the shutter open? Leave this movie out.",
        )


def _write_images(
    done: Correction, options: MovieOptions, files: CorrectedFiles
) -> tuple[NDArray[np.float32], float]:
    """Return the image that goes on, and the pixel size of its spectrum."""
    averages = done.averages
    best = averages.plain if averages.dose_weighted is None else averages.dose_weighted
    images = {
        ".mrc": best,
        "_noDW.mrc": averages.plain,
        "_ODD.mrc": averages.odd,
        "_EVN.mrc": averages.even,
    }
    for ending, image in images.items():
        if ending in files.by_ending and image is not None:
            write_mrc(
                files.by_ending[ending],
                image.numpy(),
                pixel_size_angst=done.pixel_size_angst,
                dtype=options.number_format,
            )
    plain = averages.plain
    if best is None or plain is None:
        raise UnusableImage("No image was made.", hint="Ask for one.")
    spectra = power_spectra(
        plain, pixel_size_angst=done.pixel_size_angst, box_px=_SPECTRUM_PX
    )
    write_mrc(
        files.by_ending["_spectrum.mrc"],
        _whole_spectrum(spectra.mean).numpy(),
        pixel_size_angst=spectra.pixel_size_angst,
        dtype=np.float32,
    )
    shown: NDArray[np.float32] = best.numpy()
    if files.thumbnail is not None:
        write_thumbnail(shown, files.thumbnail, side_px=files.thumbnail_px)
    return shown, spectra.pixel_size_angst


def _whole_spectrum(half: torch.Tensor) -> torch.Tensor:
    """Return ``(n, n)`` centred, of the ``(n, n // 2 + 1)`` of a real transform."""
    n = half.shape[0]
    back = torch.roll(torch.flip(half, (0,)), 1, 0)
    other = torch.flip(back[:, 1 : (n + 1) // 2], (1,))
    whole: torch.Tensor = torch.fft.fftshift(torch.cat([half, other], 1))
    return whole


def _relion_motion(
    path: Path,
    setup: AcquisitionSetup,
    recipe: CorrectionRecipe,
    header: MovieHeader,
    chosen: range,
    done: Correction,
    sampling: EerSampling | None,
) -> RelionMotion:
    return RelionMotion(
        movie=str(path),
        pixel_size_angst=recipe.pixel_size_angst,
        field=done.motion.field,
        frame_count=header.frame_count,
        first_frame=chosen.start + 1,
        binning=done.pixel_size_angst / recipe.pixel_size_angst,
        dose_e_per_angst2=recipe.dose_e_per_angst2,
        pre_exposure_e_per_angst2=setup.dose_before_e_per_angst2,
        voltage_kv=setup.voltage_kv,
        gain=setup.gain,
        eer_grouping=sampling.frames_per_fraction if sampling else None,
        eer_upsampling=sampling.upsampling if sampling else None,
        hot_px=np.argwhere(done.is_bad),
    )


def _record(
    path: Path,
    files: CorrectedFiles,
    done: Correction,
    dose: float | None,
    residual_angst: float,
    header: MovieHeader,
    fit: GainCandidate | None,
) -> MovieMotion:
    motion = done.motion
    shift = motion.field.shift_angst
    steps = np.sqrt((np.diff(shift, axis=0) ** 2).sum(1))
    early = None
    if dose is not None:
        early = float(steps[: max(round(_EARLY_E_PER_ANGST2 / dose), 1)].sum())
    error = float(np.sqrt(np.mean(motion.error_angst**2)))
    left = header.left_over_frame_count
    notices = [
        "The dose is not known: no dose weights." if dose is None else "",
        f"{left} raw frames at the end fill no fraction and were dropped."
        if left
        else "",
        "" if motion.was_seen.any() else "No motion could be seen: frames stay.",
    ]
    return MovieMotion(
        movie=str(path),
        star=str(files.by_ending[".star"]),
        star_residual_angst=residual_angst,
        shift_y_angst=shift[:, 0].copy(),
        shift_x_angst=shift[:, 1].copy(),
        total_angst=float(steps.sum()),
        early_angst=early,
        late_angst=None if early is None else float(steps.sum()) - early,
        error_angst=error if np.isfinite(error) else None,
        frame_count=len(shift),
        seen_frame_count=int(motion.was_seen.sum()),
        dose_e_per_angst2=dose,
        has_local=motion.field.local_angst is not None,
        local_gain=motion.local_gain,
        still_fraction=motion.still_fraction,
        bad_pixel_count=int(done.is_bad.sum()),
        gain_correlation=None if fit is None else fit.correlation,
        left_over_frame_count=left,
        notice=" ".join(one for one in notices if one),
    )
