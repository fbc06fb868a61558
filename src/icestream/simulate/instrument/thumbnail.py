"""Draw the gray JPEG pictures that EPU keeps of atlas, squares, holes and exposures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from icestream.io import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "draw_atlas",
    "draw_grid_square",
    "draw_hole",
    "thumbnail_shape",
    "write_jpeg",
]

_LONGER_SIDE_PX = 512
_JPEG_LEVEL = 90
_BAR, _FOIL, _ICE = 12.0, 90.0, 190.0
_NOISE = 6.0


def thumbnail_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of EPU's picture of an image.

    Parameters
    ----------
    shape
        Of the image. 364 x 512 px become of a K3's, 512 x 512 of a Falcon's; a small
        image stays as it is.
    """
    scale = min(1.0, _LONGER_SIDE_PX / max(shape))
    return max(1, round(scale * shape[0])), max(1, round(scale * shape[1]))


def draw_grid_square(
    centres_yx: NDArray[np.floating[Any]],
    *,
    hole_radius_px: float,
    shape: tuple[int, int],
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw a square of foil with bright holes between dark grid bars.

    Parameters
    ----------
    centres_yx
        ``(n, 2)``, row and column of each hole, px.
    hole_radius_px
        Of all holes.
    shape
        Rows and columns.
    seed
        Of the noise.

    Returns
    -------
    NDArray
        ``shape``, uint8.
    """
    picture = np.full(shape, _FOIL)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for centre_y, centre_x in centres_yx:
        picture[np.hypot(y - centre_y, x - centre_x) < hole_radius_px] = _ICE
    margin_px = max(min(shape) // 20, 1)
    inside = (slice(margin_px, -margin_px), slice(margin_px, -margin_px))
    framed = np.full(shape, _BAR)
    framed[inside] = picture[inside]
    return _noisy(framed, seed)


def draw_hole(
    *,
    radius_px: float,
    shape: tuple[int, int],
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw one bright hole in the middle of foil, as `draw_grid_square` has it."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance_px = np.hypot(y - shape[0] / 2, x - shape[1] / 2)
    return _noisy(np.where(distance_px < radius_px, _ICE, _FOIL), seed)


def draw_atlas(
    squares: Sequence[tuple[float, float]],
    *,
    side_px: float,
    shape: tuple[int, int],
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw the grid: bright squares on dark bars.

    Parameters
    ----------
    squares
        Row and column of each centre, px.
    side_px
        Of a square.
    shape, seed
        As `draw_grid_square` has them.
    """
    picture = np.full(shape, _BAR)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for centre_y, centre_x in squares:
        is_inside = (np.abs(y - centre_y) < side_px / 2) & (
            np.abs(x - centre_x) < side_px / 2
        )
        picture[is_inside] = _ICE
    return _noisy(picture, seed)


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a gray JPEG.

    Parameters
    ----------
    path
        The file; replaced in one step.
    picture
        ``(h, w)``.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    content = imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=_JPEG_LEVEL)
    with replacing(path) as temporary:
        temporary.write_bytes(bytes(content))


def _noisy(picture: NDArray[np.floating[Any]], seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, _NOISE, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
