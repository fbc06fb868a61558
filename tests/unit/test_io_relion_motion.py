"""RELION's STAR of a movie: what is written is read, and how well its model follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.domain import MotionField
from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.io.relion_motion import (
    RelionMotion,
    read_relion_motion,
    write_relion_motion,
)
from icestream.io.relion_polynomial import (
    fit_polynomial,
    node_places_px,
    polynomial_px,
)
from icestream.io.star import star_table
from relion_field import recovered_angst

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (300, 420)


def coefficients(seed: int = 1) -> NDArray[np.float64]:
    """Some local motion of a few px at the borders over 10 frames."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(2, 6, 3)) * [0.5, 0.05, 0.005]


def doming(
    frame_count: int = 10, counts: tuple[int, int] = (5, 6), amount_angst: float = 4.0
) -> MotionField:
    """What rises soon and then rests, of mean 0 over time, beside a drift."""
    frame = np.arange(frame_count)
    risen = 1 - np.exp(-frame / 2.5)
    y_px, x_px = node_places_px(SHAPE, counts)
    v, u = 2 * y_px / SHAPE[0] - 1, 2 * x_px / SHAPE[1] - 1
    pattern = amount_angst * np.stack([v - v**3 / 3 + 0.2 * u, u * v + u**2], -1)
    return MotionField(
        shape_px=SHAPE,
        shift_angst=np.stack([frame - 4.5, 0.3 * frame**1.5], -1),
        local_angst=(risen - risen.mean())[:, None, None, None] * pattern,
    )


def a_motion(field: MotionField, **values: Any) -> RelionMotion:
    return RelionMotion(movie="a.tif", pixel_size_angst=0.8, field=field, **values)


def whole_angst(field: MotionField) -> NDArray[np.float64]:
    """The motion at the field's nodes."""
    whole: NDArray[np.float64] = field.shift_angst[:, None, None, :]
    return whole if field.local_angst is None else whole + field.local_angst


def moved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without what does not change with time."""
    change: NDArray[np.float64] = values - values.mean(axis=0)
    return change


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    frame_count=st.integers(1, 60),
    first_frame=st.integers(1, 3),
    after=st.integers(0, 2),
)
def test_a_motion_that_relion_can_hold_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    frame_count: int,
    first_frame: int,
    after: int,
) -> None:
    y_px, x_px = node_places_px(SHAPE, (4, 4))
    scale = [10 / frame_count, 100 / frame_count**2, 1000 / frame_count**3]
    local_px = polynomial_px(
        coefficients(seed) * scale,
        frame=np.arange(frame_count)[:, None, None],
        y_px=y_px,
        x_px=x_px,
        shape_px=SHAPE,
    )
    draw = np.random.default_rng(seed)
    field = MotionField(
        shape_px=SHAPE,
        shift_angst=draw.normal(size=(frame_count, 2)) * 20,
        local_angst=local_px * -0.8,
    )
    given_motion = a_motion(
        field,
        first_frame=first_frame,
        frame_count=first_frame - 1 + frame_count + after,
        dose_e_per_angst2=1.25,
        pre_exposure_e_per_angst2=0.5,
        voltage_kv=300.0,
        gain="gain.mrc",
        eer_grouping=32,
        eer_upsampling=2,
        hot_px=np.array([[7, 3], [0, 419]]),
    )
    path = tmp_path_factory.mktemp("star") / "a.star"
    assert write_relion_motion(path, given_motion) < 1e-9
    found = read_relion_motion(path)
    # The file has 6 digits of px after the point.
    difference = whole_angst(found.field) - whole_angst(field)
    assert np.abs(difference).max() < 2e-6
    assert found.hot_px.tolist() == [[7, 3], [0, 419]]
    for name in (
        "movie",
        "pixel_size_angst",
        "frame_count",
        "first_frame",
        "binning",
        "dose_e_per_angst2",
        "pre_exposure_e_per_angst2",
        "voltage_kv",
        "gain",
        "eer_grouping",
        "eer_upsampling",
    ):
        assert getattr(found, name) == getattr(given_motion, name)


def test_the_whole_alone_comes_back(tmp_path: Path) -> None:
    field = MotionField(shape_px=SHAPE, shift_angst=np.array([[0.0, 1.0], [2.0, -3.0]]))
    path = tmp_path / "a.star"
    assert write_relion_motion(path, a_motion(field)) == 0
    found = read_relion_motion(path)
    assert found.field.local_angst is None
    assert np.abs(found.field.shift_angst - field.shift_angst).max() < 1e-6
    assert found.hot_px.shape == (0, 2)
    assert found.gain is None
    assert found.dose_e_per_angst2 is None
    assert not path.read_text().startswith("# The local")


def test_a_single_row_of_a_table_is_read(tmp_path: Path) -> None:
    field = MotionField(shape_px=SHAPE, shift_angst=np.zeros((1, 2)))
    motion = a_motion(field, hot_px=np.array([[5, 6]]))
    write_relion_motion(tmp_path / "a.star", motion)
    assert read_relion_motion(tmp_path / "a.star").hot_px.tolist() == [[5, 6]]


def test_what_the_model_cannot_follow_is_told(tmp_path: Path) -> None:
    """What RELION makes of the file differs from the motion by as much as said."""
    field, path = doming(), tmp_path / "a.star"
    rms_angst = write_relion_motion(path, a_motion(field))
    _, seen = recovered_angst(starfile.read(path), *node_places_px(SHAPE, (5, 6)))
    left = moved(seen) - moved(whole_angst(field))
    assert np.sqrt(np.mean(left**2)) == pytest.approx(rms_angst, abs=1e-5)
    # A polynomial follows most of a rise of 4 Å at the corners, but not all.
    assert 0.02 < rms_angst < 0.2
    assert f"within {rms_angst:.3f} Å" in path.read_text().splitlines()[0]


def test_no_other_coefficients_follow_better() -> None:
    local_px = doming().local_angst
    assert local_px is not None
    fit = fit_polynomial(local_px, shape_px=SHAPE)
    y_px, x_px = node_places_px(SHAPE, (5, 6))

    def left(changed: NDArray[np.float64]) -> float:
        model = polynomial_px(
            changed,
            frame=np.arange(10)[:, None, None],
            y_px=y_px,
            x_px=x_px,
            shape_px=SHAPE,
        )
        rest = moved(local_px - model)
        return float(np.sqrt(np.mean((rest - rest.mean((1, 2), keepdims=True)) ** 2)))

    assert left(fit.coefficients) == pytest.approx(fit.rms_px, rel=1e-9)
    for axis in range(2):
        for term in range(1, 6):
            for power, step in enumerate([1e-3, 1e-4, 1e-5]):
                for sign in (-1, 1):
                    changed = fit.coefficients.copy()
                    changed[axis, term, power] += sign * step
                    assert left(changed) > fit.rms_px


def test_what_does_not_change_with_time_is_left_out(tmp_path: Path) -> None:
    """It would have no place in the model, and must not spoil what moves."""
    y_px, x_px = node_places_px(SHAPE, (4, 4))
    moving = polynomial_px(
        coefficients(),
        frame=np.arange(8)[:, None, None],
        y_px=y_px,
        x_px=x_px,
        shape_px=SHAPE,
    )
    still = np.random.default_rng(0).normal(size=(4, 4, 2))
    field = MotionField(
        shape_px=SHAPE, shift_angst=np.zeros((8, 2)), local_angst=moving + still
    )
    path = tmp_path / "a.star"
    assert write_relion_motion(path, a_motion(field)) < 1e-9
    found = read_relion_motion(path).field
    assert np.abs(moved(whole_angst(found)) - moved(moving)).max() < 1e-5
    offset = np.sqrt(np.mean((still - still.mean((0, 1))) ** 2))
    assert f"{offset:.3f} Å (RMS) do not change" in path.read_text()


@pytest.mark.parametrize(
    ("binned_px", "has_patches", "scale"),
    [(True, True, 2), (False, True, 1), (True, False, 1)],
)
def test_patches_tell_the_pixels_of_a_binned_model(
    tmp_path: Path, binned_px: bool, has_patches: bool, scale: int
) -> None:
    """RELION 3.1.3 writes binned pixels, its polishing reads unbinned ones."""
    stored = coefficients()
    still = MotionField(shape_px=SHAPE, shift_angst=np.zeros((8, 2)))
    path = tmp_path / "a.star"
    write_relion_motion(path, a_motion(still, binning=2.0))
    number, y_px, x_px = np.arange(1, 9).repeat(2), [40, 200] * 8, [50, 300] * 8
    patches = polynomial_px(
        stored, frame=number - 0.5, y_px=y_px, x_px=x_px, shape_px=SHAPE
    )
    patches *= 2 if binned_px else 1
    model: dict[str, Any] = {
        "rlnMotionModelCoeffsIdx": range(36),
        "rlnMotionModelCoeff": [f"{one:.9g}" for one in stored[::-1].ravel()],
    }
    measured: dict[str, Any] = {
        "rlnMicrographFrameNumber": number,
        "rlnCoordinateX": x_px,
        "rlnCoordinateY": y_px,
        "rlnMicrographShiftX": patches[:, 1] + 0.1,
        "rlnMicrographShiftY": patches[:, 0] - 0.1,
    }
    text = path.read_text().replace("ModelVersion 0", "ModelVersion 1")
    text += star_table("local_motion_model", model)
    path.write_text(text + star_table("local_shift", measured) * has_patches)
    grid_y, grid_x = node_places_px(SHAPE, (4, 4))
    expected = polynomial_px(
        stored,
        frame=np.arange(8)[:, None, None],
        y_px=grid_y,
        x_px=grid_x,
        shape_px=SHAPE,
    )
    found = whole_angst(read_relion_motion(path).field)
    assert np.abs(found + 0.8 * scale * expected).max() < 1e-6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data_general", "data_other"),
        ("_rlnImageSizeY 300", ""),
        ("_rlnImageSizeZ 10", "_rlnImageSizeZ ten"),
        ("data_global_shift", "data_other"),
        ("\n3 ", "\n4 "),
        ("\n35 ", "\n36 "),
        ("data_local_motion_model", "data_other"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "a.star"
    write_relion_motion(path, a_motion(doming()))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UnreadableFile, match=r"a\.star cannot be read as the motion"):
        read_relion_motion(path)


@pytest.mark.parametrize("content", ["", "garbage\n", "\x00\x01"])
def test_no_star_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.star"
    path.write_text(content)
    with pytest.raises(UnreadableFile):
        read_relion_motion(path)


def test_every_shorter_file_is_refused_or_reads_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    write_relion_motion(path, a_motion(doming()))
    text = path.read_text()
    model = text.index("data_local_motion_model")
    for end in range(0, len(text) - 3, 41):
        path.write_text(text[:end])
        if end < model or text[end:].count("\n") > 2:
            with pytest.raises(UnreadableFile):
                read_relion_motion(path)


@pytest.mark.parametrize(
    "values",
    [
        {"first_frame": 0},
        {"frame_count": 9},
        {"first_frame": 2, "frame_count": 10},
        {"binning": 0.0},
        {"binning": float("nan")},
    ],
)
def test_numbers_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings, match=r"a\.tif: frames"):
        a_motion(doming(10), **values)


def test_a_blank_in_a_name_breaks_no_star(tmp_path: Path) -> None:
    motion = replace(a_motion(doming()), movie="/my data/a b.tif", gain="/my\tgain.mrc")
    write_relion_motion(tmp_path / "a.star", motion)
    found = read_relion_motion(tmp_path / "a.star")
    assert (found.movie, found.gain) == ("/my_data/a_b.tif", "/my_gain.mrc")
