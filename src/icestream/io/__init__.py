"""Files of the field: MRC, TIFF, EER and PNG in, MRC, STAR and thumbnails out."""

from icestream.io.access import guarding_writes, reading, replacing
from icestream.io.completeness import check_complete
from icestream.io.eer import EerSampling, frames_per_fraction
from icestream.io.eer_metadata import EerMetadata
from icestream.io.header import KNOWN_SUFFIXES, ImageFormat, ImageHeader, MovieHeader
from icestream.io.mask import MASK_SUFFIX, read_mask, write_mask
from icestream.io.micrograph import read_header, read_micrograph, read_stack
from icestream.io.movie import read_frames, read_movie_header
from icestream.io.star import StarColumns, star_head, star_rows, star_table, write_star
from icestream.io.thumbnail import THUMBNAIL_SUFFIX, thumbnail_pixels, write_thumbnail
from icestream.io.writing import write_mrc

__all__ = [
    "KNOWN_SUFFIXES",
    "MASK_SUFFIX",
    "THUMBNAIL_SUFFIX",
    "EerMetadata",
    "EerSampling",
    "ImageFormat",
    "ImageHeader",
    "MovieHeader",
    "StarColumns",
    "check_complete",
    "frames_per_fraction",
    "guarding_writes",
    "read_frames",
    "read_header",
    "read_mask",
    "read_micrograph",
    "read_movie_header",
    "read_stack",
    "reading",
    "replacing",
    "star_head",
    "star_rows",
    "star_table",
    "thumbnail_pixels",
    "write_mask",
    "write_mrc",
    "write_star",
    "write_thumbnail",
]
