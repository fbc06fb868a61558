"""Pairs of picks and known centres."""

from __future__ import annotations

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.engines.picking import match_coordinates
from picking_scene import coordinates


def test_each_centre_is_used_once() -> None:
    truth = coordinates([(10, 10)])
    matches = match_coordinates(
        coordinates([(10, 12), (10, 9)]), truth, max_distance_px=5
    )
    assert matches.found_index.tolist() == [1]
    assert matches.distance_px.tolist() == [1.0]
    assert (matches.precision, matches.recall) == (0.5, 1.0)
    assert matches.f1 == pytest.approx(2 / 3)


def test_more_pairs_come_before_shorter_ones() -> None:
    # Nearest first would pair 10 with 12 and leave 0 and 21 alone.
    found, truth = coordinates([(0, 0), (0, 12)]), coordinates([(0, 10), (0, 21)])
    matches = match_coordinates(found, truth, max_distance_px=10)
    assert len(matches.distance_px) == 2
    assert sorted(matches.distance_px.tolist()) == [9.0, 10.0]


def test_beyond_the_distance_nothing_is_paired() -> None:
    matches = match_coordinates(
        coordinates([(0, 0)]), coordinates([(3, 4.1)]), max_distance_px=5
    )
    assert len(matches.distance_px) == 0
    assert matches.f1 == 0


def test_nothing_found_or_nothing_there() -> None:
    some, none = coordinates([(1, 2)]), coordinates([])
    assert match_coordinates(none, some, max_distance_px=5).precision is None
    assert match_coordinates(none, some, max_distance_px=5).recall == 0
    assert match_coordinates(some, none, max_distance_px=5).recall is None
    assert match_coordinates(none, none, max_distance_px=5).f1 is None


def test_a_large_set_is_paired_with_itself() -> None:
    places = np.random.default_rng(0).uniform(0, 4000, (600, 2))
    moved = [tuple(place) for place in places + 0.5]
    matches = match_coordinates(
        coordinates(moved[::-1]),
        coordinates([tuple(place) for place in places]),
        max_distance_px=2,
    )
    assert matches.f1 == 1
    assert (matches.found_index[::-1] + matches.true_index[::-1] == 599).all()


@pytest.mark.parametrize("distance_px", [0.0, -1.0, float("nan")])
def test_a_distance_that_cannot_be_is_refused(distance_px: float) -> None:
    with pytest.raises(BadSettings):
        match_coordinates(coordinates([]), coordinates([]), max_distance_px=distance_px)


def test_each_centre_may_have_a_distance_of_its_own() -> None:
    found, truth = coordinates([(0, 4), (50, 4)]), coordinates([(0, 0), (50, 0)])
    matches = match_coordinates(found, truth, max_distance_px=np.array([5.0, 3.0]))
    assert matches.true_index.tolist() == [0]
    # The far reach of the second centre takes nothing away from the first.
    both = coordinates([(0, 6), (0, 9)])
    matches = match_coordinates(
        both, coordinates([(0, 0), (0, 20)]), max_distance_px=np.array([7.0, 15.0])
    )
    assert matches.distance_px.tolist() == [6.0, 11.0]
