"""Gain references as cameras and programs write them, all brought to one form.

Rows are in RELION's order, as those of movies are: a TIFF file is turned upside down,
also one for EER movies; MRC and ``.gain`` are taken as stored. So is the right gain for
a movie the same array whatever both were stored in. DM3 and DM4 count rows from the top
as TIFF does and are turned too. What a file should be and what it is can differ: the
movies are asked by `icestream.engines.gain.check_gain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from icestream.domain.acquisition import GAIN_SUFFIXES
from icestream.domain.errors import UnreadableFile, UnusableImage
from icestream.io import tiff
from icestream.io.access import reading
from icestream.io.defects import parse_defects_xml
from icestream.io.digital_micrograph import read_digital_micrograph
from icestream.io.formats import opened_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["GainFile", "read_gain"]

_MRC, _TIFF, _DM = (".mrc", ".mrcs", ".map"), (".tif", ".tiff"), (".dm3", ".dm4")

_DEFECTS_TAG = 65100
_MOST_DEAD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GainFile:
    """A gain reference.

    Parameters
    ----------
    factors
        ``(h, w)`` float32, 0 or more: counts times these are flat; 0 is a dead pixel.
        Rows in RELION's order.
    is_defect
        ``(h, w)``: dead, or named as a defect in the file.
    was_inverse
        Whether the file holds 1 / factor, as MRC and TIFF gains of EER movies do.
    """

    factors: NDArray[np.float32]
    is_defect: NDArray[np.bool_]
    was_inverse: bool


def read_gain(path: Path, *, is_for_eer: bool = False) -> GainFile:
    """Read a gain reference.

    Parameters
    ----------
    path
        MRC, TIFF, DM3, DM4 or ``.gain``.
    is_for_eer
        Whether it belongs to EER movies: then MRC and TIFF hold 1 / gain.

    Returns
    -------
    GainFile
        Values as stored or their inverse, not normalised; what is below 0 counts as 0.

    Raises
    ------
    UnreadableFile
        Not of its kind, of a kind that is not read, a stack, or without permission.
    IncompleteFile
        Cut short, or not yet written.
    UnusableImage
        NaN or infinite values, or more than half of them 0: decoded, but no gain. It is
        the file's fault, not that of the movies or the settings.

    Notes
    -----
    RELION 3.1.3 finds the same orientations and inverses for MRC, TIFF and ``.gain``.
    """
    suffix = path.suffix.lower()
    is_defect = None
    if suffix == ".gain":
        stored, is_defect = _read_eer_gain(path)
    elif suffix in _DM:
        with reading(path) as file:
            stored = read_digital_micrograph(file, path)[::-1]
    elif suffix in (*_MRC, *_TIFF):
        stored = _read_image(path)
        stored = stored[::-1] if suffix in _TIFF else stored
    else:
        raise UnreadableFile(
            f"{path} is no gain reference by its name.",
            hint=f"Known are {', '.join(GAIN_SUFFIXES)}.",
        )
    was_inverse = is_for_eer and suffix in (*_MRC, *_TIFF)
    factors = _factors(stored, path, is_inverse=was_inverse)
    is_dead = factors == 0
    return GainFile(
        factors=factors,
        is_defect=is_dead if is_defect is None else is_dead | is_defect,
        was_inverse=was_inverse,
    )


def _read_image(path: Path) -> NDArray[Any]:
    with opened_image(path) as (reader, file):
        header = reader.read_header(file, path)
        if header.frame_count != 1:
            raise UnreadableFile(
                f"{path} is a stack of {header.frame_count} images, not one gain.",
                hint="Give the gain reference, not a movie.",
            )
        reader.data_end_bytes(file, path)
        return np.asarray(reader.decode(file, path)[0])


def _read_eer_gain(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the gain of a Falcon camera, a TIFF, and the defects in a tag of it."""
    with reading(path) as file:
        tiff.data_end_bytes(file, path)
        stored = tiff.decode(file, path)[0]
        file.seek(0)
        with tifffile.TiffFile(file) as opened:
            tag = opened.pages.first.tags.get(_DEFECTS_TAG)
            text = None if tag is None else tag.value
    if not isinstance(text, str | bytes):
        return stored, None
    return stored, parse_defects_xml(text, shape=stored.shape, path=path)


def _factors(
    stored: NDArray[Any], path: Path, *, is_inverse: bool
) -> NDArray[np.float32]:
    # Values beyond float32 become infinite here and are refused with their count.
    with np.errstate(over="ignore"):
        values = np.array(stored, dtype=np.float32, order="C")
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise UnusableImage(
            f"{path} holds {bad} gains that are NaN or infinite, of {values.size}.",
            hint="Measure the gain anew, or let it be estimated from the movies.",
        )
    # The inverse of what is all but 0 would be infinite.
    values[values <= np.finfo(np.float32).tiny] = 0
    dead = int(np.count_nonzero(values == 0))
    if dead > _MOST_DEAD * values.size:
        raise UnusableImage(
            f"{path} is 0 or less for {dead} of {values.size} pixels.",
            hint="Is it a gain reference? Measure it anew, or let it be estimated.",
        )
    if is_inverse:
        np.divide(1, values, out=values, where=values > 0)
    return values
