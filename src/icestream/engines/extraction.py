"""Cutting particles out of a micrograph and normalising them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import fourier_crop

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["extract_particles"]

_OUTLIER_DEVIATIONS = 5.0
_AT_ONCE = 64


def extract_particles(
    image: Tensor,
    *,
    x_px: Tensor,
    y_px: Tensor,
    box_px: int,
    crop_to_px: int | None = None,
    background_radius_px: float | None = None,
    invert: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut boxes around particles, normalise them and reduce their size.

    Pixels further than five deviations from the median of their box are replaced by
    noise (both by quantiles); the plane that fits the background, which is what lies
    outside the radius, is subtracted, and the box is set to mean 0 and standard
    deviation 1 there; contrast is inverted.

    Parameters
    ----------
    image
        ``(h, w)``, real; not changed.
    x_px, y_px
        ``(n,)`` centres in pixels of the image; they are rounded to whole pixels, so a
        particle may lie up to half a pixel off the centre of its box.
    box_px
        Side of the box to cut; the particle comes to pixel ``box_px // 2``.
    crop_to_px
        Side of the stored box, reached by cropping the Fourier transform.
    background_radius_px
        Radius of the particle's disc in pixels of the image; 0.375 boxes by default.
    invert
        Make dark particles bright.
    generator
        For the noise that replaces outliers; by default one with a fixed seed.

    Returns
    -------
    Tensor
        ``(m, side, side)`` float32, of those particles whose box lies in the image.
    Tensor
        ``(n,)`` bool, which these are.

    Raises
    ------
    BadSettings
        The box is smaller than 8 px, smaller than the stored one, or has no background.
    """
    side = crop_to_px or box_px
    radius = 0.375 * box_px if background_radius_px is None else background_radius_px
    background = _background(box_px, radius, image)
    _check(box_px, side, int(background.sum()))
    generator = generator or torch.Generator(image.device).manual_seed(0)
    kept, rows, columns = _corners(image, x_px, y_px, box_px)
    stack = image.new_empty((len(rows), side, side), dtype=torch.float32)
    if not len(rows):
        return stack, kept
    boxes = image.unfold(0, box_px, 1).unfold(1, box_px, 1)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        cut = boxes[rows[some], columns[some]].to(torch.float32)
        cut = _normalise(_without_outliers(cut, generator), background)
        if side != box_px:
            cut = fourier_crop(cut, shape=(side, side), is_centred=True)
            small = _background(side, radius * side / box_px, image)
            cut = _normalise(cut, small)
        stack[some] = -cut if invert else cut
    return stack, kept


def _check(box_px: int, side: int, background_px: int) -> None:
    if box_px < 8 or not 4 <= side <= box_px:
        raise BadSettings(
            f"A box of {box_px} px cannot be stored with {side} px.",
            hint="Cut at least 8 px and store at most what is cut.",
        )
    if background_px < 8:
        raise BadSettings(
            f"A box of {box_px} px has no background left outside the particle.",
            hint="Take a larger box or a smaller background radius.",
        )


def _corners(
    image: Tensor, x_px: Tensor, y_px: Tensor, box_px: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which boxes lie in the image, and their first rows and columns."""
    height, width = image.shape
    rows = torch.round(y_px.double()).long().to(image.device) - box_px // 2
    columns = torch.round(x_px.double()).long().to(image.device) - box_px // 2
    kept = (
        (rows >= 0)
        & (columns >= 0)
        & (rows + box_px <= height)
        & (columns + box_px <= width)
    )
    return kept, rows[kept], columns[kept]


def _background(side: int, radius: float, like: Tensor) -> Tensor:
    """``(side, side)`` bool: what lies outside the particle's disc."""
    line = torch.arange(side, device=like.device) - side // 2
    return (line[:, None] ** 2 + line**2) > radius**2


def _normalise(boxes: Tensor, background: Tensor) -> Tensor:
    """Subtract the plane through the background; divide by its deviation."""
    side = boxes.shape[-1]
    line = torch.linspace(-1, 1, side, device=boxes.device, dtype=torch.float64)
    grid = torch.meshgrid(line, line, indexing="ij")
    basis = torch.stack([torch.ones_like(grid[0]), *grid])
    weights = torch.linalg.pinv(basis[:, background].T)
    flat = boxes - boxes[..., background].mean(-1)[..., None, None]
    plane = flat[..., background].double() @ weights.T
    flat = flat - torch.einsum("np,pyx->nyx", plane, basis).to(flat.dtype)
    deviation = flat[..., background].std(dim=-1, correction=0)[..., None, None]
    return flat / deviation.clamp_min(torch.finfo(flat.dtype).tiny)


def _without_outliers(boxes: Tensor, generator: torch.Generator) -> Tensor:
    """Replace what lies far off a box's median by noise of its usual deviation."""
    levels = torch.tensor([0.16, 0.5, 0.84], device=boxes.device)
    low, middle, high = torch.quantile(boxes.flatten(-2), levels, dim=-1)[
        ..., None, None
    ]
    deviation = (high - low) / 2
    noise = torch.randn(boxes.shape, generator=generator, device=boxes.device)
    is_outlier = (boxes - middle).abs() > _OUTLIER_DEVIATIONS * deviation
    return torch.where(is_outlier, middle + noise * deviation, boxes)
