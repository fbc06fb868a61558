"""Files of the field: MRC, TIFF and PNG images in, MRC, STAR and thumbnails out."""

from icestream.io.access import guarding_writes, reading, replacing
from icestream.io.completeness import check_complete
from icestream.io.header import KNOWN_SUFFIXES, ImageFormat, ImageHeader
from icestream.io.micrograph import read_header, read_micrograph, read_stack
from icestream.io.thumbnail import THUMBNAIL_SUFFIX, thumbnail_pixels, write_thumbnail
from icestream.io.writing import StarTable, write_mrc, write_star

__all__ = [
    "KNOWN_SUFFIXES",
    "THUMBNAIL_SUFFIX",
    "ImageFormat",
    "ImageHeader",
    "StarTable",
    "check_complete",
    "guarding_writes",
    "read_header",
    "read_micrograph",
    "read_stack",
    "reading",
    "replacing",
    "thumbnail_pixels",
    "write_mrc",
    "write_star",
    "write_thumbnail",
]
