"""Change the pixel size of images by cutting their transform; sides that are quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fourier_crop", "quick_even_side"]


def fourier_crop(
    image: Tensor, *, shape: tuple[int, int], is_centred: bool = False
) -> Tensor:
    """Resample images to fewer pixels by dropping their high frequencies.

    Parameters
    ----------
    image
        ``(*batch, h, w)``, real.
    shape
        Rows and columns wanted, at most ``(h, w)``.
    is_centred
        Which point keeps its place: the pixel ``(h // 2, w // 2)``, which goes to the
        new ``(h // 2, w // 2)`` as boxes want it, or (by default) the first pixel, so
        that an index divides by ``h / shape[0]`` and ``w / shape[1]``. The two agree
        where all four sides are even.

    Returns
    -------
    Tensor
        ``(*batch, *shape)``, of the same dtype; values keep their scale and mean.

    Raises
    ------
    BadSettings
        The shape has no pixel or is larger than the image.

    Notes
    -----
    The frequency at the new edge of an even side is dropped too: it has no partner of
    the other sign, and what is left of it would depend on the orientation.
    """
    height, width = image.shape[-2:]
    if not (0 < shape[0] <= height and 0 < shape[1] <= width):
        raise BadSettings(
            f"An image of {height} x {width} px cannot be cropped to {shape}.",
            hint="Ask for at least 1 px and at most the size of the image.",
        )
    if tuple(shape) == (height, width):
        return image.clone()
    if is_centred:
        image = torch.fft.ifftshift(image, dim=(-2, -1))
    spectrum = torch.fft.rfft2(image, norm="forward")
    rows, columns = (shape[0] - 1) // 2, (shape[1] - 1) // 2
    kept = spectrum.new_zeros(*image.shape[:-2], shape[0], shape[1] // 2 + 1)
    kept[..., : rows + 1, : columns + 1] = spectrum[..., : rows + 1, : columns + 1]
    if rows:
        kept[..., -rows:, : columns + 1] = spectrum[..., -rows:, : columns + 1]
    small: Tensor = torch.fft.irfft2(kept, s=shape, norm="forward")
    return torch.fft.fftshift(small, dim=(-2, -1)) if is_centred else small


def quick_even_side(least_px: int) -> int:
    """Return the next even length whose Fourier transform is quick.

    Parameters
    ----------
    least_px
        The least that will do, px.

    Returns
    -------
    int
        The smallest even number from there on that has no prime factor above 7; 2 at
        least.
    """
    side_px = max(least_px + least_px % 2, 2)
    while not _has_small_factors(side_px):
        side_px += 2
    return side_px


def _has_small_factors(number: int) -> bool:
    for factor in (2, 3, 5, 7):
        while number % factor == 0:
            number //= factor
    return number == 1
