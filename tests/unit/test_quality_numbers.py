"""Light, drift and trends against values that are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain import MaskClass
from icestream.engines.quality import drift_rates, measure_intensity, trend
from steady_motion import steady_motion


class TestIntensity:
    @pytest.mark.parametrize("angle_deg", [0.0, 30.0, 135.0, 200.0, 315.0])
    def test_a_plane_is_told_exactly(self, angle_deg: float) -> None:
        down, right = (f(math.radians(angle_deg)) for f in (math.sin, math.cos))
        y, x = np.mgrid[:640, :960] + 0.5
        along = down * (y - 320) + right * (x - 480)
        length = 640 * abs(down) + 960 * abs(right)
        image = torch.from_numpy(50 * (1 + 0.2 * along / length))
        found = measure_intensity(image, pixel_size_angst=1.0)
        assert found.mean == pytest.approx(50, rel=1e-6)
        # Nothing is clipped but 0.2 % at either end, the very corners.
        assert found.gradient == pytest.approx(0.2, rel=1e-3)
        assert found.gradient_deg == pytest.approx(angle_deg % 360, abs=0.1)
        assert found.empty is None

    def test_only_ice_counts_and_an_empty_part_is_the_reference(self) -> None:
        counts = np.random.default_rng(0).poisson(40.0, (640, 640))
        counts[:320] = np.random.default_rng(1).poisson(60.0, (320, 640))
        classes = np.zeros((20, 20), np.uint8)
        classes[:10] = MaskClass.EMPTY
        found = measure_intensity(
            torch.from_numpy(counts), pixel_size_angst=1.0, classes=classes
        )
        # 200,000 pixels of either: standard errors of 0.014 and 0.017.
        assert found.mean == pytest.approx(40, abs=0.08)
        assert found.empty == pytest.approx(60, abs=0.1)
        assert found.gradient < 0.01

    def test_where_all_is_masked_all_counts(self) -> None:
        image = torch.rand(320, 320) + 5
        classes = np.full((10, 10), MaskClass.CARBON, np.uint8)
        found = measure_intensity(image, pixel_size_angst=1.0, classes=classes)
        assert found.mean == pytest.approx(5.5, abs=0.01)


class TestDrift:
    def test_rates_are_paths_over_their_dose(self) -> None:
        rates = drift_rates(steady_motion(frames=21, dose=2.0))
        # 21 frames of 2 e/Å2 have 40 between their middles, 3 of these up to 4 e/Å2.
        assert rates.path == pytest.approx(22 / 40)
        assert rates.largest_step == pytest.approx(3 / 2)
        assert rates.early == pytest.approx(0.5)
        assert rates.late == pytest.approx((22 - 1.5) / 37)

    def test_what_was_had_before_is_not_early_again(self) -> None:
        before = steady_motion(frames=11, dose=1.0, before=10.0)
        rates = drift_rates(before, before_e_per_angst2=10.0)
        assert rates.early is None
        assert rates.late == rates.path == pytest.approx(12 / 10)

    def test_without_a_dose_nothing_is_known(self) -> None:
        rates = drift_rates(steady_motion(frames=5, dose=None))
        assert (rates.path, rates.early, rates.late) == (None, None, None)
        assert rates.largest_step is None

    def test_a_single_frame_has_no_path(self) -> None:
        rates = drift_rates(steady_motion(frames=1, dose=1.0))
        assert rates.path is None
        assert rates.largest_step == 0

    @given(
        frames=st.integers(2, 60),
        dose=st.floats(0.05, 5),
        before=st.floats(0, 8),
    )
    def test_parts_add_up(self, frames: int, dose: float, before: float) -> None:
        taken = steady_motion(frames=frames, dose=dose, before=before)
        rates = drift_rates(taken, before_e_per_angst2=before)
        first, last = before + dose / 2, before + dose * (frames - 0.5)
        parts = (rates.early or 0) * max(min(4, last) - first, 0)
        parts += (rates.late or 0) * (last - min(max(4, first), last))
        assert parts == pytest.approx(taken.total_angst)


class TestTrend:
    def test_a_line_is_told_exactly(self) -> None:
        times = np.array([3.0, 1.0, 2.0, 7.0, 5.0, 4.0])
        found = trend(times, 10 - 0.5 * times)
        assert found is not None
        assert found.slope == pytest.approx(-0.5)
        assert found.slope_error == pytest.approx(0, abs=1e-9)
        assert found.value == pytest.approx(6.5)

    def test_outliers_do_not_bend_it(self) -> None:
        generator = np.random.default_rng(1)
        times = np.arange(200.0)
        values = 3 + 0.02 * times + generator.normal(0, 0.5, 200)
        values[150:180] += 40
        found = trend(times, values)
        assert found is not None
        assert found.slope == pytest.approx(0.02, abs=4 * found.slope_error)
        assert found.slope_error < 0.0012  # least squares without them: 0.0006

    def test_the_error_covers_the_truth(self) -> None:
        generator = np.random.default_rng(2)
        inside = []
        for _ in range(400):
            times = generator.uniform(0, 10, 60)
            values = 0.3 * times + generator.standard_t(4, 60)
            found = trend(times, values)
            assert found is not None
            inside.append(abs(found.slope - 0.3) < found.slope_error)
        # 68 % of 400: 273 +- 9.
        assert 0.60 < np.mean(inside) < 0.75

    def test_missing_values_are_left_out(self) -> None:
        times = np.arange(10.0)
        values = 2 * times
        values[[0, 4]] = np.nan
        found = trend(times, values)
        assert found is not None
        assert found.count == 8
        assert found.slope == pytest.approx(2)

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_a_few_values_have_none(self, count: int) -> None:
        assert trend(np.arange(float(count)), np.ones(count)) is None

    def test_values_of_one_time_have_none(self) -> None:
        assert trend(np.ones(20), np.arange(20.0)) is None

    @given(
        scale=st.floats(1e-3, 1e3),
        slope=st.floats(-5, 5),
        seed=st.integers(0, 50),
    )
    def test_it_knows_no_unit(self, scale: float, slope: float, seed: int) -> None:
        generator = np.random.default_rng(seed)
        times, rest = generator.uniform(0, 9, 40), generator.normal(size=40)
        one, other = trend(times, rest), trend(times * scale, rest + slope * times)
        assert one is not None
        assert other is not None
        assert other.slope * scale == pytest.approx(one.slope + slope, abs=0.02)
