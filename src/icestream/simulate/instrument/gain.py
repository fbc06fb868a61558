"""Write gain references as cameras leave them, right side up or not.

A gain multiplies the counts: ``counts * gain`` is flat under even light. Which way up
its file must lie depends on the format of the movie. RELION turns the rows of every
TIFF upside down when it reads it, movie and gain alike, and no row of MRC or EER, and
it never heeds the orientation tag. So, with row 0 first in the file as everywhere here:

=====  ======  ========================  ============================
movie  gain    rows, against the movie   values
=====  ======  ========================  ============================
tiff   .tif    the same                  the gain
tiff   .mrc    upside down               the gain
mrc    .mrc    the same                  the gain
mrc    .tif    upside down               the gain
eer    .gain   the same                  the gain
eer    .mrc    the same                  1 / gain, 0 for a dead pixel
eer    .tif    upside down               1 / gain, 0 for a dead pixel
=====  ======  ========================  ============================

Each row was found with ``relion_run_motioncorr --use_own`` of RELION 3.1.3 on an
evenly lit movie with a strong gain: the corrected image was flat to the noise of the
counts for these, and for no other orientation. The corrected MRC image lies upside down
against a TIFF movie, and the same way up as an MRC or EER movie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import write_mrc
from icestream.simulate.instrument.directory import Field, ascii_field, bytes_field
from icestream.simulate.instrument.eer import metadata_xml
from icestream.simulate.instrument.tiff import write_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MovieFormat", "rescaled_gain", "write_gain"]

MovieFormat: TypeAlias = Literal["tiff", "mrc", "eer"]

_UPSIDE_DOWN: dict[tuple[MovieFormat, str], bool] = {
    ("tiff", ".tif"): False,
    ("tiff", ".mrc"): True,
    ("mrc", ".mrc"): False,
    ("mrc", ".tif"): True,
    ("eer", ".gain"): False,
    ("eer", ".mrc"): False,
    ("eer", ".tif"): True,
}
_DESCRIPTION, _METADATA = 270, 65001


def rescaled_gain(
    gain: NDArray[np.floating[Any]], *, scale: float
) -> NDArray[np.floating[Any]]:
    """Bring a gain to half or double size, as for another camera mode.

    Parameters
    ----------
    gain
        ``(h, w)``; both even for half size.
    scale
        0.5 (counting mode from super-resolution), 1, or 2 (the reverse).

    Returns
    -------
    NDArray
        Half: the harmonic mean of 2 x 2, since their counts are added, and 0 where one
        of them is dead. Double: each pixel four times.

    Raises
    ------
    BadSettings
        Another scale, or odd sides.
    """
    if scale == 1:
        return gain
    if scale == 2:
        return gain.repeat(2, axis=0).repeat(2, axis=1)
    height_px, width_px = gain.shape
    if scale != 0.5 or height_px % 2 or width_px % 2:
        raise BadSettings(
            f"A gain of {height_px} x {width_px} cannot be scaled by {scale}.",
            hint="Scale by 0.5, 1 or 2, and even sides by 0.5.",
        )
    inverse, is_dead = _inverse(gain)
    blocks = (height_px // 2, 2, width_px // 2, 2)
    half, _ = _inverse(inverse.reshape(blocks).mean(axis=(1, 3)))
    half[is_dead.reshape(blocks).any(axis=(1, 3))] = 0
    return half


def write_gain(
    path: Path,
    gain: NDArray[np.floating[Any]],
    *,
    movie_format: MovieFormat,
    pixel_size_angst: float = 1.0,
    is_mirrored: bool = False,
    scale: float = 1,
) -> None:
    """Write a gain reference so that RELION finds it right, or mirrored against that.

    Parameters
    ----------
    path
        ``.mrc``, ``.tif`` or, for EER, ``.gain``: a TIFF with the camera's XML.
    gain
        ``(h, w)`` factors that flatten the counts, rows as in the movie; 0 for a dead
        pixel.
    movie_format
        Of the movies that it belongs to.
    pixel_size_angst
        Å/px, for MRC.
    is_mirrored
        Whether the columns of the right file are reversed.
    scale
        As `rescaled_gain` has it.

    Raises
    ------
    BadSettings
        A format that RELION does not read for these movies, or as `rescaled_gain` says.
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    suffix = path.suffix.lower().replace(".tiff", ".tif")
    if (movie_format, suffix) not in _UPSIDE_DOWN:
        raise BadSettings(
            f"{path} is no gain reference for {movie_format} movies.",
            hint="Write .mrc or .tif, or .gain for EER.",
        )
    values = rescaled_gain(gain, scale=scale)
    if movie_format == "eer" and suffix != ".gain":
        values, _ = _inverse(values)
    if _UPSIDE_DOWN[movie_format, suffix]:
        values = values[::-1]
    if is_mirrored:
        values = values[:, ::-1]
    pixels = np.ascontiguousarray(values, dtype=np.float32)
    if suffix == ".mrc":
        write_mrc(path, pixels, pixel_size_angst=pixel_size_angst, dtype=np.float32)
        return
    extra: dict[int, Field] = {_DESCRIPTION: ascii_field("Gain reference")}
    if suffix == ".gain":
        items = {"referenceType": ("gain", ""), "fileName": (path.name, "")}
        xml = b'<?xml version="1.0" encoding="UTF-8"?>' + metadata_xml(items)
        extra = {_METADATA: bytes_field(xml)}
    write_tiff(path, pixels, extra_fields=extra)


def _inverse(
    values: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Return 1 / values with 0 where they are 0, and where that is."""
    is_zero = values == 0
    inverse = 1 / np.where(is_zero, 1, values)
    inverse[is_zero] = 0
    return inverse, is_zero
