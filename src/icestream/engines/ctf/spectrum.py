"""Power spectra of micrographs, block by block, and ready spectra brought to one form.

Every spectrum here is in the layout of ``rfft2`` of a square box: ``(n, n // 2 + 1)``,
zero frequency at ``[0, 0]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import UnusableImage

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BlockSpectra", "half_spectrum", "power_spectra"]

_MIN_SIDE_PX = 64
_TAPER = 1 / 8  # of a tile, on each side; neighbours overlap by as much
_MAX_BLOCKS_PER_AXIS = 4
_PIXEL_ANGST = 1.4
_SMALL_PX = 128
_CLIP_SIGMA = 6.0
_BATCH_PX = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpectra:
    """Mean power spectra of separate regions of one micrograph.

    Parameters
    ----------
    power
        ``(block, n, n // 2 + 1)``, squared unit of the image, per pixel.
    tile_count
        ``(block,)``, tiles that were averaged.
    pixel_size_angst
        Pixel size that belongs to the box of ``n``, Å/px.
    place_angst
        ``(block, 2)``, y and x of the centre of each, Å, from the middle of the image.
    """

    power: Tensor
    tile_count: Tensor
    pixel_size_angst: float
    place_angst: Tensor

    @property
    def extent_angst(self) -> float:
        """Side of the tiles, Å: a pixel is one over this wide."""
        return self.power.shape[-2] * self.pixel_size_angst

    @property
    def mean(self) -> Tensor:
        """``(n, n // 2 + 1)``, the average over all tiles."""
        weight = self.tile_count / self.tile_count.sum()
        return torch.einsum("b,bhw->hw", weight, self.power)


def power_spectra(
    image: Tensor,
    *,
    pixel_size_angst: float,
    box_px: int = 512,
    extent_angst: float = 0.0,
) -> BlockSpectra:
    """Average the power spectra of tapered tiles within up to 4 x 4 regions.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type, any scale and offset.
    pixel_size_angst
        Its pixel size, Å/px.
    box_px
        Even side of the spectrum of a large image of 1.4 Å/px or coarser. A finer one
        is cut into larger tiles, whose spectra are cropped to about that pixel size; a
        small one into smaller tiles, so that there are three along each side.
    extent_angst
        Least side of a tile, Å, in any case; up to the whole image.

    Returns
    -------
    BlockSpectra
        As many blocks as there are regions with a tile.

    Raises
    ------
    UnusableImage
        Not a number somewhere, one constant value, or smaller than 64 px.

    Notes
    -----
    Hot pixels are clipped at 6 robust standard deviations. Memory beyond the image: one
    batch of tiles (about 4 Mpx) and the blocks.
    """
    values = _as_real(image)
    low, high = _usual_range(values)
    tile, box = _tile_and_box(
        min(values.shape),
        pixel_size_angst=pixel_size_angst,
        box_px=box_px,
        extent_angst=extent_angst,
    )
    top, left, block = _tile_grid(values.shape, tile)
    power = values.new_zeros(max(block) + 1, box, box // 2 + 1)
    window = _taper(tile, values)
    batch = max(1, _BATCH_PX // tile**2)
    for start in range(0, len(top), batch):
        chosen = range(start, min(start + batch, len(top)))
        tiles = torch.stack(
            [values[top[i] : top[i] + tile, left[i] : left[i] + tile] for i in chosen]
        ).clamp_(low, high)
        index = torch.tensor([block[i] for i in chosen], device=values.device)
        power.index_add_(0, index, _cropped_power(tiles, window=window, box=box))
    count = torch.bincount(torch.tensor(block, device=values.device)).to(values.dtype)
    corner = torch.tensor([top, left], device=values.device, dtype=values.dtype).T
    middle = torch.tensor(values.shape, device=values.device) / 2 - tile / 2
    place = power.new_zeros(len(count), 2).index_add_(
        0, torch.tensor(block, device=values.device), corner - middle
    )
    return BlockSpectra(
        power=power / count[:, None, None],
        tile_count=count,
        pixel_size_angst=pixel_size_angst * tile / box,
        place_angst=place / count[:, None] * pixel_size_angst,
    )


def half_spectrum(centred: Tensor) -> Tensor:
    """Bring a centred spectrum to the layout of ``rfft2``.

    Parameters
    ----------
    centred
        ``(n, n)`` power or amplitude spectrum, zero frequency at ``[n // 2, n // 2]``.

    Returns
    -------
    Tensor
        ``(n, n // 2 + 1)``, zero frequency at ``[0, 0]``.

    Raises
    ------
    UnusableImage
        Not square, smaller than 64 px, not a number somewhere, negative, or constant.
    """
    values = _as_real(centred)
    if values.shape[0] != values.shape[1]:
        raise UnusableImage(
            f"A spectrum is {tuple(values.shape)} px, not square.",
            hint="Give the whole centred spectrum, not its half.",
        )
    if bool((values < 0).any()):
        raise UnusableImage(
            "A spectrum has negative values.",
            hint="Give it before its background is subtracted, and not its logarithm.",
        )
    n = values.shape[0]
    shifted: Tensor = torch.fft.ifftshift(values)
    return shifted[:, : n // 2 + 1]


def _as_real(image: Tensor) -> Tensor:
    """Check that an image can be analysed; integers become float32."""
    if image.ndim != 2 or min(image.shape) < _MIN_SIDE_PX:
        raise UnusableImage(
            f"An image is {tuple(image.shape)} px.",
            hint=f"A CTF needs two dimensions of at least {_MIN_SIDE_PX} px.",
        )
    values = image if image.dtype in (torch.float32, torch.float64) else image.float()
    low, high = torch.aminmax(values)
    if not math.isfinite(float(high - low)):
        raise UnusableImage("An image holds NaN or infinity.", hint="Look at its file.")
    if float(low) == float(high):
        raise UnusableImage(
            f"An image is constant ({float(low):g}).", hint="Was the beam blanked?"
        )
    return values


def _usual_range(values: Tensor) -> tuple[float, float]:
    """Find the range outside which a pixel is hot or dead, from a sparse sample."""
    stride = max(1, math.isqrt(values.numel() // 60_000))
    sample = values[::stride, ::stride].flatten().sort().values
    last = sample.numel() - 1
    low, middle, high = (float(sample[round(last * q)]) for q in (0.1587, 0.5, 0.8413))
    spread = _CLIP_SIGMA * (high - low) / 2
    if spread == 0:
        return -math.inf, math.inf
    return middle - spread, middle + spread


def _tile_and_box(
    side: int, *, pixel_size_angst: float, box_px: int, extent_angst: float
) -> tuple[int, int]:
    """Choose the side of the tiles and of their cropped spectra, both even."""
    finer = max(1.0, _PIXEL_ANGST / pixel_size_angst)
    # three tiles that overlap by a taper
    small = max(side / (3 - 2 * _TAPER), _SMALL_PX)
    wanted = max(min(box_px * finer, small), extent_angst / pixel_size_angst)
    tile = min(_fast_even(wanted), side - side % 2)
    return tile, 2 * math.floor(tile / finer / 2 + 1e-9)


def _fast_even(size: float) -> int:
    """Round up to an even number whose prime factors are 2, 3, 5 and 7."""
    number = 2 * math.ceil(size / 2 - 1e-9)
    while not _is_smooth(number):
        number += 2
    return number


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


def _tile_grid(
    shape: tuple[int, ...], tile: int
) -> tuple[list[int], list[int], list[int]]:
    """Place tiles evenly: the top row, left column and block of each."""
    rows, cols = (_starts(length, tile) for length in shape)
    blocks_y, blocks_x = (min(len(x), _MAX_BLOCKS_PER_AXIS) for x in (rows, cols))
    top, left, block = [], [], []
    for i, y in enumerate(rows):
        for j, x in enumerate(cols):
            top.append(y)
            left.append(x)
            row, col = i * blocks_y // len(rows), j * blocks_x // len(cols)
            block.append(row * blocks_x + col)
    return top, left, block


def _starts(length: int, tile: int) -> list[int]:
    count = 1 + math.ceil((length - tile) / ((1 - _TAPER) * tile))
    if count == 1:
        return [0]
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _taper(tile: int, like: Tensor) -> Tensor:
    """Make a square window of unit mean square with cosine edges."""
    edge = max(1, round(tile * _TAPER))
    ramp = torch.arange(edge, device=like.device, dtype=like.dtype)
    ramp = torch.sin((ramp + 0.5) * (math.pi / 2 / edge)).square()
    line = like.new_ones(tile)
    line[:edge] = ramp
    line[-edge:] = ramp.flip(0)
    window = line[:, None] * line
    return window / window.square().mean().sqrt()


def _cropped_power(tiles: Tensor, *, window: Tensor, box: int) -> Tensor:
    """Compute the power of tiles, which it overwrites, cropped to a box."""
    tile = tiles.shape[-1]
    tiles.sub_(tiles.mean(dim=(-2, -1), keepdim=True)).mul_(window)
    half: Tensor = torch.fft.rfft2(tiles, norm="ortho")[..., : box // 2 + 1]
    if box < tile:
        half = torch.cat((half[:, : box // 2], half[:, -(box // 2) :]), dim=1)
    return half.real.square().add_(half.imag.square())
