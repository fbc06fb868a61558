"""Movies, gains and lists of defects that are no good are told as what they are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.io import write_mrc
from icestream.streaming.execution import Failure, Fault
from movie_scene import FRAMES, SIDE, draw_frames, write_movie
from movie_step import failure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    counts = draw_frames(electrons=5.0)
    counts.flags.writeable = False
    return counts


@pytest.fixture(scope="module")
def movie(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(tmp_path_factory.mktemp("movie") / "movie.tif", frames)


def told(
    folder: Path, movie: Path, *, fault: Fault = Fault.ITEM, **given: Any
) -> Failure:
    """Return why the movie was refused, checked to be its own fault."""
    why = failure(folder / "out", movie, **given)
    assert why.fault is fault
    return why


def gain_file(folder: Path, values: NDArray[Any]) -> Path:
    path = folder / "gain.mrc"
    write_mrc(path, values.astype("f4"), pixel_size_angst=1.0, dtype=np.float32)
    return path


def overwrite(path: Path, value: float, *, at: int, count: int = 1) -> None:
    """Put a number, some times over, where our writers would refuse it."""
    with path.open("r+b") as file:
        file.seek(1024 + 4 * at)
        file.write(np.full(count, value, "<f4").tobytes())


class TestGains:
    @pytest.mark.parametrize("shape", [(SIDE, SIDE - 2), (4 * SIDE, 4 * SIDE)])
    def test_another_shape(
        self, movie: Path, tmp_path: Path, shape: tuple[int, int]
    ) -> None:
        gain = gain_file(tmp_path, np.ones(shape))
        why = told(tmp_path, movie, gain=str(gain))
        assert why.cause == "UnusableImage"
        assert f"A gain of {shape[0]} x {shape[1]} px" in why.message
        assert str(gain) in why.message

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_no_numbers(
        self, movie: Path, tmp_path: Path, value: float
    ) -> None:
        gain = gain_file(tmp_path, np.ones((SIDE, SIDE)))
        overwrite(gain, value, at=5 * SIDE + 7)
        why = told(tmp_path, movie, gain=str(gain))
        assert f"{gain} holds 1 gains that are NaN or infinite" in why.message

    def test_one_that_is_cut_short(self, movie: Path, tmp_path: Path) -> None:
        gain = gain_file(tmp_path, np.ones((SIDE, SIDE)))
        with gain.open("r+b") as file:
            file.truncate(5000)
        why = told(tmp_path, movie, gain=str(gain), fault=Fault.INCOMPLETE)
        assert str(gain) in why.message

    def test_one_that_is_not_there(self, movie: Path, tmp_path: Path) -> None:
        why = told(tmp_path, movie, gain=str(tmp_path / "late.mrc"))
        assert f"gain reference {tmp_path / 'late.mrc'} cannot be read" in why.message
        assert "Bring it" in why.message


class TestDefects:
    def test_a_list_that_is_not_there(self, movie: Path, tmp_path: Path) -> None:
        why = told(tmp_path, movie, defects=str(tmp_path / "gone.txt"))
        assert str(tmp_path / "gone.txt") in why.message

    def test_one_of_another_camera(self, movie: Path, tmp_path: Path) -> None:
        path = tmp_path / "defects.txt"
        path.write_text(f"{SIDE} 10 4 4\n")
        why = told(tmp_path, movie, defects=str(path))
        assert str(path) in why.message
        assert f"{SIDE} x {SIDE} px" in why.message


class TestMovies:
    @pytest.mark.parametrize("level", [0, 3])
    def test_blank_frames(self, tmp_path: Path, level: int) -> None:
        blank = np.full((FRAMES, SIDE, SIDE), level, np.uint8)
        path = write_movie(tmp_path / "blank.tif", blank)
        why = told(tmp_path, path)
        assert why.cause == "UnusableImage"
        assert f"{path} is blank" in why.message
        assert "beam" in why.message

    def test_most_frames_are_blank(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        counts = frames.copy()
        counts[3:] = 0
        path = write_movie(tmp_path / "blank.tif", counts)
        why = told(tmp_path, path)
        assert f"{path} is blank: 5 of 8 frames" in why.message

    @pytest.mark.parametrize("count", [1, SIDE**2, FRAMES * SIDE**2 - 8])
    def test_pixels_that_are_no_numbers(
        self, frames: NDArray[np.uint8], tmp_path: Path, count: int
    ) -> None:
        """One is enough: it would be all over the image."""
        path = write_movie(tmp_path / "movie.mrc", frames.astype(np.float32))
        overwrite(path, np.nan, at=7, count=count)
        why = told(tmp_path, path)
        assert why.cause == "UnusableImage"
        assert f"{path} holds pixels that are no numbers" in why.message

    def test_one_frame(self, frames: NDArray[np.uint8], tmp_path: Path) -> None:
        path = write_movie(tmp_path / "movie.tif", frames[:1])
        why = told(tmp_path, path)
        assert f"{path} has one frame" in why.message

    def test_fewer_frames_than_asked_for(self, movie: Path, tmp_path: Path) -> None:
        why = told(tmp_path, movie, params={"last_frame": FRAMES + 1})
        assert f"{movie} has 8 frames; asked for were 1 to 9" in why.message

    def test_frames_of_a_hundred_angstrom(self, tmp_path: Path) -> None:
        small = np.random.default_rng(1).poisson(5.0, (FRAMES, 48, 48))
        path = write_movie(tmp_path / "small.tif", small.astype(np.uint8))
        why = told(tmp_path, path)
        assert "too small to align" in why.message
        assert str(path) in why.message

    def test_an_unknown_compression(self, movie: Path, tmp_path: Path) -> None:
        path = tmp_path / "movie.tif"
        data = bytearray(movie.read_bytes())
        # The tag of compression (259), a short, in the first directory.
        entry = data.index(struct.pack("<HHI", 259, 3, 1))
        struct.pack_into("<H", data, entry + 8, 34676)
        path.write_bytes(bytes(data))
        why = told(tmp_path, path)
        assert why.cause == "UnreadableFile"
        assert str(path) in why.message
        assert "34676" in why.message

    @pytest.mark.parametrize("suffix", [".tif", ".mrc"])
    def test_a_stack_that_is_cut_short(
        self, frames: NDArray[np.uint8], tmp_path: Path, suffix: str
    ) -> None:
        path = write_movie(tmp_path / f"movie{suffix}", frames)
        path.write_bytes(path.read_bytes()[:-100_000])
        why = told(tmp_path, path, fault=Fault.INCOMPLETE)
        assert str(path) in why.message
