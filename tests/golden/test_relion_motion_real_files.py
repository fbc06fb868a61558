"""Real motion of 12 movies of EMPIAR-10204 by RELION 3.1 and 5.0.

Origin and licence: README.md of the shared data. Movies of 3710 x 3838 px, 0.885 Å/px,
24 frames of 1.277 e/Å2, not binned.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile

from icestream.io.relion_motion import (
    RelionMotion,
    read_relion_motion,
    write_relion_motion,
)
from icestream.io.relion_polynomial import node_places_px
from relion_field import recovered_angst

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FOLDERS = ("motion", "motion_relion31")


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    return shared_data / "betagal_10204" / str(request.param)


def moves(motion: RelionMotion) -> NDArray[np.float64]:
    """``(24, 4, 4, 2)`` Å."""
    local = motion.field.local_angst
    assert local is not None
    return motion.field.shift_angst[:, None, None] + local


def test_the_field_is_what_relion_has(folder: Path) -> None:
    for path in sorted(folder.glob("*.star")):
        motion = read_relion_motion(path)
        tables: dict[str, Any] = starfile.read(path)
        _, expected = recovered_angst(tables, *node_places_px((3838, 3710), (4, 4)))
        assert np.abs(moves(motion) - expected).max() < 1e-9
        assert motion.field.shape_px == (3838, 3710)
        assert (motion.frame_count, motion.first_frame, motion.binning) == (24, 1, 1)
        assert motion.pixel_size_angst == 0.885
        assert (motion.dose_e_per_angst2, motion.voltage_kv) == (1.277, 200)
        assert motion.gain == "Movies/gain.mrc"
        assert len(motion.hot_px) == len(tables["hot_pixels"]) > 10
        assert (motion.hot_px < (3838, 3710)).all()


def test_it_is_the_fit_to_the_patches_that_relion_measured(folder: Path) -> None:
    """Signs, axes, terms and normalisation, without use of the coefficients.

    RELION fits with the time of a frame's middle, and applies with that of its start.
    """

    def design(
        t: NDArray[np.float64], y_px: NDArray[np.float64], x_px: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        y, x = y_px / 3838 - 0.5, x_px / 3710 - 0.5
        space = (np.ones_like(x), x, x * x, y, y * y, x * y)
        return np.stack([one * t**power for one in space for power in (1, 2, 3)], -1)

    for path in sorted(folder.glob("*.star")):
        patch = starfile.read(path)["local_shift"]
        measured_at = design(
            patch["rlnMicrographFrameNumber"].to_numpy() - 0.5,
            patch["rlnCoordinateY"].to_numpy(),
            patch["rlnCoordinateX"].to_numpy(),
        )
        measured = patch[["rlnMicrographShiftY", "rlnMicrographShiftX"]].to_numpy()
        fitted, *_ = np.linalg.lstsq(measured_at, measured)
        y_px, x_px = node_places_px((3838, 3710), (4, 4))
        applied = design(np.arange(24.0)[:, None, None], y_px, x_px) @ fitted
        local = read_relion_motion(path).field.local_angst
        assert local is not None
        apart = np.sqrt(np.mean((local / 0.885 + applied) ** 2))
        # The file's coefficients have 5 digits, and are multiplied by up to 23 cubed.
        assert apart < 0.05 < 0.5 < np.sqrt(np.mean(applied**2))


def test_the_way_is_as_long_as_relion_says(shared_data: Path) -> None:
    data = shared_data / "betagal_10204"
    with (data / "motion_summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        stem = row["micrograph_name"].removesuffix(".mrc")
        shift = read_relion_motion(data / "motion" / f"{stem}.star").field.shift_angst
        way_px = np.linalg.norm(np.diff(shift, axis=0), axis=1).sum() / 0.885
        assert way_px == pytest.approx(float(row["accumulated_motion_total"]), abs=1e-3)


def test_what_is_written_again_is_the_same_motion(folder: Path, tmp_path: Path) -> None:
    for path in sorted(folder.glob("*.star")):
        motion, again = read_relion_motion(path), tmp_path / path.name
        assert write_relion_motion(again, motion) < 1e-9
        found = read_relion_motion(again)
        # 6 digits after the point, px.
        assert np.abs(moves(found) - moves(motion)).max() < 2e-6
        assert (found.hot_px == motion.hot_px).all()


def test_both_versions_agree(shared_data: Path) -> None:
    """They are the same algorithm: as said there, to 0.02 px as a whole."""
    data = shared_data / "betagal_10204"
    for path in sorted((data / FOLDERS[0]).glob("*.star")):
        new, old = (read_relion_motion(data / one / path.name) for one in FOLDERS)
        apart = np.abs(new.field.shift_angst - old.field.shift_angst)
        assert apart.max() < 0.03 * 0.885
