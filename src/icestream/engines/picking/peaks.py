"""Peaks of a map, thinned to one per particle and measured between pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.engines.picking.correlate import ResponseMaps

__all__ = ["Peaks", "find_peaks", "is_near", "outshone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Maxima of a response, best first.

    Parameters
    ----------
    y_px, x_px
        ``(n,)`` places in the map, px.
    score, contrast, diameter_angst
        ``(n,)`` values of the maps there.
    """

    y_px: NDArray[np.float64]
    x_px: NDArray[np.float64]
    score: NDArray[np.float64]
    contrast: NDArray[np.float64]
    diameter_angst: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def places(self) -> NDArray[np.float64]:
        """``(n, 2)`` y and x, px."""
        return np.stack([self.y_px, self.x_px], axis=1)

    @property
    def residual(self) -> NDArray[np.float64]:
        """``(n,)`` deviation of the window that the template leaves, unit of image."""
        sigma = self.contrast / self.score
        return sigma * np.sqrt(np.maximum(0, 1 - self.score**2))

    def only(self, kept: NDArray[np.bool_]) -> Peaks:
        """Return those of a mask ``(n,)``, in the same order."""
        return Peaks(
            y_px=self.y_px[kept],
            x_px=self.x_px[kept],
            score=self.score[kept],
            contrast=self.contrast[kept],
            diameter_angst=self.diameter_angst[kept],
        )


def find_peaks(
    maps: ResponseMaps,
    *,
    pixel_size_angst: float,
    distance_fraction: float,
    border_fraction: float,
) -> Peaks:
    """Find maxima above 0 that keep their distance from each other and the border.

    Parameters
    ----------
    maps
        Responses.
    pixel_size_angst
        Pixel size of the maps, Å/px.
    distance_fraction
        Least distance to a better peak, as a fraction of that peak's diameter.
    border_fraction
        Least distance of the centre to the edge of the image, as a fraction of the
        peak's own diameter.

    Returns
    -------
    Peaks
        Places by a parabola through the maximum and its neighbours along each axis.
    """
    score = maps.score
    padded = torch.nn.functional.pad(score[None, None], (1, 1, 1, 1), value=-torch.inf)
    largest = torch.nn.functional.max_pool2d(padded, 3, stride=1)[0, 0]
    row, column = torch.nonzero((score == largest) & (score > 0), as_tuple=True)
    flat = padded[0, 0]
    centre = flat[row + 1, column + 1]
    shift_y = _vertex(flat[row, column + 1], centre, flat[row + 2, column + 1])
    shift_x = _vertex(flat[row + 1, column], centre, flat[row + 1, column + 2])
    columns = torch.stack(
        [
            row + shift_y,
            column + shift_x,
            centre,
            maps.contrast[row, column],
            maps.diameter_angst[row, column],
        ]
    )
    values = columns.to(torch.float64).cpu().numpy()
    peaks = Peaks(**dict(zip(Peaks.__slots__, values, strict=True)))
    peaks = _sorted(peaks)
    diameter_px = peaks.diameter_angst / pixel_size_angst
    height, width = score.shape
    edge_px = np.minimum.reduce(
        [peaks.y_px, peaks.x_px, height - 1 - peaks.y_px, width - 1 - peaks.x_px]
    )
    is_inside = edge_px >= border_fraction * diameter_px
    kept = _keep_distance(peaks, distance_px=distance_fraction * diameter_px)
    return peaks.only(kept & is_inside)


def is_near(
    peaks: Peaks, others: Peaks, *, pixel_size_angst: float, reach: float
) -> NDArray[np.bool_]:
    """Say which peaks have some other one close by, or are it.

    Parameters
    ----------
    peaks, others
        Peaks of one image.
    pixel_size_angst
        Pixel size of the maps, Å/px.
    reach
        How far is close, as a fraction of the peak's own diameter.

    Returns
    -------
    ndarray
        ``(n,)`` booleans, one for each of ``peaks``.
    """
    if not len(peaks) or not len(others):
        return np.zeros(len(peaks), dtype=bool)
    distance_px, _ = KDTree(others.places).query(peaks.places)
    is_close: NDArray[np.bool_] = distance_px <= (
        reach * peaks.diameter_angst / pixel_size_angst
    )
    return is_close


def outshone(
    peaks: Peaks, others: Peaks, *, pixel_size_angst: float, reach: float
) -> NDArray[np.bool_]:
    """Say which peaks have a better one of another map close by.

    Parameters
    ----------
    peaks, others
        Peaks of two maps of one image.
    pixel_size_angst
        Pixel size of the maps, Å/px.
    reach
        How far a peak outshines, as a fraction of its diameter.

    Returns
    -------
    ndarray
        ``(n,)`` booleans, one for each of ``peaks``.
    """
    is_outshone = np.zeros(len(peaks), dtype=bool)
    if not len(peaks) or not len(others):
        return is_outshone
    reach_px = reach * others.diameter_angst / pixel_size_angst
    near = KDTree(peaks.places).query_ball_point(others.places, reach_px)
    for score, neighbours in zip(others.score, near, strict=True):
        weaker = peaks.score[neighbours] < score
        is_outshone[np.array(neighbours, dtype=np.intp)[weaker]] = True
    return is_outshone


def _vertex(
    before: torch.Tensor, centre: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    """Place of the top of a parabola, -0.5 to 0.5; 0 at the border of the map."""
    bend = before + after - 2 * centre
    shift = (before - after) / (2 * bend)
    usable = torch.isfinite(shift) & (bend < 0)
    return torch.where(usable, shift, torch.zeros_like(shift)).clamp(-0.5, 0.5)


def _sorted(peaks: Peaks) -> Peaks:
    """Best first; ties by place, so that the order is always the same."""
    order = np.lexsort((peaks.x_px, peaks.y_px, -peaks.score))
    return Peaks(**{name: getattr(peaks, name)[order] for name in Peaks.__slots__})


def _keep_distance(
    peaks: Peaks, *, distance_px: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Walk from best to worst; a kept peak removes its neighbours."""
    kept = np.ones(len(peaks), dtype=bool)
    if not len(peaks):
        return kept
    near = KDTree(peaks.places).query_ball_point(peaks.places, distance_px)
    for index, neighbours in enumerate(near):
        if kept[index]:
            kept[[other for other in neighbours if other > index]] = False
    return kept
