"""Thumbnails show the image, are small, and do not fear hot pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest

from icestream.domain.errors import InternalError
from icestream.io import THUMBNAIL_SUFFIX, thumbnail_pixels, write_thumbnail

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def gradient(height_px: int, width_px: int) -> NDArray[np.float32]:
    """Dark at the first row and column, with a bright square in the far quarter."""
    image = np.zeros((height_px, width_px), np.float32)
    image += np.linspace(0, 100, height_px)[:, None]
    image[: height_px // 4, -width_px // 4 :] = 300
    image += np.random.default_rng(1).normal(0, 5, image.shape).astype(np.float32)
    return image


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 1024), (512, 512)),
        ((3838, 3710), (512, 495)),
        ((600, 500), (512, 427)),
        ((700, 1401), (256, 512)),
        ((100, 80), (100, 80)),
        ((1, 3000), (1, 512)),
    ],
)
def test_shape(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels = thumbnail_pixels(gradient(*shape))

    assert pixels.dtype == np.uint8
    assert pixels.shape == expected


@pytest.mark.parametrize("shape", [(1024, 900), (2047, 1801), (400, 401)])
def test_it_shows_the_image_and_not_a_mirror_of_it(shape: tuple[int, int]) -> None:
    pixels = thumbnail_pixels(gradient(*shape)).astype(float)
    h, w = pixels.shape

    corner = pixels[: h // 5, -w // 5 :].mean()
    others = pixels[: h // 5, : w // 2].mean(), pixels[-h // 5 :].mean()
    assert corner > 240
    assert others[0] < others[1] < corner


def test_a_hot_pixel_does_not_darken_it() -> None:
    image = gradient(1024, 1024)
    hot = image.copy()
    hot[500, 500] = 1e6

    difference = thumbnail_pixels(hot).astype(int) - thumbnail_pixels(image)
    # Less than 3 grey values, but right at the pixel.
    difference[240:260, 240:260] = 0
    assert np.abs(difference).max() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_noise_stays_small(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(2).normal(0, 1, (1500, 1500)).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    before = noise.copy()
    write_thumbnail(noise, path)

    decoded = imagecodecs.imread(path)
    assert decoded.shape[:2] == (512, 512)
    # Noise compresses worst of all; a report may hold hundreds of these.
    assert path.stat().st_size < (220_000 if suffix == ".png" else 60_000)
    np.testing.assert_array_equal(noise, before)


def test_constant_images_do_not_fail() -> None:
    assert thumbnail_pixels(np.full((64, 64), 3, np.float32)).shape == (64, 64)


def test_unknown_suffix_is_ours(tmp_path: Path) -> None:
    assert THUMBNAIL_SUFFIX == ".jpg"
    with pytest.raises(InternalError, match=r"\.jpg"):
        write_thumbnail(gradient(64, 64), tmp_path / "a.gif")
