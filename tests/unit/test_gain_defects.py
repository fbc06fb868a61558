"""Bad pixels: found, and nothing else; replaced without a trace in the noise."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gain_scene import ELECTRONS_PER_PX, FRAMES, counts, frames, light, sensor
from icestream.domain.errors import BadSettings, UnusableImage
from icestream.engines.gain import (
    DefectTally,
    find_defects,
    repair_frames,
    repaired_gain,
    sum_frames,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@cache
def movie() -> NDArray[np.uint8]:
    return frames(1, sensor())


def noisy() -> NDArray[np.bool_]:
    is_noisy = np.zeros(512 * 512, dtype=bool)
    is_noisy[sensor().noisy_index.numpy()] = True
    return is_noisy.reshape(512, 512)


def poisson(mean: float, shape: tuple[int, int] = (1024, 1024)) -> NDArray[np.float32]:
    drawn: NDArray[np.float32] = (
        np.random.default_rng(7).poisson(mean, shape).astype(np.float32)
    )
    return drawn


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_the_sum_of_frames_is_exact(dtype: str) -> None:
    stack = movie()[:, :50, :61].astype(dtype)
    total = sum_frames(stack)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total, stack.sum(axis=0, dtype=np.float64))
    np.testing.assert_array_equal(sum_frames(stack[:, ::-1]), total[::-1])


@pytest.mark.parametrize("is_gain_known", [True, False])
def test_hot_and_dead_pixels_are_found_and_no_others(is_gain_known: bool) -> None:
    gain = sensor().gain.numpy()
    found = find_defects(sum_frames(movie()), gain if is_gain_known else None)
    dead = gain == 0
    hot = sensor().noisy_index.numpy()[sensor().noisy_share.numpy() == 1]
    assert found.reshape(-1)[hot].all()
    # Below 18 counts around it a dead pixel cannot be told by itself.
    is_lit = light(512, 1).numpy() * FRAMES * ELECTRONS_PER_PX * 0.9 > 24
    assert (dead & is_lit).sum() > 20
    assert found[dead & is_lit].all()
    if is_gain_known:
        assert found[dead].all()
    assert not (found & ~noisy() & ~dead).any()


def test_a_flickering_pixel_is_found_where_it_flickered_enough() -> None:
    stack = movie()
    place = sensor().noisy_index.numpy()[sensor().noisy_share.numpy() < 1]
    total = sum_frames(stack)
    found = find_defects(total, sensor().gain.numpy()).reshape(-1)[place]
    background = np.median(total)
    excess = (total.reshape(-1)[place] - background) / np.sqrt(background)
    # The Poisson distribution has a longer tail above than 6 deviations.
    assert found[excess > 10].all()
    assert found.sum() >= len(place) / 2


@pytest.mark.parametrize("mean", [0.3, 3.0, 30.0, 3000.0])
def test_counts_alone_are_no_defects(mean: float) -> None:
    """A million pixels: a false one in a thousand such images is expected."""
    assert find_defects(poisson(mean)).sum() <= 1


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_scale_changes_nothing(scale: float) -> None:
    image = poisson(30.0)
    image[100, 200], image[300, 400] = 100, 1
    found = find_defects(image * np.float32(scale))
    assert {tuple(place) for place in np.argwhere(found)} == {(100, 200), (300, 400)}


def test_a_pixel_is_judged_by_the_counts_it_has_itself() -> None:
    """With a gain of 2, 30 counts are expected where flat ones are 60."""
    image, gain = poisson(60.0, (128, 128)), np.ones((128, 128), dtype=np.float32)
    gain[40, 50] = gain[70, 80] = 2
    # 9.1 and 4.9 deviations by the square root, of what is 60 they would be few.
    image[40, 50], image[70, 80] = 80, 58
    found = find_defects(image, gain)
    assert {tuple(place) for place in np.argwhere(found)} == {(40, 50)}


def test_edges_of_what_was_looked_at_are_no_defects() -> None:
    """A grid bar's straight edge, gold beads of 8 px, a hole: at 60 counts a pixel."""
    chance = np.random.default_rng(2)
    scene = np.full((512, 512), 60.0)
    scene[:, 300:] = 15
    scene[:130] *= 0.2
    y, x = np.mgrid[:512, :512]
    for _ in range(40):
        v, u = chance.integers(0, 512, 2)
        scene[np.hypot(y - v, x - u) < 4] *= 0.15
    assert not find_defects(chance.poisson(scene).astype(np.float32)).any()


def test_lines_and_groups_are_found() -> None:
    image = poisson(30.0, (512, 512))
    image[:, 77] = 0
    image[200, :256] *= 2
    image[400:403, 100:103] = 200
    image[450:470, 20:40] = 0
    # Too few counts for a pixel to be told, enough for a line.
    image[:, 300] = np.random.default_rng(1).poisson(20, 512)
    wanted = np.zeros(image.shape, dtype=bool)
    wanted[:, 77] = wanted[200, :256] = wanted[:, 300] = True
    wanted[400:403, 100:103] = wanted[450:470, 20:40] = True
    found = find_defects(image)
    assert (found & wanted).sum() == wanted.sum()
    assert (found & ~wanted).sum() <= 2


def test_a_tally_keeps_what_is_bad_in_a_third_of_the_movies() -> None:
    tally = DefectTally.empty((4, 4))
    for number in range(20):
        is_bad = np.zeros((4, 4), dtype=bool)
        is_bad[0, 0] = True
        is_bad[1, 1] = number % 3 == 0
        is_bad[2, 2] = number % 4 == 0
        tally = tally.plus(is_bad)
        if number == 0:
            assert not tally.is_bad.any()
    assert {tuple(one) for one in np.argwhere(tally.is_bad)} == {(0, 0), (1, 1)}
    with pytest.raises(BadSettings):
        tally.plus(np.zeros((4, 5), dtype=bool))


def test_repair_keeps_the_noise_and_a_mean_would_not() -> None:
    """A tenth of the pixels, so that it shows: power at the highest frequencies."""
    chance = np.random.default_rng(5)
    stack = chance.poisson(1.5, (24, 512, 512)).astype(np.uint8)
    is_bad = chance.random((512, 512)) < 0.1
    repaired, averaged = stack.copy(), stack.astype(np.float32)
    repair_frames(repaired, is_bad, seed=1)
    good = (~is_bad).astype(np.float32)
    for frame in averaged:
        windows = np.lib.stride_tricks.sliding_window_view
        around = windows(np.pad(frame * good, 2), (5, 5)).sum(axis=(2, 3))
        weight = windows(np.pad(good, 2), (5, 5)).sum(axis=(2, 3))
        frame[is_bad] = (around / weight)[is_bad]
    # 36 expected counts a pixel; a quarter of all frequencies: 1 % of chance.
    assert high_power(repaired) == pytest.approx(36, rel=0.015)
    assert high_power(averaged) < 0.93 * 36
    total = repaired.sum(axis=0, dtype=np.float64)
    assert total[is_bad].var() == pytest.approx(36, rel=0.04)
    assert total[is_bad].mean() == pytest.approx(36, rel=0.01)


def high_power(stack: NDArray[np.generic]) -> float:
    """Mean power of the sum of frames beyond half of Nyquist on both axes."""
    total = stack.sum(axis=0, dtype=np.float64)
    power = np.abs(np.fft.fft2(total - total.mean())) ** 2 / total.size
    frequency = np.abs(np.fft.fftfreq(total.shape[0]))
    high = (frequency[:, None] > 0.25) & (frequency > 0.25)
    return float(power[high].mean())


def test_repair_takes_values_from_good_pixels_within_two() -> None:
    stack = np.tile(np.arange(40 * 50, dtype=np.float32).reshape(40, 50), (9, 1, 1))
    is_bad = np.random.default_rng(1).random((40, 50)) < 0.2
    repaired = stack.copy()
    repair_frames(repaired, is_bad, seed=3)
    np.testing.assert_array_equal(repaired[:, ~is_bad], stack[:, ~is_bad])
    seen = set()
    for frame, y, x in np.argwhere(np.broadcast_to(is_bad, stack.shape)):
        v, u = divmod(int(repaired[frame, y, x]), 50)
        assert not is_bad[v, u]
        assert max(abs(v - y), abs(u - x)) <= 2
        seen.add((v - y, u - x))
    assert len(seen) == 24


def test_repair_is_the_same_again_and_another_with_another_seed() -> None:
    is_bad = noisy()
    first, again, other = (movie().copy() for _ in range(3))
    repair_frames(first, is_bad, seed=1)
    repair_frames(again[:7], is_bad, seed=1)
    repair_frames(other, is_bad, seed=2)
    np.testing.assert_array_equal(first[:7], again[:7])
    assert (first != other).any()


def test_wide_defects_are_filled_too() -> None:
    stack = np.random.default_rng(1).poisson(5.0, (6, 200, 200)).astype(np.uint16)
    is_bad = np.zeros((200, 200), dtype=bool)
    is_bad[:, 50:54] = is_bad[100:160, 100:160] = True
    stack[:, is_bad] = 60_000
    repair_frames(stack, is_bad, seed=1)
    assert stack.max() < 30
    assert stack[:, is_bad].mean() == pytest.approx(5, rel=0.02)


def test_a_repaired_gain_has_the_median_of_the_surroundings() -> None:
    gain = sensor().gain.numpy()
    is_bad = noisy() | (gain == 0)
    repaired = repaired_gain(gain, is_bad)
    assert (repaired > 0).all()
    np.testing.assert_array_equal(repaired[~is_bad], gain[~is_bad])
    assert np.abs(repaired[is_bad] - 1).max() < 0.15
    assert (gain == 0).any()
    wide = np.ones((100, 100), dtype=np.float32)
    is_wide = np.zeros((100, 100), dtype=bool)
    is_wide[20:70, 20:70] = True
    assert (repaired_gain(np.where(is_wide, 0, wide), is_wide) == 1).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings, match="16 x 16"):
        find_defects(np.ones((15, 100), dtype=np.float32))
    with pytest.raises(BadSettings, match="100, 100"):
        find_defects(np.ones((100, 101), np.float32), np.ones((100, 100), np.float32))
    nearly_all = np.ones((8, 8), dtype=bool)
    nearly_all[0] = False
    with pytest.raises(UnusableImage, match="56 of 64"):
        repair_frames(np.ones((2, 8, 8)), nearly_all, seed=1)
    with pytest.raises(BadSettings):
        repair_frames(np.ones((2, 8, 9)), ~nearly_all, seed=1)
    with pytest.raises(BadSettings):
        repair_frames(np.ones((2, 8, 16))[:, :, ::2], ~nearly_all, seed=1)
    with pytest.raises(BadSettings, match="gain 0"):
        repaired_gain(np.zeros((8, 8), dtype=np.float32), ~nearly_all)


def test_nothing_is_found_in_nothing() -> None:
    assert not find_defects(np.zeros((64, 64), dtype=np.float32)).any()
    assert not find_defects(np.full((64, 64), 7, dtype=np.float32)).any()


def test_one_hot_pixel_makes_no_line() -> None:
    image = poisson(30.0, (256, 256))
    image[100, 100] = 24 * 255
    assert find_defects(image).sum() == 1


def test_the_input_stays_as_it_is() -> None:
    image = counts(1).copy()
    gain = sensor().gain.numpy().copy()
    find_defects(image, gain)
    np.testing.assert_array_equal(image, counts(1))
    np.testing.assert_array_equal(gain, sensor().gain.numpy())
