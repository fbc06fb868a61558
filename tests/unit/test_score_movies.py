"""Scores of sessions that begin with movies, with known answers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.domain import Coordinates, Ctf, MotionField
from icestream.simulate.score import Found, FoundMotion, Score, score_acquisition
from truth_rows import PIXEL_ANGST, field_particles, row, truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.simulate.truth import ExposureTruth

HEIGHT, WIDTH = 400, 600
FRAMES, SIDE = 6, 5
PLACES = [(y, x) for y in range(40, HEIGHT - 20, 40) for x in range(30, WIDTH, 60)]


def true_motion() -> NDArray[np.float32]:
    """Return a jump of 12 and -6 Å that is twice as far in the last row of places."""
    grown = 1 - np.exp(-np.arange(FRAMES) / 2)
    there = np.linspace(1, 2, SIDE)[:, None, None] * [12.0, -6.0]
    motion = grown[:, None, None, None] * there * np.ones((1, SIDE, 1))
    return motion.astype(np.float32)


def field_of(motion: NDArray[np.floating]) -> MotionField:
    whole = motion.mean((1, 2), dtype=np.float64)
    return MotionField(
        shape_px=(HEIGHT, WIDTH),
        shift_angst=whole,
        local_angst=motion - whole[:, None, None],
    )


def movie() -> ExposureTruth:
    return row(
        1,
        particles=field_particles(PLACES),
        motion_angst=true_motion(),
        frame_count=FRAMES,
        defocus_u_angst=12_000.0,
        defocus_v_angst=11_000.0,
        defocus_angle_deg=30.0,
    )


def coordinates(places_yx_px: NDArray[np.floating]) -> Coordinates:
    y_px, x_px = places_yx_px.astype(np.float32).T
    ones = np.ones_like(x_px)
    return Coordinates(x_px=x_px, y_px=y_px, score=ones, diameter_angst=ones)


def found(
    one: ExposureTruth, *, picks_yx_px: NDArray[np.floating], motion: FoundMotion
) -> Found:
    return Found(
        key=f"grid/{one.file}",
        path=f"/watched/{one.file}",
        outcome="accepted",
        ctf=Ctf(
            defocus_u_angst=12_000.0,
            defocus_v_angst=11_000.0,
            defocus_angle_deg=150.0 if motion.is_upside_down else 30.0,
            score=0.3,
            resolution_angst=4.0,
        ),
        picks=coordinates(picks_yx_px),
        motion=motion,
    )


def found_motion(field: MotionField, **changes: Any) -> FoundMotion:
    values: dict[str, Any] = {
        "field": field,
        "first_frame": 1,
        "frame_count": FRAMES,
        "error_angst": None,
        "is_upside_down": False,
        "is_as_in_first_frame": False,
    }
    return FoundMotion(**(values | changes))


def places_after(motion: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return where particles lie when their motion at its nodes is ``(5, 5, 2)``."""
    places = np.array(PLACES, float)
    at = places[:, 0] / (HEIGHT - 1) * (SIDE - 1)
    below = np.minimum(at.astype(int), SIDE - 2)
    part = (at - below)[:, None]
    away = (1 - part) * motion[below, 0] + part * motion[below + 1, 0]
    moved: NDArray[np.float64] = places + away / PIXEL_ANGST
    return moved


def score_of(one: ExposureTruth, result: Found) -> Score:
    score = score_acquisition(truth(one), [result])
    assert score.motion is not None
    assert score.picking_all is not None
    return score


def is_perfect(score: Score) -> bool:
    picking, ctf = score.picking_all, score.ctf_all
    assert picking is not None
    assert picking.centring_angst is not None
    assert ctf is not None
    assert ctf.angle_deg is not None
    return (
        picking.f1 == 1
        and picking.centring_angst.worst < 0.02
        and ctf.angle_deg.worst < 1e-6
    )


def test_content_lies_on_its_mean_over_time() -> None:
    one, motion = movie(), true_motion()
    centred = motion - motion.mean(0)
    result = found(
        one,
        picks_yx_px=places_after(motion.mean(0)),
        motion=found_motion(field_of(centred)),
    )
    score = score_of(one, result)
    assert is_perfect(score)
    assert score.motion is not None
    assert score.motion.error_angst.worst < 1e-4
    assert score.motion.with_parts == 1
    nothing = math.sqrt(np.mean(np.square(centred, dtype=float)))
    assert score.motion.uncorrected_angst.median == pytest.approx(nothing, rel=1e-5)
    # Half as fast or twice as fast as the middle, at both ends of an even ramp.
    assert 0.1 * nothing < score.motion.whole_error_angst.median < 0.4 * nothing
    unmoved = replace(result, picks=coordinates(np.array(PLACES, float)))
    assert not is_perfect(score_of(one, unmoved))


def test_the_image_of_a_tiff_is_upside_down() -> None:
    one, motion = movie(), true_motion()
    centred = (motion - motion.mean(0))[:, ::-1] * [-1, 1]
    places = places_after(motion.mean(0))
    places[:, 0] = HEIGHT - 1 - places[:, 0]
    turned = found_motion(field_of(centred), is_upside_down=True)
    score = score_of(one, found(one, picks_yx_px=places, motion=turned))
    assert is_perfect(score)
    assert score.motion is not None
    assert score.motion.error_angst.worst < 1e-4
    as_stored = found_motion(field_of(centred))
    wrong = score_of(one, found(one, picks_yx_px=places, motion=as_stored))
    assert not is_perfect(wrong)


def test_relions_image_has_content_where_the_first_frame_has_it() -> None:
    """What it misses of the motion, content is away from there on the mean."""
    one, motion = movie(), true_motion()
    seen = 0.8 * motion
    result = found(
        one,
        picks_yx_px=places_after(0.2 * motion.mean(0)),
        motion=found_motion(field_of(seen), is_as_in_first_frame=True),
    )
    score = score_of(one, result)
    assert is_perfect(score)
    assert score.motion is not None
    missed = math.sqrt(np.mean(np.square(0.2 * (motion - motion.mean(0)), dtype=float)))
    assert score.motion.error_angst.median == pytest.approx(missed, rel=1e-4)


def test_some_frames_and_coarser_fractions() -> None:
    """Frames 3 to 6 in twos: each lies half-way between two of the truth."""
    one, motion = movie(), true_motion()
    pairs = (motion[2::2] + motion[3::2]) / 2
    field = field_of(pairs - pairs.mean(0))
    result = found(
        one,
        picks_yx_px=places_after(pairs.mean(0)),
        motion=found_motion(field, first_frame=2, frame_count=3),
    )
    score = score_of(one, result)
    assert is_perfect(score)
    assert score.motion is not None
    assert score.motion.error_angst.worst < 1e-4


def test_the_foretold_error_is_weighed() -> None:
    one, motion = movie(), true_motion()
    centred = motion - motion.mean(0)
    wrong = centred + np.array([0.3, -0.3])[np.arange(FRAMES) % 2, None, None, None]
    foretold = found_motion(field_of(wrong), error_angst=0.1)
    score = score_of(
        one,
        found(one, picks_yx_px=places_after(motion.mean(0)), motion=foretold),
    )
    assert score.motion is not None
    assert score.motion.error_angst.median == pytest.approx(0.3, rel=1e-4)
    assert score.motion.pull_rms == pytest.approx(3, rel=1e-4)


def test_micrographs_have_no_motion() -> None:
    one = movie()
    places = np.array(PLACES, float)
    result = found(
        one, picks_yx_px=places, motion=found_motion(field_of(true_motion()))
    )
    score = score_acquisition(truth(one), [replace(result, motion=None)])
    assert score.motion is None
    assert is_perfect(score)
