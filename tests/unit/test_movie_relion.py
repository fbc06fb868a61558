"""Rows and columns of decoded movies are those of RELION's corrected image.

See docs/explanation/conventions.md. Every frame is the same noisy picture of an
asymmetric scene, so nothing moves and the plain sum is what RELION must find; the seven
other ways to lay the square must not fit.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.io import EerSampling, read_frames, read_micrograph, write_star
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_mrc_movie,
    write_tiff_movie,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(
        shutil.which("relion_run_motioncorr") is None,
        reason="RELION is not installed (apt install relion)",
    ),
]

FRAME_COUNT = 4


def scene(side_px: int) -> NDArray[np.float64]:
    """Expect counts: a bright corner and a bar, so that no symmetry is left."""
    y, x = np.mgrid[:side_px, :side_px] / side_px
    expected = np.full((side_px, side_px), 2.0)
    expected[(y < 0.4) & (x < 0.25)] = 6.0
    expected[(y > 0.7) & (y < 0.75) & (x > 0.3)] = 5.0
    return expected


def noisy(side_px: int) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(3).poisson(scene(side_px))
    return np.minimum(drawn, 15).astype(np.uint8)


def relion_image(
    folder: Path, movie: str, *, pixel_size_angst: float = 1.0, options: str = ""
) -> NDArray[np.float32]:
    optics: dict[str, list[Any]] = {
        "rlnOpticsGroupName": ["one"],
        "rlnOpticsGroup": [1],
        "rlnVoltage": [300.0],
        "rlnSphericalAberration": [2.7],
        "rlnAmplitudeContrast": [0.07],
        "rlnMicrographOriginalPixelSize": [pixel_size_angst],
    }
    movies: dict[str, list[Any]] = {
        "rlnMicrographMovieName": [movie],
        "rlnOpticsGroup": [1],
    }
    write_star(folder / "movies.star", {"optics": optics, "movies": movies})
    command = "relion_run_motioncorr --i movies.star --o out --use_own --j 2"
    command += f" --patch_x 1 --patch_y 1 --skip_defect {options}"
    subprocess.run(
        command.split(), cwd=folder, check=True, capture_output=True, timeout=120
    )
    return read_micrograph(folder / "out" / f"{movie.split('.')[0]}.mrc")


def check_orientation(ours: NDArray[Any], theirs: NDArray[np.float32]) -> None:
    def likeness(image: NDArray[Any]) -> float:
        return float(np.corrcoef(image.ravel(), theirs.ravel())[0, 1])

    summed = ours.sum(0, dtype=np.float64)
    others = [np.rot90(summed, turns) for turns in (1, 2, 3)]
    others += [np.rot90(summed.T, turns) for turns in range(4)]
    assert likeness(summed) > 0.99
    assert max(likeness(other) for other in others) < 0.8


def test_a_tiff_movie_is_turned_upside_down(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    write_tiff_movie(path, [noisy(512)] * FRAME_COUNT, rows_per_strip=64)
    check_orientation(read_frames(path), relion_image(tmp_path, path.name))


def test_an_mrc_movie_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "movie.mrcs"
    frames = [noisy(512).astype(np.uint16)] * FRAME_COUNT
    write_mrc_movie(path, frames, pixel_size_angst=1.0)
    check_orientation(read_frames(path), relion_image(tmp_path, path.name))


def test_two_pixels_to_a_byte_are_those_of_relion(tmp_path: Path) -> None:
    """Mode 101: the lower half of a byte is the left pixel."""
    path = tmp_path / "movie.mrcs"
    frame = noisy(512)
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, 512, 512, FRAME_COUNT, 101)
    struct.pack_into("<3i3f", head, 28, 512, 512, 1, 512.0, 512.0, 1.0)
    packed = frame[:, 0::2] | frame[:, 1::2] << 4
    path.write_bytes(bytes(head) + FRAME_COUNT * packed.tobytes())
    ours = read_frames(path)
    np.testing.assert_array_equal(ours, [frame] * FRAME_COUNT)
    check_orientation(ours, relion_image(tmp_path, path.name))


def test_an_eer_movie_stays_as_it_is(tmp_path: Path) -> None:
    """RELION reads no other size. Seven raw frames alike: three fractions, one over."""
    generator = np.random.default_rng(4)
    pixel = np.flatnonzero(generator.random((4096, 4096)) < scene(4096) / 20)
    frame = EventFrame(pixel, np.full(pixel.size, 6, np.uint8))
    path = tmp_path / "movie.eer"
    write_eer(
        path,
        [frame] * 7,
        exposure=EerExposure(
            started_at=datetime(2026, 11, 1, tzinfo=UTC),
            frame_rate_hz=320.0,
            pixel_size_angst=1.0,
            gain_reference="",
        ),
    )
    ours = read_frames(path, eer=EerSampling(frames_per_fraction=2), threads=2)
    theirs = relion_image(tmp_path, path.name, options="--eer_grouping 2")
    check_orientation(ours, theirs)
