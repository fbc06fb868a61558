"""Particles cut out of images whose content is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings
from icestream.engines.extraction import extract_particles


def noise(height: int = 200, width: int = 240, seed: int = 0) -> torch.Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(seed))


def blob(image: torch.Tensor, x: int, y: int, *, depth: float, radius: float) -> None:
    rows = torch.arange(image.shape[0])[:, None] - y
    columns = torch.arange(image.shape[1]) - x
    image -= depth * torch.exp(-(rows**2 + columns**2) / (2 * radius**2))


@pytest.mark.parametrize(("box", "side"), [(64, 64), (64, 32), (63, 63), (63, 31)])
def test_a_particle_comes_to_the_middle_pixel_bright(box: int, side: int) -> None:
    image = 0.3 * noise() + 50
    blob(image, 120, 90, depth=1, radius=6)
    stack, kept = extract_particles(
        image,
        x_px=torch.tensor([120.3]),
        y_px=torch.tensor([89.8]),
        box_px=box,
        crop_to_px=side,
        invert=True,
    )
    assert kept.tolist() == [True]
    assert stack.shape == (1, side, side)
    smooth = torch.nn.functional.avg_pool2d(stack, side // 9 | 1, 1, side // 18)[0]
    peak = int(smooth.argmax())
    # Noise of a third of the peak moves the maximum of the smoothed box by a pixel.
    assert abs(peak // side - side // 2) <= 1
    assert abs(peak % side - side // 2) <= 1


def test_the_background_has_mean_0_and_deviation_1() -> None:
    ramp = torch.linspace(0, 40, 240)
    stack, _ = extract_particles(
        7 * noise() + ramp + 1000,
        x_px=torch.tensor([100.0, 130.0]),
        y_px=torch.tensor([100.0, 110.0]),
        box_px=64,
        background_radius_px=20,
    )
    line = torch.arange(64) - 32
    outside = (line[:, None] ** 2 + line**2) > 400
    background = stack[:, outside]
    assert torch.allclose(background.mean(-1), torch.zeros(2), atol=0.02)
    # Clipping at five deviations leaves the deviation of normal noise as it is.
    assert torch.allclose(background.std(-1), torch.ones(2), atol=0.02)
    # The ramp of 40 over 240 px is 1.5 deviations over a box: gone.
    slope = (stack[..., 32:].mean(dim=(1, 2)) - stack[..., :32].mean(dim=(1, 2))).abs()
    assert (slope < 0.1).all()


def test_boxes_that_leave_the_image_are_left_out() -> None:
    stack, kept = extract_particles(
        noise(),
        x_px=torch.tensor([31.0, 32.0, 208.0, 209.0, 100.0]),
        y_px=torch.tensor([100.0, 100.0, 100.0, 100.0, 10.0]),
        box_px=64,
    )
    assert kept.tolist() == [False, True, True, False, False]
    assert len(stack) == 2


def test_hot_pixels_are_replaced() -> None:
    image = noise()
    image[100, 100] = 1e5
    stack, _ = extract_particles(
        image, x_px=torch.tensor([100.0]), y_px=torch.tensor([100.0]), box_px=64
    )
    assert stack.abs().max() < 8


def test_nothing_picked_gives_an_empty_stack() -> None:
    stack, kept = extract_particles(
        noise(), x_px=torch.tensor([]), y_px=torch.tensor([]), box_px=64, crop_to_px=32
    )
    assert stack.shape == (0, 32, 32)
    assert kept.shape == (0,)


def test_low_frequencies_survive_the_crop() -> None:
    wave = torch.cos(2 * torch.pi * torch.arange(240) / 32).expand(200, 240)
    both = [
        extract_particles(
            wave + 0.01 * noise(),
            x_px=torch.tensor([120.0]),
            y_px=torch.tensor([100.0]),
            box_px=64,
            crop_to_px=side,
        )[0][0]
        for side in (64, 32)
    ]
    # Every second pixel of the full box, up to the scale of the normalisation.
    full, small = both[0][::2, ::2], both[1]
    correlation = torch.corrcoef(torch.stack([full.flatten(), small.flatten()]))[0, 1]
    # The box cuts the wave off, which rings at its edges.
    assert correlation > 0.99


@pytest.mark.parametrize(
    "wrong", [{"box_px": 4}, {"crop_to_px": 128}, {"background_radius_px": 60.0}]
)
def test_impossible_boxes_are_refused(wrong: dict[str, float]) -> None:
    given_values = {"box_px": 64} | wrong
    with pytest.raises(BadSettings):
        extract_particles(
            noise(),
            x_px=torch.tensor([100.0]),
            y_px=torch.tensor([100.0]),
            **given_values,  # type: ignore[arg-type]
        )


@settings(max_examples=25, deadline=None)
@given(
    dy=st.integers(-20, 20),
    dx=st.integers(-20, 20),
    scale=st.floats(0.01, 1e4),
    offset=st.floats(-1e3, 1e3),
    box=st.integers(20, 48),
)
def test_shift_scale_and_offset_change_nothing(
    dy: int, dx: int, scale: float, offset: float, box: int
) -> None:
    image = noise()
    before = image.clone()
    x_px, y_px = torch.tensor([110.0]), torch.tensor([90.0])
    first, _ = extract_particles(image, x_px=x_px, y_px=y_px, box_px=box)
    moved = torch.roll(image, (dy, dx), (0, 1)) * scale + offset
    second, _ = extract_particles(moved, x_px=x_px + dx, y_px=y_px + dy, box_px=box)
    assert torch.equal(image, before)
    # float32 keeps seven digits of an offset that is up to 1e5 deviations.
    tolerance = 1e-3 + 1e-6 * abs(offset) / scale
    assert torch.allclose(first, second, atol=tolerance)


def test_a_batch_is_the_same_as_one_by_one() -> None:
    x, y = torch.tensor([60.0, 120.0, 170.0]), torch.tensor([60.0, 100.0, 140.0])
    # Without outliers no noise is drawn, so that order cannot matter.
    together, _ = extract_particles(noise(), x_px=x, y_px=y, box_px=40, crop_to_px=20)
    for index in range(3):
        alone, _ = extract_particles(
            noise(),
            x_px=x[index : index + 1],
            y_px=y[index : index + 1],
            box_px=40,
            crop_to_px=20,
        )
        assert torch.allclose(together[index], alone[0], atol=1e-5)
