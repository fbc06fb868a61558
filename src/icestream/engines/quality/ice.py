"""Is ice amorphous, and how thick is it: rings, spots and missing light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from icestream.domain.quality import MaskClass
from icestream.domain.units import ELECTRON_REST_KEV
from icestream.engines.fourier import quick_even_side
from icestream.engines.quality.cells import usual_range

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["IceOrder", "ice_order", "ice_path_angst"]

_TILE_ANGST, _LEAST_TILE_PX = 256.0, 64
_BATCH_PX = 1 << 20
_MOST_TILES = 160
_CLEAN = 0.95  # of a tile is not masked
# Frequencies, 1/Å: of the ring, of what lies below and above it, and of spots.
_RING, _BELOW, _ABOVE = (1 / 4.0, 1 / 3.4), (1 / 5.2, 1 / 4.5), (1 / 3.2, 1 / 2.8)
_SPOTS = (1 / 4.1, 1 / 3.3)
_FINEST = 1 / 3.1  # that an image must reach
# Mean free path in ice at 300 kV, Å. With a filter 3950 was measured for the loss of
# energy (Rice et al., J. Struct. Biol. 204 (2018) 38); an aperture takes more.
_PATH_AT_300KV_ANGST = 3_500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IceOrder:
    """What the power spectrum tells of ice.

    Parameters
    ----------
    ring_ratio
        Power at 3.4-4.0 Å over that of a line in the logarithm from 4.5-5.2 Å to
        2.8-3.2 Å; 1 without a ring. Amorphous ice has a weak one.
    crystal_ratio
        Of the coefficients at 3.3-4.1 Å of all tiles: the largest power over what is
        usual in its tile and at its frequency, and that over the logarithm of their
        number, which noise reaches: about 1.
    """

    ring_ratio: float
    crystal_ratio: float


def ice_order(
    image: Tensor,
    *,
    pixel_size_angst: float,
    classes: NDArray[np.uint8] | None = None,
) -> IceOrder | None:
    """Measure the ring of ice, and its sharp spots.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type.
    pixel_size_angst
        Å/px.
    classes
        ``(rows, columns)`` of a mask: tiles that are masked in part are left out,
        where there are others.

    Returns
    -------
    IceOrder or None
        ``None`` where pixels are too large, or the image is smaller than a tile of
        256 Å.

    Raises
    ------
    UnusableImage
        Something is not a number, or next to all is one value.
    """
    tile = quick_even_side(
        max(_LEAST_TILE_PX, math.ceil(_TILE_ANGST / pixel_size_angst))
    )
    if 2 * pixel_size_angst * _FINEST > 1 or min(image.shape) < tile:
        return None
    usual = usual_range(image.numpy())
    places = _places(image.shape, tile, classes)
    frequency = torch.hypot(
        torch.fft.fftfreq(tile, pixel_size_angst)[:, None],
        torch.fft.rfftfreq(tile, pixel_size_angst),
    )
    shell = (frequency * (tile * pixel_size_angst)).round().long()
    is_spot = (frequency > _SPOTS[0]) & (frequency < _SPOTS[1])
    total, spots = torch.zeros_like(frequency), []
    batch = max(1, _BATCH_PX // tile**2)
    for start in range(0, len(places), batch):
        power = _power(image, places[start : start + batch], tile, usual)
        total += power.sum(0)
        spots.append(power[:, is_spot])
    mean = _shell_means(total / len(places), shell)
    height = torch.cat(spots) / mean[shell[is_spot]]
    # Of noise the median is ln 2; a tile with an edge in it has more of everything.
    height *= math.log(2) / height.median(dim=1, keepdim=True).values
    return IceOrder(
        ring_ratio=_ring_ratio(mean, tile * pixel_size_angst),
        crystal_ratio=float(height.max()) / math.log(height.numel()),
    )


def ice_path_angst(voltage_kv: float) -> float:
    """Return how thick ice leaves 1/e of the electrons in a filtered image.

    Parameters
    ----------
    voltage_kv
        kV.

    Returns
    -------
    float
        Å; 3500 at 300 kV, in proportion to the square of the velocity. It depends on
        aperture and slit: other measured values lie within 15 % of it.
    """
    speeds = [1 - (1 + kv / ELECTRON_REST_KEV) ** -2 for kv in (voltage_kv, 300.0)]
    return _PATH_AT_300KV_ANGST * speeds[0] / speeds[1]


def _places(
    shape: tuple[int, ...], tile: int, classes: NDArray[np.uint8] | None
) -> list[tuple[int, int]]:
    """Return the first row and column of tiles, of clean ones if any, not too many."""
    rows, columns = (side // tile for side in shape)
    starts = [
        [round(i * (side - tile) / max(count - 1, 1)) for i in range(count)]
        for side, count in zip(shape, (rows, columns), strict=True)
    ]
    places = [(top, left) for top in starts[0] for left in starts[1]]
    if classes is None:
        classes = np.zeros((rows, columns), np.uint8)
    good = torch.from_numpy((classes == MaskClass.GOOD).astype(np.float32))
    share = adaptive_avg_pool2d(good[None, None], (rows, columns)).flatten().tolist()
    clean = [one for one, part in zip(places, share, strict=True) if part > _CLEAN]
    places = clean or places
    every = max(1, math.ceil(len(places) / _MOST_TILES))
    return places[::every]


def _power(
    image: Tensor,
    places: list[tuple[int, int]],
    tile: int,
    usual: tuple[float, float],
) -> Tensor:
    """Return power spectra of tiles ``(n, tile, tile // 2 + 1)``."""
    tiles = torch.stack(
        [image[top : top + tile, left : left + tile].float() for top, left in places]
    )
    tiles.clamp_(*usual).sub_(tiles.mean(dim=(-2, -1), keepdim=True))
    window = torch.hann_window(tile, periodic=False)
    half = torch.fft.rfft2(tiles.mul_(window[:, None] * window))
    power: Tensor = half.real.square().add_(half.imag.square())
    return power


def _shell_means(power: Tensor, shell: Tensor) -> Tensor:
    count = torch.bincount(shell.flatten())
    mean: Tensor = torch.bincount(shell.flatten(), power.flatten()) / count
    return mean


def _ring_ratio(mean: Tensor, length_angst: float) -> float:
    """Return the mean power in the ring over the line from below to above it."""
    frequency = np.arange(len(mean)) / length_angst
    power = mean.double().numpy()
    nyquist = frequency[len(mean) - 1] / math.sqrt(2)
    known = frequency < nyquist
    beside = np.zeros(len(mean), bool)
    for low, high in (_BELOW, _ABOVE):
        beside |= (frequency > low) & (frequency < high) & known
    line = np.polyfit(frequency[beside], np.log(power[beside]), 1)
    ring = (frequency > _RING[0]) & (frequency < _RING[1])
    return float(np.mean(power[ring] / np.exp(np.polyval(line, frequency[ring]))))
