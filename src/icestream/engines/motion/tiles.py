"""What parts of an image say about how they move besides the whole.

The correlation of a part of a frame with the same part of all others is, near its
top, a parabola: its slope where the part is thought to be, over its curvature, says by
how much it is not there. Slopes are sums, so those of many parts and their noise add
up without a decision for any of them: no peak is sought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.engines.motion.spectra import Spectra, tile_spectra

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.track import Track

__all__ = ["Slopes", "Tiles"]

_TILE_ANGST = 450.0
_LEAST_TILES, _MOST_TILES = 4, 12
_LEAST_SIDE_PX = 16
# A tile whose curvature drowns in noise counts as this share of the middle one.
_LEAST_CURVATURE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """What all tiles say at once.

    Parameters
    ----------
    slope
        ``(tiles, frames, 2)`` of the correlation along y and x, 1/Å.
    curvature
        ``(tiles,)`` mean over frames and axes, 1/Å2, > 0.
    """

    slope: NDArray[np.float64]
    curvature: NDArray[np.float64]


class Tiles:
    """Parts of frames, moved by the track of the whole."""

    def __init__(self, whole: Spectra, track: Track) -> None:
        moved = torch.from_numpy(track.shift_angst)
        counts = _counts(whole)
        self._spectra, scale = tile_spectra(whole, moved, tiles=counts)
        self._still_power = track.still_power * scale
        self._moved_before = moved[None]
        rows, columns = self._spectra.shape
        middle = [
            ((np.arange(count) - (count - 1) / 2) * part) / (side / 2)
            for count, part, side in zip(
                counts, (rows, columns), whole.shape, strict=True
            )
        ]
        grid = np.meshgrid(*middle, indexing="ij")
        self.y, self.x = grid[0].ravel(), grid[1].ravel()
        """``(tiles,)`` where their middles lie, from -1 to 1 between the edges."""

    @staticmethod
    def fit(whole: Spectra) -> bool:
        """Return whether there are tiles large enough to say something."""
        return all(
            side // count >= _LEAST_SIDE_PX
            for side, count in zip(whole.shape, _counts(whole), strict=True)
        )

    def slopes(self, shift_angst: NDArray[np.float64]) -> Slopes:
        """Return slopes where the tiles are thought to be.

        Parameters
        ----------
        shift_angst
            ``(tiles, frames, 2)`` Å, besides the track.
        """
        spectra = self._spectra
        product = spectra.with_others(
            torch.from_numpy(shift_angst),
            still_power=self._still_power,
            moved_before=self._moved_before,
        )
        product *= spectra.multiplicity
        odd, even = product.imag, product.real
        slope = [
            -2 * math.pi * (odd.sum(-1) * spectra.y).sum(-1),
            -2 * math.pi * (odd.sum(-2) * spectra.x).sum(-1),
        ]
        curvature = (even.sum(-1) * spectra.y**2).sum(-1)
        curvature = curvature + (even.sum(-2) * spectra.x**2).sum(-1)
        mean = _array(curvature).mean(1) * (2 * math.pi) ** 2 / 2
        typical = float(np.median(mean.clip(min=0)))
        found = _array(torch.stack(slope, -1))
        if typical == 0:
            # Most see nothing: none is believed.
            return Slopes(slope=np.zeros_like(found), curvature=np.ones_like(mean))
        return Slopes(
            slope=found, curvature=np.maximum(mean, _LEAST_CURVATURE * typical)
        )


def _counts(whole: Spectra) -> tuple[int, int]:
    down, across = (
        int(np.clip(round(float(1 / step[1]) / _TILE_ANGST), _LEAST_TILES, _MOST_TILES))
        for step in (whole.y, whole.x)
    )
    return down, across


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.double().cpu().numpy()
    return found
