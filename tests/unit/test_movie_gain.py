"""Gains of any unit, and pixels of a gain that are as good as dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from icestream.io import read_stack, write_mrc
from icestream.streaming.execution import Fault
from movie_scene import draw_frames, write_movie
from movie_step import RELIONS, correct, failure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 256
FLOATS = {"number_format": "float32"}


@pytest.fixture(scope="module")
def gain() -> NDArray[np.float32]:
    """Of mean 1 but for one part in a million, with a pattern of 20 %."""
    draw = np.random.default_rng(2)
    values = np.exp(0.2 * draw.normal(size=(SIDE, SIDE)))
    return np.asarray(values / values.mean(), np.float32)


@pytest.fixture(scope="module")
def movie(gain: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(3)
    frames = draw.poisson(draw_frames()[:, :SIDE, :SIDE] / gain).astype(np.uint8)
    return write_movie(tmp_path_factory.mktemp("movie") / "movie.mrc", frames)


@pytest.fixture(scope="module")
def usual(
    movie: Path,
    gain: NDArray[np.float32],
    tmp_path_factory: pytest.TempPathFactory,
) -> NDArray[np.float64]:
    folder = tmp_path_factory.mktemp("usual")
    return corrected(folder, movie, gain_file(folder, gain))


def gain_file(folder: Path, values: NDArray[Any]) -> Path:
    path = folder / "gain.mrc"
    write_mrc(path, values, pixel_size_angst=1.0, dtype=np.float32)
    return path


def corrected(
    folder: Path, movie: Path, gain: Path, params: dict[str, Any] | None = None
) -> NDArray[np.float64]:
    done = correct(folder / "out", movie, gain=str(gain), params=params or FLOATS)
    image: NDArray[np.float64] = read_stack(done.product(".mrc"))[0].astype(float)
    return image


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 0.1, 1e3, 1e6])
def test_the_unit_of_a_gain_changes_nothing(
    movie: Path,
    gain: NDArray[np.float32],
    usual: NDArray[np.float64],
    tmp_path: Path,
    scale: float,
) -> None:
    """Else borders and replaced pixels are wrong, and float16 overflows."""
    scaled = gain_file(tmp_path, gain * np.float32(scale))
    image = corrected(tmp_path, movie, scaled)
    assert np.abs(image - usual).max() < 1e-3 * usual.std()


def test_a_gain_of_whole_numbers_fits_float16(
    movie: Path,
    gain: NDArray[np.float32],
    usual: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    path = tmp_path / "gain.tif"
    tifffile.imwrite(path, np.rint(gain[::-1] * 1000).astype(np.uint16))
    image = corrected(tmp_path, movie, path, {"number_format": "float16"})
    assert np.abs(image - usual).max() < 0.02 * usual.std()


def test_a_pixel_of_a_gain_beyond_all_others_is_dead(
    movie: Path, gain: NDArray[np.float32], tmp_path: Path
) -> None:
    """Alone: its row is not taken for a bad line."""
    odd = gain.copy()
    odd[100, 120] = 1e30
    path = gain_file(tmp_path, odd)
    done = correct(tmp_path / "out", movie, gain=str(path), params=FLOATS)
    assert done.motion.bad_pixel_count == 1


def test_a_gain_twice_as_fine_is_averaged(
    movie: Path,
    gain: NDArray[np.float32],
    usual: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    twice = gain_file(tmp_path, np.kron(gain, np.ones((2, 2), np.float32)))
    image = corrected(tmp_path, movie, twice)
    assert np.abs(image - usual).max() < 1e-3 * usual.std()


@pytest.mark.parametrize("protocol", [None, RELIONS])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gain.mrc", b"no gain at all " * 200, "no MRC header"),
        ("gain.dm4", b"no gain at all " * 200, "no DM3 or DM4 file"),
        ("gain.gain", b"no gain at all " * 200, "no TIFF header"),
        ("gain.png", b"\x89PNG\r\n\x1a\n", "no gain reference by its name"),
    ],
)
def test_what_is_no_gain_is_told_before_any_program_runs(
    movie: Path,
    tmp_path: Path,
    protocol: str | None,
    name: str,
    content: bytes,
    said: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    others = {} if protocol is None else {"protocol": protocol}
    why = failure(tmp_path / "out", movie, gain=str(path), **others)
    assert why.fault is Fault.ITEM
    assert said in why.message
    assert str(path) in why.message


def test_a_movie_is_no_gain(movie: Path, tmp_path: Path) -> None:
    why = failure(tmp_path / "out", movie, gain=str(movie))
    assert why.fault is Fault.ITEM
    assert "is a stack of 8 images, not one gain" in why.message
