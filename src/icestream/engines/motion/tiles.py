"""What parts of an image say about how they move besides the whole.

The correlation of a part of a frame with the same part of all others is, near its
top, a parabola: its slope where the part is thought to be, over its curvature, says by
how much it is not there. Slopes are sums, so those of many parts and their noise add
up without a decision for any of them: no peak is sought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.engines.motion.spectra import Spectra, tile_spectra

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.track import Track

__all__ = ["TileSlopes", "Tiles"]

_TILE_ANGST = 450.0
_LEAST_TILES, _MOST_TILES = 4, 12
_LEAST_SIDE_PX = 16
# A tile whose curvature drowns in noise counts as this share of a good one: what lies
# far from all content must not be free to move.
_LEAST_CURVATURE, _GOOD = 0.05, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSlopes:
    """What all tiles say at once.

    Parameters
    ----------
    slope
        ``(tiles, frames, 2)`` of the correlation along y and x, 1/Å.
    variance
        ``(tiles, frames)`` of the slope, mean over axes, 1/Å2.
    curvature
        ``(tiles,)`` mean over frames and axes, 1/Å2, > 0.
    """

    slope: NDArray[np.float64]
    variance: NDArray[np.float64]
    curvature: NDArray[np.float64]

    def of(self, tiles: NDArray[np.bool_]) -> TileSlopes:
        """Return what some of them say."""
        return TileSlopes(
            slope=self.slope[tiles],
            variance=self.variance[tiles],
            curvature=self.curvature[tiles],
        )


class Tiles:
    """Parts of frames, moved by the track of the whole."""

    def __init__(self, whole: Spectra, track: Track) -> None:
        moved = torch.from_numpy(track.shift_angst)
        self._counts = counts = _counts(whole)
        self._spectra = tile_spectra(whole, moved, tiles=counts)
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

    def turns(self, count: int) -> NDArray[np.int64]:
        """Return ``(tiles,)`` one of so many numbers, each all over the image."""
        down, across = self._counts
        row, column = np.divmod(np.arange(down * across), across)
        found: NDArray[np.int64] = (3 * row + column) % count
        return found

    @staticmethod
    def fit(whole: Spectra) -> bool:
        """Return whether there are tiles large enough to say something."""
        return all(
            side // count >= _LEAST_SIDE_PX
            for side, count in zip(whole.shape, _counts(whole), strict=True)
        )

    def slopes(self, shift_angst: NDArray[np.float64]) -> TileSlopes:
        """Return slopes where the tiles are thought to be.

        Parameters
        ----------
        shift_angst
            ``(tiles, frames, 2)`` Å, besides the track.
        """
        product = self._spectra.with_others(
            torch.from_numpy(shift_angst), moved_before=self._moved_before
        )
        found = self._spectra.slopes(product)
        mean = _array(found.curvature).mean((1, 2)).clip(min=0)
        good = float(np.quantile(mean, _GOOD))
        if good == 0:
            # Nearly all see nothing: none is believed.
            mean, good = np.ones_like(mean), 1.0
        return TileSlopes(
            slope=_array(found.slope),
            variance=_array(found.variance).mean(-1),
            curvature=np.maximum(mean, _LEAST_CURVATURE * good),
        )


def _counts(whole: Spectra) -> tuple[int, int]:
    down, across = (
        int(np.clip(round(float(1 / step[1]) / _TILE_ANGST), _LEAST_TILES, _MOST_TILES))
        for step in (whole.y, whole.x)
    )
    return down, across


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.cpu().numpy()
    return found
