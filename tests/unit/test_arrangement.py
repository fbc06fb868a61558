"""How exposures were taken: setups, pixel size, dose, groups, in order of arrival."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.arrangement import Arrangement, Told
from icestream.domain.exposure import ExposureMetadata
from icestream.domain.precedence import CalibratedPixel

GRID: dict[str, Any] = {
    "setup": "grid",
    "pixel_size_angst": 0.83,
    "voltage_kv": 300.0,
    "spherical_aberration_mm": 2.7,
    "amplitude_contrast": 0.1,
    "phase_plate": False,
    "dose_e_per_angst2": 40.0,
    "vacuum_e_per_px": None,
    "dose_before_e_per_angst2": 0.0,
    "gain": "/gain.mrc",
    "gain_mirror": False,
    "gain_turn_deg": 0,
    "gain_divides": False,
    "defects": "/defects.txt",
}
K3 = ExposureMetadata(
    pixel_size_angst=0.80,
    camera_shape=(4092, 5760),
    magnification=105_000,
    voltage_kv=300.0,
    detector="BioQuantum K3",
    is_counting=True,
    position="9017347",
    beam_shift_x=0.0,
    beam_shift_y=0.0,
)
TOLD = Told(frame_shape=(4092, 5760), metadata=K3, files=("/a.xml",))
FINER = replace(
    TOLD, metadata=replace(K3, pixel_size_angst=0.60, magnification=130_000)
)
BARE = Told(frame_shape=(4092, 5760))


def start(**values: Any) -> Arrangement:
    return Arrangement(
        declared={"grid": GRID}, of_sources=frozenset({"grid"}), **values
    )


def arranged(
    state: Arrangement, *told: Told, source: dict[str, Any] = GRID
) -> tuple[Arrangement, list[dict[str, Any]], list[str]]:
    """Arrange exposures one after the other; their fields are stored as JSON."""
    found: list[dict[str, Any]] = []
    said: list[str] = []
    for one in told:
        state, fields, notices = state.arrange(
            source, json.loads(json.dumps(one.plain()))
        )
        assert json.loads(json.dumps(fields)) == fields
        found.append(dict(fields))
        said += notices
    return state, found, said


def test_what_was_told_comes_back() -> None:
    assert Told.of(json.loads(json.dumps(TOLD.plain()))) == TOLD
    assert Told.of({}) is None


def test_where_nothing_is_told_the_fields_are_the_sources() -> None:
    state, fields, notices = start().arrange(GRID, {})
    assert (state, dict(fields), notices) == (start(), GRID, ())


def test_the_user_goes_before_the_metadata_and_the_site_before_the_user() -> None:
    _, (one,), said = arranged(start(), TOLD)
    assert (one["pixel_size_angst"], one["pixel_size_origin"]) == (0.83, "user")
    assert (one["dose_e_per_angst2"], one["dose_origin"]) == (40.0, "user")
    assert (one["setup"], said) == ("grid", [])
    table = (CalibratedPixel(magnification=105_000, pixel_size_angst=0.842),)
    _, (one,), _ = arranged(start(calibration=table), TOLD)
    assert (one["pixel_size_angst"], one["pixel_size_origin"]) == (0.842, "calibration")


def test_an_unknown_dose_may_be_counted_unless_the_camera_does_not_count() -> None:
    source = GRID | {"dose_e_per_angst2": None}
    told = replace(K3, dose_e_per_angst2=51.0)
    for metadata, dose, origin, may_count in (
        (told, 51.0, "metadata", False),
        (K3, None, "unknown", True),
        (replace(K3, is_counting=None), None, "unknown", True),
        (replace(K3, is_counting=False), None, "unknown", False),
    ):
        one = replace(TOLD, metadata=metadata)
        _, (fields,), _ = arranged(start(), one, source=source)
        assert (fields["dose_e_per_angst2"], fields["dose_origin"]) == (dose, origin)
        assert fields["may_count_dose"] is may_count


def test_another_pixel_opens_a_setup_once_and_says_so() -> None:
    """Its pixel is the user's times the ratio that the metadata tell."""
    _, (first, second, third, fourth), said = arranged(
        start(), TOLD, FINER, FINER, TOLD
    )
    assert first["setup"] == fourth["setup"] == "grid"
    assert second["setup"] == third["setup"] == "bioquantum-k3_5760x4092_0.6A_300kV"
    assert second["pixel_size_angst"] == pytest.approx(0.83 * 0.60 / 0.80)
    # The dose of another magnification is not known; the gain is that of the camera.
    assert (second["dose_e_per_angst2"], second["gain"]) == (None, "/gain.mrc")
    assert second["defects"] == "/defects.txt"
    (notice,) = [one for one in said if "new acquisition setup" in one]
    assert "pixel_size_angst is 0.6, not 0.8" in notice
    assert "but not the dose" in notice


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"frame_shape": (8184, 11520)}, ("/gain.mrc", None, None)),
        ({"frame_shape": (4096, 4096)}, (None, None, 40.0)),
        (
            {"metadata": replace(K3, voltage_kv=200.0)},
            ("/gain.mrc", "/defects.txt", None),
        ),
        ({"metadata": replace(K3, detector="Falcon 4i")}, (None, None, 40.0)),
        (
            {"metadata": replace(K3, is_cds=True)},
            None,
        ),
    ],
)
def test_what_a_new_setup_keeps(
    change: dict[str, Any], kept: tuple[Any, ...] | None
) -> None:
    first = replace(TOLD, metadata=replace(K3, is_cds=False))
    if "metadata" in change:
        now = change["metadata"]
        change = {"metadata": replace(now, is_cds=bool(now.is_cds))}
    _, (_, second), _ = arranged(start(), first, replace(first, **change))
    assert second["setup"] != "grid"
    names = ("gain", "defects", "dose_e_per_angst2")
    expected = kept or tuple(GRID[one] for one in names)
    assert tuple(second[one] for one in names) == expected
    assert second["voltage_kv"] == (200.0 if "200kV" in second["setup"] else 300.0)


@pytest.mark.parametrize("gain", ["/gains", "/gains/*.mrc"])
def test_a_choice_of_gains_is_left_to_who_looks_at_them(gain: str) -> None:
    other = Told(frame_shape=(4096, 4096))
    _, (_, second), _ = arranged(start(), BARE, other, source=GRID | {"gain": gain})
    assert (second["setup"], second["gain"]) == ("4096x4096", gain)


def test_a_shape_alone_opens_a_setup_with_the_declared_pixel() -> None:
    other = Told(frame_shape=(2046, 2880))
    _, (_, second), (notice,) = arranged(start(), BARE, other)
    assert second["setup"] == "2880x2046"
    assert second["pixel_size_angst"] == 0.83
    assert "frame_shape is (2046, 2880), not (4092, 5760)" in notice


def test_a_new_setup_of_which_only_metadata_tell_the_pixel() -> None:
    told = replace(FINER, frame_shape=(8184, 11520))
    without = Told(frame_shape=(8184, 11520))
    _, (_, second, third), _ = arranged(start(), BARE, told, without)
    assert (second["pixel_size_angst"], second["pixel_size_origin"]) == (
        0.3,
        "metadata",
    )
    # An exposure of it that lacks metadata has the same.
    assert third["setup"] == second["setup"]
    assert (third["pixel_size_angst"], third["pixel_size_origin"]) == (0.3, "metadata")


def test_a_declared_setup_takes_the_place_of_an_opened_one() -> None:
    name = "bioquantum-k3_5760x4092_0.6A_300kV"
    mine = GRID | {"setup": name, "pixel_size_angst": 0.61, "gain": "/other.mrc"}
    state = Arrangement(
        declared={"grid": GRID, name: mine}, of_sources=frozenset({"grid"})
    )
    _, (_, second), _ = arranged(state, TOLD, FINER)
    assert (second["setup"], second["pixel_size_angst"]) == (name, 0.61)
    assert (second["gain"], second["dose_e_per_angst2"]) == ("/other.mrc", 40.0)


def test_late_metadata_change_what_they_tell_and_nothing_else() -> None:
    state, (before,), _ = arranged(start(), BARE)
    assert before["optics_group"]["position"] is None
    state, after, _ = state.arrange(GRID, TOLD.plain(), before=before)
    changed = {one for one in after if after[one] != before[one]}
    assert changed == {"metadata", "metadata_files", "optics_group"}
    # What is not told any more stays.
    _, still, _ = state.arrange(GRID, BARE.plain(), before=after)
    assert still == after


def test_late_metadata_move_an_exposure_to_its_setup() -> None:
    state, (_, early, late), _ = arranged(start(), TOLD, FINER, BARE)
    assert late["setup"] == early["setup"]  # the last one that fits
    _, after, _ = state.arrange(GRID, TOLD.plain(), before=late)
    assert after["setup"] == "grid"
    # And without them it stays where it is, whatever was opened since.
    _, same, _ = state.arrange(GRID, {}, before=late)
    assert same["setup"] == early["setup"]


def test_metadata_that_cannot_be_are_told_once_and_not_used() -> None:
    wild = replace(TOLD, metadata=replace(K3, pixel_size_angst=4_000.0))
    _, (_, second, third), said = arranged(start(), TOLD, wild, wild)
    assert second["setup"] == third["setup"] == "grid"
    assert second["pixel_size_angst"] == 0.83
    assert len([one for one in said if "not used" in one]) == 1


def test_a_notice_is_given_once_whatever_its_numbers() -> None:
    doses = [replace(K3, dose_e_per_angst2=one) for one in (60.1, 61.2, 60.7)]
    told = [replace(TOLD, metadata=one) for one in doses]
    _, fields, said = arranged(start(), *told)
    assert len(said) == 1
    assert [len(one["notices"]) for one in fields] == [1, 1, 1]
    again = start()
    for one in fields:
        again = again.learn(one)
    assert arranged(again, told[0])[2] == []


def test_a_number_that_nobody_has_any_more_makes_none_doubled() -> None:
    shots = [
        replace(TOLD, metadata=replace(K3, position=one)) for one in ("1", "2", "3")
    ]
    state, fields, _ = arranged(start(), BARE, *shots)
    # The first gets its metadata late: group 1 is left without exposures.
    _, first, _ = state.arrange(GRID, shots[0].plain(), before=fields[0])
    again = start()
    for one in (first, *fields[1:]):
        again = again.learn(one)
    fourth = replace(TOLD, metadata=replace(K3, position="4"))
    _, (new,), _ = arranged(again, fourth)
    assert [one["optics_group"]["number"] for one in fields] == [1, 2, 3, 4]
    assert first["optics_group"]["number"] == 2
    assert new["optics_group"]["number"] == 5


def test_setups_of_two_sources_have_names_of_their_own() -> None:
    other = GRID | {"setup": "other", "pixel_size_angst": 1.1}
    state = Arrangement(
        declared={"grid": GRID, "other": other},
        of_sources=frozenset({"grid", "other"}),
    )
    state, ours, _ = arranged(state, TOLD, FINER)
    _, theirs, _ = arranged(state, TOLD, FINER, source=other)
    assert theirs[1]["setup"] == f"{ours[1]['setup']}_2"
    assert theirs[1]["pixel_size_angst"] == pytest.approx(1.1 * 0.60 / 0.80)


SHOTS = st.builds(
    Told,
    frame_shape=st.sampled_from([(64, 96), (128, 192), (70, 70)]),
    metadata=st.builds(
        ExposureMetadata,
        pixel_size_angst=st.sampled_from([None, 0.8, 0.6]),
        voltage_kv=st.sampled_from([None, 300.0, 200.0]),
        is_cds=st.sampled_from([None, True]),
        position=st.sampled_from([None, "1", "2"]),
        beam_shift_x=st.sampled_from([None, 0.0, 0.05, 0.1]),
        beam_shift_y=st.just(0.0),
    ),
)


@given(
    history=st.lists(st.tuples(SHOTS, st.sampled_from(["grid", "other"])), max_size=25),
    late=st.lists(st.tuples(st.integers(0, 24), SHOTS), max_size=8),
)
def test_a_restart_learns_all_that_was_known(
    history: list[tuple[Told, str]], late: list[tuple[int, Told]]
) -> None:
    sources = {
        "grid": GRID,
        "other": GRID | {"setup": "other", "pixel_size_angst": 1.1},
    }
    state = fresh = Arrangement(declared=sources, of_sources=frozenset(sources))
    ledger: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for told, name in history:
        state, fields, _ = state.arrange(sources[name], told.plain())
        ledger.append((sources[name], dict(fields)))
    for at, told in late:
        if at < len(ledger):
            source, before = ledger[at]
            state, fields, _ = state.arrange(source, told.plain(), before=before)
            ledger[at] = (source, dict(fields))
    numbers = {json.dumps(one["optics_group"]) for _, one in ledger}
    assert len({json.loads(one)["number"] for one in numbers}) == len(numbers)
    again: Arrangement = fresh
    for _, fields in ledger:
        again = again.learn(json.loads(json.dumps(fields)))
    # Each exposure is settled as it was: a restart makes nothing stale.
    for source, fields in ledger:
        again, same, notices = again.arrange(source, {}, before=fields)
        assert same == fields
        assert notices == ()
    # And one more like any of them opens no setup.
    names = {fields["setup"] for _, fields in ledger}
    for source, fields in ledger:
        like = Told.of(fields)
        assert like is not None
        _, more, notices = again.arrange(source, like.plain())
        assert more["setup"] in names
        assert not [one for one in notices if "new acquisition setup" in one]


def test_what_each_setup_is_told_apart() -> None:
    """Two setups disagree with their metadata: each is told of, once."""
    source = GRID | {"pixel_size_angst": 2.0}
    _, fields, said = arranged(start(), TOLD, TOLD, FINER, FINER, source=source)
    notices = [one for one in said if "new acquisition setup" not in one]
    assert notices == [fields[0]["notices"][0], fields[2]["notices"][0]]
    again = start()
    for one in fields:
        again = again.learn(one)
    assert arranged(again, TOLD, FINER, source=source)[2] == []


@pytest.mark.parametrize(
    ("gain", "own"),
    [
        ("/data/gain.mrc", {"has_own_gain": True, "own_gain": None}),
        ("/data/gains", {}),
        ("/data/2024.11.22_gains", {}),
        ("/data/*.mrc", {}),
    ],
)
def test_of_several_gains_the_source_chooses_for_another_camera_too(
    gain: str, own: dict[str, Any]
) -> None:
    other = replace(TOLD, metadata=replace(K3, detector="Falcon 4i"))
    _, (_, fields), _ = arranged(start(), TOLD, other, source=GRID | {"gain": gain})
    names = ("has_own_gain", "own_gain")
    assert {name: fields[name] for name in names if name in fields} == own
    assert fields["gain"] == (None if own else gain)


def test_what_people_say_of_a_setup_that_opened_lies_over_its_copy() -> None:
    name = "bioquantum-k3_5760x4092_0.6A_300kV"
    state = Arrangement(
        declared={name: {"gain": "/mine.mrc"}}, of_sources=frozenset({"grid"})
    )
    _, (first, second), _ = arranged(state, TOLD, FINER)
    assert "own_gain" not in first
    assert (second["own_gain"], second["has_own_gain"]) == ("/mine.mrc", True)
    assert second["pixel_size_angst"] == pytest.approx(0.83 * 0.60 / 0.80)
    assert second["defects"] == "/defects.txt"


def test_the_rules_are_what_people_have_said() -> None:
    said = start().rules(GRID)
    after, _, _ = arranged(start(), TOLD, FINER)
    assert after.rules(GRID) == said
    table = (CalibratedPixel(magnification=105_000, pixel_size_angst=0.842),)
    others = [
        start(calibration=table).rules(GRID),
        start().rules(GRID | {"gain": None}),
        replace(start(), declared={"grid": GRID, "new": {"gain": None}}).rules(GRID),
    ]
    assert len({said, *others}) == 4
