"""Optics groups while streaming: numbers never change, groups never merge."""

from __future__ import annotations

import random
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.exposure import ExposureMetadata
from icestream.domain.optics_groups import (
    BEAM_SHIFT_TOLERANCE,
    OpticsGroups,
    assign_optics_group,
)

# Setup, place in the hole's template, column and row of the hole in its cluster.
Place: TypeAlias = tuple[str, str | None, int, int]

places = st.tuples(
    st.sampled_from(["k3", "falcon"]),
    st.sampled_from([None, "9017347", "9017354"]),
    st.integers(-2, 2),
    st.integers(-2, 2),
)
# From one hole to the next, a little more than twice the tolerance; an exposure lies
# within half of it from the middle of its place.
PITCH, NOISE = 2.5 * BEAM_SHIFT_TOLERANCE, BEAM_SHIFT_TOLERANCE / 2


def seen(place: Place, chance: random.Random) -> ExposureMetadata:
    _, position, column, row = place
    noise = NOISE / 2**0.5
    return ExposureMetadata(
        position=position,
        beam_shift_x=column * PITCH + chance.uniform(-noise, noise),
        beam_shift_y=row * PITCH + chance.uniform(-noise, noise),
    )


def assign(
    state: OpticsGroups, place: Place, chance: random.Random
) -> tuple[OpticsGroups, int]:
    state, group = assign_optics_group(state, seen(place, chance), setup=place[0])
    return state, group.number


@given(history=st.lists(places, max_size=60), seed=st.integers(0, 2**32 - 1))
def test_one_number_for_each_place_in_order_of_appearance(
    history: list[Place], seed: int
) -> None:
    chance, state = random.Random(seed), OpticsGroups()
    numbers: dict[Place, int] = {}
    for place in history:
        state, number = assign(state, place, chance)
        assert numbers.setdefault(place, number) == number
    assert list(numbers.values()) == list(range(1, len(numbers) + 1))
    assert [one.number for one in state.groups] == list(numbers.values())


@given(
    start=st.lists(places, min_size=1, max_size=30),
    rest=st.permutations(list(range(30))),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_order_of_exposures_of_known_places_changes_nothing_later(
    start: list[Place], rest: list[int], seed: int
) -> None:
    chance = random.Random(seed)
    state = OpticsGroups()
    for place in start:
        state, _ = assign(state, place, chance)
    known, new = state, ("k3", "9999999", 0, 0)
    for at in rest:
        state, _ = assign(state, start[at % len(start)], chance)
    assert state == known
    assert assign(state, new, chance)[1] == len(known.groups) + 1


@given(
    shifts=st.lists(
        st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), min_size=1, max_size=50
    ),
    again=st.integers(0, 49),
)
def test_an_exposure_asked_for_again_keeps_its_number_wherever_it_lies(
    shifts: list[tuple[float, float]], again: int
) -> None:
    state, numbers = OpticsGroups(), []
    exposures = [ExposureMetadata(beam_shift_x=x, beam_shift_y=y) for x, y in shifts]
    for metadata in exposures:
        before = state
        state, group = assign_optics_group(state, metadata, setup="k3")
        numbers.append(group.number)
        assert state.groups[: len(before.groups)] == before.groups
    at = again % len(shifts)
    after, group = assign_optics_group(state, exposures[at], setup="k3")
    assert (after, group.number) == (state, numbers[at])


def test_ten_thousand_exposures_of_an_afis_session_find_their_groups() -> None:
    chance, state = random.Random(7), OpticsGroups()
    template = [
        ("k3", position, column, row)
        for column in range(-3, 4)
        for row in range(-3, 4)
        for position in ("1", "2", "3", "4")
    ]
    numbers: dict[Place, set[int]] = {one: set() for one in template}
    for _ in range(10_000):
        place = chance.choice(template)
        state, number = assign(state, place, chance)
        numbers[place].add(number)
    assert all(len(found) == 1 for found in numbers.values())
    assert len(state.groups) == len(template) == 196


def test_a_new_template_opens_new_groups() -> None:
    shift = {"beam_shift_x": 0.1, "beam_shift_y": 0.2}
    state = OpticsGroups()
    for position, number in (("9017347", 1), ("30330800", 2), ("9017347", 1)):
        metadata = ExposureMetadata(position=position, **shift)  # type: ignore[arg-type]
        state, group = assign_optics_group(state, metadata, setup="k3")
        assert group.number == number


def test_without_a_beam_shift_the_place_in_the_template_tells() -> None:
    state, numbers = OpticsGroups(), []
    for position in ("1-1", "1-2", "2-1", "1-1", None):
        metadata = ExposureMetadata(position=position)
        state, group = assign_optics_group(state, metadata, setup="k3")
        numbers.append(group.number)
    assert numbers == [1, 2, 3, 1, 4]


def test_late_metadata_get_a_group_of_their_own() -> None:
    state, first = assign_optics_group(OpticsGroups(), None, setup="k3")
    state, second = assign_optics_group(state, None, setup="k3")
    assert first.number == second.number == 1
    named = ExposureMetadata(position="9017347")
    state, third = assign_optics_group(state, named, setup="k3")
    full = ExposureMetadata(position="9017347", beam_shift_x=0.0, beam_shift_y=0.0)
    state, fourth = assign_optics_group(state, full, setup="k3")
    assert (third.number, fourth.number) == (2, 3)
    assert assign_optics_group(state, named, setup="k3")[1] == third


def test_another_setup_shares_no_group() -> None:
    full = ExposureMetadata(position="1", beam_shift_x=0.0, beam_shift_y=0.0)
    state, one = assign_optics_group(OpticsGroups(), full, setup="k3")
    _, two = assign_optics_group(state, full, setup="k3_cds")
    assert (one.number, two.number) == (1, 2)
