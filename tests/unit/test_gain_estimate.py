"""A gain from the movies, and what is left of one that was applied."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gain_scene import counts, sensor, sums
from icestream.domain.errors import BadSettings
from icestream.engines.gain import CountSums, estimate_gain, residual_gain
from icestream.engines.gain.pattern import relative_to_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pattern() -> NDArray[np.float32]:
    """What of the sensor is no smooth part; 0 where it is dead."""
    truth = sensor().sensitivity.numpy()
    return relative_to_mean(truth, truth > 0, side_px=65)


def error_of(made: NDArray[np.float32]) -> float:
    """Of the estimate against the true pattern; defects apart, by robust statistics."""
    usable = (sensor().sensitivity.numpy() > 0) & (made > 0)
    deviation = 1 / made[usable] - 1 - pattern()[usable]
    return float(1.4826 * np.median(np.abs(deviation)))


def test_the_error_is_the_one_foretold_and_falls_with_movies() -> None:
    for count in (2, 8, 24):
        seen = sums(*(counts(number) for number in range(1, count + 1)))
        made = estimate_gain(seen)
        # The light is not even: dark places have more noise than the mean has.
        assert made.error == pytest.approx(seen.total.mean() ** -0.5, rel=0.12)
        assert error_of(made.gain) == pytest.approx(made.error, rel=0.1)
    assert made.movie_count == 24


def test_it_says_from_how_many_movies_on_it_is_better_than_none() -> None:
    few = estimate_gain(sums(*(counts(number) for number in range(1, 25))))
    assert few.pattern_deviation == pytest.approx(pattern().std(), rel=0.1)
    assert few.least_movies is not None
    needed = (few.error / pattern().std()) ** 2 * 24
    assert few.least_movies == pytest.approx(needed, rel=0.25)
    assert not few.is_better_than_none
    movies = [counts(number) for number in range(1, 13)]
    # The same light four times brighter.
    bright = [
        np.random.default_rng(number).poisson(6 * movie.mean() * sensor().sensitivity)
        for number, movie in enumerate(movies)
    ]
    many = estimate_gain(sums(*(one.astype(np.float32) for one in bright)))
    assert many.is_better_than_none
    assert error_of(many.gain) < pattern().std()


def test_it_makes_movies_that_it_has_not_seen_flatter() -> None:
    gain = sensor().sensitivity.numpy()
    chance = np.random.default_rng(1)
    seen = [chance.poisson(500 * gain).astype(np.float32) for _ in range(4)]
    unseen = sums(*(chance.poisson(500 * gain).astype(np.float32) for _ in range(4)))
    made = estimate_gain(sums(*seen))
    before = residual_gain(unseen)
    after = residual_gain(unseen, made.gain)
    assert before.deviation == pytest.approx(pattern().std(), rel=0.1)
    # What is left is the error of the estimate.
    assert after.deviation == pytest.approx(1 / math.sqrt(2000), rel=0.15)


def test_dead_and_hot_pixels_have_no_gain() -> None:
    made = estimate_gain(sums(*(counts(number) for number in range(1, 9))))
    what = sensor()
    assert (made.gain[what.sensitivity.numpy() == 0] == 0).all()
    hot = what.noisy_index.numpy()[what.noisy_share.numpy() == 1]
    assert (made.gain.reshape(-1)[hot] == 0).all()
    assert (made.gain == 0).mean() < 0.001


def test_seams_stay_in_the_estimate() -> None:
    seam = np.ones((256, 256), dtype=np.float32)
    seam[:, 100] = 0.9
    seam[:, 101:] = 0.97
    chance = np.random.default_rng(1)
    movies = [chance.poisson(1000 * seam).astype(np.float32) for _ in range(4)]
    made = estimate_gain(sums(*movies)).gain
    across = made[:, 96:106].mean(axis=0)
    assert across[5] / across[3] == pytest.approx(1 / 0.97, abs=0.003)
    assert across[4] / across[3] == pytest.approx(1 / 0.9, abs=0.004)


def test_no_pattern_needs_no_movies() -> None:
    even = estimate_gain(sums(*(counts(number, seed=0) for number in range(1, 9))))
    assert even.least_movies is None
    assert not even.is_better_than_none
    alone = estimate_gain(sums(counts(1)))
    assert alone.pattern_deviation is None
    assert not alone.is_better_than_none


def test_the_residual_of_a_gain_that_drifts_is_seen() -> None:
    chance = np.random.default_rng(1)
    gain = (1 / chance.normal(1, 0.025, (256, 256))).astype(np.float32)
    drifted = gain * chance.normal(1, 0.01, gain.shape).astype(np.float32)

    def window(true: NDArray[np.float32]) -> CountSums:
        return sums(*(chance.poisson(60 / true).astype(np.float32) for _ in range(50)))

    steady = residual_gain(window(gain), gain)
    assert steady.deviation < steady.detection_limit
    assert steady.detection_limit < 0.007
    assert steady.movie_count == 50
    later = residual_gain(window(drifted), gain)
    assert later.deviation == pytest.approx(0.01, rel=0.15)
    assert later.deviation > later.detection_limit


def test_a_limit_is_what_chance_does_not_reach() -> None:
    """Sixty windows without a pattern: none reaches its limit, some come half way."""
    chance = np.random.default_rng(2)
    found = [
        residual_gain(
            sums(*(chance.poisson(20, (64, 64)).astype(np.float32) for _ in range(4)))
        )
        for _ in range(60)
    ]
    shares = [one.deviation / one.detection_limit for one in found]
    assert max(shares) < 0.8
    assert max(shares) > 0.35


def test_scaled_values_have_the_scatter_of_their_counts() -> None:
    plain = sums(*(counts(number) for number in range(1, 9)))
    scaled = sums(*(counts(number) * 100 for number in range(1, 9)))
    assert estimate_gain(scaled).error == pytest.approx(
        estimate_gain(plain).error, rel=0.02
    )


def test_too_little_is_refused() -> None:
    with pytest.raises(BadSettings, match="no movie"):
        estimate_gain(CountSums.empty((64, 64)))
    with pytest.raises(BadSettings, match="1 movies"):
        residual_gain(sums(counts(1)))
    with pytest.raises(BadSettings, match="gain of"):
        residual_gain(sums(counts(1), counts(2)), np.ones((3, 4), dtype=np.float32))
