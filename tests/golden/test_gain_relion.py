"""Gains and lists of defects mean to RELION 3.1.3 what they mean to us."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

from icestream.io.defects import read_defects
from icestream.io.gain import read_gain
from icestream.simulate.instrument.gain import MovieFormat, write_gain
from icestream.simulate.instrument.mrc import write_mrc_movie
from icestream.simulate.instrument.tiff import write_tiff_movie

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(
        shutil.which("relion_run_motioncorr") is None, reason="RELION is not installed"
    ),
]
STAR = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographOriginalPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
opticsGroup1 1 1.0 300 2.7 0.1

data_movies

loop_
_rlnMicrographMovieName #1
_rlnOpticsGroup #2
{movie} 1
"""
SHAPE = (256, 384)


def movie(folder: Path, suffix: str, light: NDArray[Any]) -> NDArray[np.uint8]:
    """Write frames behind a sensor; return them in RELION's order of rows."""
    chance = np.random.default_rng(0)
    frames = [chance.poisson(light).astype(np.uint8) for _ in range(4)]
    if suffix == ".tiff":
        write_tiff_movie(folder / "movie.tiff", frames)
        return np.stack(frames)[:, ::-1]
    wide = [frame.astype(np.uint16) for frame in frames]
    write_mrc_movie(folder / "movie.mrcs", wide, pixel_size_angst=1)
    return np.stack(frames)


def corrected(folder: Path, suffix: str, *options: str) -> NDArray[np.float64]:
    name = "movie" + suffix
    (folder / "movies.star").write_text(STAR.format(movie=name), encoding="ascii")
    command = ["relion_run_motioncorr", "--i", "movies.star", "--o", "out/"]
    command += ["--use_own", "--j", "1", "--max_iter", "1", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=200)
    image = next((folder / "out").rglob("*.mrc"))
    return np.asarray(mrcfile.read(image), dtype=np.float64)


@pytest.mark.parametrize("suffix", [".tiff", ".mrcs"])
@pytest.mark.parametrize("gain_name", ["gain.tif", "gain.mrc"])
def test_frames_times_the_gain_are_relions(
    tmp_path: Path, suffix: str, gain_name: str
) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.array(SHAPE)[:, None, None]
    gain = (0.6 + 0.8 * y * (0.5 + x)).astype(np.float32)
    scene = np.where((y < 0.3) & (x > 0.6), 4.0, 8.0)
    frames = movie(tmp_path, suffix, scene / gain)
    kind: MovieFormat = "tiff" if suffix == ".tiff" else "mrc"
    write_gain(tmp_path / gain_name, gain, movie_format=kind)
    ours = frames.sum(axis=0) * read_gain(tmp_path / gain_name).factors
    relions = corrected(
        tmp_path, suffix, "--gainref", gain_name, "--skip_defect", "--bfactor", "0"
    )
    # RELION moves noise by parts of a pixel, so means of 16 x 16 px are compared.
    assert worst(ours, relions) < 0.04
    for other in (ours[::-1], ours[:, ::-1], ours[::-1, ::-1]):
        assert worst(other, relions) > 0.4


@pytest.mark.parametrize("suffix", [".tiff", ".mrcs"])
def test_a_plain_list_means_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "defects.txt").write_text("40 20 30 10\n300 200 3 4\n")
    is_bad = read_defects(tmp_path / "defects.txt", shape=SHAPE)
    stored = is_bad[::-1] if suffix == ".tiff" else is_bad
    movie(tmp_path, suffix, np.where(stored, 0, 8))
    given = corrected(tmp_path, suffix, "--defect_file", "defects.txt")
    # Empty where nothing is repaired; filled with what is around where it is.
    assert given[is_bad].mean() == pytest.approx(32, rel=0.1)
    shutil.rmtree(tmp_path / "out")
    assert corrected(tmp_path, suffix)[is_bad].mean() < 8


def worst(ours: NDArray[Any], relions: NDArray[Any]) -> float:
    """The largest relative difference of the means of squares."""
    height, width = (side // 16 for side in SHAPE)
    means = [
        image.reshape(height, 16, width, 16).mean(axis=(1, 3))
        for image in (ours, relions)
    ]
    return float(np.abs(means[0] / means[1] - 1).max())
