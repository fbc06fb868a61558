"""The step that turns a movie into a motion-corrected micrograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from icestream.domain import AcquisitionSetup, Micrograph, Movie, MovieMotion
from icestream.io import THUMBNAIL_SUFFIX
from icestream.protocols.movie_correction import (
    CorrectedFiles,
    MovieOptions,
    correct_movie_file,
)
from icestream.streaming.protocol import Context, Input, Keep, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CorrectMotion", "CorrectMotionParams"]


class CorrectMotionParams(Params):
    """How movies are corrected, and what is kept of them."""

    local: bool = Field(
        default=True, description="Look for motion in parts of the image too."
    )
    binning: float = Field(
        default=1.0,
        ge=1,
        le=8,
        description="Pixel size of the image over that of the movie, by Fourier crop; "
        "2 for super-resolution.",
    )
    first_frame: int = Field(
        default=1, ge=1, description="First frame that is used, from 1."
    )
    last_frame: int | None = Field(
        default=None, ge=2, description="Last frame that is used; all, if not given."
    )
    eer_dose_e_per_angst2: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Dose of a fraction of an EER movie, e/Å2.",
    )
    eer_frames: int | None = Field(
        default=None,
        ge=1,
        description="Raw frames in a fraction of an EER movie, in place of its dose.",
    )
    eer_upsampling: Literal[1, 2] = Field(
        default=1, description="2 for a grid of half the camera's pixels."
    )
    keep_plain: bool = Field(
        default=False, description="Write the sum without dose weights too (_noDW)."
    )
    keep_halves: bool = Field(
        default=False,
        description="Write the sums of odd and of even frames too (_ODD, _EVN).",
    )
    number_format: Literal["float16", "float32"] = Field(
        default="float16",
        description="How pixels are stored: float16 (MRC mode 12) for RELION 4 and "
        "later and cryoSPARC, float32 for older programs.",
    )
    thumbnail_px: int = Field(
        default=512, ge=64, le=2048, description="Longer side of the thumbnail, px."
    )

    @model_validator(mode="after")
    def _has_frames(self) -> Self:
        if self.last_frame is not None and self.last_frame <= self.first_frame:
            raise ValueError("last_frame must lie behind first_frame")
        return self

    def options(self) -> MovieOptions:
        """Return what `correct_movie_file` wants."""
        return MovieOptions(**self.model_dump(exclude={"thumbnail_px"}))


class CorrectMotion(PerItem[CorrectMotionParams]):
    """Correct a movie: gain, defects, motion of the whole and of parts, dose.

    One image, weighted by dose where the dose is known, and the motion as RELION reads
    it. The image's rows are in RELION's order.
    """

    name: ClassVar = "correct_motion"
    Params: ClassVar = CorrectMotionParams
    inputs: ClassVar = {"movie": Input(kind=Movie)}
    outputs: ClassVar = {"micrograph": Micrograph, "motion": MovieMotion}
    reads: ClassVar = (
        "pixel_size_angst",
        "voltage_kv",
        "dose_before_e_per_angst2",
        "gain",
        "gain_mirror",
        "gain_turn_deg",
        "gain_divides",
        "defects",
        "setup",
    )
    citation: ClassVar = (
        "Zheng SQ et al. (2017). MotionCor2: anisotropic correction of beam-induced "
        "motion for improved cryo-electron microscopy. Nat. Methods 14, 331-332 (each "
        "frame against the sum of the others). Grant T, Grigorieff N (2015). Measuring "
        "the optimal exposure for single particle cryo-EM. eLife 4, e06980 (dose "
        "weights)."
    )

    def process(
        self, context: Context, /, *, movie: Movie
    ) -> Mapping[str, Micrograph | MovieMotion]:
        """Return the micrograph and the motion."""
        fields = context.acquisition
        setup = AcquisitionSetup(
            name=fields.setup,
            pixel_size_angst=movie.pixel_size_angst,
            voltage_kv=fields.voltage_kv,
            dose_e_per_angst2=movie.dose_e_per_angst2,
            dose_before_e_per_angst2=fields.dose_before_e_per_angst2,
            gain=fields.gain,
            gain_mirror=fields.gain_mirror,
            gain_turn_deg=fields.gain_turn_deg,
            gain_divides=fields.gain_divides,
            defects=fields.defects,
        )
        products = {
            ending: context.product(ending) for ending in self.params.options().endings
        }
        thumbnail = context.product(THUMBNAIL_SUFFIX, keep=Keep.CACHE)
        corrected = correct_movie_file(
            Path(movie.path),
            setup=setup,
            options=self.params.options(),
            files=CorrectedFiles(
                by_ending={end: one.temporary for end, one in products.items()},
                thumbnail=thumbnail.temporary,
                thumbnail_px=self.params.thumbnail_px,
            ),
            threads=context.threads,
        )
        micrograph = Micrograph(
            path=products[".mrc"].path,
            height_px=corrected.height_px,
            width_px=corrected.width_px,
            pixel_size_angst=corrected.pixel_size_angst,
            setup=movie.setup,
            mean=corrected.mean,
            standard_deviation=corrected.standard_deviation,
            thumbnail=thumbnail.path,
            spectrum=products["_spectrum.mrc"].path,
            spectrum_pixel_size_angst=corrected.spectrum_pixel_size_angst,
        )
        notices = (movie.notice, corrected.motion.notice)
        motion = corrected.as_motion(
            star=products[".star"].path,
            notice=" ".join(one for one in notices if one),
        )
        return {"micrograph": micrograph, "motion": motion}
