"""What holds of gains and defects whatever the camera."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digital_micrograph import Writer
from icestream.engines.gain import (
    ORIENTATIONS,
    CountSums,
    Orientation,
    find_defects,
    fit_defects,
    fit_shape,
    repair_frames,
    repaired_gain,
    sum_frames,
)
from icestream.io.defects import read_defects
from icestream.io.gain import read_gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = st.tuples(st.integers(2, 12), st.integers(2, 12))
DTYPES = st.sampled_from(["uint8", "uint16", "int16", "float32"])


@st.composite
def gains(draw: st.DrawFn) -> NDArray[np.float32]:
    values = st.one_of(st.just(0.0), st.floats(0.25, 4, width=32))
    made: NDArray[np.float32] = draw(
        hnp.arrays(np.float32, draw(SHAPES), elements=values)
    )
    return made


@given(gains())
def test_half_of_double_is_the_gain_and_its_defects(gain: NDArray[np.float32]) -> None:
    height, width = gain.shape
    double = fit_shape(gain, frame_shape=(2 * height, 2 * width))
    half = fit_shape(double, frame_shape=(height, width))
    np.testing.assert_allclose(half, gain, rtol=1e-6)
    is_bad = fit_defects(double == 0, frame_shape=(height, width))
    np.testing.assert_array_equal(is_bad, gain == 0)


@given(gains())
def test_resampling_and_turning_can_be_exchanged(gain: NDArray[np.float32]) -> None:
    height, width = (side // 2 * 2 for side in gain.shape)
    even = gain[:height, :width]
    for orientation in ORIENTATIONS:
        turned = orientation.apply(even)
        shape = (turned.shape[0] // 2, turned.shape[1] // 2)
        half = fit_shape(even, frame_shape=(height // 2, width // 2))
        np.testing.assert_allclose(
            fit_shape(turned, frame_shape=shape), orientation.apply(half), rtol=1e-6
        )


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_two_orientations_are_one(first: Orientation, second: Orientation) -> None:
    array = np.arange(12.0).reshape(3, 4)
    both = second.apply(first.apply(array))
    same = [one for one in ORIENTATIONS if np.array_equal(one.apply(array), both)]
    assert len(same) == 1


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    mean=st.floats(60, 400),
    shape=st.tuples(st.integers(40, 100), st.integers(40, 100)),
    orientation=st.sampled_from(ORIENTATIONS),
    scale=st.floats(0.01, 100),
)
def test_what_stands_out_is_found_wherever_it_lies(
    seed: int,
    mean: float,
    shape: tuple[int, int],
    orientation: Orientation,
    scale: float,
) -> None:
    chance = np.random.default_rng(seed)
    image = chance.poisson(mean, shape).astype(np.float32)
    place = chance.choice(image.size, 6, replace=False)
    image.reshape(-1)[place[:3]] = mean + 20 * mean**0.5
    image.reshape(-1)[place[3:]] = 0
    wanted = np.zeros(shape, dtype=bool)
    wanted.reshape(-1)[place] = True
    turned = orientation.apply(image) * np.float32(scale)
    before = turned.copy()
    found = find_defects(turned)
    np.testing.assert_array_equal(turned, before)
    assert found[orientation.apply(wanted)].all()
    assert (found & ~orientation.apply(wanted)).sum() <= 1


@settings(max_examples=40, deadline=None)
@given(
    frames=DTYPES.flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(1, 4), st.integers(5, 9), st.integers(5, 9)),
            elements=st.integers(0, 200),
        )
    ),
    seed=st.integers(0, (1 << 64) - 1),
    data=st.data(),
)
def test_repair_touches_bad_pixels_only_and_takes_from_good_ones(
    frames: NDArray[Any], seed: int, data: st.DataObject
) -> None:
    shape = frames.shape[1:]
    bad = data.draw(st.sets(st.integers(0, frames[0].size - 1), max_size=10))
    is_bad = np.zeros(shape, dtype=bool)
    is_bad.reshape(-1)[list(bad)] = True
    whole = frames.copy()
    repair_frames(whole, is_bad, seed=seed)
    np.testing.assert_array_equal(whole[:, ~is_bad], frames[:, ~is_bad])
    for one, original in zip(whole, frames, strict=True):
        assert set(one[is_bad].tolist()) <= set(original[~is_bad].tolist())
    # A frame is repaired the same whether others follow or not.
    first = frames[:1].copy()
    repair_frames(first, is_bad, seed=seed)
    np.testing.assert_array_equal(first[0], whole[0])
    np.testing.assert_array_equal(sum_frames(frames), frames.sum(0, dtype=np.float64))


@given(gains())
def test_a_repaired_gain_is_within_what_the_good_ones_are(
    gain: NDArray[np.float32],
) -> None:
    is_bad = gain == 0
    if 2 * is_bad.sum() > is_bad.size:
        return
    repaired = repaired_gain(gain, is_bad)
    np.testing.assert_array_equal(repaired[~is_bad], gain[~is_bad])
    assert gain[~is_bad].min() <= repaired.min()
    assert repaired.max() <= gain[~is_bad].max()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_sums_hold_each_movie_once(levels: list[int]) -> None:
    sums = CountSums.empty((2, 3))
    for level in levels:
        sums = sums.plus(np.full((2, 3), level, dtype=np.uint16))
    assert sums.movie_count == len(levels)
    assert (sums.even == sum(levels[::2])).all()
    assert (sums.odd == sum(levels[1::2])).all()
    assert (sums.total == sum(levels)).all()


@settings(deadline=None)
@given(
    pixels=st.sampled_from(["float32", "float64", "int16", "uint16", "int32"]).flatmap(
        lambda dtype: hnp.arrays(dtype, SHAPES, elements=st.integers(1, 30000))
    ),
    version=st.sampled_from([3, 4]),
    is_little=st.booleans(),
)
def test_digital_micrograph_files_come_back(
    pixels: NDArray[Any], version: int, is_little: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"gain.dm{version}"
        path.write_bytes(Writer(version, is_little=is_little).gain(pixels))
        np.testing.assert_array_equal(read_gain(path).factors, pixels[::-1])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 10)] * 2), max_size=8
    )
)
def test_a_plain_list_marks_its_areas(areas: list[tuple[int, int, int, int]]) -> None:
    wanted = np.zeros((30, 31), dtype=bool)
    for x, y, width, height in areas:
        wanted[y : y + height, x : x + width] = True
    text = "# x y w h\n" + "\n".join(" ".join(map(str, one)) for one in areas)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "defects.txt"
        path.write_text(text)
        np.testing.assert_array_equal(read_defects(path, shape=(30, 31)), wanted)
