"""Gain references: the file that RELION finds right for each kind of movie."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import tifffile

from icestream.domain.errors import BadSettings
from icestream.simulate.instrument.eer import EerExposure, EventFrame, write_eer
from icestream.simulate.instrument.gain import MovieFormat, rescaled_gain, write_gain
from icestream.simulate.instrument.mrc import write_mrc_movie
from icestream.simulate.instrument.tiff import write_tiff_movie

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

NEEDS_RELION = pytest.mark.skipif(
    shutil.which("relion_run_motioncorr") is None, reason="RELION is not installed"
)
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


def strong_gain(shape: tuple[int, int]) -> NDArray[np.float32]:
    """A gain that looks different in each orientation."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    gain = 0.6 + 0.8 * y * (0.5 + x)
    gain[shape[0] // 8 : shape[0] // 4, 2 * shape[1] // 3 : 5 * shape[1] // 6] = 2.0
    return np.asarray(gain / gain.mean(), dtype=np.float32)


def stored(path: Path) -> NDArray[Any]:
    """The array as it lies in the file, row 0 first."""
    if path.suffix == ".mrc":
        return np.asarray(mrcfile.read(path))
    return np.asarray(tifffile.imread(path))


@pytest.mark.parametrize(
    ("movie_format", "name", "expected"),
    [
        ("tiff", "gain.tif", "gain"),
        ("tiff", "gain.mrc", "flipped"),
        ("mrc", "gain.mrc", "gain"),
        ("mrc", "SuperRef_grid2_00000.tiff", "flipped"),
        ("eer", "20250314_120449_EER_GainReference.gain", "gain"),
        ("eer", "gain.mrc", "inverse"),
        ("eer", "gain.tif", "inverse flipped"),
    ],
)
def test_rows_and_values_follow_the_table(
    tmp_path: Path, movie_format: MovieFormat, name: str, expected: str
) -> None:
    gain = strong_gain((20, 30))
    gain[3, 4] = 0
    write_gain(tmp_path / name, gain, movie_format=movie_format)
    wanted = gain
    if "inverse" in expected:
        wanted = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    if "flipped" in expected:
        wanted = wanted[::-1]
    np.testing.assert_allclose(stored(tmp_path / name), wanted, rtol=1e-6)


def test_a_gain_file_of_falcon_is_a_tiff_with_xml(tmp_path: Path) -> None:
    path = tmp_path / "20250314_120449_EER_GainReference.gain"
    write_gain(path, strong_gain((8, 8)), movie_format="eer")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert page.compression == 5
        assert b"<metadata>" in page.tags[65001].value


@pytest.mark.parametrize("name", ["gain.gain", "gain.dm4", "gain"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSettings):
        write_gain(tmp_path / name, strong_gain((4, 4)), movie_format="tiff")


@pytest.mark.parametrize("name", ["gain.tif", "gain.mrc"])
def test_a_mirrored_gain_has_its_columns_reversed(tmp_path: Path, name: str) -> None:
    gain = strong_gain((8, 12))
    right, mirrored = tmp_path / f"right_{name}", tmp_path / name
    write_gain(right, gain, movie_format="tiff")
    write_gain(mirrored, gain, movie_format="tiff", is_mirrored=True)
    np.testing.assert_array_equal(stored(mirrored), stored(right)[:, ::-1])


def test_a_halved_gain_flattens_added_counts() -> None:
    gain = strong_gain((16, 24)).astype(np.float64)
    counts = 1 / gain
    added = counts.reshape(8, 2, 12, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(added * rescaled_gain(gain, scale=0.5), 4)
    doubled = rescaled_gain(gain, scale=2)
    np.testing.assert_allclose(rescaled_gain(doubled, scale=0.5), gain)


def test_a_dead_pixel_stays_dead_at_half_size() -> None:
    gain = strong_gain((8, 8))
    gain[2, 5] = 0
    half = rescaled_gain(gain, scale=0.5)
    np.testing.assert_array_equal(np.argwhere(half == 0), [[1, 2]])
    with pytest.raises(BadSettings):
        rescaled_gain(gain, scale=3)
    with pytest.raises(BadSettings):
        rescaled_gain(gain[1:], scale=0.5)


def corrected(folder: Path, movie: str, gain: str, *options: str) -> NDArray[Any]:
    """The image that RELION's own motion correction makes, row 0 first."""
    (folder / "movies.star").write_text(STAR.format(movie=movie), encoding="utf-8")
    command = ["relion_run_motioncorr", "--i", "movies.star", "--o", "out/"]
    command += ["--use_own", "--j", "1", "--skip_defect", "--max_iter", "1", *options]
    command += ["--gainref", gain] if gain else []
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=200)
    return stored(next((folder / "out").rglob("*.mrc"))).astype(np.float64)


def spread(image: NDArray[Any], side_px: int) -> float:
    """Relative standard deviation of the means of squares."""
    height, width = (length // side_px for length in image.shape)
    means = image.reshape(height, side_px, width, side_px).mean(axis=(1, 3))
    return float(means.std() / means.mean())


@pytest.mark.relion
@NEEDS_RELION
@pytest.mark.parametrize("movie_format", ["tiff", "mrc"])
@pytest.mark.parametrize("suffix", [".tif", ".mrc"])
def test_relion_makes_the_image_flat_with_it_and_only_so(
    tmp_path: Path, movie_format: MovieFormat, suffix: str
) -> None:
    gain = strong_gain((256, 384))
    generator = np.random.default_rng(0)
    frames = [generator.poisson(8 / gain).astype(np.uint8) for _ in range(4)]
    if movie_format == "tiff":
        movie = "FoilHole_1_Data_2_3_20250108_154915_fractions.tiff"
        write_tiff_movie(tmp_path / movie, frames, rows_per_strip=50)
    else:
        movie = "frames.mrcs"
        counts = [frame.astype(np.uint16) for frame in frames]
        write_mrc_movie(tmp_path / movie, counts, pixel_size_angst=1)
    name = f"gain{suffix}"
    write_gain(tmp_path / name, gain, movie_format=movie_format)
    # 16 x 16 pixels of 32 counts: 1.1 % of shot noise.
    assert spread(corrected(tmp_path, movie, name), 16) < 0.016
    shutil.rmtree(tmp_path / "out")
    write_gain(tmp_path / name, gain[::-1], movie_format=movie_format)
    assert spread(corrected(tmp_path, movie, name), 16) > 0.2


@pytest.fixture(scope="module")
def eer_movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three raw frames of even light behind `strong_gain`."""
    path = tmp_path_factory.mktemp("eer") / "m.eer"
    exposure = EerExposure(
        started_at=datetime(2025, 3, 14, tzinfo=UTC),
        frame_rate_hz=320,
        pixel_size_angst=1,
        gain_reference="gain.gain",
    )
    write_eer(path, event_frames(strong_gain((4096, 4096))), exposure=exposure)
    return path


@pytest.mark.relion
@NEEDS_RELION
@pytest.mark.parametrize("suffix", [".gain", ".mrc", ".tif"])
def test_relion_makes_an_eer_image_flat_with_it(
    tmp_path: Path, eer_movie: Path, suffix: str
) -> None:
    (tmp_path / "m.eer").symlink_to(eer_movie)
    name = f"gain{suffix}"
    write_gain(tmp_path / name, strong_gain((4096, 4096)), movie_format="eer")
    image = corrected(tmp_path, "m.eer", name, "--eer_grouping", "1")
    # 128 x 128 pixels of 0.03 events: 4.5 % of shot noise.
    assert spread(image, 128) < 0.06


def event_frames(gain: NDArray[np.float32]) -> Iterator[EventFrame]:
    generator = np.random.default_rng(0)
    for _ in range(3):
        lit = generator.random(gain.shape, dtype=np.float32) < 0.01 / gain
        pixel = np.flatnonzero(lit)
        codes = generator.integers(0, 16, pixel.size, dtype=np.uint8)
        yield EventFrame(pixel, codes)
