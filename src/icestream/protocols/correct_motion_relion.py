"""The step that has a movie's motion corrected by RELION."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from icestream.domain import Micrograph, Movie, MovieMotion
from icestream.domain.errors import ProgramFailed
from icestream.external.relion import (
    RelionMovie,
    RelionOptions,
    correct_motion_with_relion,
)
from icestream.external.scratch import scratch_folder
from icestream.io import guarding_writes, read_micrograph, write_mrc
from icestream.protocols.corrected_movie import (
    READS,
    CorrectedMovie,
    correct_item,
    record_motion,
    relion_motion,
    write_images,
)
from icestream.protocols.movie_plan import (
    Binning,
    EerDose,
    EerFrames,
    KeepPlain,
    MovieOptions,
    NumberFormat,
    ThumbnailSide,
    plan_movie,
)
from icestream.streaming.protocol import Context, Input, Params, PerItem, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.domain import AcquisitionSetup
    from icestream.external.relion import RelionCorrection
    from icestream.io.relion_motion import RelionMotion
    from icestream.protocols.corrected_movie import CorrectedFiles, WrittenImage
    from icestream.protocols.movie_plan import MoviePlan

__all__ = ["CorrectMotionRelion", "CorrectMotionRelionParams"]

_LONGEST_S = 3600


class _Logs(NamedTuple):
    """Where RELION's output is kept: as a product, or as it is where it fails."""

    if_done: Path
    if_failed: Path


class CorrectMotionRelionParams(Params):
    """How RELION corrects movies, and what is kept of them."""

    patches_x: int = Field(
        default=5,
        ge=1,
        le=20,
        description="Patches along a row; fewer than 3 for motion of the whole alone.",
    )
    patches_y: int = Field(
        default=5, ge=1, le=20, description="Patches along a column, as patches_x."
    )
    b_factor_px2: float = Field(
        default=150.0,
        ge=0,
        le=1e5,
        description="B factor of the correlation, px2; more for faint movies.",
    )
    binning: Binning = 1.0
    eer_dose_e_per_angst2: EerDose = 1.0
    eer_frames: EerFrames = None
    keep_plain: KeepPlain = False
    number_format: NumberFormat = "float16"
    thumbnail_px: ThumbnailSide = 512
    time_limit_s: float = Field(
        default=1200.0,
        gt=0,
        le=_LONGEST_S,
        description="RELION is ended when a movie takes longer, s.",
    )

    def options(self) -> MovieOptions:
        """Return what `plan_movie` wants."""
        named = ("binning", "eer_dose_e_per_angst2", "eer_frames", "keep_plain")
        values = {name: getattr(self, name) for name in (*named, "number_format")}
        return MovieOptions(**values)

    def relion(self, threads: int) -> RelionOptions:
        """Return what RELION is told."""
        return RelionOptions(
            patch_count=(self.patches_y, self.patches_x),
            b_factor_px2=self.b_factor_px2,
            binning=self.binning,
            keeps_unweighted=True,
            threads=threads,
            timeout_s=self.time_limit_s,
        )


class CorrectMotionRelion(PerItem[CorrectMotionRelionParams]):
    """Correct a movie with RELION's own motion correction.

    In place of `correct_motion`: inputs, outputs and files are the same, and the log of
    RELION besides. RELION 3.1 or later must be installed. Frames and gain are checked
    first as there; known defects and a gain of another size or orientation are brought
    into the gain that RELION gets.
    """

    name: ClassVar = "correct_motion_relion"
    Params: ClassVar = CorrectMotionRelionParams
    inputs: ClassVar = {"movie": Input(kind=Movie)}
    outputs: ClassVar = {"micrograph": Micrograph, "motion": MovieMotion}
    reads: ClassVar = READS
    resources: ClassVar = Resources(time_limit_s=_LONGEST_S + 300)
    citation: ClassVar = (
        "Zivanov J, Nakane T, Scheres SHW (2019). A Bayesian approach to beam-induced "
        "motion correction in cryo-EM single-particle analysis. IUCrJ 6, 5-17."
    )

    def process(
        self, context: Context, /, *, movie: Movie
    ) -> Mapping[str, Micrograph | MovieMotion]:
        """Return the micrograph and the motion."""
        options = self.params.options()
        log = context.product("_relion.log")

        def correct(setup: AcquisitionSetup, files: CorrectedFiles) -> CorrectedMovie:
            plan = plan_movie(Path(movie.path), setup=setup, options=options)
            relion = self.params.relion(context.threads)
            logs = _Logs(log.temporary, context.locate(log.path))
            with plan.checked_frames(context.threads) as (frames, fit):
                if movie.may_count_dose:
                    plan = plan.with_counted_dose(frames)
            star, image = _correct(plan, files, relion, logs)
            motion = record_motion(plan, star, files, fit)
            return CorrectedMovie(
                image=image, motion=replace(motion, is_as_in_first_frame=True)
            )

        return correct_item(
            context,
            movie,
            correct,
            endings=options.endings,
            thumbnail_px=self.params.thumbnail_px,
        )


def _correct(
    plan: MoviePlan, files: CorrectedFiles, options: RelionOptions, logs: _Logs
) -> tuple[RelionMotion, WrittenImage]:
    with scratch_folder("icestream-relion-") as place:
        gain = _write_gain(plan, place / "gain.mrc")
        done = _run(plan, gain, place / "run", options, logs)
        weighted = plain = read_micrograph(done.image)
        if done.unweighted_image is not None:
            plain = read_micrograph(done.unweighted_image)
    image = write_images({".mrc": weighted, "_noDW.mrc": plain}, plan, files)
    found = done.motion
    return relion_motion(plan, found.field, image, hot_px=found.hot_px), image


def _run(
    plan: MoviePlan,
    gain: Path | None,
    folder: Path,
    options: RelionOptions,
    logs: _Logs,
) -> RelionCorrection:
    """Let RELION work in a folder that will go; what it says is kept."""
    sampling = plan.sampling
    movie = RelionMovie(
        path=plan.path,
        frame_count=plan.header.frame_count,
        setup=plan.setup,
        dose_e_per_angst2=plan.dose_e_per_angst2,
        pre_exposure_e_per_angst2=plan.before_e_per_angst2,
        gain=gain,
        eer_grouping=sampling.frames_per_fraction if sampling else None,
    )
    try:
        done = correct_motion_with_relion(movie, folder, options=options)
    except ProgramFailed as error:
        log = folder / "relion.log"
        with guarding_writes(logs.if_failed):
            shutil.copyfile(log, logs.if_failed)
        hint = error.hint.replace(str(log), str(logs.if_failed))
        raise ProgramFailed(error.what, hint=hint) from error
    with guarding_writes(logs.if_done):
        head = f"RELION {done.version}, {done.run.seconds:.1f} s\n{done.run.command}\n"
        logs.if_done.write_bytes(head.encode() + b"\n" + done.run.log.read_bytes())
    return done


def _write_gain(plan: MoviePlan, path: Path) -> Path | None:
    """Write gain and defects as one MRC that RELION takes: 0 is a bad pixel.

    Its rows are those of the frames, for movies of any kind; of EER movies RELION wants
    the inverse.
    """
    if plan.gain is None and plan.defects is None:
        return None
    shape = (plan.header.height_px, plan.header.width_px)
    gain = np.ones(shape, np.float32) if plan.gain is None else plan.gain.copy()
    if plan.defects is not None:
        gain[plan.defects] = 0
    if plan.sampling is not None:
        np.divide(1, gain, out=gain, where=gain > 0)
    pixel_size_angst = plan.pixel_size_angst
    write_mrc(path, gain, pixel_size_angst=pixel_size_angst, dtype=np.float32)
    return path
