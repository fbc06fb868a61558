"""Shapes, orientations, and which of several gains belongs to a movie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from icestream.domain.errors import BadSettings, UnusableImage
from icestream.engines.gain import (
    ORIENTATIONS,
    CameraMode,
    KnownGain,
    Orientation,
    fit_defects,
    fit_shape,
    match_gain,
)
from icestream.simulate.instrument.gain import rescaled_gain

NOON = datetime(2025, 3, 14, 12, tzinfo=UTC)


def gain(height: int = 40, width: int = 60) -> np.ndarray[Any, np.dtype[np.float32]]:
    made = np.random.default_rng(1).normal(1, 0.2, (height, width)).clip(0.3)
    made[3, 4] = 0
    return made.astype(np.float32)


def test_a_gain_that_fits_stays() -> None:
    given = gain()
    assert fit_shape(given, frame_shape=(40, 60)) is given


def test_super_resolution_is_halved_as_counts_are_added() -> None:
    fine = gain()
    fine[3, 4] = 1
    counts = 1 / fine
    added = counts.reshape(20, 2, 30, 2).sum(axis=(1, 3))
    flat = added * fit_shape(fine, frame_shape=(20, 30))
    np.testing.assert_allclose(flat, 4, rtol=1e-5)
    dead = fit_shape(gain(), frame_shape=(20, 30))
    np.testing.assert_array_equal(np.argwhere(dead == 0), [[1, 2]])
    np.testing.assert_allclose(dead, rescaled_gain(gain(), scale=0.5), rtol=1e-5)
    assert dead.dtype == np.float32


def test_counting_is_doubled_by_repeating() -> None:
    fine = fit_shape(gain(), frame_shape=(80, 120))
    np.testing.assert_array_equal(fine, rescaled_gain(gain(), scale=2))
    np.testing.assert_allclose(fit_shape(fine, frame_shape=(40, 60)), gain(), rtol=1e-6)


def test_defects_go_with_the_gain() -> None:
    is_bad = gain() == 0
    assert fit_defects(is_bad, frame_shape=(40, 60)) is is_bad
    half = fit_defects(is_bad, frame_shape=(20, 30))
    np.testing.assert_array_equal(np.argwhere(half), [[1, 2]])
    double = fit_defects(is_bad, frame_shape=(80, 120))
    np.testing.assert_array_equal(np.argwhere(double), [[6, 8], [6, 9], [7, 8], [7, 9]])


@pytest.mark.parametrize("shape", [(41, 60), (10, 15), (160, 240), (20, 60), (39, 59)])
def test_another_shape_is_refused_with_both_shapes(shape: tuple[int, int]) -> None:
    with pytest.raises(UnusableImage, match=f"40 x 60 .* {shape[0]} x {shape[1]} px"):
        fit_shape(gain(), frame_shape=shape)
    with pytest.raises(UnusableImage):
        fit_defects(gain() == 0, frame_shape=shape)


@pytest.mark.parametrize("shape", [(60, 40), (30, 20), (120, 80)])
def test_a_lying_gain_is_told_to_be_turned(shape: tuple[int, int]) -> None:
    with pytest.raises(UnusableImage, match="fits if turned by 90°"):
        fit_shape(gain(), frame_shape=shape)


def test_the_orientations_are_the_eight_of_a_square() -> None:
    array = np.arange(12.0).reshape(3, 4)
    seen = {
        one.apply(array).tobytes() + bytes(one.apply(array).shape)
        for one in ORIENTATIONS
    }
    assert len(seen) == 8
    for one in ORIENTATIONS:
        assert one.apply(array).flags.c_contiguous
        assert any(
            (two.apply(one.apply(array)) == array).all()
            for two in ORIENTATIONS
            if two.apply(one.apply(array)).shape == array.shape
        )
    turned = Orientation(quarter_turns=1).apply(array)
    np.testing.assert_array_equal(turned[0], array[:, -1])
    mirrored = Orientation(is_mirrored=True).apply(array)
    np.testing.assert_array_equal(mirrored, array[:, ::-1])


def known(name: str, hours: float | None = 0, **mode: Any) -> KnownGain:
    return KnownGain(
        name=name,
        mode=CameraMode(**({"shape": (40, 60)} | mode)),
        taken_at=None if hours is None else NOON + timedelta(hours=hours),
    )


def chosen(gains: list[KnownGain], hours: float | None = 0, **mode: Any) -> str | None:
    movie = CameraMode(**({"shape": (40, 60)} | mode))
    at = None if hours is None else NOON + timedelta(hours=hours)
    results = {
        match_gain(order, movie, acquired_at=at) for order in (gains, gains[::-1])
    }
    assert len(results) == 1
    found = results.pop()
    return None if found is None else found.name


def test_the_last_gain_before_the_movie_is_its_own() -> None:
    gains = [known("early", -5), known("noon", 0), known("late", 5)]
    assert [chosen(gains, at) for at in (-9, -5, -1, 0, 4, 9, None)] == [
        "early",
        "early",
        "early",
        "noon",
        "noon",
        "late",
        "late",
    ]
    assert chosen([*gains, known("undated", None)], -9) == "undated"
    assert chosen([*gains, known("undated", None)], -1) == "early"


def test_the_mode_comes_before_the_time() -> None:
    gains = [
        known("200", -1, voltage_kv=200.0),
        known("300", -9, voltage_kv=300.0),
        known("cds", -8, voltage_kv=300.0, is_cds=True),
    ]
    assert chosen(gains, voltage_kv=300.0, is_cds=False) == "300"
    assert chosen(gains, voltage_kv=300.0, is_cds=True) == "cds"
    assert chosen(gains, voltage_kv=200.0, is_cds=True) == "200"
    assert chosen(gains, voltage_kv=120.0) is None
    assert chosen(gains) == "200"


def test_the_same_shape_comes_before_twice_and_half() -> None:
    gains = [known("fine", -1, shape=(80, 120)), known("same", -9)]
    assert chosen(gains) == "same"
    assert chosen(gains[:1]) == "fine"
    assert chosen(gains, shape=(160, 240)) == "fine"
    assert chosen([known("lying", shape=(60, 40))]) == "lying"
    assert chosen([known("other", shape=(41, 60))]) is None
    assert chosen([]) is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadSettings, match="zone"):
        KnownGain(
            name="g",
            mode=CameraMode(shape=(1, 1)),
            taken_at=datetime(2025, 1, 1),  # noqa: DTZ001
        )
