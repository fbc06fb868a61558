"""The step that reads a new movie's header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icestream.domain import Movie, RawFile
from icestream.domain.errors import IncompleteFile, UnusableImage
from icestream.io.movie import read_movie_header
from icestream.streaming.protocol import (
    AcquisitionView,
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
    gain.
    """

    name: ClassVar = "import_movies"
    inputs: ClassVar = {"file": Input(kind=RawFile)}
    outputs: ClassVar = {"movie": Movie}
    reads: ClassVar = (
        "pixel_size_angst",
        "pixel_size_origin",
        "dose_e_per_angst2",
        "dose_origin",
        "gain",
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
        by_default = "counts" if fields.dose_e_per_angst2 is None else "user"
        gain, gain_fingerprint = _gain(file, fields)
        movie = Movie(
            path=file.path,
            height_px=header.height_px,
            width_px=header.width_px,
            frame_count=header.raw_frame_count,
            pixel_size_angst=fields.pixel_size_angst,
            pixel_size_origin=fields.pixel_size_origin or "user",
            dose_e_per_angst2=fields.dose_e_per_angst2,
            dose_origin=fields.dose_origin or by_default,
            setup=fields.setup,
            gain=gain,
            gain_fingerprint=gain_fingerprint,
            gain_mirror=fields.gain_mirror,
            gain_turn_deg=fields.gain_turn_deg,
            gain_divides=fields.gain_divides,
        )
        return {"movie": movie}


def _gain(file: RawFile, fields: AcquisitionView) -> tuple[str | None, str]:
    """Return the gain of a movie, and its fingerprint where its source has looked.

    A setup that its source does not declare may have another gain.
    """
    is_looked_for = file.gain_of is not None
    if is_looked_for and file.gain_of == (fields.gain or ""):
        return file.gain, file.gain_fingerprint
    if is_looked_for and file.setup == fields.setup:
        raise IncompleteFile(
            f"{file.path} waits for its gain: {fields.gain} was declared, and its "
            "source has not looked there yet.",
        )
    return fields.gain, ""
