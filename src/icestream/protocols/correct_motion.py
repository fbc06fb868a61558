"""The step that turns a movie into a motion-corrected micrograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from icestream.domain import Micrograph, Movie, MovieMotion
from icestream.protocols.corrected_movie import READS, correct_item
from icestream.protocols.movie_correction import correct_movie_file
from icestream.protocols.movie_plan import (
    Binning,
    EerDose,
    EerFrames,
    KeepPlain,
    MovieOptions,
    NumberFormat,
    ThumbnailSide,
)
from icestream.streaming.protocol import Context, Input, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.domain import AcquisitionSetup
    from icestream.protocols.corrected_movie import CorrectedFiles, CorrectedMovie

__all__ = ["CorrectMotion", "CorrectMotionParams"]


class CorrectMotionParams(Params):
    """How movies are corrected, and what is kept of them."""

    local: bool = Field(
        default=True, description="Look for motion in parts of the image too."
    )
    binning: Binning = 1.0
    first_frame: int = Field(
        default=1, ge=1, description="First frame that is used, from 1."
    )
    last_frame: int | None = Field(
        default=None, ge=2, description="Last frame that is used; all, if not given."
    )
    eer_dose_e_per_angst2: EerDose = 1.0
    eer_frames: EerFrames = None
    eer_upsampling: Literal[1, 2] = Field(
        default=1, description="2 for a grid of half the camera's pixels."
    )
    keep_plain: KeepPlain = False
    keep_halves: bool = Field(
        default=False,
        description="Write the sums of odd and of even frames too (_ODD, _EVN).",
    )
    number_format: NumberFormat = "float16"
    thumbnail_px: ThumbnailSide = 512

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

    One image, weighted by dose where the dose is known or can be counted, and the
    motion as RELION reads it. The image's rows are in RELION's order. Where the slot
    has a GPU, frames are moved there.
    """

    name: ClassVar = "correct_motion"
    Params: ClassVar = CorrectMotionParams
    inputs: ClassVar = {"movie": Input(kind=Movie)}
    outputs: ClassVar = {"micrograph": Micrograph, "motion": MovieMotion}
    reads: ClassVar = READS
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
        options = self.params.options()

        def correct(setup: AcquisitionSetup, files: CorrectedFiles) -> CorrectedMovie:
            return correct_movie_file(
                Path(movie.path),
                setup=setup,
                options=options,
                files=files,
                counts_dose=movie.may_count_dose,
                threads=context.threads,
                device="cuda" if torch.cuda.is_available() else "cpu",
            )

        return correct_item(
            context,
            movie,
            correct,
            endings=options.endings,
            thumbnail_px=self.params.thumbnail_px,
        )
