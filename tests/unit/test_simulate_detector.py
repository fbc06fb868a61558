"""Counts are Poisson, the gain corrects them, and electrons lie where they should."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.detector import (
    CountingResponse,
    ElectronEvents,
    draw_events,
    draw_poisson,
    expose,
    transfer_function,
)
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor

if TYPE_CHECKING:
    from torch import Tensor

PERFECT = CountingResponse(
    detective_efficiency=1.0, localisation_px=0.0, electrons_per_px_per_raw_frame=0.0
)
FLAWLESS: dict[str, Any] = {"hot_count": 0, "flickering_count": 0, "dead_count": 0}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exposed(intensity: Tensor, seed: int = 1, **values: Any) -> Tensor:
    defaults: dict[str, Any] = {
        "electrons_per_px": 1.25,
        "sensor": None,
        "response": PERFECT,
        "generator": generator(seed),
    }
    return expose(intensity, **(defaults | values))


@pytest.mark.parametrize(
    "mean", [0.02, 0.5, 1.25, 3.0, 9.0, 14.6, 15.9, 16.2, 40.0, 200.0]
)
def test_counts_follow_the_poisson_distribution(mean: float) -> None:
    count = 1 << 21
    counts = draw_poisson(torch.full((count,), mean), generator=generator(3)).double()

    # Four standard errors of the mean and of the variance.
    assert float(counts.mean()) == pytest.approx(mean, abs=4 * math.sqrt(mean / count))
    error = math.sqrt((2 * mean**2 + mean) / count)
    assert float(counts.var()) == pytest.approx(mean, abs=4 * error)
    for k in range(int(mean + 4 * math.sqrt(mean)) + 2):
        share = math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1))
        found = float((counts == k).double().mean())
        assert found == pytest.approx(share, abs=5 * math.sqrt(share / count) + 1e-6)


@pytest.mark.parametrize("electrons_per_px", [16.2, 17.7, 100.0, 200.0])
def test_bright_frames_are_counted(electrons_per_px: float) -> None:
    """Above 14 e/px the few brightest pixels need more terms than 20."""
    usual = CountingResponse(electrons_per_px_per_raw_frame=0.0)
    counts = exposed(
        torch.ones(512, 512), electrons_per_px=electrons_per_px, response=usual
    ).float()
    mean = 0.9 * electrons_per_px
    assert float(counts.mean()) == pytest.approx(mean, abs=5 * mean**0.5 / 512)
    assert float(counts.var()) == pytest.approx(mean, rel=5 * 2**0.5 / 512)


def test_each_pixel_has_its_own_mean() -> None:
    mean = torch.linspace(0, 6, 64).repeat(40_000, 1)
    counts = draw_poisson(mean, generator=generator())

    error = 5 * (mean[0] / 40_000).sqrt()
    assert ((counts.mean(dim=0) - mean[0]).abs() <= error).all()
    assert not counts[:, 0].any()


def test_the_noise_is_white_and_the_signal_keeps_what_the_mtf_left() -> None:
    y = torch.arange(512)[:, None]
    wave = 1 + 0.5 * torch.cos(2 * math.pi * y / 4).expand(512, 512)
    counts = exposed(wave, electrons_per_px=2.0).float()

    power = torch.fft.rfft2(counts - 2).abs().square() / counts.numel()
    signal = float(power[128, 0])
    power[128, 0] = power[384, 0] = 2.0
    power[0, 0] = 2.0
    # 2 e x 0.5 / 2 a side, squared, times the number of pixels.
    assert signal == pytest.approx(0.25 * 512 * 512, rel=0.02)
    for rows in power[:, 1:].split(128):
        assert float(rows.mean()) == pytest.approx(2.0, rel=0.03)


def test_the_transfer_is_that_of_a_pixel_and_of_localisation() -> None:
    response = CountingResponse(localisation_px=0.2)
    y, x = transfer_function((64, 96), response)
    fine_y, _ = transfer_function((128, 96), response, pixels_per_physical=2.0)

    assert y.shape == (64,)
    assert x.shape == (49,)
    assert float(y[0]) == float(x[0]) == 1
    gauss = math.exp(-2 * (math.pi * 0.2 * 0.5) ** 2)
    assert float(x[-1]) == pytest.approx(2 / math.pi * gauss, rel=1e-5)
    # At the same spatial frequency the fine pixel loses less, the place as much.
    assert float(fine_y[32]) == pytest.approx(
        math.sin(math.pi / 4) * 4 / math.pi * gauss
    )


def test_single_events_that_stray_are_blurred_intensity() -> None:
    """Move each electron by a random error: the wave falls by the MTF, noise stays."""
    draw = generator(5)
    side, sd, cycles = 512, 0.4, 2 * math.pi / 4
    x = side * torch.rand(4 * side**2, generator=draw, dtype=torch.float64)
    density = (1 + 0.8 * torch.cos(cycles * x)) / 1.8
    x = x[torch.rand(len(x), generator=draw) < density]
    x += sd * torch.randn(len(x), generator=draw)
    row = torch.randint(side, (len(x),), generator=draw)
    column = torch.round(x).long() % side
    counts = torch.bincount(row * side + column, minlength=side**2).view(side, side)

    mean = len(x) / side**2
    profile = counts.double().mean(dim=0)
    amplitude = 2 * float((profile * torch.cos(cycles * torch.arange(side))).mean())
    mtf = transfer_function((side, side), CountingResponse(localisation_px=sd))[1][128]
    assert amplitude == pytest.approx(mean * 0.8 * float(mtf), rel=0.01)
    # White noise of the mean, not blurred, also between neighbours.
    noise = counts.double() - profile
    assert float(noise.var()) == pytest.approx(mean, rel=0.02)
    beside = float((noise[:, 1:] * noise[:, :-1]).mean())
    assert beside == pytest.approx(0, abs=0.01 * mean)


def test_many_exposures_recover_the_gain() -> None:
    sensor = simulate_sensor((128, 160), generator=generator(), **FLAWLESS)
    flat, total = torch.ones(128, 160), torch.zeros(128, 160)
    draw = generator(7)
    for _ in range(400):
        total += exposed(flat, electrons_per_px=10.0, sensor=sensor, generator=draw)

    corrected = total / 4000 * sensor.gain
    assert float(corrected.mean()) == pytest.approx(1, abs=1e-3)
    # What is left is the noise of 4000 electrons.
    assert float(corrected.std()) == pytest.approx(4000**-0.5, rel=0.05)
    assert float((total / 4000).std()) > 0.025


def test_the_measured_gain_has_the_noise_of_its_dose() -> None:
    sensor = simulate_sensor((128, 128), generator=generator(), dead_count=5)
    gain = flat_field_gain(sensor, electrons_per_px=1000.0, generator=generator(2))

    live = sensor.sensitivity > 0
    assert not gain[~live].any()
    residual = gain[live] * sensor.sensitivity[live]
    assert float(residual.std()) == pytest.approx(1000**-0.5, rel=0.1)
    assert not sensor.gain[~live].any()


def test_a_sensor_has_the_flaws_it_was_given() -> None:
    sensor = simulate_sensor(
        (256, 512),
        generator=generator(),
        hot_count=10,
        flickering_count=10,
        dead_count=12,
        dead_column_count=1,
    )
    s = sensor.sensitivity
    live = s > 0
    assert int((~live).sum()) in range(256 + 10, 256 + 13)
    assert float(s[live].mean()) == pytest.approx(1, abs=1e-5)
    # Seams lie between 2 x 4 panels; the panels differ.
    assert float(s[127:129][live[127:129]].mean()) == pytest.approx(0.9, abs=0.02)
    assert float(s[:, 127:129].mean()) < 0.93
    panels = s.view(2, 128, 4, 128).permute(0, 2, 1, 3)[:, :, 10:-10, 10:-10]
    assert float(panels.mean(dim=(2, 3)).std()) > 0.004

    dark = torch.zeros(256, 512)
    frames = torch.stack(
        [exposed(dark, seed, sensor=sensor) for seed in range(40)]
    ).float()
    counting = (frames > 0).float().mean(dim=0)
    hot, flickering = sensor.noisy_index[:10], sensor.noisy_index[10:]
    assert (counting.view(-1)[hot] > 0.8).all()
    assert (counting.view(-1)[flickering] < 0.6).all()
    assert int((counting > 0).sum()) <= 20


def test_crowded_electrons_are_lost() -> None:
    response = CountingResponse(
        detective_efficiency=1.0,
        electrons_per_px_per_raw_frame=0.02,
        coincidence_area_px=10.0,
    )
    mean = float(exposed(torch.ones(512, 512), response=response).float().mean())
    assert response.crowding == pytest.approx(0.2)
    assert mean == pytest.approx(1.25 * (1 - math.exp(-0.2)) / 0.2, rel=0.005)
    half = CountingResponse(
        detective_efficiency=0.5, electrons_per_px_per_raw_frame=0.0
    )
    thinned = float(exposed(torch.ones(512, 512), response=half).float().mean())
    assert thinned == pytest.approx(0.625, rel=0.005)


def test_counts_are_clipped_and_come_from_their_generator() -> None:
    bright = torch.full((64, 64), 400.0)
    assert int(exposed(bright).max()) == 255
    flat = torch.ones(64, 64)
    out = torch.empty(64, 64, dtype=torch.uint8)
    assert exposed(flat, out=out) is out
    assert torch.equal(out, exposed(flat))
    assert not torch.equal(out, exposed(flat, seed=2))


def rendered(events: ElectronEvents, shape: tuple[int, int]) -> Tensor:
    counts = torch.bincount(events.pixel.long(), minlength=shape[0] * shape[1])
    return counts.view(shape)


def test_events_are_the_same_electrons_frame_by_frame() -> None:
    shape = (200, 150)
    expected = torch.linspace(0.2, 1.8, 150).repeat(200, 1)
    events = draw_events(expected, raw_frame_count=300, generator=generator())

    starts = events.starts.tolist()
    assert len(starts) == 301
    assert (starts[0], starts[-1]) == (0, len(events.pixel))
    per_frame = events.starts.diff().double()
    assert float(per_frame.mean()) == pytest.approx(100, rel=0.02)
    assert float(per_frame.var()) == pytest.approx(100, rel=0.3)
    for start, stop in pairwise(starts):
        assert (events.pixel[start:stop].diff() > 0).all()
    columns = rendered(events, shape).double().mean(dim=0)
    assert ((columns - expected[0]).abs() < 5 * (expected[0] / 200).sqrt()).all()
    for sub in (events.sub_y, events.sub_x):
        shares = torch.bincount(sub.long(), minlength=4) / len(sub)
        assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_events_from_a_finer_grid_keep_their_places() -> None:
    fine = torch.zeros(80, 100)
    fine[21, 43] = 50.0
    events = draw_events(
        fine, raw_frame_count=5000, physical_shape=(40, 50), generator=generator()
    )
    assert set(events.pixel.tolist()) == {10 * 50 + 21}
    assert set(events.sub_y.tolist()) == {2, 3}
    assert set(events.sub_x.tolist()) == {2, 3}
    with pytest.raises(BadSettings, match="80, 100"):
        draw_events(
            fine, raw_frame_count=5, physical_shape=(30, 50), generator=generator()
        )


def test_two_electrons_in_a_pixel_and_raw_frame_are_one() -> None:
    events = draw_events(
        torch.full((30, 30), 20.0), raw_frame_count=2, generator=generator()
    )
    assert len(events.pixel) == 2 * 900


def test_a_camera_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings, match="cannot be"):
        CountingResponse(detective_efficiency=1.5)
    with pytest.raises(BadSettings, match="cannot be"):
        CountingResponse(localisation_px=-0.1)


def test_a_sensor_is_its_seed() -> None:
    one, same, other = (
        simulate_sensor((64, 64), generator=generator(seed)) for seed in (1, 1, 2)
    )
    assert isinstance(one, Sensor)
    assert torch.equal(one.sensitivity, same.sensitivity)
    assert not torch.equal(one.sensitivity, other.sensitivity)
