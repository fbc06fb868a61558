"""A change of shape, pixel or mode opens a setup; what is not known opens none."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.exposure import ExposureMetadata
from icestream.domain.setups import KnownSetup, SetupKey, assign_setup, setup_key

METADATA = ExposureMetadata(
    voltage_kv=300.0,
    detector="BioQuantum K3",
    super_resolution_factor=2,
    is_counting=True,
    is_cds=False,
    beam_shift_x=0.1,
)
KEY = setup_key((4092, 5760), pixel_size_angst=0.6425975, metadata=METADATA)


def test_the_name_tells_what_is_known() -> None:
    assert KEY.name == "bioquantum-k3_5760x4092_0.6426A_300kV"
    assert replace(KEY, is_cds=True).name.endswith("_cds")
    assert replace(KEY, is_counting=False).name.endswith("_linear")
    assert SetupKey(frame_shape=(64, 96)).name == "96x64"
    tube = replace(KEY, detector="EF-CCD (2)/µ")
    assert tube.name.startswith("ef-ccd-2-_")


def test_the_same_setup_is_opened_once() -> None:
    known, first = assign_setup((), KEY)
    again, second = assign_setup(known, KEY)
    assert first == second == KnownSetup(name=KEY.name, key=KEY)
    assert again == known


@pytest.mark.parametrize(
    "change",
    [
        {"frame_shape": (8184, 11520)},
        {"pixel_size_angst": 0.66},
        {"voltage_kv": 200.0},
        {"detector": "Falcon 4i"},
        {"super_resolution_factor": 1},
        {"is_counting": False},
        {"is_cds": True},
    ],
)
def test_each_change_opens_another(change: dict[str, object]) -> None:
    other = replace(KEY, **change)  # type: ignore[arg-type]
    known, _ = assign_setup((), KEY)
    known, second = assign_setup(known, other)
    assert len({one.name for one in known}) == 2
    assert assign_setup(known, KEY)[1].key == KEY
    assert assign_setup(known, other) == (known, second)


def test_the_same_pixel_with_other_digits_is_no_change() -> None:
    known, first = assign_setup((), KEY)
    again, second = assign_setup(known, replace(KEY, pixel_size_angst=0.6426))
    assert (again, second) == (known, first)


def test_late_metadata_fill_the_setup_and_keep_its_name() -> None:
    bare = setup_key((4092, 5760), pixel_size_angst=0.6425975)
    known, first = assign_setup((), bare)
    known, second = assign_setup(known, KEY)
    assert second.name == first.name == "5760x4092_0.6426A"
    assert second.key == KEY
    # Now another mode is seen as a change.
    known, third = assign_setup(known, replace(KEY, is_cds=True))
    assert third.name != first.name
    # And an exposure without metadata goes to the last that fits it.
    assert assign_setup(known, bare) == (known, third)


def test_names_stay_apart_where_they_would_be_the_same() -> None:
    factors = [replace(KEY, super_resolution_factor=one) for one in (1, 2)]
    known: tuple[KnownSetup, ...] = ()
    for key in factors:
        known, _ = assign_setup(known, key)
    assert [one.name for one in known] == [KEY.name, f"{KEY.name}_2"]


keys = st.builds(
    SetupKey,
    frame_shape=st.sampled_from([(64, 96), (128, 192)]),
    pixel_size_angst=st.sampled_from([None, 1.0, 0.5]),
    voltage_kv=st.sampled_from([None, 200.0, 300.0]),
    is_cds=st.sampled_from([None, True, False]),
)


@given(history=st.lists(keys, max_size=30))
def test_setups_keep_order_and_name_and_only_learn(history: list[SetupKey]) -> None:
    known: tuple[KnownSetup, ...] = ()
    for key in history:
        before = known
        known, found = assign_setup(before, key)
        assert found in known
        assert found.key.agrees_with(key)
        assert [one.name for one in known[: len(before)]] == [o.name for o in before]
        assert len({one.name for one in known}) == len(known)
        for old, new in zip(before, known, strict=False):
            for field in fields(SetupKey):
                told = getattr(old.key, field.name)
                assert told in (None, getattr(new.key, field.name))
        # Nothing is opened that a known setup agrees with.
        fits = any(one.key.agrees_with(key) for one in before)
        assert (len(known) == len(before)) == fits
