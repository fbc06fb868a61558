"""Bring a micrograph to the few pixels per particle that picking needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from icestream.domain.errors import UnusableImage
from icestream.engines.fourier import fourier_crop

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ReducedImage", "blur", "reduce_image"]

_CLIP_SIGMA = 5.0
_COARSE = 2.0  # of the background's scale: blocks that clipping compares with
_BLOCK_SAMPLES = 24  # along a side of a block
_SIGMA_OF_MAD = 1.4826
_SAMPLE_PX = 1 << 18
_MIN_SIDE_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedImage:
    """A small flat image and the way back to the pixels of the large one.

    Parameters
    ----------
    values
        ``(h, w)``, background near 0, particles > 0.
    step_y_px, step_x_px
        Pixels of the micrograph per row and per column; first pixels coincide.
    pixel_size_angst
        Å/px (geometric mean of both axes).
    """

    values: Tensor
    step_y_px: float
    step_x_px: float
    pixel_size_angst: float


def reduce_image(
    image: Tensor,
    *,
    pixel_size_angst: float,
    target_pixel_angst: float,
    background_angst: float,
    is_dark: bool,
) -> ReducedImage:
    """Clip hot pixels, crop to a larger pixel, subtract the background, clip again.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type.
    pixel_size_angst
        Its pixel size, Å/px.
    target_pixel_angst
        Pixel size wanted, Å/px; where the image is coarser, it stays as it is.
    background_angst
        Standard deviation of the Gaussian whose local mean is subtracted, Å.
    is_dark
        Particles are darker than ice; the result has them bright.

    Returns
    -------
    ReducedImage
        In the floating type of the image, float32 for integers and halves.

    Raises
    ------
    UnusableImage
        Not two axes, fewer than 8 px along one, not a number, or one constant value.
    """
    values = _as_real(image)
    coarse_px = math.ceil(_COARSE * background_angst / pixel_size_angst)
    values = _clip_outliers(values - _coarse_background(values, coarse_px))
    height, width = values.shape
    ratio = min(1.0, pixel_size_angst / target_pixel_angst)
    shape = (
        min(height, max(_MIN_SIDE_PX, round(height * ratio))),
        min(width, max(_MIN_SIDE_PX, round(width * ratio))),
    )
    small = fourier_crop(values, shape=shape)
    step_y_px, step_x_px = height / shape[0], width / shape[1]
    reduced_angst = pixel_size_angst * math.sqrt(step_y_px * step_x_px)
    flat = small - blur(small, sigma_px=background_angst / reduced_angst)
    flat = _clip_outliers(flat)
    return ReducedImage(
        values=-flat if is_dark else flat,
        step_y_px=step_y_px,
        step_x_px=step_x_px,
        pixel_size_angst=reduced_angst,
    )


def blur(image: Tensor, *, sigma_px: float) -> Tensor:
    """Average over a Gaussian neighbourhood, of pixels inside the image only.

    Parameters
    ----------
    image
        ``(h, w)``.
    sigma_px
        Standard deviation, px.

    Returns
    -------
    Tensor
        ``(h, w)``.
    """
    height, width = image.shape
    rows = _gaussian_matrix(height, sigma_px, image)
    columns = _gaussian_matrix(width, sigma_px, image)
    return rows @ image @ columns.T


def _gaussian_matrix(side_px: int, sigma_px: float, like: Tensor) -> Tensor:
    """``(n, n)``, each row a Gaussian about its own index with sum 1."""
    index = torch.arange(side_px, device=like.device, dtype=like.dtype)
    distance = (index[:, None] - index) / sigma_px
    weight = torch.exp(-distance.square() / 2)
    return weight / weight.sum(dim=1, keepdim=True)


def _as_real(image: Tensor) -> Tensor:
    if image.ndim != 2 or min(image.shape) < _MIN_SIDE_PX:
        raise UnusableImage(
            f"An image of shape {tuple(image.shape)} cannot be picked.",
            hint=f"It needs two axes of at least {_MIN_SIDE_PX} px.",
        )
    is_double = image.dtype == torch.float64
    values = image if is_double else image.to(torch.float32)
    low, high = (float(value) for value in torch.aminmax(values))
    if not math.isfinite(high - low):
        raise UnusableImage("The image holds values that are not finite numbers.")
    if low == high:
        raise UnusableImage(f"Every pixel of the image is {low:g}.")
    return values


def _coarse_background(values: Tensor, block_px: int) -> Tensor:
    """``(h, w)`` medians of blocks, joined by straight lines; no hot pixel moves it.

    Without it a steep gradient would hide hot pixels, and ring where opposite edges of
    the image meet in the Fourier transform.
    """
    height, width = values.shape
    every = max(1, block_px // _BLOCK_SAMPLES)
    sample = values[::every, ::every]
    rows, columns = (max(1, round(side / block_px)) for side in values.shape)
    block = [
        math.ceil(side / count)
        for side, count in zip(sample.shape, (rows, columns), strict=True)
    ]
    tall, wide = rows * block[0] - sample.shape[0], columns * block[1] - sample.shape[1]
    padded = functional.pad(sample, (0, wide, 0, tall), value=torch.nan)
    blocks = padded.unfold(0, block[0], block[0]).unfold(1, block[1], block[1])
    medians = blocks.flatten(-2).nanmedian(dim=-1).values[None, None]
    size = (rows * block[0] * every, columns * block[1] * every)
    smooth = functional.interpolate(medians, size=size, mode="bilinear")
    return smooth[0, 0, :height, :width]


def _clip_outliers(values: Tensor) -> Tensor:
    """Clip at 5 robust standard deviations; centred and scaled to about 1."""
    every = max(1, values.numel() // _SAMPLE_PX)
    sample = values.flatten()[::every]
    middle = sample.median()
    sigma = _SIGMA_OF_MAD * (sample - middle).abs().median()
    if bool(sigma == 0):  # few electrons: most pixels are equal
        sigma = values.std()
    return ((values - middle) / sigma).clamp_(-_CLIP_SIGMA, _CLIP_SIGMA)
