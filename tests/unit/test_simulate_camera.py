"""What a camera makes of a scene: frames, single electrons, one micrograph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.camera import (
    Camera,
    take_events,
    take_frames,
    take_micrograph,
)
from icestream.simulate.compose import compose_scene
from icestream.simulate.corrected import render_corrected
from icestream.simulate.detector import CountingResponse, transfer_function
from icestream.simulate.motion import damage_filter
from icestream.simulate.render import render_frames
from icestream.simulate.sensor import simulate_sensor
from microscope import (
    camera,
    canvas,
    composed,
    exposure,
    radial_power,
    radial_share,
    recipe,
    ring_frequencies,
    seeded,
)

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.simulate.compose import ComposedScene
    from icestream.simulate.exposure import Exposure, Recipe


def summed(
    scene: ComposedScene, one: Exposure, how: Recipe, what: Camera, seed: int = 1
) -> Tensor:
    frames = take_frames(scene, one, how, what, generator=seeded(seed))
    return torch.stack([frame.float() for frame in frames]).sum(dim=0)


def inside(scene: ComposedScene, canvas: Tensor) -> Tensor:
    """Return the image's part of a canvas."""
    start = scene.scene.margin_px
    height, width = scene.mask.shape
    return canvas[start : start + height, start : start + width]


@pytest.mark.parametrize("dose", [4.0, 60.0, 200.0])
def test_the_counts_of_nothing_are_poisson(dose: float) -> None:
    how = recipe(dose_e_per_angst2=dose)
    one = exposure(how)
    scene = composed(one, how)

    images = [
        summed(scene, one, how, camera()),
        take_micrograph(scene, one, how, camera(), generator=seeded()),
    ]
    for counts in images:
        # Five standard errors of the mean and of the variance of 65,536 pixels.
        assert float(counts.mean()) == pytest.approx(dose, abs=5 * dose**0.5 / 256)
        assert float(counts.var()) == pytest.approx(dose, rel=5 * 2**0.5 / 256)


def test_a_dim_exposure_has_its_share_of_the_electrons() -> None:
    how = recipe(dose_e_per_angst2=20.0)
    one = exposure(how, dose_share=0.25)
    frames = take_frames(composed(one, how), one, how, camera(), generator=seeded())
    assert all(float(f.float().mean()) == pytest.approx(1.25, 0.02) for f in frames)


def test_many_frames_recover_the_gain() -> None:
    how = recipe(128, frame_count=150, dose_e_per_angst2=3000.0)
    one = exposure(how)
    sensor = simulate_sensor(how.shape, generator=seeded(), hot_count=0, dead_count=0)
    flat = summed(composed(one, how), one, how, camera(sensor))

    is_quiet = torch.ones(how.shape, dtype=torch.bool)
    is_quiet.view(-1)[sensor.noisy_index] = False
    residual = (flat / 3000.0 * sensor.gain)[is_quiet]
    assert float(residual.mean()) == pytest.approx(1, abs=1e-3)
    # What is left is the noise of 3000 electrons.
    assert float(residual.std()) == pytest.approx(3000**-0.5, rel=0.05)


def test_the_signal_falls_with_the_mtf_and_the_noise_does_not() -> None:
    how = recipe(dose_e_per_angst2=100.0)
    one = exposure(how)
    texture = 0.1 * torch.randn(canvas(one, how), generator=seeded(2))
    response = CountingResponse(localisation_px=0.3, electrons_per_px_per_raw_frame=0)
    scene = composed(one, how, lasting=texture)

    seen = take_micrograph(
        scene, one, how, camera(response=response), generator=seeded()
    )
    mean = float(seen.mean())
    clean = inside(scene, texture) * mean
    along_y, along_x = transfer_function((512, 512), response)
    gy, gx = torch.fft.fftfreq(512)[:, None], torch.fft.rfftfreq(512)
    number = (torch.hypot(gy, gx) * 32).long()
    mtf = along_y[:, None] * along_x
    expected = torch.stack([mtf[number == n].mean() for n in range(16)])
    share = radial_share(seen, clean, 16)
    # Five standard errors: rings farther out have more coefficients.
    error = 0.25 / torch.arange(1, 17).sqrt()
    assert ((share - expected).abs() < error).all()
    assert float(expected[-1]) < 0.5
    noise = radial_power(seen, 16) - share**2 * radial_power(clean, 16)
    assert ((noise / mean - 1)[3:].abs() < 0.1 + error[3:]).all()


def test_damage_takes_high_frequencies_as_the_curve_says() -> None:
    how = recipe(frame_count=3, dose_e_per_angst2=60.0, pixel_size_angst=2.0)
    one = exposure(how)
    texture = 0.2 * torch.randn(canvas(one, how), generator=seeded(2))
    scene = composed(one, how, fading=texture)
    mtf = radial_share(
        take_micrograph(
            composed(one, how, lasting=texture), one, how, camera(), generator=seeded()
        ),
        inside(scene, texture) * 240,
        16,
    )
    frames = take_frames(scene, one, how, camera(), generator=seeded())
    for number, frame in enumerate(frames):
        curve = damage_filter(
            ring_frequencies(2.0, 16),
            start_e_per_angst2=20.0 * number,
            stop_e_per_angst2=20.0 * number + 20,
            voltage_kv=300,
        )
        share = radial_share(frame.float(), inside(scene, texture) * 80, 16)
        # Five standard errors: rings farther out have more coefficients.
        error = 0.25 / torch.arange(1, 17).sqrt()
        assert ((share - curve * mtf).abs() < error).all()


def test_a_micrograph_has_the_spectrum_of_its_frames() -> None:
    """Moving ice, film that lasts, blur within frames: in one draw as in twelve."""
    how = recipe(512, frame_count=12, dose_e_per_angst2=40.0)
    one = exposure(how)
    way = np.zeros((12, 2))
    way[:3] = [[5.0, 0.0], [2.0, 1.0], [1.0, 0.0]]
    one = replace(one, motion=replace(one.motion, blur_angst=way))
    scene = compose_scene(one, how, [], generator=seeded(4))
    response = CountingResponse()

    spectra = []
    for seed in range(3):
        frames = summed(scene, one, how, camera(response=response), seed)
        at_once = take_micrograph(
            scene, one, how, camera(response=response), generator=seeded(seed + 10)
        )
        spectra.append([radial_power(im, 24) for im in (frames, at_once)])
        assert float(at_once.mean()) == pytest.approx(float(frames.mean()), rel=1e-3)
    by_frames, by_draw = torch.tensor(np.mean([np.stack(s) for s in spectra], axis=0))
    assert float(by_frames[1:].max() / by_frames[1:].min()) > 1.2
    # Five standard errors of the mean of three; bins far out have more coefficients.
    tolerance = 0.3 / torch.arange(1, 24).sqrt()
    assert ((by_draw / by_frames - 1)[1:].abs() < tolerance).all()
    # Of three images, tapered, both means are known to 0.4 %.
    assert float(by_draw[8:].mean()) == pytest.approx(float(by_frames[8:].mean()), 0.02)


def test_what_does_not_move_by_itself_is_the_mean_of_its_frames() -> None:
    how = recipe(96, frame_count=5, dose_e_per_angst2=50.0)
    one = exposure(how)
    way = np.array([[6.0, 2.0], [3.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.5]])
    motion = replace(one.motion, blur_angst=way)
    texture, film = (
        0.1 * torch.randn(canvas(one, how), generator=seeded(n)) for n in (1, 2)
    )
    scene = composed(one, how, fading=texture, lasting=film).scene
    transfer = transfer_function(canvas(one, how), CountingResponse())
    values: dict[str, Any] = {
        "voltage_kv": 300.0,
        "dose_e_per_angst2": 10.0,
        "camera_transfer": transfer,
        "generator": seeded(),
    }
    frames = torch.stack(list(render_frames(scene, motion, **values)))
    corrected = render_corrected(scene, motion, **values)
    torch.testing.assert_close(corrected, frames.mean(dim=0), atol=2e-5, rtol=0)


def test_shifts_are_gone_from_a_micrograph() -> None:
    how = recipe(192, frame_count=6, dose_e_per_angst2=600.0)
    moving = exposure(how, is_still=False)
    still = exposure(how)
    texture = torch.zeros(canvas(moving, how))
    y, x = texture.shape[0] // 2, texture.shape[1] // 2
    texture[y - 12 : y + 12, x - 20 : x + 20] = 0.5
    images = [
        take_micrograph(
            composed(moving, how, lasting=texture),
            one,
            how,
            camera(),
            generator=seeded(),
        )
        for one in (moving, still)
    ]
    # Only the blur within frames differs, at the border of the square.
    assert float((images[0] - images[1]).mean()) == pytest.approx(0, abs=0.5)
    middle = (slice(90, 102), slice(86, 106))
    assert float(images[0][middle].mean()) == pytest.approx(900, rel=0.01)
    assert float(images[1][middle].mean()) == pytest.approx(900, rel=0.01)


def test_bad_pixels_of_a_micrograph_are_replaced() -> None:
    how = recipe(dose_e_per_angst2=40.0)
    one = exposure(how)
    sensor = simulate_sensor(
        how.shape, generator=seeded(), dead_count=300, dead_column_count=1
    )
    counts = take_micrograph(
        composed(one, how), one, how, camera(sensor), generator=seeded()
    )
    bad = sensor.sensitivity == 0
    bad.view(-1)[sensor.noisy_index] = True
    assert int(bad.sum()) > 500
    assert float(counts[bad].mean()) == pytest.approx(40, rel=0.05)
    assert float(counts[bad].var()) == pytest.approx(40, rel=0.25)


def test_super_resolution_shows_the_scene_on_finer_pixels() -> None:
    how = recipe(128, frame_count=1, dose_e_per_angst2=100.0)
    one = exposure(how)
    height, width = canvas(one, how)
    margin = composed(one, how).scene.margin_px
    cycles = 30
    place = torch.arange(width) - margin
    wave = 0.5 * torch.cos(2 * math.pi * cycles * place / width).expand(height, width)
    scene = composed(one, how, lasting=wave.contiguous())

    (fine,) = take_frames(
        scene, one, how, camera(super_resolution=2), generator=seeded()
    )
    assert fine.shape == (256, 256)
    profile = fine.float().mean(dim=0)
    # Fine pixel k lies at k / 2 - 1 / 4, and averages over half a pixel.
    at = torch.arange(256) / 2 - 0.25
    share = math.sin(math.pi * cycles / width / 2) / (math.pi * cycles / width / 2)
    expected = 25 * (1 + 0.5 * share * torch.cos(2 * math.pi * cycles * at / width))
    # Noise of 25 e in 256 rows: 0.3; borders, where the image goes on as a blend.
    torch.testing.assert_close(profile[8:-8], expected[8:-8], atol=1.5, rtol=0)
    assert float((profile - expected)[8:-8].square().mean().sqrt()) < 0.4


def test_events_add_up_to_what_frames_count() -> None:
    how = recipe(192, frame_count=2, dose_e_per_angst2=8.0)
    one = exposure(how)
    sensor = simulate_sensor(how.shape, generator=seeded(), hot_count=5, dead_count=5)
    scene = composed(one, how)
    groups = list(
        take_events(
            scene, one, how, camera(sensor), raw_frames_per_frame=40, generator=seeded()
        )
    )
    assert len(groups) == 2
    for events in groups:
        assert events.starts.shape == (41,)
        pixels = torch.bincount(events.pixel.long(), minlength=192 * 192)
        dead = (sensor.sensitivity == 0).view(-1)
        assert not pixels[dead].any()
        assert int(pixels[sensor.noisy_index[:5]].min()) >= 4
        usual = torch.ones_like(dead)
        usual[sensor.noisy_index] = False
        # A perfect camera loses only a second one in a raw frame's pixel: 4 / 40 / 2.
        share = pixels[usual].float() / sensor.sensitivity.view(-1)[usual].clamp(
            min=0.1
        )
        assert 3.7 < float(share.mean()) < 4.05
        assert int(events.sub_y.max()) == int(events.sub_x.max()) == 3


@pytest.mark.parametrize("super_resolution", [1, 2])
@pytest.mark.parametrize("raw_frames", [5, 40, 400, 40_000])
def test_crowded_raw_frames_lose_electrons(
    raw_frames: int, super_resolution: int
) -> None:
    how = recipe(192, frame_count=1, dose_e_per_angst2=1.2)
    one = exposure(how)
    usual = Camera(
        response=CountingResponse(), sensor=None, super_resolution=super_resolution
    )
    (events,) = take_events(
        composed(one, how),
        one,
        how,
        usual,
        raw_frames_per_frame=raw_frames,
        generator=seeded(),
    )
    # Of those found in 10 px and a raw frame, 1 - exp(-n) are counted, in all.
    crowding = 10 * 0.9 * 1.2 / raw_frames
    expected = 0.9 * 1.2 * (1 - math.exp(-crowding)) / crowding
    # Shot noise of 40,000 electrons, four times.
    found = len(events.pixel) / 192**2
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected) / 192)


def test_events_know_halves_of_a_pixel_in_super_resolution() -> None:
    how = recipe(128, frame_count=1, dose_e_per_angst2=20.0)
    one = exposure(how)
    height, width = canvas(one, how)
    margin = composed(one, how).scene.margin_px
    cycles, place = 20, torch.arange(width) - margin
    wave = 0.5 * torch.sin(2 * math.pi * cycles * place / width).expand(height, width)
    scene = composed(one, how, lasting=wave.contiguous())
    (events,) = take_events(
        scene,
        one,
        how,
        camera(super_resolution=2),
        raw_frames_per_frame=200,
        generator=seeded(),
    )
    half = 2 * (events.pixel.long() % 128) + events.sub_x.long() // 2
    counts = torch.bincount(half, minlength=256).float() / 128
    at = torch.arange(256) / 2 - 0.25
    model = torch.sin(2 * math.pi * cycles * at / width)
    # Correlates with halves where they lie, less so with them swapped.
    swapped = counts.view(-1, 2).flip(1).reshape(-1)
    right, wrong = (
        float(((c - c.mean()) * model)[8:-8].sum()) for c in (counts, swapped)
    )
    assert right > 1.1 * wrong


def test_a_seed_gives_the_same_files() -> None:
    how = recipe(96, dose_e_per_angst2=20.0)
    one = exposure(how, is_still=False)
    scene = compose_scene(one, how, [], generator=seeded(2))

    def everything(seed: int) -> list[Tensor]:
        frames = list(take_frames(scene, one, how, camera(), generator=seeded(seed)))
        (*_, events) = take_events(
            scene, one, how, camera(), raw_frames_per_frame=5, generator=seeded(seed)
        )
        single = take_micrograph(scene, one, how, camera(), generator=seeded(seed))
        return [*frames, events.pixel, events.sub_x, single]

    first, again, other = everything(1), everything(1), everything(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_sensor_of_another_shape_is_refused() -> None:
    how = recipe(96)
    one = exposure(how)
    sensor = simulate_sensor((96, 96), generator=seeded())
    with pytest.raises(BadSettings, match="shape of the file"):
        next(
            take_frames(
                composed(one, how),
                one,
                how,
                camera(sensor, super_resolution=2),
                generator=seeded(),
            )
        )
    with pytest.raises(BadSettings, match="1 or 2"):
        camera(super_resolution=3)
