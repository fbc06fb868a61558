"""Frames show what the scene holds, where the motion says, accurately."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.ice_contrast import IceContrast
from icestream.simulate.motion import MotionField, simulate_motion
from icestream.simulate.phantom import phantom_frames, phantom_intensity
from icestream.simulate.render import (
    Scene,
    canvas_shape,
    least_margin_px,
    render_frames,
)
from icestream.simulate.warp import REACH_PX, sharpening, warp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Field = NDArray[np.float64]

PIXEL_SIZE_ANGST = 1.0
NEVER_KV, NO_DOSE = 300.0, 1e-9


def still(shape: tuple[int, int], frames: int = 1, **values: Any) -> MotionField:
    defaults: dict[str, Any] = {
        "shape": shape,
        "pixel_size_angst": PIXEL_SIZE_ANGST,
        "global_angst": np.zeros((frames, 2)),
        "modes": np.zeros((frames, 1)),
        "coefficients": np.zeros((1, 10, 2)),
        "blur_angst": np.zeros((frames, 2)),
    }
    return MotionField(**(defaults | values))


def plane_wave(
    shape: tuple[int, int],
    y_cycles: int,
    x_cycles: int,
    shift: Sequence[float] = (0.0, 0.0),
) -> Tensor:
    y, x = (torch.arange(side, dtype=torch.float64) for side in shape)
    phase = y_cycles / shape[0] * (y[:, None] - shift[0])
    phase = phase + x_cycles / shape[1] * (x[None, :] - shift[1])
    return torch.cos(2 * math.pi * phase).float()


def frames(scene: Scene, motion: MotionField, **values: Any) -> list[Tensor]:
    defaults: dict[str, Any] = {
        "voltage_kv": NEVER_KV,
        "dose_e_per_angst2": NO_DOSE,
        "generator": torch.Generator().manual_seed(1),
    }
    return list(render_frames(scene, motion, **(defaults | values)))


def test_a_scene_at_rest_is_shown_as_it_is() -> None:
    fading = 0.1 * torch.randn(64, 80, generator=torch.Generator().manual_seed(1))
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=fading, lasting=fading)

    (image,) = frames(scene, still((48, 64)))

    expected = (1 + 2 * fading[8:56, 8:72]).clamp(min=0)
    torch.testing.assert_close(image, expected, atol=2e-6, rtol=0)


def test_the_whole_shift_moves_content_to_x_plus_d() -> None:
    spot = torch.zeros(64, 64)
    spot[30, 20] = 1
    scene = Scene(pixel_size_angst=1.0, margin_px=12, fading=spot)
    path = np.array([[0.0, 0.0], [3.0, -2.0]])

    first, second = frames(scene, still((40, 40), 2, global_angst=path))

    assert divmod(int(first.argmax()), 40) == (18, 8)
    assert divmod(int(second.argmax()), 40) == (21, 6)


def test_a_shift_by_a_part_of_a_pixel_is_exact() -> None:
    shape = (64, 96)
    wave = 0.5 * plane_wave(shape, 20, 31)
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=wave)
    path = np.array([[0.0, 0.0], [0.37, -1.61]])

    _, image = frames(scene, still((48, 80), 2, global_angst=path))

    expected = 1 + 0.5 * plane_wave(shape, 20, 31, path[1])[8:56, 8:88]
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("share_of_nyquist", "tolerance"),
    # Relative error of a wave along x and y both (the shell lies 1.4 times farther)
    # under a shift that changes by 2e-3: doming of 4 px in an image of 4096 px.
    [(0.1, 0.002), (0.5, 0.01), (0.8, 0.02), (0.85, 0.025), (0.9, 0.03)],
)
def test_the_warp_is_accurate_to_nine_tenths_of_nyquist(
    share_of_nyquist: float, tolerance: float
) -> None:
    shape, margin = (320, 320), 16
    cycles = round(share_of_nyquist * 160)
    y_filter, x_filter = (
        sharpening(f) for f in (torch.fft.fftfreq(320), torch.fft.rfftfreq(320))
    )
    spectrum = torch.fft.rfft2(plane_wave(shape, cycles, -cycles))
    sharp = torch.fft.irfft2(spectrum * y_filter[:, None] * x_filter, s=shape)

    def shift_px(y: Field, x: Field) -> Field:
        y, x = np.broadcast_arrays(y, x)
        return np.stack(
            [2.3 + 2e-3 * x + 3e-6 * y * x, -1.7 + 2e-3 * y - 4e-6 * x * x], axis=-1
        )

    moved = warp(sharp, shift_px, shape=(288, 288), margin_px=margin)

    y, x = np.mgrid[:288, :288]
    d = torch.from_numpy(shift_px(y, x))
    phase = (torch.from_numpy(y) + margin - d[..., 0]) * cycles / 320
    phase -= (torch.from_numpy(x) + margin - d[..., 1]) * cycles / 320
    error = moved - torch.cos(2 * math.pi * phase)
    assert float(error.square().mean().sqrt()) < tolerance * math.sqrt(0.5)


def domed(shape: tuple[int, int]) -> MotionField:
    """Return a motion of four frames that differs across the image."""
    motion = simulate_motion(
        np.random.default_rng(3),
        shape=shape,
        pixel_size_angst=PIXEL_SIZE_ANGST,
        frame_count=4,
        dose_e_per_angst2=2.0,
        doming_angst=0.5,
    )
    return still(
        shape,
        4,
        global_angst=motion.global_angst,
        modes=motion.modes,
        coefficients=motion.coefficients,
    )


def test_local_and_whole_motion_agree_with_the_truth_of_the_field() -> None:
    shape = (192, 256)
    motion = domed(shape)
    margin = least_margin_px(motion)
    canvas = canvas_shape(shape, margin)
    cycles = round(canvas[0] / 8), round(canvas[1] / 6)
    scene = Scene(
        pixel_size_angst=1.0, margin_px=margin, fading=0.5 * plane_wave(canvas, *cycles)
    )

    *_, last = frames(scene, motion)

    y, x = np.mgrid[: shape[0], : shape[1]]
    d = motion.shift_angst(3, y, x)
    phase = cycles[0] / canvas[0] * (y + margin - d[..., 0])
    phase += cycles[1] / canvas[1] * (x + margin - d[..., 1])
    expected = 1 + 0.5 * np.cos(2 * math.pi * phase)
    assert np.abs(last.numpy() - expected).max() < 0.005


def test_ice_moves_with_what_lies_in_it() -> None:
    """Ice of a single wave, at rest but for the motion of all: it moves locally too."""
    shape = (192, 256)
    motion = domed(shape)
    margin = least_margin_px(motion)
    canvas = canvas_shape(shape, margin)
    cycles = round(canvas[0] / 8), round(canvas[1] / 6)
    contrast = torch.zeros(canvas[1] // 2 + 1, canvas[0])
    contrast[cycles[1], cycles[0]] = 30.0
    scene = Scene(
        pixel_size_angst=1.0,
        margin_px=margin,
        fading=torch.zeros(canvas),
        ice=IceContrast(contrast=contrast),
    )

    images = frames(scene, motion, b_angst2_per_dose=0.0)

    def waves(frame: int) -> Field:
        y, x = np.mgrid[: shape[0], : shape[1]]
        d = motion.shift_angst(frame, y, x)
        phase = cycles[0] / canvas[0] * (y + margin - d[..., 0])
        phase += cycles[1] / canvas[1] * (x + margin - d[..., 1])
        two: Field = np.stack(
            [np.cos(2 * math.pi * phase).ravel(), np.sin(2 * math.pi * phase).ravel()],
            axis=1,
        )
        return two

    own = images[0].numpy().ravel() - 1
    fit, *_ = np.linalg.lstsq(waves(0), own, rcond=None)
    assert np.hypot(*fit) > 0.05
    error = waves(3) @ fit - (images[3].numpy().ravel() - 1)
    assert np.abs(error).max() < 0.02 * np.hypot(*fit)


def test_motion_within_a_frame_blurs_along_it() -> None:
    wave = 0.5 * plane_wave((64, 64), 0, 16)
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=wave)

    for way in (0.8, 3.0):
        (image,) = frames(scene, still((48, 48), blur_angst=np.array([[5.0, way]])))

        # A quarter of a cycle a pixel, `way` px long.
        assert float((image - 1).abs().max()) == pytest.approx(
            0.5 * abs(np.sinc(way / 4)), abs=2e-4
        )


def test_damage_fades_only_what_fades() -> None:
    wave = 0.2 * plane_wave((64, 64), 0, 16)
    other = 0.2 * plane_wave((64, 64), 16, 0)
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=wave, lasting=other)

    images = frames(scene, still((48, 48), 10), dose_e_per_angst2=3.0)

    critical = 0.24499 * 0.25**-1.6649 + 2.8141
    for number, image in enumerate(images):
        fades = np.abs(np.fft.rfft2(image - 1))[0, 12] / (48 * 48 / 2)
        lasts = np.abs(np.fft.rfft2(image - 1))[12, 0] / (48 * 48 / 2)
        dose = np.linspace(3 * number, 3 * number + 3, 101)
        expected = 0.2 * np.exp(-dose / (2 * critical)).mean()
        assert fades == pytest.approx(expected, rel=2e-3)
        assert lasts == pytest.approx(0.2, rel=1e-4)


def test_the_camera_lowers_waves_by_its_transfer() -> None:
    wave = 0.5 * plane_wave((64, 64), 16, 8)
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=wave)
    y, x = torch.full((64,), 0.5), torch.full((33,), 0.4)

    (image,) = frames(scene, still((48, 48)), camera_transfer=(y, x))

    assert float(image.std()) == pytest.approx(0.5 * 0.2 * math.sqrt(0.5), rel=1e-3)


def test_ice_has_its_power_and_is_scaled_where_asked() -> None:
    shape = (128, 128)
    contrast = torch.full((65, 128), 0.05)
    quiet = torch.zeros(shape)
    scale = torch.ones(shape)
    scale[:, : 8 + 56] = 0.5
    for ice_scale, left in ((None, 0.05), (scale, 0.025)):
        scene = Scene(
            pixel_size_angst=1.0,
            margin_px=8,
            fading=quiet,
            ice=IceContrast(contrast=contrast, scale=ice_scale),
        )

        image, *_ = frames(scene, still((112, 112)))

        assert float(image[:, 56:].std()) == pytest.approx(0.05, rel=0.05)
        assert float(image[:, :56].std()) == pytest.approx(left, rel=0.05)


def test_the_same_seed_gives_the_same_frames() -> None:
    scene = Scene(
        pixel_size_angst=1.0,
        margin_px=8,
        fading=torch.zeros(64, 64),
        ice=IceContrast(contrast=torch.full((33, 64), 0.1)),
    )
    runs = [frames(scene, still((48, 48), 3), dose_e_per_angst2=1.0) for _ in range(2)]

    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert float((runs[0][0] - runs[0][2]).std()) > 0.01


def test_too_small_a_margin_is_refused() -> None:
    path = np.array([[0.0, 0.0], [20.0, 0.0]])
    motion = still((48, 48), 2, global_angst=path)
    scene = Scene(pixel_size_angst=1.0, margin_px=8, fading=torch.zeros(64, 64))

    with pytest.raises(BadSettings, match="needs 2"):
        frames(scene, motion)
    assert least_margin_px(motion) >= 20 + REACH_PX
    with pytest.raises(BadSettings, match="canvas"):
        Scene(pixel_size_angst=1.0, margin_px=8, fading=torch.zeros(63, 64))


def test_a_canvas_is_large_enough_even_and_quick() -> None:
    for side in (100, 511, 1024, 4092):
        height, width = canvas_shape((side, side + 1), 21)
        assert height >= side + 42
        assert width >= side + 43
        assert height % 2 == width % 2 == 0
        for prime in (2, 3, 5, 7):
            while height % prime == 0:
                height //= prime
        assert height == 1


def test_the_phantom_moves_as_told() -> None:
    path = np.array([[0.0, 0.0], [4.0, -3.0]])
    motion = still((256, 256), 2, global_angst=path)
    options: dict[str, Any] = {"pitch_px": 64.0, "line_px": 3.0, "depth": 0.4}

    first, second = (phantom_intensity(motion, i, **options) for i in range(2))

    torch.testing.assert_close(
        second[10:240, 10:240], first[6:236, 13:243], atol=1e-5, rtol=0
    )
    assert float(first.min()) == pytest.approx(0.2, abs=1e-6)
    counts = list(
        phantom_frames(
            motion, electrons_per_px=5.0, generator=torch.Generator().manual_seed(2)
        )
    )
    assert len(counts) == 2
    assert float(counts[0].mean()) == pytest.approx(
        5
        * float(
            next(
                iter(
                    phantom_frames(
                        motion, electrons_per_px=None, generator=torch.Generator()
                    )
                )
            ).mean()
        ),
        rel=0.01,
    )
