"""Masks against simulated film, dirt and tears, whose places are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.domain import MaskClass
from icestream.domain.errors import UnusableImage
from icestream.engines.quality import mask_micrograph
from masked_scene import (
    PIXEL_ANGST,
    disc,
    drawn,
    in_cells,
    masked,
    overlap,
    photographer,
    torn,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from icestream.simulate.exposure import Defect
    from icestream.simulate.micrograph import SimulatedMicrograph

    Take = Callable[[int, Defect | None], SimulatedMicrograph]

TEAR_PX, DARK_PX = (250, 260, 150), (260, 300, 60)


@pytest.fixture(scope="module")
def take() -> Take:
    return photographer()


@pytest.mark.parametrize("film", ["carbon", "gold"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_film_is_found_up_to_its_edge(take: Take, film: Defect, number: int) -> None:
    taken = take(number, film)
    mask = mask_micrograph(taken.image, pixel_size_angst=PIXEL_ANGST)
    # A cell of 32 Å to both sides of an edge of 2000 Å is 3 % of the image.
    assert overlap(masked(mask), in_cells(taken.mask.numpy(), mask)) > 0.93
    assert mask.fraction(MaskClass.CARBON) > 0.9 * masked(mask).mean()


def test_most_of_the_dirt_is_found_and_little_else(take: Take) -> None:
    overlaps, wrong = [], []
    for number in range(1, 7):
        taken = take(number, "dirty")
        mask = mask_micrograph(taken.image, pixel_size_angst=PIXEL_ANGST)
        true = in_cells(taken.mask.numpy(), mask)
        overlaps.append(overlap(masked(mask), true))
        wrong.append(float((masked(mask) & ~true).mean()))
        assert mask.fraction(MaskClass.CARBON) == 0
    # Clumps, a quarter of all dirt, are hardly darker than ice.
    assert np.median(overlaps) > 0.65
    assert max(wrong) < 0.03


@pytest.mark.parametrize("defect", [None, "blank", "thick_ice", "drifted", "dim"])
def test_nothing_of_ice_is_masked(take: Take, defect: Defect | None) -> None:
    for number in (1, 2, 3):
        taken = take(number, defect)
        mask = mask_micrograph(taken.image, pixel_size_angst=PIXEL_ANGST)
        wrong = masked(mask) & ~in_cells(taken.mask.numpy(), mask)
        assert wrong.mean() <= 0.01


def test_torn_ice_is_empty(take: Take) -> None:
    image = torn(take(1, None).image, TEAR_PX)
    mask = mask_micrograph(image, pixel_size_angst=PIXEL_ANGST)
    true = in_cells(disc((640, 640), TEAR_PX) > 0.5, mask)
    assert overlap(mask.classes == MaskClass.EMPTY, true) > 0.8
    assert mask.fraction(MaskClass.CARBON) == 0
    assert mask.fraction(MaskClass.CONTAMINATION) == 0


def test_ice_beside_a_hole_without_structure_is_not_a_film() -> None:
    """Light tells nothing of which is which: the larger part is ice."""
    image = torn(drawn(), (150, 160, 90))
    assert not masked(mask_micrograph(image, pixel_size_angst=PIXEL_ANGST)).any()


def test_an_image_of_noise_alone_is_empty() -> None:
    counts = np.random.default_rng(0).poisson(30.0, (700, 500)).astype(np.uint8)
    mask = mask_micrograph(torch.from_numpy(counts), pixel_size_angst=2.0)
    assert mask.fraction(MaskClass.EMPTY) == 1


def test_a_dark_thing_in_the_middle_is_contamination() -> None:
    image = drawn(dark_px=DARK_PX)
    mask = mask_micrograph(image, pixel_size_angst=PIXEL_ANGST)
    true = in_cells(disc((400, 440), DARK_PX) > 0.5, mask)
    assert overlap(mask.classes == MaskClass.CONTAMINATION, true) > 0.8
    assert mask.fraction(MaskClass.CARBON) == 0


def test_ice_that_becomes_thicker_slowly_is_good() -> None:
    image = drawn(thicker=0.25)
    assert not masked(mask_micrograph(image, pixel_size_angst=PIXEL_ANGST)).any()


def test_hot_pixels_do_not_matter() -> None:
    image = drawn(dark_px=DARK_PX)
    hot = image.clone()
    places = np.random.default_rng(3).integers(0, 400, (2, 60))
    hot[places[0], places[1]] = 60_000
    mine, other = (
        mask_micrograph(one, pixel_size_angst=PIXEL_ANGST).classes
        for one in (image, hot)
    )
    assert (mine != other).mean() < 0.02


@settings(max_examples=12)
@given(
    turns=st.integers(0, 3),
    flips=st.booleans(),
    log_scale=st.floats(-6, 6),
)
def test_it_turns_with_the_image_and_knows_no_unit(
    turns: int, flips: bool, log_scale: float
) -> None:
    image = drawn(shape=(416, 416), dark_px=DARK_PX)
    seen = torch.rot90(image.flip(0) if flips else image, turns) * 10**log_scale
    before = image.clone()
    mask = mask_micrograph(image, pixel_size_angst=PIXEL_ANGST).classes
    other = mask_micrograph(seen, pixel_size_angst=PIXEL_ANGST).classes
    back = np.rot90(other, -turns)
    back = back[::-1] if flips else back
    assert torch.equal(image, before)
    # Pairs of cells and rounded edges of cells differ from side to side.
    assert overlap(mask > 0, back > 0) > 0.93


@settings(max_examples=12)
@given(height=st.integers(4, 300), width=st.integers(4, 300), seed=st.integers(0, 99))
def test_any_size_gives_classes(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(5, 1, (height, width))
    mask = mask_micrograph(torch.from_numpy(noise), pixel_size_angst=1.5)
    assert min(mask.classes.shape) >= 4
    assert sum(mask.fraction(one) for one in MaskClass) == pytest.approx(1)


def test_an_image_whose_zero_was_moved_has_the_same_mask() -> None:
    image = drawn(dark_px=DARK_PX)
    mask = mask_micrograph(image, pixel_size_angst=PIXEL_ANGST)
    for offset in (-500.0, 1e4):
        moved = mask_micrograph(image + offset, pixel_size_angst=PIXEL_ANGST)
        assert overlap(masked(moved), masked(mask)) > 0.8


@pytest.mark.parametrize(
    "image",
    [
        torch.ones(100, 100),
        torch.full((100, 100), torch.nan),
        torch.ones(3, 100),
        torch.ones(2, 100, 100),
    ],
)
def test_what_is_no_image_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(UnusableImage):
        mask_micrograph(image, pixel_size_angst=1.0)
