"""What the header of an image file says, and which kinds of file are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from icestream.domain.errors import UnreadableFile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from icestream.io.eer_metadata import EerMetadata

__all__ = [
    "KNOWN_SUFFIXES",
    "LARGEST_IMAGE_PX",
    "ImageFormat",
    "ImageHeader",
    "MovieHeader",
    "format_of_name",
    "plausible_pixel_size_angst",
]

ImageFormat: TypeAlias = Literal["mrc", "tiff", "eer", "png"]

KNOWN_SUFFIXES: dict[str, ImageFormat] = {
    ".mrc": "mrc",
    ".mrcs": "mrc",
    ".map": "mrc",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".eer": "eer",
    ".png": "png",
}
"""Suffix, in lower case, to format."""

LARGEST_IMAGE_PX = 1 << 31
"""Beyond this a header is damaged; no camera has a tenth of it."""

_PACKED_SUFFIXES = {".bz2", ".gz", ".xz", ".zst", ".zip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a header says without decoding a pixel.

    Parameters
    ----------
    height_px, width_px
        Rows and columns of one frame.
    frame_count
        Frames, pages or sections; 1 for a micrograph.
    dtype
        Of a stored pixel, in native byte order.
    pixel_size_angst
        Å/px as the file has it; ``None`` where it says nothing believable.
    format
        ``mrc``, ``tiff``, ``eer`` or ``png``.
    """

    height_px: int
    width_px: int
    frame_count: int
    dtype: np.dtype[np.generic]
    pixel_size_angst: float | None
    format: ImageFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieHeader:
    """What a movie will be once it is decoded.

    Parameters
    ----------
    height_px, width_px
        Rows and columns of a decoded frame.
    frame_count
        Decoded frames: those of the file, or fractions of an EER movie.
    dtype
        Of a decoded pixel, in native byte order.
    pixel_size_angst
        Å/px of a decoded frame; ``None`` where the file says nothing believable.
    format
        ``mrc``, ``tiff`` or ``eer``.
    raw_frame_count
        Frames in the file.
    left_over_frame_count
        Raw frames at the end that fill no fraction and are dropped.
    eer
        What the camera says in an EER movie.
    """

    height_px: int
    width_px: int
    frame_count: int
    dtype: np.dtype[np.generic]
    pixel_size_angst: float | None
    format: ImageFormat
    raw_frame_count: int
    left_over_frame_count: int = 0
    eer: EerMetadata | None = None


def format_of_name(path: Path) -> ImageFormat:
    """Return the format that a file's suffix stands for.

    Raises
    ------
    UnreadableFile
        The suffix is not known, or is that of a packed file.
    """
    suffix = path.suffix.lower()
    if suffix in KNOWN_SUFFIXES:
        return KNOWN_SUFFIXES[suffix]
    if suffix in _PACKED_SUFFIXES:
        raise UnreadableFile(
            f"{path} is packed ({suffix}).",
            hint="Unpack it first: icestream reads images as the camera writes them.",
        )
    raise UnreadableFile(
        f"{path} has {f'the suffix {suffix}' if suffix else 'no suffix'}.",
        hint=f"Known are {', '.join(KNOWN_SUFFIXES)}.",
    )


def plausible_pixel_size_angst(pixel_size_angst: float) -> float | None:
    """Return the pixel size where a transmission electron microscope can have it."""
    # Screen resolutions (72 dpi), 0 and unset fields are common and mean nothing.
    return pixel_size_angst if 0.05 <= pixel_size_angst <= 100 else None
