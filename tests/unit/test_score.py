"""Scores with known answers: results are made from the truth, and then spoilt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_session
from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.cli import main
from icestream.cli.output import stdout
from icestream.cli.score import print_score
from icestream.cli.summary import load_results
from icestream.domain import Coordinates, Ctf
from icestream.domain.errors import BadSettings
from icestream.simulate.motion import simulate_motion
from icestream.simulate.score import (
    Found,
    PickScore,
    Score,
    match_files,
    motion_rmsd_angst,
    score_acquisition,
)
from icestream.simulate.truth import TRUTH_NAME, TruthWriter
from icestream.streaming.control import ServiceState, ServiceStatus
from icestream.streaming.inline import InlineExecutor
from truth_rows import ABOUT, PIXEL_ANGST, field_particles, row, truth

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from numpy.typing import ArrayLike, NDArray

    from icestream.simulate.truth import ExposureTruth

GRID = [(y, x) for y in range(20, 400, 40) for x in range(30, 600, 60)]
"""100 places, farther apart than two matching distances of 25 px are for a pick."""


def ctf_of(one: ExposureTruth, **changes: float) -> Ctf:
    values: dict[str, Any] = {
        "defocus_u_angst": one.defocus_u_angst,
        "defocus_v_angst": one.defocus_v_angst,
        "defocus_angle_deg": one.defocus_angle_deg,
        "score": 0.3,
        "resolution_angst": 4.0,
    }
    return Ctf(**(values | changes))


def picks_at(places_yx_px: ArrayLike) -> Coordinates:
    y_px, x_px = np.array(places_yx_px, np.float32).reshape(-1, 2).T
    ones = np.ones_like(x_px)
    return Coordinates(x_px=x_px, y_px=y_px, score=ones, diameter_angst=ones)


def found_of(one: ExposureTruth, **changes: Any) -> Found:
    """Return what a perfect session finds."""
    inside = [
        (y, x)
        for y, x in zip(one.particles.y_px, one.particles.x_px, strict=True)
        if 0 <= y < 400 and 0 <= x < 600
    ]
    values: dict[str, Any] = {
        "key": f"grid/{one.file}",
        "path": f"/watched/{one.file}",
        "outcome": "accepted",
        "ctf": ctf_of(one),
        "picks": picks_at(inside),
    }
    return Found(**(values | changes))


def rows(count: int = 10, **changes: Any) -> list[ExposureTruth]:
    return [
        row(n, particles=field_particles(GRID), **changes) for n in range(1, count + 1)
    ]


def score_of(exposures: list[ExposureTruth], found: list[Found], **more: Any) -> Score:
    return score_acquisition(truth(*exposures), found, **more)


# The whole --------------------------------------------------------------------------


def test_a_perfect_session_is_perfect() -> None:
    exposures = rows()
    score = score_of(exposures, [found_of(one) for one in exposures])
    assert (score.items.taken, score.items.seen) == (10, 10)
    assert score.items.lost == score.items.doubled == score.items.strays == ()
    ctf, picking = score.ctf_good, score.picking_good
    assert ctf is not None
    assert (ctf.fits, ctf.defocus_angst.worst, ctf.within_1_percent) == (10, 0, 1)
    assert picking is not None
    assert (picking.precision, picking.recall, picking.f1) == (1, 1, 1)
    assert (picking.picks, picking.particles) == (1000, 1000)
    assert score.verdicts.rejected_good == 0
    assert score.verdicts.accepted_bad is None


def test_nothing_found_yet_is_no_error() -> None:
    score = score_of(rows(3), [])
    assert len(score.items.lost) == 3
    assert score.ctf_all is None
    assert score.picking_all is None
    assert score.blanks is None
    assert score.verdicts.counts == {}
    assert score_of([], []).items.taken == 0


def test_good_exposures_are_told_from_all() -> None:
    exposures = [row(1), row(2, defect="carbon")]
    found = [
        found_of(exposures[0]),
        found_of(exposures[1], ctf=ctf_of(exposures[1], defocus_u_angst=20_000.0)),
    ]
    score = score_of(exposures, found)
    assert score.ctf_good is not None
    assert score.ctf_all is not None
    assert score.ctf_good.defocus_percent.worst == 0
    assert score.ctf_all.defocus_percent.worst > 10
    assert score.ctf_all.worst_key == "grid/FoilHole_0002.mrc"


def test_a_truth_without_sizes_is_refused() -> None:
    for about in (
        {"shape": None},
        {"shape": [0, 400]},
        {"shape": [float("inf"), 400]},
        {"species": [{"name": "a"}]},
        {"species": [{"name": "a", "diameter_angst": float("nan")}]},
        {"species": 3},
    ):
        with pytest.raises(BadSettings, match="size of images or"):
            score_acquisition(truth(row(1), **about), [])


# Items ------------------------------------------------------------------------------


def test_lost_and_doubled_and_failed_are_found() -> None:
    exposures = rows(5)
    found = [found_of(one) for one in exposures if one.number != 3]
    found.append(found_of(exposures[0], key="again/FoilHole_0001.mrc"))
    found[1] = found_of(exposures[1], outcome="failed", ctf=None, picks=None)
    score = score_of(exposures, found)
    assert score.items.lost == ("FoilHole_0003.mrc",)
    assert score.items.doubled == ("FoilHole_0001.mrc",)
    assert score.items.failed == ("grid/FoilHole_0002.mrc",)
    assert score.items.seen == 4
    # The one that was doubled counts once.
    assert score.ctf_all is not None
    assert (score.ctf_all.fits, score.ctf_all.exposures) == (3, 4)


def test_a_key_that_came_to_nothing_does_not_double() -> None:
    (one,) = exposures = rows(1)
    nothing = Found(key="b/FoilHole_0001.mrc", path="/b/FoilHole_0001.mrc")
    for found in ([nothing, found_of(one)], [found_of(one), nothing]):
        score = score_of(exposures, found)
        assert score.items.doubled == ()
        assert score.ctf_all is not None


@pytest.mark.parametrize("fault", ["truncated", "empty", "zero_tail"])
def test_spoilt_files_are_not_lost_and_not_compared(fault: str) -> None:
    exposures = [row(1), row(2, faults=(fault,)), row(3, faults=(fault,))]
    used = found_of(exposures[2], ctf=ctf_of(exposures[2], defocus_u_angst=30_000.0))
    score = score_of(exposures, [found_of(exposures[0]), used])
    assert (score.items.spoilt, score.items.lost) == (2, ())
    assert score.items.spoilt_used == ("grid/FoilHole_0003.mrc",)
    assert score.ctf_all is not None
    assert score.ctf_all.exposures == 1
    assert score.verdicts.counts["good"]["accepted"] == 1


@pytest.mark.parametrize(
    "fault", ["clock_skew", "late_metadata", "wrong_frame_count", "rewritten"]
)
def test_files_with_other_faults_are_expected(fault: str) -> None:
    score = score_of([row(1, faults=(fault,))], [])
    assert score.items.lost == ("FoilHole_0001.mrc",)


def test_what_was_taken_last_may_come_yet_while_the_session_goes_on() -> None:
    # Rows are not in order of time: 4 was taken before 3.
    exposures = [
        replace(row(n), taken_at_s=at)
        for n, at in ((1, 0.0), (2, 9.0), (3, 27.0), (4, 18.0), (5, 36.0), (6, 45.0))
    ]
    exposures[5] = replace(exposures[5], faults=("empty",))
    found = [found_of(exposures[0]), found_of(exposures[3])]
    names = [one.file for one in exposures]
    over = score_of(exposures, found).items
    assert (over.lost, over.to_come) == ((names[1], names[2], names[4]), ())
    on = score_of(exposures, found, goes_on=True).items
    assert (on.lost, on.to_come) == ((names[1],), (names[2], names[4]))
    none_yet = score_of(exposures, [], goes_on=True).items
    assert (none_yet.lost, len(none_yet.to_come)) == ((), 5)
    assert score_of([], [], goes_on=True).items.to_come == ()


def test_a_copy_in_another_folder_is_no_double() -> None:
    one = row(1, file="grid1/FoilHole_0001.mrc", faults=("duplicate_name",))
    other = row(2, file="grid2/FoilHole_0001.mrc", faults=("duplicate_name",))
    copy = "grid2/again/FoilHole_0001.mrc"
    found = [
        found_of(one),
        found_of(other),
        found_of(other, key=f"grid/{copy}", path=f"/watched/{copy}"),
    ]
    for root in (None, "/watched"):
        items = score_of([one, other], found, root=root).items
        assert items.copied == (other.file,)
        assert items.doubled == items.lost == items.strays == ()
        more = [*found, found_of(other, key="once more")]
        items = score_of([one, other], more, root=root).items
        assert (items.doubled, items.copied) == ((other.file,), ())


# Which file is which ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/acq/grid1/x.mrc", "grid1/x.mrc"),
        ("/acq/grid2/x.mrc", "grid2/x.mrc"),
        # Copied, with the folder, or into a deeper one, or out of it.
        ("/data/visit/grid2/x.mrc", "grid2/x.mrc"),
        ("/grid2/x.mrc", "grid2/x.mrc"),
        ("/data/y.mrc", "grid1/deep/y.mrc"),
        ("/data/deep/y.mrc", "grid1/deep/y.mrc"),
        ("/data/grid2/raw/x.mrc", "grid2/x.mrc"),
        # Which of the two cannot be said.
        ("/data/x.mrc", None),
        ("/data/grid3/x.mrc", None),
        # In the acquisition's folder names are exact.
        ("/acq/y.mrc", None),
        ("/acq/grid3/x.mrc", None),
        ("/acq2/grid1/deep/y.mrc", "grid1/deep/y.mrc"),
        ("/data/grid1/X.mrc", None),
        ("/data/grid1/xx.mrc", None),
        ("", None),
    ],
)
def test_a_path_is_the_file_that_ends_alike(path: str, file: str | None) -> None:
    files = ["grid1/x.mrc", "grid2/x.mrc", "grid1/deep/y.mrc"]
    (index,) = match_files([path], files, root="/acq")
    assert (None if index is None else files[index]) == file


def test_a_file_above_is_not_one_in_a_folder() -> None:
    assert match_files(["/w/x.mrc", "/w/a/x.mrc"], ["x.mrc", "a/x.mrc"]) == [0, 1]


def test_two_acquisitions_with_the_same_names_are_told_apart_by_theirs() -> None:
    paths = ["/watched/monday/x.mrc", "/watched/tuesday/x.mrc"]
    assert match_files(paths, ["x.mrc"], root="/home/tuesday") == [None, 0]
    # Nothing says which one it is: both are taken for it.
    assert match_files(paths, ["x.mrc"], root="/home/friday") == [0, 0]


def test_a_path_that_fits_worse_than_another_is_a_stray() -> None:
    files = ["grid1/x.mrc"]
    paths = ["/w/grid1/x.mrc", "/w/grid2/x.mrc"]
    assert match_files(paths, files) == [0, None]
    assert match_files(paths[1:], files) == [0]
    assert match_files(["/acq/grid1/x.mrc", *paths], files, root="/acq") == [
        0,
        None,
        None,
    ]


_NAMES = st.sampled_from(["a", "b", "c"])
_FILES = st.lists(
    st.lists(_NAMES, min_size=1, max_size=4).map("/".join),
    min_size=1,
    max_size=12,
    unique=True,
)


@given(files=_FILES, order=st.randoms(use_true_random=False))
def test_an_acquisition_watched_in_place_or_copied_is_known(
    files: list[str], order: Random
) -> None:
    indices = list(range(len(files)))
    order.shuffle(indices)
    in_place = [f"/acq/{files[one]}" for one in indices]
    assert match_files(in_place, files, root="/acq") == indices
    # Copied with its folders, under a name that is none of its own.
    copied = [f"/elsewhere/{files[one]}" for one in indices]
    assert match_files(copied, files, root="/acq") == indices


@given(files=_FILES)
def test_below_one_of_its_folders_nothing_is_taken_for_another(
    files: list[str],
) -> None:
    seen = [one for one in files if one.startswith("a/")]
    copied = [f"/elsewhere/{one.removeprefix('a/')}" for one in seen]
    for index, file in zip(match_files(copied, files), seen, strict=True):
        # A shorter path may say too little or fit another whole file, but not more.
        if index is not None and files[index] != file:
            assert files[index] in file


# The same acquisition ---------------------------------------------------------------


def seen_with(one: ExposureTruth, **changes: Any) -> Found:
    """Return a found exposure whose micrograph was decoded."""
    values = {"shape": (400, 600), "pixel_size_angst": PIXEL_ANGST, "voltage_kv": 300.0}
    return found_of(one, **(values | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixel_size_angst": 1.2}, r"1\.2 Å by the session, but with pixels of 2 Å"),
        ({"voltage_kv": 200.0}, "200 kV by the session, but at 300 kV"),
        ({"shape": (400, 400)}, "400 x 400 px by the session, but with 600 x 400 px"),
        ({"shape": (200, 300)}, "pixels of 2 Å by the session, but with pixels of 4 Å"),
    ],
)
def test_the_truth_of_another_acquisition_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    exposures = rows(3)
    # One of them has not been decoded yet.
    found = [seen_with(one, **changes) for one in exposures[:2]]
    found.append(Found(key="c", path=exposures[2].file))
    with pytest.raises(BadSettings, match=said):
        score_of(exposures, found)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pixel_size_angst": 2.03},
        {"shape": (200, 300), "pixel_size_angst": 4.0},
        {"shape": None, "pixel_size_angst": None, "voltage_kv": None},
        {"shape": (400, 600), "pixel_size_angst": None},
    ],
)
def test_binned_and_calibrated_micrographs_are_of_the_same_acquisition(
    changes: dict[str, Any],
) -> None:
    exposures = rows(3)
    found = [seen_with(one, **changes) for one in exposures]
    assert score_of(exposures, found).unlike == ()


def test_a_grid_whose_pixel_size_was_not_set_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exposures = [*rows(2), row(3, pixel_size_angst=1.0)]
    score = score_of(exposures, [seen_with(one) for one in exposures])
    assert len(score.unlike) == 1
    print_score(stdout(), score)
    assert "1 exposure unlike the truth: grid/FoilHole_0003" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "path", "by_name"),
    [
        ("x.mrc", "/acq/x.mrc", 0),
        ("x.mrc", "/other/x.mrc", 1),
        ("grid1/x.mrc", "/copy/grid1/x.mrc", 0),
        ("grid1/x.mrc", "/copy/x.mrc", 1),
    ],
)
def test_what_is_matched_by_name_alone_is_told(
    capsys: pytest.CaptureFixture[str], file: str, path: str, by_name: int
) -> None:
    one = row(1, file=file)
    score = score_of([one], [found_of(one, path=path)], root="/acq")
    assert score.by_name == by_name
    print_score(stdout(), score)
    assert ("1 file outside of" in capsys.readouterr().out) == bool(by_name)


# CTF --------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [1.0, -2.0])
def test_a_shift_of_all_defoci_is_told_in_percent(percent: float) -> None:
    exposures = rows()
    factor = 1 + percent / 100
    found = [
        found_of(
            one,
            ctf=ctf_of(
                one,
                defocus_u_angst=one.defocus_u_angst * factor,
                defocus_v_angst=one.defocus_v_angst * factor,
            ),
        )
        for one in exposures
    ]
    ctf = score_of(exposures, found).ctf_good
    assert ctf is not None
    assert ctf.bias_percent == pytest.approx(percent)
    assert ctf.defocus_percent.median == pytest.approx(abs(percent))
    assert ctf.defocus_percent.worst == pytest.approx(abs(percent))
    means = [(e.defocus_u_angst + e.defocus_v_angst) / 2 for e in exposures]
    assert ctf.defocus_angst.median == pytest.approx(
        abs(percent) / 100 * np.median(means)
    )
    assert ctf.astigmatism_angst.worst == pytest.approx(abs(percent) / 100 * 200)


def test_the_share_within_1_percent_and_the_spread() -> None:
    exposures = rows(10)
    errors = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9, 1.1, 9.0]
    found = [
        found_of(
            one,
            ctf=ctf_of(
                one,
                defocus_u_angst=one.defocus_u_angst * (1 + e / 100),
                defocus_v_angst=one.defocus_v_angst * (1 + e / 100),
            ),
        )
        for one, e in zip(exposures, errors, strict=True)
    ]
    ctf = score_of(exposures, found).ctf_good
    assert ctf is not None
    assert ctf.within_1_percent == 0.8
    assert ctf.defocus_percent.median == pytest.approx(0.45)
    assert ctf.defocus_percent.p90 == pytest.approx(1.1 + 0.1 * 7.9)
    assert ctf.worst_key == "grid/FoilHole_0010.mrc"


@pytest.mark.parametrize(
    ("true_deg", "found_deg", "error_deg"),
    [(30, 40, 10), (179, 1, 2), (1, 179, 2), (0, 90, 90), (10, 130, 60)],
)
def test_angles_go_round_at_180_degrees(
    true_deg: float, found_deg: float, error_deg: float
) -> None:
    one = row(1, defocus_angle_deg=true_deg)
    found = found_of(one, ctf=ctf_of(one, defocus_angle_deg=found_deg))
    ctf = score_of([one], [found]).ctf_good
    assert ctf is not None
    assert ctf.angle_deg is not None
    assert ctf.angle_deg.median == pytest.approx(error_deg)


def test_an_angle_without_astigmatism_says_nothing() -> None:
    one = row(1, defocus_u_angst=10_140.0, defocus_v_angst=10_000.0)
    found = found_of(
        one, ctf=ctf_of(one, defocus_angle_deg=120.0, defocus_angle_error_deg=1.0)
    )
    ctf = score_of([one], [found]).ctf_good
    assert ctf is not None
    assert ctf.angle_deg is None
    assert ctf.angle_pull_rms is None


def test_pulls_are_1_where_standard_errors_are_honest() -> None:
    generator = np.random.default_rng(0)
    exposures = rows(400)
    found = []
    for one in exposures:
        u, v, angle = generator.normal(0, (20.0, 30.0, 2.0))
        errors = ctf_of(
            one,
            defocus_u_angst=one.defocus_u_angst + u,
            defocus_v_angst=one.defocus_v_angst + v,
            defocus_angle_deg=one.defocus_angle_deg + angle,
            defocus_u_error_angst=20.0,
            defocus_v_error_angst=30.0,
            defocus_angle_error_deg=1.0,
        )
        found.append(found_of(one, ctf=errors))
    ctf = score_of(exposures, found).ctf_good
    assert ctf is not None
    # 800 and 400 draws: 2.5 % and 3.5 % of one standard deviation; three of those.
    assert ctf.defocus_pull_rms == pytest.approx(1, rel=0.08)
    assert ctf.angle_pull_rms == pytest.approx(2, rel=0.11)
    found = [found_of(one) for one in exposures]
    without = score_of(exposures, found).ctf_good
    assert without is not None
    assert without.defocus_pull_rms is without.angle_pull_rms is None


def test_phase_shifts_are_compared_where_there_was_a_plate() -> None:
    exposures = [
        row(1, phase_shift_deg=60.0),
        row(2, phase_shift_deg=178.0),
        row(3),
    ]
    fits = [
        ctf_of(one, phase_shift_deg=fitted)
        for one, fitted in zip(exposures, (63.0, 3.0, 40.0), strict=True)
    ]
    found = [found_of(one, ctf=fit) for one, fit in zip(exposures, fits, strict=True)]
    ctf = score_of(exposures, found).ctf_good
    assert ctf is not None
    assert ctf.phase_shift_deg is not None
    assert ctf.phase_shift_deg.median == pytest.approx(4)
    assert ctf.phase_shift_deg.worst == pytest.approx(5)
    without = score_of(exposures[2:], found[2:]).ctf_good
    assert without is not None
    assert without.phase_shift_deg is None


# Picking ----------------------------------------------------------------------------


def picking_of(one: ExposureTruth, places: ArrayLike, **changes: Any) -> PickScore:
    score = score_of([one], [found_of(one, picks=picks_at(places), **changes)])
    assert score.picking_all is not None
    return score.picking_all


def centring_angst(picking: PickScore) -> float:
    assert picking.centring_angst is not None
    return picking.centring_angst.median


def test_a_tenth_of_the_picks_removed_is_a_recall_of_90_percent() -> None:
    exposures = rows(4)
    found = [
        found_of(one, picks=picks_at([p for n, p in enumerate(GRID) if n % 10]))
        for one in exposures
    ]
    picking = score_of(exposures, found).picking_good
    assert picking is not None
    assert (picking.precision, picking.recall) == (1, 0.9)
    assert picking.f1 == pytest.approx(2 * 0.9 / 1.9)


def test_numbers_are_pooled_and_not_averaged() -> None:
    exposures = [row(1, particles=field_particles(GRID)), row(2)]
    exposures[1] = row(2, particles=field_particles([(50, 50)]))
    found = [found_of(exposures[0]), found_of(exposures[1], picks=picks_at([]))]
    picking = score_of(exposures, found).picking_good
    assert picking is not None
    assert picking.recall == pytest.approx(100 / 101)


def test_false_picks_and_centring_in_angst() -> None:
    one = row(1, particles=field_particles(GRID))
    moved = [(y + 3, x - 4) for y, x in GRID]
    picking = picking_of(one, [*moved, *moved[:25]])
    assert picking.precision == pytest.approx(100 / 125)
    assert picking.recall == 1
    assert centring_angst(picking) == pytest.approx(5 * PIXEL_ANGST)


def test_a_pair_lies_within_half_the_diameter_of_its_species() -> None:
    # 100 Å and 20 Å at 2 Å/px: 25 px and 5 px.
    one = row(1, particles=field_particles([(100, 100), (300, 300)], species=[0, 1]))
    assert picking_of(one, [(100, 124), (300, 304)]).matched == 2
    assert picking_of(one, [(100, 126), (300, 304)]).matched == 1
    assert picking_of(one, [(100, 124), (300, 306)]).matched == 1


def test_particles_outside_the_image_count_for_nothing() -> None:
    places = [(200, 300), (-3, 300), (200, 601), (399.6, 20)]
    one = row(1, particles=field_particles(places))
    assert picking_of(one, [(200, 300)]).recall == 1
    # A pick on what reaches in is neither right nor wrong; one on nothing is wrong.
    assert picking_of(one, [(200, 300), (0, 300)]).precision == 1
    assert picking_of(one, [(200, 300), (0, 100)]).precision == 0.5


def test_masked_particles_are_told_apart() -> None:
    masked = np.zeros((4, 4), np.float32)
    masked[0, 3] = 0.5  # y < 100, x >= 450
    masked[3, 0] = 0.4
    places = [(50, 500), (50, 560), (50, 100), (350, 100)]
    one = row(1, particles=field_particles(places), masked=masked)
    picking = picking_of(one, [(50, 500), (50, 100), (350, 100), (5, 455), (200, 300)])
    assert (picking.masked, picking.masked_matched) == (2, 1)
    assert (picking.particles, picking.matched, picking.picks) == (2, 2, 4)
    assert picking.picks_on_mask == 1
    assert (picking.recall, picking.precision) == (1, 0.5)


def test_overlapping_particles_are_told() -> None:
    one = row(
        1,
        particles=field_particles(
            [(100, 100), (100, 130), (300, 300)], overlaps=[True, True, False]
        ),
    )
    picking = picking_of(one, [(100, 100), (300, 300)])
    assert (picking.overlapping, picking.overlapping_matched) == (2, 1)
    assert picking.recall == pytest.approx(2 / 3)


def test_a_pick_on_denatured_protein_is_false() -> None:
    field = field_particles(
        [(100, 100), (200, 300), (300, 500), (310, 510)],
        species=[0, 1, 1, 0],
        overlaps=[False, False, True, True],
    )
    species = [
        {"name": "cage", "diameter_angst": 100.0, "is_denatured": False},
        {"name": "denatured_cage", "diameter_angst": 100.0, "is_denatured": True},
    ]
    one = row(1, particles=field)
    found = [found_of(one, picks=picks_at([(100, 100), (200, 300), (300, 500)]))]
    picking = score_acquisition(truth(one, species=species), found).picking_all
    assert picking is not None
    # The last pick lies on a sheet and near a particle that overlaps it.
    assert (picking.picks, picking.particles, picking.matched) == (3, 2, 2)
    assert picking.precision == pytest.approx(2 / 3)
    assert (picking.overlapping, picking.overlapping_matched) == (1, 1)


def test_picks_in_a_binned_micrograph_are_where_they_are() -> None:
    one = row(1, particles=field_particles([(101.5, 201.5)]))
    # Binned by 4: px 25 covers 100 to 103.
    picking = picking_of(one, [(25, 50)], shape=(100, 150))
    assert centring_angst(picking) == pytest.approx(0, abs=1e-4)


def test_false_picks_on_blank_ice() -> None:
    exposures = [row(n, defect="blank") for n in (1, 2, 3)] + [row(4)]
    counts = [0, 2, 7, 50]
    found = [
        found_of(one, picks=picks_at(GRID[:n]))
        for one, n in zip(exposures, counts, strict=True)
    ]
    blanks = score_of(exposures, found).blanks
    assert blanks is not None
    assert (blanks.exposures, blanks.picks_mean, blanks.picks_most) == (3, 3.0, 7)
    assert blanks.most_key == "grid/FoilHole_0003.mrc"


def test_an_acquisition_of_ice_alone_has_no_species() -> None:
    one = row(1)
    found = found_of(one, picks=picks_at([(10, 10)]))
    picking = score_acquisition(truth(one, species=[]), [found]).picking_all
    assert picking is not None
    assert (picking.precision, picking.recall) == (0, None)


@given(
    kept=st.lists(st.booleans(), min_size=100, max_size=100),
    false=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_what_is_kept_and_added_is_what_is_counted(
    kept: list[bool], false: int, seed: int
) -> None:
    one = row(1, particles=field_particles(GRID, species=[1] * 100))
    jitter = np.random.default_rng(seed).uniform(-3, 3, (100, 2))
    places = [p + d for p, d, k in zip(np.array(GRID), jitter, kept, strict=True) if k]
    # Halfway between the places no particle is nearer than 5 px.
    places += [(y + 20, x + 30) for y, x in GRID[:false]]
    picking = picking_of(one, places)
    assert (picking.matched, picking.picks) == (sum(kept), sum(kept) + false)


# Verdicts ---------------------------------------------------------------------------


def test_verdicts_against_defects() -> None:
    table = [
        (None, "accepted", 7),
        (None, "rejected", 3),
        (None, "failed", 1),
        ("blank", "accepted", 1),
        ("blank", "rejected", 1),
        ("carbon", "rejected", 2),
        ("carbon", "undecided", 4),
    ]
    exposures: list[ExposureTruth] = []
    found: list[Found] = []
    for defect, outcome, count in table:
        for _ in range(count):
            one = row(len(exposures) + 1, defect=defect)
            exposures.append(one)
            found.append(found_of(one, outcome=outcome))
    verdicts = score_of(exposures, found).verdicts
    assert list(verdicts.counts) == ["good", "blank", "carbon"]
    assert verdicts.counts["good"] == {
        "accepted": 7,
        "rejected": 3,
        "failed": 1,
        "undecided": 0,
    }
    assert verdicts.rejected_good == 0.3
    assert verdicts.accepted_bad == 0.25


# Motion -----------------------------------------------------------------------------


def lattice(seed: int) -> NDArray[np.float64]:
    motion = simulate_motion(
        np.random.default_rng(seed),
        shape=(400, 600),
        pixel_size_angst=1.0,
        frame_count=12,
        dose_e_per_angst2=1.5,
    )
    return motion.lattice()[1]


def test_the_frame_of_reference_does_not_matter_to_a_motion() -> None:
    angst = lattice(0)
    offset = np.random.default_rng(1).normal(0, 5, (1, 9, 9, 2))
    assert motion_rmsd_angst(angst, angst) == 0
    assert motion_rmsd_angst(angst, angst - angst[6]) == pytest.approx(0, abs=1e-12)
    assert motion_rmsd_angst(angst, angst + offset) == pytest.approx(0, abs=1e-12)


def test_the_rmsd_of_a_motion_is_that_of_what_differs() -> None:
    angst = lattice(0)
    noise = np.random.default_rng(1).normal(0, 0.3, angst.shape)
    # The mean over 12 frames takes one degree of freedom.
    expected = 0.3 * (11 / 12) ** 0.5
    assert motion_rmsd_angst(angst, angst + noise) == pytest.approx(expected, rel=0.03)
    sign = np.where(np.arange(12) % 2, 1.0, -1.0)[:, None, None, None]
    assert motion_rmsd_angst(angst, angst + 0.5 * sign) == pytest.approx(0.5)
    # Of one component alone, half of the squares are 0.
    along_y = angst + 0.5 * sign * [1.0, 0.0]
    assert motion_rmsd_angst(angst, along_y) == pytest.approx(0.5 / 2**0.5)
    assert motion_rmsd_angst(along_y, angst) == motion_rmsd_angst(angst, along_y)


def test_motions_of_other_shapes_are_refused() -> None:
    angst = lattice(0)
    for one, other in (
        (angst, angst[:5]),
        (angst, angst[:, :3]),
        (angst[..., 0], angst[..., 0]),
        (angst[:0], angst[:0]),
        (angst[0, 0, 0], angst[0, 0, 0]),
    ):
        with pytest.raises(BadSettings, match="cannot be compared"):
            motion_rmsd_angst(one, other)


# A session --------------------------------------------------------------------------

_SESSION = """
schema_version: 1
setups:
  k2: {pixel_size_angst: 1.35, voltage_kv: 300}
sources:
  k2: {protocol: 'report_session:FakeWatch', setup: k2, folder: /acq, count: 8,
       trouble: false, keys: [broken.mrc]}
runs:
  import: {protocol: 'report_session:FakeImport', inputs: {file: sources},
           params: {thumbnail_px: 0}}
  ctf: {protocol: 'report_session:FakeCtf', inputs: {micrograph: import.micrograph}}
  pick: {protocol: 'report_session:FakePick', inputs: {micrograph: import.micrograph}}
  limits: {protocol: 'report_session:FakeLimits', inputs: {ctf: ctf.ctf}}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A finished session of seven exposures and one that failed."""
    folder = tmp_path_factory.mktemp("score")
    template = folder / "fakes.yaml"
    template.write_text(_SESSION, encoding="utf-8")
    made = create_session(folder / "session", template=str(template))
    run_session(made, executor=InlineExecutor(), finish=True)
    return made


def write_truth(path: Path, session: Session, *, percent: float = 0.0) -> Path:
    """Write a truth that the session has found but for so many percent of defocus.

    It names one exposure that was lost, a defect in the second one and one pick less in
    each.
    """
    factor = 1 / (1 + percent / 100)
    fits = {one.key: one.ctf for one in load_results(session).exposures}
    with TruthWriter(path, ABOUT | {"shape": [4096, 4096]}) as writer:
        for number, (key, ctf) in enumerate(fits.items(), 1):
            picks = report_session.true_picks(key, 1.35)
            places = np.stack([picks.y_px, picks.x_px], axis=1)[1:]
            fitted = ctf or ctf_of(row())
            one = row(
                number,
                file=key.partition("/")[2],
                defect="thick_ice" if number == 2 else None,
                pixel_size_angst=1.35,
                defocus_u_angst=fitted.defocus_u_angst * factor,
                defocus_v_angst=fitted.defocus_v_angst * factor,
                defocus_angle_deg=fitted.defocus_angle_deg,
                particles=field_particles(places),
            )
            writer.add(one)
        writer.add(row(99, file="GridSquare_07/FoilHole_00001.mrc"))
    return path


def call(*args: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in args])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_a_session_is_compared_with_its_truth(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_truth(tmp_path / TRUTH_NAME, session, percent=0.5)
    assert call("score", session.folder, "--truth", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["session"] == str(session.folder)
    items = found["items"]
    assert (items["taken"], items["seen"]) == (9, 8)
    assert items["lost"] == ["GridSquare_07/FoilHole_00001.mrc"]
    assert items["failed"] == ["k2/broken.mrc"]
    assert items["doubled"] == items["strays"] == []
    assert found["ctf_all"]["fits"] == 7
    assert found["ctf_good"]["bias_percent"] == pytest.approx(0.5)
    assert found["ctf_good"]["within_1_percent"] == 1
    picking = found["picking_all"]
    assert picking["recall"] == 1
    assert picking["picks"] - picking["matched"] == 7
    assert picking["centring_angst"]["worst"] == pytest.approx(0, abs=1e-3)
    assert found["verdicts"]["counts"]["thick_ice"]["accepted"] == 1
    assert found["verdicts"]["accepted_bad"] == 1
    assert found["blanks"] is None


def test_of_a_session_that_runs_the_last_ones_are_to_come(
    session: Session,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_truth(tmp_path / TRUTH_NAME, session)
    running = ServiceStatus(ServiceState.RUNNING)
    monkeypatch.setattr(Session, "service", lambda _: running)
    assert call("score", session.folder, "--truth", path, "--json") == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert items["lost"] == []
    assert items["to_come"] == ["GridSquare_07/FoilHole_00001.mrc"]
    assert call("score", session.folder, "--truth", path) == 0
    lines = [one.split() for one in capsys.readouterr().out.splitlines()]
    assert ["lost", "0"] in lines
    assert ["to", "come", "1", "GridSquare_07/FoilHole_00001.mrc"] in lines


def test_people_read_a_table(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_truth(tmp_path / TRUTH_NAME, session)
    assert call("score", session.folder, "--truth", tmp_path) == 0
    lines = [one.split() for one in capsys.readouterr().out.splitlines()]
    assert ["lost", "1", "GridSquare_07/FoilHole_00001.mrc"] in lines
    assert ["fits", "6", "of", "7", "7", "of", "8"] in lines
    assert ["right", "to", "1", "%", "100.0", "%", "100.0", "%"] in lines
    assert ["recall", "1.000", "1.000"] in lines
    assert ["good", "6", "0", "1", "0"] in lines
    assert lines[-1][:2] == ["Worst", "defocus:"]
    assert ["thick", "ice", "1", "0", "0", "0"] in lines


def test_a_table_of_next_to_nothing_can_be_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_score(stdout(), score_of(rows(5), []))
    assert capsys.readouterr().out.count("FoilHole") == 3
    bad = row(1, defect="gold", particles=field_particles(GRID))
    print_score(stdout(), score_of([bad], [found_of(bad, outcome="undecided")]))
    assert "-" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "is_short"), [(8, False), (9, False), (20, True)])
def test_a_truth_that_is_not_whole_is_told(
    capsys: pytest.CaptureFixture[str], count: int, is_short: bool
) -> None:
    print_score(stdout(), score_acquisition(truth(*rows(9), count=count), []))
    told = "Truth of 9 of 20 exposures" in capsys.readouterr().out
    assert told == is_short


def test_another_truth_or_none_is_code_2(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TruthWriter(tmp_path / TRUTH_NAME, ABOUT) as writer:
        writer.add(row(1))
    assert call("score", session.folder, "--truth", tmp_path) == 2
    assert "no exposure in common" in capsys.readouterr().err
    assert call("score", session.folder, "--truth", tmp_path / "absent") == 2
    assert "no truth" in capsys.readouterr().err


def test_the_same_names_with_another_pixel_size_are_code_2(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = load_results(session).exposures[0].key
    about = ABOUT | {"shape": [4096, 4096]}
    with TruthWriter(tmp_path / TRUTH_NAME, about) as writer:
        writer.add(row(file=key.partition("/")[2], pixel_size_angst=1.0))
    assert call("score", session.folder, "--truth", tmp_path) == 2
    told = capsys.readouterr().err
    assert "pixels of 1.35 Å by the session, but with pixels of 1 Å" in told


def test_a_session_that_never_ran_is_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "fakes.yaml"
    template.write_text(_SESSION, encoding="utf-8")
    create_session(tmp_path / "session", template=str(template))
    with TruthWriter(tmp_path / TRUTH_NAME, ABOUT) as writer:
        writer.add(row(1))
    assert call("score", tmp_path / "session", "--truth", tmp_path) == 4
    assert "Traceback" not in capsys.readouterr().err
