"""Find what is not ice with protein: film, contamination, empty parts.

Film and crystals are darker than the ice around them, and the step is sharp; ice that
becomes thicker does so smoothly. So the light of ice is a smooth surface, fitted to the
brightest part between sharp steps, and what lies far below it is something else. Clumps
of protein are hardly darker than ice: they have much more structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from icestream.domain.quality import MaskClass
from icestream.engines.quality.cells import cells_of
from icestream.engines.quality.outline import is_film
from icestream.engines.quality.surface import fit_surface

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.quality.cells import Cells

__all__ = ["Mask", "mask_micrograph"]

# Medians over so many cells leave out what is smaller; the last over pairs of cells.
_SMALL, _MIDDLE, _LARGE_PAIRS = 5, 7, 7
# Light changes by this share within 5 cells: a sharp step.
_STEP, _STEP_CELLS = 0.02, 5
# What is darker than ice by this is none: the larger a thing, the less dark it has to
# be. All are besides so many standard deviations of ice. It ends where ice begins.
_DARK_SMALL, _DARK_LARGE, _RIM = 0.10, 0.02, 0.012
_SIGMAS, _RIM_SIGMAS = 6.0, 3.0
# So much of the change across an outline comes within those 5 cells, at least.
_SHARP, _FAR_CELLS = 0.5, 13
_DEEP = 0.04  # no more of a change counts
_CORNER_CELLS = 4
_LEAST_CELLS = 12
_LEAST_AREA = 0.008  # of the image, for a part that may be taken for ice
# Variance of 8-32 Å over that of 4-8 Å, at most: of an image that shows but noise, and
# of a part that does, as noise of a camera need not be white; and by how much it is
# more in ice.
_WHITE, _GREY, _MORE = 1.02, 1.3, 1.1
# Variance of 4-8 Å over that of an empty part, for the same light: of ice at most, of a
# film at least; and how bright and how much of the image ice is at least, beside an
# empty part.
_ICE_TEXTURE, _FILM_TEXTURE, _LEAST_LIGHT, _LEAST_ICE = 1.15, 1.35, 0.75, 0.15
# Variance of 8-16 Å of a clump at least, over that of ice; and how wide it is.
_CLUMP_TEXTURE, _CLUMP_CELLS = 3.5, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """What each cell of a micrograph shows.

    Parameters
    ----------
    classes
        ``(rows, columns)`` uint8, of `MaskClass`. Cells divide the image evenly.
    """

    classes: NDArray[np.uint8]

    def fraction(self, one: MaskClass) -> float:
        """Return the share of the image that a class has."""
        return float((self.classes == one).mean())


def mask_micrograph(image: Tensor, *, pixel_size_angst: float) -> Mask:
    """Tell film, contamination and empty parts from ice.

    Parameters
    ----------
    image
        ``(h, w)`` micrograph, any real or integer type, brighter is more electrons.
    pixel_size_angst
        Its pixel size, Å/px.

    Returns
    -------
    Mask
        In cells of some 32 Å.

    Raises
    ------
    UnusableImage
        Too small, not a number somewhere, or one constant value.
    """
    cells = cells_of(image, pixel_size_angst=pixel_size_angst)
    relative = cells.share - _surface_of_ice(cells)
    small, large = _median(relative, _SMALL), _median_of_pairs(relative)
    usual = np.abs(small) < 2 * _RIM
    rim = max(_RIM, _RIM_SIGMAS * _deviation(small, usual))
    limit_small = max(_DARK_SMALL, _SIGMAS * _deviation(small, usual))
    limit_large = max(_DARK_LARGE, _SIGMAS * _deviation(large, usual))
    classes = np.zeros(small.shape, np.uint8)
    if _structure(cells, np.ones(small.shape, bool)) < _WHITE:
        classes[:] = MaskClass.EMPTY
    else:
        for part in _sharp_parts(_grown(large > limit_large, small > rim), small):
            if _is_empty(cells, part, usual):
                classes[part] = MaskClass.EMPTY
    dark = _grown((small < -limit_small) | (large < -limit_large), small < -rim)
    for part in _sharp_parts(dark, -small):
        film = is_film(part)
        classes[part] = MaskClass.CARBON if film else MaskClass.CONTAMINATION
    classes[_clumps(cells, usual) & (classes == MaskClass.GOOD)] = (
        MaskClass.CONTAMINATION
    )
    return Mask(classes=classes)


def _median(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    middle: NDArray[np.float32] = ndimage.median_filter(values, size, mode="nearest")
    return middle


def _median_of_pairs(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return medians over a large neighbourhood, of 2 x 2 cells for speed."""
    rows, columns = values.shape
    even = np.pad(values, ((0, rows % 2), (0, columns % 2)), mode="edge")
    pairs = even.reshape(len(even) // 2, 2, -1, 2).mean((1, 3))
    middle = _median(pairs, _LARGE_PAIRS)
    return middle.repeat(2, axis=0).repeat(2, axis=1)[:rows, :columns]


def _deviation(values: NDArray[np.float32], usual: NDArray[np.bool_]) -> float:
    """Return the standard deviation of ice, from the middle half of its cells."""
    if not usual.any():
        return 0.0
    low, high = np.percentile(values[usual], (25, 75))
    return float(high - low) / 1.349


def _grown(seeds: NDArray[np.bool_], around: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return seeds with what lies around them, as far as medians cut corners off."""
    near = ndimage.binary_dilation(
        seeds & around, iterations=_CORNER_CELLS, mask=around
    )
    whole: NDArray[np.bool_] = ndimage.binary_fill_holes(near)
    return whole


def _sharp_parts(
    where: NDArray[np.bool_], height: NDArray[np.float32]
) -> list[NDArray[np.bool_]]:
    """Return the connected parts that end in a step, not where ice thickens slowly."""
    labels, count = ndimage.label(where)
    outline = where & ndimage.binary_dilation(~where)
    clipped = np.clip(height, 0, _DEEP)
    is_sharp = _range(clipped, _STEP_CELLS) > _SHARP * _range(clipped, _FAR_CELLS)
    found = []
    for number in range(1, count + 1):
        part = labels == number
        ends = is_sharp[part & outline]
        if part.sum() >= _LEAST_CELLS and (not len(ends) or np.median(ends) > 0):
            found.append(part)
    return found


def _range(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return by how much values differ within a neighbourhood."""
    high: NDArray[np.float32] = ndimage.maximum_filter(values, size)
    return high - ndimage.minimum_filter(values, size)


def _clumps(cells: Cells, usual: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return wide parts with much more structure than ice."""
    if not usual.any():
        return usual
    rich = cells.middle > _CLUMP_TEXTURE * float(np.median(cells.middle[usual]))
    wide: NDArray[np.bool_] = ndimage.binary_opening(
        rich, np.ones((_CLUMP_CELLS, _CLUMP_CELLS), bool)
    )
    return wide


def _structure(cells: Cells, part: NDArray[np.bool_]) -> float:
    """Return the variance of 8-32 Å over that of 4-8 Å; 1 of white noise."""
    wide = np.median(cells.middle[part]) + np.median(cells.coarse[part])
    return float(wide / (2 * np.median(cells.fine[part])))


def _is_empty(cells: Cells, part: NDArray[np.bool_], ice: NDArray[np.bool_]) -> bool:
    """Tell whether a part shows noise and nothing else, and ice shows more."""
    return _structure(cells, part) < min(_GREY, _structure(cells, ice) / _MORE)


def _surface_of_ice(cells: Cells) -> NDArray[np.float32]:
    """Return how bright ice would be everywhere."""
    middle = _median(cells.share, _MIDDLE)
    change = _range(middle, _STEP_CELLS)
    limit = max(_STEP, 3 * float(np.percentile(change, 30)))
    labels, count = ndimage.label(change < limit)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(sizes >= _LEAST_AREA * labels.size) + 1
    parts = [labels == number for number in large] or [np.ones(labels.shape, bool)]
    parts.sort(key=lambda part: -float(np.median(middle[part])))
    return fit_surface(middle, _first_ice(parts, cells))


def _first_ice(parts: list[NDArray[np.bool_]], cells: Cells) -> NDArray[np.bool_]:
    """Return the brightest part, or the next where that is empty beside it."""
    first = parts[0]
    noise, light = (np.median(one[first]) for one in (cells.fine, cells.light))
    plain, richer = [], []
    for part in parts[1:]:
        share = np.median(cells.light[part]) / light
        texture = np.median(cells.fine[part]) / (share * noise)
        if share < _LEAST_LIGHT or texture > _FILM_TEXTURE:
            continue
        if texture < _ICE_TEXTURE:
            plain.append(part)
        if _is_empty(cells, first, part):
            richer.append(part)
    for found, least in ((richer, _LEAST_ICE), (plain, float(first.mean()))):
        if sum(part.mean() for part in found) > least:
            return max(found, key=np.count_nonzero)
    return first
