"""What must not change the picks, and what must move them along."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.engines.picking import match_coordinates, pick_particles
from picking_scene import GRID_PX, SHAPE_PX, coordinates, particles

if TYPE_CHECKING:
    from icestream.domain import Coordinates

_pick = partial(pick_particles, pixel_size_angst=3.0, diameter_angst=(110.0, 130.0))
_IMAGE = particles(noise=1.0)
_INNER_PX = [place for place in GRID_PX if 50 < place[1] < 380 and 50 < place[0] < 330]
_few = settings(max_examples=15, deadline=None)


def _assert_same(found: Coordinates, wanted: Coordinates, tolerance_px: float) -> None:
    matches = match_coordinates(found, wanted, max_distance_px=tolerance_px)
    assert len(found) == len(wanted)
    assert matches.recall == 1


@_few
@given(
    height=st.integers(60, 200),
    width=st.integers(60, 200),
    pixel_size_angst=st.floats(0.5, 12),
    low=st.floats(30, 200),
    ratio=st.floats(1, 2.5),
    seed=st.integers(0, 999),
)
def test_any_image_gives_finite_columns_and_stays_as_it_is(
    height: int,
    width: int,
    pixel_size_angst: float,
    low: float,
    ratio: float,
    seed: int,
) -> None:
    image = torch.randn(height, width, generator=torch.Generator().manual_seed(seed))
    before = image.clone()
    pick = partial(
        pick_particles,
        image,
        pixel_size_angst=pixel_size_angst,
        diameter_angst=(low, low * ratio),
        false_fraction=1.0,
    )
    first, second = pick(), pick()
    assert torch.equal(image, before)
    for name in ("x_px", "y_px", "score", "diameter_angst"):
        column = getattr(first, name)
        assert column.dtype == np.float32
        assert np.isfinite(column).all()
        assert np.array_equal(column, getattr(second, name))
    assert ((first.x_px >= 0) & (first.x_px <= width - 1)).all()
    assert ((first.y_px >= 0) & (first.y_px <= height - 1)).all()


@_few
@given(scale=st.floats(1e-3, 1e4), offset=st.floats(-100, 100))
def test_scale_and_offset_change_nothing(scale: float, offset: float) -> None:
    # float32 keeps an offset of 100 deviations to 1e-5 of one.
    _assert_same(_pick((_IMAGE + offset) * scale), _pick(_IMAGE), 0.1)


def test_bright_particles_are_dark_ones_reversed() -> None:
    # The median of an even number of pixels is the lower of two, which is another.
    _assert_same(_pick(-_IMAGE, contrast="bright"), _pick(_IMAGE), 0.05)


@_few
@given(dy=st.integers(-40, 40), dx=st.integers(-40, 40))
def test_a_shift_moves_the_picks(dy: int, dx: int) -> None:
    moved = [(y + dy, x + dx) for y, x in _INNER_PX]
    found = _pick(particles(moved, noise=0.5))
    # A fifth of a pixel of the search (2.5 px) beside the noise.
    _assert_same(found, coordinates(moved), 1.5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_turns_the_picks(turns: int) -> None:
    found = _pick(_IMAGE)
    y_px, x_px = found.y_px, found.x_px
    height, width = SHAPE_PX
    for _ in range(turns):
        y_px, x_px = width - 1 - x_px, y_px
        height, width = width, height
    expected = coordinates(list(zip(y_px.tolist(), x_px.tolist(), strict=True)))
    # The grid of the search lies elsewhere: a third of its pixel.
    _assert_same(_pick(torch.rot90(_IMAGE, turns)), expected, 1.0)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float64, torch.int16, torch.uint8]
)
def test_every_type_of_pixel_gives_the_same(dtype: torch.dtype) -> None:
    rounded = (20 * _IMAGE + 128).clamp(0, 255).round()
    _assert_same(_pick(rounded.to(dtype)), _pick(rounded), 0.05)
