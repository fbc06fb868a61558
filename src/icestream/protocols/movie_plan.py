"""What of a movie's file is corrected, and with what: settled before pixels are."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from icestream.domain.errors import UnusableImage
from icestream.domain.precedence import settle_dose
from icestream.io.eer import MOST_EER_FRAMES, EerSampling, frames_per_fraction
from icestream.io.movie import open_movie
from icestream.protocols.gain_check import require_fitting_gain
from icestream.protocols.movies import load_defects, load_gain, loaded_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from icestream.domain import AcquisitionSetup
    from icestream.engines.gain import GainCandidate
    from icestream.io.header import MovieHeader
    from icestream.io.movie import MovieFile

__all__ = [
    "SPECTRUM_PX",
    "Binning",
    "EerDose",
    "EerFrames",
    "KeepPlain",
    "MovieOptions",
    "MoviePlan",
    "NumberFormat",
    "ThumbnailSide",
    "plan_movie",
]

Binning = Annotated[
    float,
    Field(
        ge=1,
        le=8,
        description="Pixel size of the image over that of the movie, by Fourier crop; "
        "2 for super-resolution.",
    ),
]
EerDose = Annotated[
    float,
    Field(gt=0, le=100, description="Dose of a fraction of an EER movie, e/Å2."),
]
EerFrames = Annotated[
    int | None,
    Field(
        ge=1,
        le=MOST_EER_FRAMES,
        description="Raw frames in a fraction of an EER movie, in place of its dose.",
    ),
]
KeepPlain = Annotated[
    bool, Field(description="Write the sum without dose weights too (_noDW).")
]
NumberFormat = Annotated[
    Literal["float16", "float32"],
    Field(
        description="How pixels are stored: float16 (MRC mode 12) for RELION 4 and "
        "later and cryoSPARC, float32 for older programs.",
    ),
]
ThumbnailSide = Annotated[
    int, Field(ge=64, le=2048, description="Longer side of the thumbnail, px.")
]

SPECTRUM_PX = 512
"""Side of the spectra that are kept for the CTF."""

# Raw frames in a fraction of an EER movie whose dose is not known.
_USUAL_EER_FRAMES = 40
# A frame that holds less than this of what the others do is blank.
_LEAST_SHARE = 0.2
_SPARSE = 16
# Of a whole movie; what seems more than this was not counted electron by electron.
_MOST_E_PER_ANGST2 = 200.0
# Share of pixels at either end that are left out of the mean: hot and dead ones.
_OUTLYING = 0.01
_MOST_COUNTS = 1e12
# Fewer pixels say nothing of defects, nor of motion.
_LEAST_SIDE_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieOptions:
    """As the parameters of the protocols have them."""

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

    def bytes_per_exposure(self, header: MovieHeader) -> int:
        """Return about how much is written for a movie."""
        finer = self.eer_upsampling if header.format == "eer" else 1
        height, width = (
            int(side * finer / self.binning)
            for side in (header.height_px, header.width_px)
        )
        size = 2 if self.number_format == "float16" else 4
        images = 1 + self.keep_plain + 2 * self.keep_halves
        box = min(SPECTRUM_PX, max(128, 4 * min(height, width) // 11))
        rows, columns = (
            min(4, 1 + math.ceil((side / box - 1) / 0.9)) for side in (height, width)
        )
        spectra = rows * columns * box * (box + 2)
        thumbnail = min(1 << 16, height * width // 4)
        return images * (height * width * size + 1024) + spectra + thumbnail


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MoviePlan:
    """A movie as it is to be corrected.

    Parameters
    ----------
    movie
        Its file, in the frames as they are decoded.
    setup
        Pixel size of the stored frames, voltage, dose of the whole, gain and defects.
    options
        What is wanted.
    sampling
        Of an EER movie.
    frames
        Which are used, from 0.
    dose_e_per_angst2
        Of each decoded frame, e/Å2; ``None`` where not known.
    gain
        ``(h, w)`` as it fits the frames, if the setup has one; not to be changed.
    defects
        ``(h, w)`` known ones, of gain and list; ``None`` where nothing is said.
    dose_notice
        What people should know of a dose that was counted.
    """

    movie: MovieFile
    setup: AcquisitionSetup
    options: MovieOptions
    sampling: EerSampling | None
    frames: range
    dose_e_per_angst2: float | None
    gain: NDArray[np.float32] | None
    defects: NDArray[np.bool_] | None
    dose_notice: str = ""

    @property
    def path(self) -> Path:
        """TIFF, MRC or EER."""
        return self.movie.path

    @property
    def header(self) -> MovieHeader:
        """Of the frames as they are decoded."""
        return self.movie.header

    @property
    def pixel_size_angst(self) -> float:
        """Of the decoded frames, Å/px."""
        finer = self.sampling.upsampling if self.sampling else 1
        return self.setup.pixel_size_angst / finer

    @property
    def before_e_per_angst2(self) -> float:
        """Dose before the first frame that is used, e/Å2."""
        skipped = (self.dose_e_per_angst2 or 0.0) * self.frames.start
        return self.setup.dose_before_e_per_angst2 + skipped

    @contextmanager
    def checked_frames(
        self, threads: int = 1
    ) -> Iterator[tuple[NDArray[Any], GainCandidate | None]]:
        """Decode the frames; refuse those that nothing can be made of.

        Yields
        ------
        tuple
            ``(frames, h, w)`` counts, which may be changed and are overwritten by the
            next movie; and how well the gain fits them, if there is one.

        Raises
        ------
        UnreadableFile, IncompleteFile
            As `MovieFile.decode` does.
        UnusableImage
            Frames that are blank, or hold pixels that are no numbers.
        BadSettings
            The gain lies otherwise than declared.
        """
        with loaded_frames(self.movie, frames=self.frames, threads=threads) as frames:
            _check_light(frames, self.path)
            fit = None
            if self.gain is not None:
                fit = require_fitting_gain(frames, self.gain, self.setup)
            yield frames, fit

    def with_counted_dose(self, frames: NDArray[Any]) -> MoviePlan:
        """Return the plan with a dose by counts, where none is known and they tell it.

        Parameters
        ----------
        frames
            ``(frames, h, w)`` as decoded: EER, or bytes, as a counting camera has them.
            Other numbers may be scaled or corrected and tell nothing.

        Notes
        -----
        An estimate, and too low: ice and the camera lose electrons. Weights by it are a
        little milder than right, and nearer to right than none.
        """
        is_counted = self.header.format == "eer" or frames.dtype.itemsize == 1
        if self.dose_e_per_angst2 is not None or not is_counted:
            return self
        sums = frames[:, ::_SPARSE, ::_SPARSE].sum(axis=0, dtype=np.float64)
        low, high = np.quantile(sums, [_OUTLYING, 1 - _OUTLYING])
        settled = settle_dose(
            counted_e_per_px=float(sums[(sums >= low) & (sums <= high)].mean()),
            pixel_size_angst=self.pixel_size_angst,
        )
        if settled.value is None or settled.value > _MOST_E_PER_ANGST2:
            return self
        return replace(
            self,
            dose_e_per_angst2=settled.value / len(frames),
            dose_notice=settled.notice,
        )


def plan_movie(
    path: Path, *, setup: AcquisitionSetup, options: MovieOptions
) -> MoviePlan:
    """Read the header of a movie, and what belongs to it.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        A movie, gain or list of defects that is damaged or does not fit.
    """
    raw = open_movie(path)
    sampling = _sampling(raw.header, setup, options)
    movie = raw.sampled(sampling)
    header = movie.header
    chosen = _frames(path, header, options)
    shape = (header.height_px, header.width_px)
    if min(shape) < _LEAST_SIDE_PX:
        raise UnusableImage(
            f"{path} has frames of {header.height_px} x {header.width_px} px.",
            hint="They are too small to align: leave this movie out.",
        )
    found = load_gain(setup, is_for_eer=header.format == "eer", frame_shape=shape)
    gain, defects = (None, None) if found is None else found
    if setup.defects is not None:
        listed = load_defects(Path(setup.defects), frame_shape=shape)
        defects = listed if defects is None else defects | listed
    return MoviePlan(
        movie=movie,
        setup=setup,
        options=options,
        sampling=sampling,
        frames=chosen,
        dose_e_per_angst2=_frame_dose(setup, header, sampling),
        gain=gain,
        defects=defects,
    )


def _sampling(
    header: MovieHeader, setup: AcquisitionSetup, options: MovieOptions
) -> EerSampling | None:
    """Return how an EER movie is read; nothing for others."""
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
    if last > header.frame_count or last <= options.first_frame:
        raise UnusableImage(
            f"{path} has {header.frame_count} frames; asked for were "
            f"{options.first_frame} to {last}.",
            hint="Give 2 frames at least, of those that every movie has.",
        )
    return range(options.first_frame - 1, last)


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
    if frames.dtype.kind == "f" and not all(_are_counts(one) for one in frames):
        raise UnusableImage(
            f"{path} holds pixels that are no numbers, or beyond any count.",
            hint="Look at the program that wrote it; leave this movie out.",
        )
    sparse = frames[:, ::_SPARSE, ::_SPARSE].astype(np.float64)
    means = sparse.mean(axis=(1, 2))
    lit = int((means > _LEAST_SHARE * np.median(means)).sum())
    dark = f"{len(means) - lit} of {len(means)} frames hold next to nothing"
    if sparse.std() == 0 or not means.max() > 0 or 2 * lit < len(means):
        said = dark if 2 * lit < len(means) else "all its pixels are alike"
        raise UnusableImage(
            f"{path} is blank: {said}.",
            hint="Was the beam on, the shutter open? Leave this movie out.",
        )


def _are_counts(frame: NDArray[Any]) -> bool:
    """Return whether no value of a frame is NaN, infinite or too large to square."""
    return bool(frame.min() > -_MOST_COUNTS and frame.max() < _MOST_COUNTS)
