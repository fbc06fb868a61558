"""Does a gain fit its movies? Every way in which it may not, from few movies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from gain_scene import counts, measured_gain, sensor, sums
from icestream.domain.errors import BadSettings, UnusableImage
from icestream.engines.gain import (
    ORIENTATIONS,
    CountSums,
    GainVerdict,
    Orientation,
    check_gain,
    sum_frames,
)
from icestream.simulate.camera import take_frames
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import draw_exposure
from icestream.simulate.sensor import flat_field_gain
from microscope import CAGE, camera, projector, recipe, seeded

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = (1, 2, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("is_inverse", [False, True])
def test_each_wrong_way_is_found_from_one_movie(
    orientation: Orientation, is_inverse: bool
) -> None:
    gain = measured_gain()
    if is_inverse:
        gain = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    found = check_gain(sums(counts(1)), orientation.apply(gain))
    assert found.best is not None
    np.testing.assert_array_equal(
        found.best.orientation.apply(orientation.apply(gain)), gain
    )
    assert found.best.is_inverse is is_inverse
    # 2.5 % and seams against 17 % of shot noise, on 512 x 512 px.
    assert 0.1 < found.best.correlation < 0.2
    # The flat exposure's noise of 1 % takes a seventh.
    assert found.best.slope == pytest.approx(0.86, abs=0.06)
    assert found.best.z_score > 30
    others = [one.z_score for one in found.candidates if one is not found.best]
    assert max(others) < found.best.z_score / 2
    expected = GainVerdict.TURNED
    if is_inverse:
        expected = GainVerdict.INVERTED
    elif orientation == Orientation():
        expected = GainVerdict.AS_DECLARED
    assert found.verdict is expected


@pytest.mark.parametrize("orientation", ORIENTATIONS[:3], ids=str)
@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_gain_of_more_noise_than_pattern_is_not_foreign(
    orientation: Orientation, is_inverse: bool
) -> None:
    """From 400 electrons a pixel: 5 % of noise on a pattern of 3 %."""
    noisy: NDArray[np.float32] = flat_field_gain(
        sensor(), electrons_per_px=400, generator=seeded(9)
    ).numpy()
    if is_inverse:
        noisy = np.divide(1, noisy, out=np.zeros_like(noisy), where=noisy > 0)
    found = check_gain(sums(*map(counts, range(1, 9))), orientation.apply(noisy))
    assert found.best is not None
    np.testing.assert_array_equal(
        found.best.orientation.apply(orientation.apply(noisy)), noisy
    )
    assert found.best.is_inverse is is_inverse
    assert found.best.slope == pytest.approx(0.26, abs=0.08)
    assert found.best.z_score > 40
    expected = GainVerdict.TURNED
    if is_inverse:
        expected = GainVerdict.INVERTED
    elif orientation == Orientation():
        expected = GainVerdict.AS_DECLARED
    assert found.verdict is expected


def test_the_sixteen_ways_are_named_once() -> None:
    found = check_gain(sums(counts(1)), measured_gain())
    ways = {(str(one.orientation), one.is_inverse) for one in found.candidates}
    assert len(ways) == len(found.candidates) == 16
    assert ("as it is", False) in ways
    assert ("mirrored left to right, then turned by 90°", True) in ways


def test_a_missing_gain_is_reported_from_two_movies() -> None:
    assert check_gain(sums(counts(1)), None).verdict is GainVerdict.UNDECIDED
    found = check_gain(sums(*(counts(number) for number in FEW)), None)
    assert found.verdict is GainVerdict.MISSING
    assert found.pattern_deviation == pytest.approx(0.03, abs=0.005)


def test_movies_that_are_corrected_already_are_no_missing_gain() -> None:
    gain = measured_gain()
    corrected = sums(*(counts(number) * gain for number in FEW))
    for given in (gain, None, Orientation(quarter_turns=1).apply(gain)):
        assert check_gain(corrected, given).verdict is GainVerdict.CORRECTED


def test_the_noise_of_a_poor_gain_is_no_pattern_of_the_sensor() -> None:
    poor = flat_field_gain(sensor(), electrons_per_px=2000, generator=seeded(4)).numpy()
    corrected = sums(*(counts(number) * poor for number in range(1, 7)))
    found = check_gain(corrected, poor)
    assert found.verdict is GainVerdict.CORRECTED
    assert found.best is not None
    assert found.best.is_inverse
    assert found.best.z_score > 6
    assert check_gain(corrected, None).verdict is GainVerdict.CORRECTED
    raw = sums(*(counts(number) for number in FEW))
    assert check_gain(raw, poor).verdict is GainVerdict.AS_DECLARED


def test_uneven_light_on_a_perfect_camera_is_no_pattern() -> None:
    perfect = [counts(number, seed=0) for number in range(1, 15)]
    for count in (1, 2, 14):
        for given in (None, measured_gain()):
            found = check_gain(sums(*perfect[:count]), given)
            assert found.verdict in (GainVerdict.UNDECIDED, GainVerdict.CORRECTED)
    assert found.verdict is GainVerdict.CORRECTED
    # No candidate stands out by more than chance.
    assert max(abs(one.z_score) for one in found.candidates) < 5


def test_noise_that_is_alike_over_neighbours_is_no_evidence() -> None:
    """Of white noise 512 x 512 px would be taken for; these are worth a ninth."""
    chance, z_scores = np.random.default_rng(1), []
    for _ in range(4):
        gain, image = (
            uniform_filter(chance.normal(0, 0.1, (512, 512)), 3) for _ in range(2)
        )
        movie = (1000 * (1 + image)).astype(np.float32)
        found = check_gain(sums(movie), (1 + gain).astype(np.float32))
        z_scores += [one.z_score for one in found.candidates]
    assert 0.6 < np.sqrt(np.mean(np.square(z_scores))) < 1.4


def test_the_gain_of_another_camera_is_not_of_these_movies() -> None:
    raw = sums(*(counts(number) for number in FEW))
    other = measured_gain(seed=2)
    assert check_gain(raw, other).verdict is GainVerdict.FOREIGN


def test_protein_in_ice_that_moves_hides_nothing() -> None:
    movies = [protein(number) for number in (1, 2)]
    gain = measured_gain()
    found = check_gain(sums(movies[0]), gain[::-1])
    assert found.verdict is GainVerdict.TURNED
    assert found.best is not None
    assert found.best.slope == pytest.approx(0.88, abs=0.06)
    assert check_gain(sums(movies[0]), gain).verdict is GainVerdict.AS_DECLARED
    assert check_gain(sums(*movies), None).verdict is GainVerdict.MISSING
    corrected = sums(*(movie * gain for movie in movies))
    assert check_gain(corrected, gain).verdict is GainVerdict.CORRECTED


def protein(number: int) -> NDArray[np.float32]:
    """The sum of a movie of cages in ice, as the whole simulator takes it."""
    how = recipe(
        512,
        frame_count=6,
        dose_e_per_angst2=30.0,
        species=(CAGE,),
        particle_count=12,
    )
    one = draw_exposure(how, number=number, seed=3)
    scene = compose_scene(one, how, [projector("cage", 1.0)], generator=seeded(number))
    what = camera(sensor(), CountingResponse())
    taken = take_frames(scene, one, how, what, generator=seeded(number))
    return sum_frames(np.stack([frame.numpy() for frame in taken]))


def test_hot_pixels_hide_nothing() -> None:
    movie = counts(1).copy()
    place = np.random.default_rng(1).integers(0, movie.size, 3000)
    movie.reshape(-1)[place] = 6000
    found = check_gain(sums(movie), measured_gain())
    assert found.verdict is GainVerdict.AS_DECLARED
    assert found.best is not None
    assert found.best.slope > 0.75


def test_a_pattern_that_is_the_same_when_mirrored_leaves_what_was_declared() -> None:
    gain = measured_gain()
    alike = np.concatenate([gain[:, :256], gain[:, 255::-1]], axis=1)
    chance = np.random.default_rng(1)
    movie = chance.poisson(30 / np.where(alike > 0, alike, 1)).astype(np.float32)
    bests = set()
    for _ in range(6):
        given = alike * chance.normal(1, 0.005, alike.shape).astype(np.float32)
        found = check_gain(sums(movie), given)
        assert found.verdict is GainVerdict.AS_DECLARED
        bests.add(found.best and found.best.orientation)
        assert check_gain(sums(movie), given[::-1]).verdict is GainVerdict.UNDECIDED
    # By chance the one or the other has the higher slope.
    assert len(bests) == 2


def test_a_gain_of_another_size_is_compared_at_the_size_of_the_frames() -> None:
    small = measured_gain()
    movie = counts(1)
    big = small.repeat(2, axis=0).repeat(2, axis=1)
    found = check_gain(sums(movie), Orientation(quarter_turns=3).apply(big))
    assert found.verdict is GainVerdict.TURNED
    assert found.best is not None
    assert found.best.orientation == Orientation(quarter_turns=1)


def test_a_camera_that_is_not_square_has_eight_ways() -> None:
    gain = measured_gain()[:400]
    movie = counts(1)[:400]
    upright = check_gain(sums(movie), gain[::-1])
    assert upright.verdict is GainVerdict.TURNED
    assert len(upright.candidates) == 8
    lying = check_gain(sums(movie), Orientation(quarter_turns=1).apply(gain))
    assert lying.verdict is GainVerdict.TURNED
    assert lying.best is not None
    assert lying.best.orientation == Orientation(quarter_turns=3)
    assert {one.orientation.quarter_turns for one in lying.candidates} == {1, 3}


def test_of_large_frames_the_middle_is_enough() -> None:
    chance = np.random.default_rng(3)
    gain = chance.normal(1, 0.025, (1280, 1152)).astype(np.float32)
    movie = chance.poisson(4 / gain).astype(np.float32)
    found = check_gain(sums(movie), gain[::-1, ::-1])
    assert found.verdict is GainVerdict.TURNED
    assert found.best is not None
    assert found.best.orientation == Orientation(quarter_turns=2)
    # 2.5 % against 50 % of shot noise on 1024 x 1024 px, in standard deviations.
    assert found.best.z_score == pytest.approx(1024 * 0.025 * math.sqrt(4), rel=0.15)


def test_a_large_camera_that_is_not_square_has_eight_ways_too() -> None:
    """Its middle is square: a pattern seen there turned by 90° cannot lie so."""
    chance = np.random.default_rng(4)
    pattern = chance.normal(1, 0.025, (1400, 1400)).astype(np.float32)
    movie = chance.poisson(4 / pattern[:, 150:-150]).astype(np.float32)
    found = check_gain(sums(movie), np.rot90(pattern)[:, 150:-150])
    assert found.verdict is GainVerdict.UNDECIDED
    assert len(found.candidates) == 8
    assert {one.orientation.quarter_turns for one in found.candidates} == {0, 2}


def test_an_even_gain_says_nothing_and_the_movies_are_asked() -> None:
    raw = sums(counts(1), counts(2))
    even = np.ones_like(measured_gain())
    assert check_gain(raw, even).verdict is GainVerdict.MISSING
    assert check_gain(CountSums.empty((64, 64)), even).verdict is GainVerdict.UNDECIDED


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnusableImage, match="512 x 512"):
        check_gain(sums(counts(1)), measured_gain()[:500])
    with pytest.raises(BadSettings):
        sums(counts(1)).plus(counts(1)[1:])
    with pytest.raises(UnusableImage, match="add up to 0"):
        sums(counts(1)).plus(np.zeros_like(counts(1)))
    with pytest.raises(UnusableImage, match="nan"):
        sums(counts(1)).plus(np.full_like(counts(1), np.nan))
    with pytest.raises(BadSettings, match="5 quarter turns"):
        Orientation(quarter_turns=5)
