"""The step that reads a new movie's header, and what the microscope wrote beside it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from icestream.domain import ExposureMetadata, Movie, RawFile
from icestream.domain.errors import IncompleteFile, UnusableImage
from icestream.domain.precedence import settle_dose, settle_pixel_size
from icestream.io.exposure_metadata import FoundMetadata, MetadataFinder
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

__all__ = ["ImportMovies", "ImportMoviesParams"]


class ImportMoviesParams(Params):
    """Where what belongs to a movie is found."""

    movie_folder: str | None = Field(
        default=None,
        description="Folder of the movies, from which names of exposures count; that "
        "of each movie, if not given.",
    )
    metadata_folder: str | None = Field(
        default=None,
        description="Folder of EPU's XML or SerialEM's mdoc files, where they are not "
        "beside the movies.",
    )


class ImportMovies(PerItem[ImportMoviesParams]):
    """Read a movie's header (TIFF, MRC, EER) and its metadata (EPU, SerialEM).

    No pixel is decoded. The pixel size is that of the acquisition setup; what the
    metadata say of it is compared. The dose is the setup's, else the metadata's; where
    neither knows it, the movie has none and gets no dose weights. The gain is the one
    that the source has found for it.
    """

    name: ClassVar = "import_movies"
    Params: ClassVar = ImportMoviesParams
    inputs: ClassVar = {"file": Input(kind=RawFile)}
    outputs: ClassVar = {"movie": Movie, "exposure": ExposureMetadata}
    reads: ClassVar = (
        "pixel_size_angst",
        "dose_e_per_angst2",
        "gain",
        "gain_mirror",
        "gain_turn_deg",
        "gain_divides",
        "setup",
    )

    def process(
        self, context: Context, /, *, file: RawFile
    ) -> Mapping[str, Movie | ExposureMetadata]:
        """Return the movie, and what is known of its exposure."""
        path = Path(file.path)
        header = read_movie_header(path)
        if header.raw_frame_count < 2:
            raise UnusableImage(
                f"{path} has one frame.",
                hint="Import it as a micrograph, or leave it out of this source.",
            )
        found = self._metadata(path)
        shape = (header.height_px, header.width_px)
        pixel = settle_pixel_size(
            shape,
            metadata=found.metadata,
            user_angst=context.acquisition.pixel_size_angst,
        )
        pixel_size_angst = pixel.value or context.acquisition.pixel_size_angst
        dose = settle_dose(
            metadata=found.metadata,
            user_e_per_angst2=context.acquisition.dose_e_per_angst2,
            pixel_size_angst=pixel_size_angst,
        )
        # That the dose is not known is said where it matters: of the corrected image.
        about_dose = dose.notice if dose.value else ""
        notices = (found.notice, pixel.notice, about_dose)
        gain, gain_fingerprint = _gain(file, context.acquisition)
        movie = Movie(
            path=file.path,
            height_px=header.height_px,
            width_px=header.width_px,
            frame_count=header.raw_frame_count,
            pixel_size_angst=pixel_size_angst,
            pixel_size_origin=pixel.origin,
            dose_e_per_angst2=dose.value,
            dose_origin=dose.origin,
            setup=context.acquisition.setup,
            gain=gain,
            gain_fingerprint=gain_fingerprint,
            gain_mirror=context.acquisition.gain_mirror,
            gain_turn_deg=context.acquisition.gain_turn_deg,
            gain_divides=context.acquisition.gain_divides,
            notice=" ".join(one for one in notices if one),
        )
        return {"movie": movie, "exposure": found.metadata}

    def _metadata(self, path: Path) -> FoundMetadata:
        root = Path(self.params.movie_folder or path.parent)
        inside = path.is_relative_to(root)
        key = path.relative_to(root).as_posix() if inside else path.name
        return _finder(root, self.params.metadata_folder).find(key)


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


@functools.lru_cache(maxsize=8)
def _finder(root: Path, metadata_folder: str | None) -> MetadataFinder:
    """Return the one of a root: it remembers what it has listed."""
    other = None if metadata_folder is None else Path(metadata_folder)
    return MetadataFinder(root, metadata_root=other)
