"""Ice scatters as much as physics says, and forgets itself as water walks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.ice import (
    WATER_PER_ANGST3,
    axis_window,
    crystalline_ice_phase,
    ice_phase_power,
    ice_thickness_map,
    ice_transmission,
    radial_frequency,
    radial_values,
    water_structure_factor,
    water_volt_angst3,
)
from icestream.simulate.ice_motion import IceMotion, frame_correlation

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_SIZE_ANGST = 0.8
SHAPE = (256, 320)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def motion(dose: float, b: float = 34.0, seed: int = 1) -> IceMotion:
    return IceMotion(
        SHAPE,
        pixel_size_angst=PIXEL_SIZE_ANGST,
        dose_e_per_angst2=dose,
        b_angst2_per_dose=b,
        generator=generator(seed),
    )


def field(planes: Tensor) -> Tensor:
    spectrum = torch.complex(planes[0], planes[1]).T
    image: Tensor = torch.fft.irfft2(spectrum, s=SHAPE)
    return image


def test_the_structure_factor_has_the_peaks_of_amorphous_ice() -> None:
    g = torch.linspace(0, 1.5, 3001)
    s = water_structure_factor(g)

    first = g[(g > 0.2) & (g < 0.35)][s[(g > 0.2) & (g < 0.35)].argmax()]
    second = g[(g > 0.4) & (g < 0.6)][s[(g > 0.4) & (g < 0.6)].argmax()]
    assert 1 / float(first) == pytest.approx(3.70, abs=0.05)
    assert 1 / float(second) == pytest.approx(2.12, abs=0.04)
    assert 1.9 < float(s.max()) < 2.4
    assert float(s[0]) == pytest.approx(0.03, abs=1e-3)
    assert float(s[-1]) == pytest.approx(1, abs=1e-3)
    assert float(s.min()) > 0


def test_no_two_molecules_are_in_one_place() -> None:
    g = torch.linspace(0, 2.5, 250_001, dtype=torch.float64)
    excess = 4 * math.pi * g**2 * (water_structure_factor(g) - 1)
    found = float(torch.trapezoid(excess, g))
    assert found == pytest.approx(-WATER_PER_ANGST3, rel=0.05)


def test_water_has_the_potential_of_its_atoms() -> None:
    volt = water_volt_angst3(torch.tensor([0.0, 1e-3, 0.25, 0.5, 1.0]))

    # 47.878 (1.983 + 2 x 0.529) at zero angle; a mean of 4.6 V for isolated molecules.
    assert float(volt[0]) == pytest.approx(145.6, rel=0.003)
    assert float(volt[1]) == pytest.approx(float(volt[0]), rel=1e-3)
    assert float(volt[0]) * WATER_PER_ANGST3 == pytest.approx(4.57, abs=0.03)
    assert (volt[1:].diff() < 0).all()


def test_the_power_is_molecules_times_phase_squared() -> None:
    g = torch.tensor([0.1, 1 / 3.72])

    power = ice_phase_power(g, thickness_angst=300.0, voltage_kv=300.0)

    expected = 0.0314 * 300 * (6.526e-4 * water_volt_angst3(g)) ** 2
    expected *= water_structure_factor(g)
    torch.testing.assert_close(power, expected, rtol=2e-3, atol=0)
    double = ice_phase_power(g, thickness_angst=600.0, voltage_kv=300.0)
    torch.testing.assert_close(double, 2 * power)
    assert float(
        ice_phase_power(g, thickness_angst=300.0, voltage_kv=200.0)[0]
    ) > float(power[0])


def test_ice_that_stands_still_is_white_noise_of_one() -> None:
    ice = motion(dose=0.0)
    first = field(ice.next_frame()).clone()
    second = field(ice.next_frame())

    assert float(first.var()) == pytest.approx(1, rel=0.02)
    # The least step of the table is no step: a thousandth in amplitude.
    assert float((first - second).std()) < 3e-3
    spectrum = torch.fft.rfft2(first).abs().square() / first.numel()
    for edge in (spectrum[:, 0], spectrum[:, -1], spectrum[:, 1:-1]):
        spread = 1.5 * 4 / math.sqrt(edge.numel())
        assert float(edge.mean()) == pytest.approx(1, abs=spread)


@pytest.mark.parametrize("dose", [0.4, 1.5])
def test_frames_decorrelate_with_dose_as_b_says(dose: float) -> None:
    ice = motion(dose)
    frames = [ice.next_frame().clone() for _ in range(12)]
    g = radial_frequency(SHAPE, PIXEL_SIZE_ANGST).T
    scale = SHAPE[0] * SHAPE[1] / 2

    for low, high in ((0.05, 0.08), (0.14, 0.17), (0.26, 0.28), (0.45, 0.47)):
        ring = (g >= low) & (g < high)
        ring[0] = ring[-1] = False
        for lag in (0, 1, 3):
            measured = np.mean(
                [
                    float((one[:, ring] * other[:, ring]).mean()) / scale
                    for one, other in zip(frames, frames[lag:], strict=False)
                ]
            )
            expected = frame_correlation(g[ring], dose, lag=lag).mean()
            # Some 300 to 3000 coefficients in a ring and 9 frames, partly alike.
            assert measured == pytest.approx(float(expected), abs=0.05), (low, lag)


def test_the_correlation_falls_by_exp_of_b_dose_over_four() -> None:
    g = torch.tensor([0.02, 0.1, 0.27], dtype=torch.float64)
    near, far = (frame_correlation(g, 1.5, lag=lag) for lag in (1, 4))

    torch.testing.assert_close(far / near, torch.exp(-34 * 3 * 1.5 * g**2 / 4))
    # Means over frames, by numbers: an average of the exponential over two intervals.
    t = torch.linspace(0, 1.5, 401, dtype=torch.float64)
    apart = (t[:, None] - t[None, :]).abs()
    for lag in (0, 1):
        lagged = apart if lag == 0 else (t[:, None] + 1.5 - t[None, :])
        direct = torch.exp(-34 * lagged[..., None] * g**2 / 4).mean(dim=(0, 1))
        torch.testing.assert_close(
            frame_correlation(g, 1.5, lag=lag), direct, rtol=4e-3, atol=0
        )


def test_the_sum_of_frames_fades_like_a_b_factor() -> None:
    # In all of an exposure little is left at 3.7 Å and most at 30 Å.
    ice = motion(dose=1.5)
    total = torch.stack([ice.next_frame().clone() for _ in range(20)]).mean(dim=0)
    power = total.square().sum(dim=0) / (SHAPE[0] * SHAPE[1])
    g = radial_frequency(SHAPE, PIXEL_SIZE_ANGST).T

    slow, fast = (
        float(power[(g > low) & (g < high)].mean())
        for low, high in ((0.025, 0.04), (0.26, 0.28))
    )
    assert slow > 0.6
    assert fast < 0.12


def test_the_same_seed_gives_the_same_ice() -> None:
    one, same, other = motion(1.0), motion(1.0), motion(1.0, seed=2)
    for _ in range(2):
        first, second, third = (i.next_frame().clone() for i in (one, same, other))

    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, third)


def test_ice_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings, match="moving"):
        motion(dose=-1.0)
    with pytest.raises(BadSettings, match="even"):
        IceMotion(
            (15, 16),
            pixel_size_angst=1.0,
            dose_e_per_angst2=1.0,
            generator=generator(),
        )


def test_a_table_of_radii_is_as_good_as_the_function() -> None:
    g = radial_frequency((200, 180), 1.1)
    direct = torch.exp(-30 * g**2)
    torch.testing.assert_close(
        radial_values(g, lambda f: torch.exp(-30 * f**2)), direct, atol=3e-5, rtol=0
    )


def test_ice_is_thicker_to_the_edge_and_along_the_wedge() -> None:
    thickness = ice_thickness_map(
        (200, 200),
        pixel_size_angst=10.0,
        thickness_angst=300.0,
        meniscus_angst=500.0,
        hole_radius_angst=900.0,
    )
    assert float(thickness[99:101, 99:101].mean()) == pytest.approx(300, abs=0.1)
    assert float(thickness[100, 0]) == pytest.approx(800, abs=0.1)
    assert (thickness[100, 100:190].diff() > 0).all()

    wedge = ice_thickness_map(
        (100, 100),
        pixel_size_angst=10.0,
        thickness_angst=100.0,
        wedge_angst=(0.0, 400.0),
    )
    assert float(wedge[0, -1] - wedge[0, 50]) == pytest.approx(196, abs=0.5)
    assert float(wedge.min()) == 0
    assert float(wedge.std(dim=0).max()) < 1e-3


def test_transmission_falls_by_the_mean_free_path() -> None:
    thickness = torch.tensor([0.0, 350.0])
    high, low = (ice_transmission(thickness, voltage_kv=kv) for kv in (300.0, 200.0))

    assert float(high[0]) == 1
    assert float(high[1]) == pytest.approx(math.exp(-0.1), rel=1e-5)
    # The square of the velocities: 0.483 / 0.603.
    assert float(low[1]) == pytest.approx(math.exp(-0.1 * 0.603 / 0.4835), rel=1e-3)


def crystals(
    side: int, pixel_size_angst: float, seed: int = 1, **values: Any
) -> Tensor:
    defaults: dict[str, Any] = {"domain_count": 30, "domain_radius_angst": 120.0}
    return crystalline_ice_phase(
        (side, side),
        pixel_size_angst=pixel_size_angst,
        voltage_kv=300.0,
        generator=generator(seed),
        **(defaults | values),
    )


def test_crystals_give_spots_at_the_spacings_of_ice() -> None:
    phase = crystals(512, 1.0, domain_count=60)
    power = torch.fft.rfft2(phase).abs().square()
    g = radial_frequency((512, 512), 1.0)
    inside = torch.zeros_like(g, dtype=torch.bool)
    for spacing in (3.90, 3.66, 3.44, 2.25):
        spot = (g - 1 / spacing).abs() < 0.006
        inside |= spot
        # 1.05 V squared, the weakest, is a 27th of all.
        assert float(power[spot].sum() / power.sum()) > 0.02
    assert float(power[inside].sum() / power.sum()) > 0.95
    coarse = torch.fft.rfft2(crystals(256, 1.5)).abs().square()
    g = radial_frequency((256, 256), 1.5)
    assert float(coarse[(g - 1 / 2.25).abs() < 0.006].sum() / coarse.sum()) < 1e-3
    assert not crystals(64, 2.0).any()


def test_a_crystal_seen_along_its_axis_has_both_sets_of_planes() -> None:
    """Six spots of 3.90 Å; six of 2.25 Å lie 30 degrees from them, 2.17 V strong."""
    side = 512
    gy, gx = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    window = torch.hann_window(side)[:, None] * torch.hann_window(side)
    for seed in range(20):
        phase = crystals(
            side,
            1.0,
            domain_count=1,
            domain_radius_angst=400.0,
            seed=seed,
        )
        spectrum = torch.fft.rfft2(phase * window).abs()
        rings = [
            spectrum * ((torch.hypot(gy, gx) - 1 / d).abs() < 0.008)
            for d in (3.90, 2.25)
        ]
        if min(float(ring.max()) for ring in rings) > 0.3 * float(spectrum.max()) > 0:
            break
    angles = []
    for ring in rings:
        row, column = divmod(int(ring.argmax()), ring.shape[1])
        angles.append(math.degrees(math.atan2(float(gy[row]), float(gx[column]))))
    assert (angles[0] - angles[1]) % 60 == pytest.approx(30, abs=1.0)
    # Amplitudes as their potentials, 2.17 to 1.69 V; the spots are sampled coarsely.
    power = [float(ring.square().sum().sqrt()) for ring in rings]
    assert power[1] / power[0] == pytest.approx(2.17 / 1.69, rel=0.1)


def test_a_window_is_cut_at_the_borders() -> None:
    part, offsets = axis_window(10, 1.5, 3.0, "cpu")
    assert part == slice(0, 6)
    torch.testing.assert_close(offsets, torch.arange(6) - 1.5)
    outside, none = axis_window(10, 40.0, 3.0, "cpu")
    assert outside.start == outside.stop
    assert not len(none)
