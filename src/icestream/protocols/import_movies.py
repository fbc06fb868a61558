"""The step that reads a new movie's header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icestream.domain import Movie, RawFile
from icestream.domain.errors import UnusableImage
from icestream.io.movie import read_movie_header
from icestream.streaming.protocol import (
    Context,
    Input,
    Params,
    PerItem,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ImportMovies"]


class ImportMovies(PerItem[Params]):
    """Read a movie's header (TIFF, MRC, EER).

    No pixel is decoded. Pixel size and dose are those of the exposure: of its setup,
    else of its metadata (EPU, SerialEM), which its source has found, as it has the
    gain; unless its setup has one of its own.
    """

    name: ClassVar = "import_movies"
    inputs: ClassVar = {"file": Input(kind=RawFile)}
    outputs: ClassVar = {"movie": Movie}
    reads: ClassVar = (
        "pixel_size_angst",
        "dose_e_per_angst2",
        "dose_origin",
        "may_count_dose",
        "has_own_gain",
        "own_gain",
        "gain_mirror",
        "gain_turn_deg",
        "gain_divides",
        "setup",
    )

    def process(self, context: Context, /, *, file: RawFile) -> Mapping[str, Movie]:
        """Return the movie."""
        path, fields = Path(file.path), context.acquisition
        header = read_movie_header(path)
        if header.raw_frame_count < 2:
            raise UnusableImage(
                f"{path} has one frame.",
                hint="Import it as a micrograph, or leave it out of this source.",
            )
        knows_dose = fields.dose_e_per_angst2 is not None
        may_count = fields.may_count_dose
        movie = Movie(
            path=file.path,
            height_px=header.height_px,
            width_px=header.width_px,
            frame_count=header.raw_frame_count,
            pixel_size_angst=fields.pixel_size_angst,
            dose_e_per_angst2=fields.dose_e_per_angst2,
            dose_origin=fields.dose_origin or ("user" if knows_dose else "unknown"),
            may_count_dose=not knows_dose if may_count is None else may_count,
            setup=fields.setup,
            gain=fields.own_gain if fields.has_own_gain else file.gain,
            gain_fingerprint="" if fields.has_own_gain else file.gain_fingerprint,
            gain_mirror=fields.gain_mirror,
            gain_turn_deg=fields.gain_turn_deg,
            gain_divides=fields.gain_divides,
        )
        return {"movie": movie}
