"""How bright the ice of an image is, and how that changes across it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.quality import MaskClass
from icestream.engines.quality.cells import cells_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Intensity", "measure_intensity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Light of ice, in the unit of the image.

    Parameters
    ----------
    mean
        Per pixel, of what is not masked; of all where everything is.
    gradient, gradient_deg
        By which share of the mean it changes from one end of the image to the other,
        along the direction in which it rises; and that direction, from +x towards
        increasing row index, 0 to 360.
    empty
        Per pixel, of parts without ice; ``None`` where there are none.
    """

    mean: float
    gradient: float
    gradient_deg: float
    empty: float | None


def measure_intensity(
    image: Tensor,
    *,
    pixel_size_angst: float,
    classes: NDArray[np.uint8] | None = None,
) -> Intensity:
    """Measure how bright ice is.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type.
    pixel_size_angst
        Å/px.
    classes
        ``(rows, columns)`` of the mask of this image.

    Returns
    -------
    Intensity
        From cells of some 32 Å, without hot pixels.

    Raises
    ------
    UnusableImage
        Too small, not a number somewhere, or one constant value.
    """
    light = cells_of(image, pixel_size_angst=pixel_size_angst).light
    known = np.zeros(light.shape, np.uint8)
    if classes is not None and classes.shape == light.shape:
        known = classes
    good, empty = known == MaskClass.GOOD, known == MaskClass.EMPTY
    if not good.any():
        good = np.ones(light.shape, bool)
    height, width = image.shape
    y, x = (
        (np.arange(count) + 0.5) / count * side
        for count, side in zip(light.shape, image.shape, strict=True)
    )
    design = np.stack(
        [one[good] for one in np.broadcast_arrays(1.0, y[:, None], x)], axis=1
    )
    mean = float(light[good].mean(dtype=np.float64))
    _, down, right = np.linalg.lstsq(design, light[good].astype(np.float64))[0]
    slope = math.hypot(down, right)
    # How long the image is along that direction.
    length = (height * abs(down) + width * abs(right)) / slope if slope else 0.0
    return Intensity(
        mean=mean,
        gradient=slope * length / abs(mean) if mean else 0.0,
        gradient_deg=math.degrees(math.atan2(down, right)) % 360,
        empty=float(light[empty].mean(dtype=np.float64)) if empty.any() else None,
    )
