"""Picks where a mask says that there is no ice are left out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from icestream.domain.quality import MaskClass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.domain.particles import Coordinates

__all__ = ["without_masked"]


def without_masked(
    picks: Coordinates,
    classes: NDArray[np.uint8],
    *,
    shape_px: tuple[int, int],
    pixel_size_angst: float,
) -> Coordinates:
    """Leave out picks whose particle would reach into what is masked.

    Parameters
    ----------
    picks
        Of a micrograph.
    classes
        ``(rows, columns)`` of its mask; cells divide the micrograph evenly.
    shape_px
        Rows and columns of the micrograph.
    pixel_size_angst
        Its pixel size, Å/px.

    Returns
    -------
    Coordinates
        Those whose centre lies at least half their diameter from the nearest masked
        cell's edge, in the same order, and how many were left out.
    """
    is_good = classes == MaskClass.GOOD
    if not len(picks) or is_good.all():
        return picks
    cell_px = np.array(shape_px) / classes.shape
    # From the middle of a cell to the middle of the nearest one that is masked.
    away_px = distance_transform_edt(is_good, sampling=cell_px)
    y, x = (
        np.clip((place + 0.5) // side, 0, count - 1).astype(int)
        for place, side, count in zip(
            (picks.y_px, picks.x_px), cell_px, classes.shape, strict=True
        )
    )
    edge_px = away_px[y, x] - cell_px.mean() / 2
    kept = is_good[y, x] & (edge_px * pixel_size_angst >= picks.diameter_angst / 2)
    return replace(
        picks,
        x_px=picks.x_px[kept],
        y_px=picks.y_px[kept],
        score=picks.score[kept],
        diameter_angst=picks.diameter_angst[kept],
        masked_count=picks.masked_count + int((~kept).sum()),
    )
