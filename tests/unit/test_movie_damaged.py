"""Movies of unusual kinds, and headers that promise what cannot be."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import tifffile

from icestream.domain import AcquisitionSetup
from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io import mrc, read_stack
from icestream.protocols.movie_plan import MovieOptions, plan_movie
from icestream.streaming.execution import Fault
from movie_scene import draw_frames, write_movie
from movie_step import correct, failure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 256


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    counts = draw_frames(electrons=5.0)[:, :SIDE, :SIDE].copy()
    counts.flags.writeable = False
    return counts


@pytest.fixture(scope="module")
def usual(
    frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> NDArray[np.float16]:
    """The image of these frames, stored as bytes."""
    folder = tmp_path_factory.mktemp("usual")
    return image_of(folder, write_movie(folder / "movie.tif", frames))


def image_of(folder: Path, movie: Path) -> NDArray[np.float16]:
    # Where no dose is given, that of bytes is counted, and weights are by it.
    done = correct(folder / "out", movie, dose_e_per_angst2=40.0)
    return np.asarray(read_stack(done.product(".mrc"))[0])


class TestKinds:
    @pytest.mark.parametrize(
        "dtype", ["i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", ">u2", ">f4"]
    )
    def test_any_type_of_tiff_gives_the_same_image(
        self,
        frames: NDArray[np.uint8],
        usual: NDArray[np.float16],
        tmp_path: Path,
        dtype: str,
    ) -> None:
        path = tmp_path / "movie.tif"
        tifffile.imwrite(
            path,
            frames.astype(dtype),
            photometric="minisblack",
            byteorder=">" if dtype.startswith(">") else "<",
        )
        assert np.array_equal(image_of(tmp_path, path), usual)

    @pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
    def test_any_mode_of_mrc_gives_the_same_image(
        self,
        frames: NDArray[np.uint8],
        usual: NDArray[np.float16],
        tmp_path: Path,
        dtype: str,
    ) -> None:
        """As mrcfile writes it, rows as RELION has them; with an extended header."""
        path = tmp_path / "movie.mrcs"
        with mrcfile.new(path) as file:
            file.set_data(frames[:, ::-1].astype(dtype))
            file.set_extended_header(np.frombuffer(b"FEI!" * 300, "V1"))
        assert np.array_equal(image_of(tmp_path, path), usual)


class TestHeaders:
    def test_a_tiff_that_promises_more_than_any_memory(self, tmp_path: Path) -> None:
        """A thousand pages of 40,000 px a side, all of one strip of a few bytes."""
        path = tmp_path / "movie.tif"
        path.write_bytes(promising(pages=1000, side_px=40_000))
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.ITEM
        assert f"{path} would take 1600 GB of memory" in why.message

    def test_an_mrc_that_promises_more_than_any_memory(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        path = write_movie(tmp_path / "movie.mrc", frames)
        side, count = 60_000, 400
        header = bytearray(path.read_bytes()[:1024])
        struct.pack_into("<4i", header, 0, side, side, count, 0)
        with path.open("wb") as file:
            file.write(header)
            file.truncate(1024 + side * side * count)
            file.seek(-1, 2)
            file.write(b"\x01")
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.ITEM
        assert f"{path} would take 1440 GB of memory" in why.message

    @pytest.mark.parametrize(("rows", "columns"), [(1, 512), (512, 7), (20, 20)])
    def test_frames_of_a_few_pixels_do_not_pause_the_session(
        self, tmp_path: Path, rows: int, columns: int
    ) -> None:
        counts = np.random.default_rng(1).poisson(5.0, (4, rows, columns))
        path = write_movie(tmp_path / "movie.tif", counts.astype(np.uint8))
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.ITEM
        assert f"{path} has frames of {rows} x {columns} px" in why.message

    def test_tiles_larger_than_any_memory(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        path = tmp_path / "movie.tif"
        tifffile.imwrite(path, frames, photometric="minisblack", tile=(256, 256))
        overwrite(path, "TileWidth", 1 << 22)
        overwrite(path, "TileLength", 1 << 22)
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.ITEM
        assert f"{path} has tiles of {1 << 44} px on a page of 65536 px" in why.message

    def test_a_damaged_strip_of_floats(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        """Whatever is damaged ends in no row at all."""
        path = tmp_path / "movie.tif"
        counts = frames.astype(np.float32)
        tifffile.imwrite(
            path, counts, photometric="minisblack", compression="zlib", predictor=3
        )
        with tifffile.TiffFile(path) as file:
            page = file.pages[2].aspage()
            place, size = page.dataoffsets[0], page.databytecounts[0]
        raw = bytearray(path.read_bytes())
        raw[place : place + size] = b"\x7f" * size
        path.write_bytes(raw)
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.INCOMPLETE
        assert f"{path}, page 3: strip 1 of 1 ends early or is damaged" in why.message


class TestVanishing:
    """What happens to a file between its header and its pixels."""

    @pytest.mark.parametrize("suffix", [".tif", ".mrc"])
    @pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.99])
    def test_a_file_that_goes_or_shrinks_while_it_is_read(
        self,
        frames: NDArray[np.uint8],
        tmp_path: Path,
        suffix: str,
        share: float | None,
    ) -> None:
        path = write_movie(tmp_path / f"movie{suffix}", frames)
        setup = AcquisitionSetup(name="krios", pixel_size_angst=1.0, voltage_kv=300.0)
        plan = plan_movie(path, setup=setup, options=MovieOptions())
        if share is None:
            path.unlink()
        else:
            with path.open("r+b") as file:
                file.truncate(int(share * path.stat().st_size))
        kind = UnreadableFile if share is None else IncompleteFile
        with pytest.raises(kind, match=str(path)), plan.checked_frames(threads=2):
            pass

    def test_an_open_file_that_shrinks(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        """Nothing is mapped into memory: no signal, an error."""
        path = write_movie(tmp_path / "movie.mrc", frames)
        with path.open("rb", buffering=0) as file:
            movie = mrc.open_frames(file, path)
            path.write_bytes(path.read_bytes()[:100_000])
            target = np.empty((SIDE, SIDE), np.uint8)
            movie.decode_into(file, target, 0, 0, 1)
            with pytest.raises(IncompleteFile, match="ended after"):
                movie.decode_into(file, target, 7, 0, 1)


class TestPixels:
    @pytest.mark.parametrize("value", [1e30, -1e13])
    def test_what_is_beyond_any_count(
        self, frames: NDArray[np.uint8], tmp_path: Path, value: float
    ) -> None:
        """Its square would be infinite, and warned of on the terminal."""
        counts = frames.astype(np.float32)
        counts[3, 7, 9] = value
        path = write_movie(tmp_path / "movie.mrc", counts)
        why = failure(tmp_path / "out", path)
        assert why.fault is Fault.ITEM
        assert f"{path} holds pixels that are no numbers, or beyond" in why.message

    def test_pixels_that_are_all_alike(self, tmp_path: Path) -> None:
        alike = np.full((4, SIDE, SIDE), 3, np.uint8)
        why = failure(tmp_path / "out", write_movie(tmp_path / "movie.tif", alike))
        assert "is blank: all its pixels are alike" in why.message


def overwrite(path: Path, tag: str, value: int) -> None:
    """Put a number into a tag of the first page."""
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[tag].valueoffset
        is_long = file.pages.first.tags[tag].dtype == tifffile.DATATYPE.LONG
    raw = bytearray(path.read_bytes())
    if not is_long:  # the type stands 6 bytes before the value
        struct.pack_into("<H", raw, place - 6, 4)
    struct.pack_into("<I", raw, place, value)
    path.write_bytes(raw)


def promising(*, pages: int, side_px: int) -> bytes:
    """Return a TIFF of so many pages, whose strips hold all but nothing."""
    strip = zlib.compress(bytes(1000))
    size = 2 + 8 * 12 + 4
    strip_at = 8 + pages * size
    tags = [
        (256, 4, side_px),
        (257, 4, side_px),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, strip_at),
        (278, 4, side_px),
        (279, 4, len(strip)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    links = [*(8 + number * size for number in range(1, pages)), 0]
    directories = (
        struct.pack("<H", len(tags)) + entries + struct.pack("<I", link)
        for link in links
    )
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories) + strip
