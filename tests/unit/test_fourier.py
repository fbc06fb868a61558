"""Fourier crop on waves whose course is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import fourier_crop, quick_even_side


def _wave(height: int, width: int, *, cycles: tuple[int, int]) -> torch.Tensor:
    y = torch.arange(height, dtype=torch.float64)[:, None] / height
    x = torch.arange(width, dtype=torch.float64) / width
    return 3 + torch.cos(2 * torch.pi * (cycles[0] * y + cycles[1] * x) + 0.4)


_sides = st.integers(9, 40)


@given(height=_sides, width=_sides, rows=st.integers(9, 40), columns=st.integers(9, 40))
def test_a_slow_wave_is_sampled_more_coarsely(
    height: int, width: int, rows: int, columns: int
) -> None:
    shape = (min(rows, height), min(columns, width))
    for cycles in ((0, 0), (1, 3), (-2, 1), (4, -4)):
        small = fourier_crop(_wave(height, width, cycles=cycles), shape=shape)
        assert torch.allclose(small, _wave(*shape, cycles=cycles), atol=1e-9)


@given(height=_sides, width=_sides, rows=st.integers(5, 40), columns=st.integers(5, 40))
def test_the_centre_stays_at_the_centre(
    height: int, width: int, rows: int, columns: int
) -> None:
    shape = (min(rows, height), min(columns, width))
    y = torch.arange(height, dtype=torch.float64)[:, None] - height // 2
    x = torch.arange(width, dtype=torch.float64) - width // 2
    wave = torch.cos(2 * torch.pi * y / height) + torch.cos(2 * torch.pi * x / width)
    small = fourier_crop(wave, shape=shape, is_centred=True)
    assert small[shape[0] // 2, shape[1] // 2] == pytest.approx(2)
    assert int(small.argmax()) == shape[0] // 2 * shape[1] + shape[1] // 2


def test_fast_waves_are_dropped() -> None:
    small = fourier_crop(_wave(64, 64, cycles=(0, 20)), shape=(32, 32))
    assert torch.allclose(small, torch.full_like(small, 3))


def test_a_crop_and_a_quarter_turn_commute_about_the_centre() -> None:
    image = torch.randn(33, 33, generator=torch.Generator().manual_seed(0))
    turned = fourier_crop(torch.rot90(image), shape=(16, 16), is_centred=True)
    # An even box has its centre off the middle: the turn is about pixel (8, 8).
    expected = fourier_crop(image, shape=(16, 16), is_centred=True)
    expected = torch.roll(torch.rot90(expected), 1, 0)
    assert torch.allclose(turned, expected, atol=1e-5)


def test_batches_types_and_the_input_are_kept() -> None:
    images = torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    small = fourier_crop(images, shape=(11, 12))
    assert small.shape == (2, 3, 11, 12)
    assert small.dtype == torch.float32
    assert torch.allclose(small[1, 2], fourier_crop(images[1, 2], shape=(11, 12)))
    same = fourier_crop(images, shape=(20, 24))
    assert torch.equal(same, images)
    same += 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(0, 4), (21, 4), (4, 25)])
def test_shapes_that_cannot_be_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(BadSettings):
        fourier_crop(torch.zeros(20, 24), shape=shape)


@pytest.mark.parametrize(
    ("least", "quick"), [(0, 2), (1, 2), (11, 12), (262, 270), (263, 270), (524, 540)]
)
def test_sides_that_are_quick(least: int, quick: int) -> None:
    assert quick_even_side(least) == quick
