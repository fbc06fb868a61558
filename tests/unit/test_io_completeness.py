"""The structural check sees every cut and every unfilled tail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import tifffile

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io import check_complete, write_mrc
from icestream.simulate.instrument import EerExposure, EventFrame, write_eer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SHARES = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]


def image() -> NDArray[np.uint16]:
    generator = np.random.default_rng(3)
    return generator.poisson(40, (256, 200)).astype(np.uint16)


def write_stack(path: Path) -> None:
    write_mrc(
        path, np.stack([image()] * 3), pixel_size_angst=1, dtype="uint16", is_stack=True
    )


def write_movie(path: Path) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for _ in range(5):
            tiff.write(image(), compression="lzw", contiguous=False)


def write_events(path: Path) -> None:
    generator = np.random.default_rng(3)
    pixels = (np.flatnonzero(generator.random(64 * 64) < 0.05) for _ in range(6))
    exposure = EerExposure(
        started_at=datetime(2026, 3, 14, tzinfo=UTC),
        frame_rate_hz=320,
        pixel_size_angst=0.73,
        gain_reference="a.gain",
    )
    frames = (EventFrame(one, np.zeros(one.size, np.uint8)) for one in pixels)
    write_eer(path, frames, shape=(64, 64), exposure=exposure)


WRITERS: dict[str, Callable[[Path], object]] = {
    "float16.mrc": lambda p: write_mrc(p, image(), pixel_size_angst=1),
    "uint16.mrc": lambda p: write_mrc(p, image(), pixel_size_angst=1, dtype="uint16"),
    "stack.mrcs": write_stack,
    "plain.tif": lambda p: tifffile.imwrite(p, image()),
    "big.tif": lambda p: tifffile.imwrite(p, image(), bigtiff=True),
    "lzw.tif": lambda p: tifffile.imwrite(p, image(), compression="lzw"),
    "zlib.tif": lambda p: tifffile.imwrite(
        p, image(), compression="zlib", rowsperstrip=16
    ),
    "zstd.tiff": lambda p: tifffile.imwrite(p, image(), compression="zstd"),
    "tiled.tif": lambda p: tifffile.imwrite(p, image(), tile=(64, 64)),
    "movie.tif": write_movie,
    "movie.eer": write_events,
    "image.png": lambda p: p.write_bytes(imagecodecs.png_encode(image())),
}


@pytest.fixture(params=WRITERS)
def complete_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    WRITERS[path.name](path)
    return path


def test_complete_files_pass(complete_file: Path) -> None:
    check_complete(complete_file)


def test_every_truncation_is_seen(complete_file: Path) -> None:
    content = complete_file.read_bytes()
    for share in SHARES:
        complete_file.write_bytes(content[: max(int(len(content) * share), 1)])
        with pytest.raises(IncompleteFile):
            check_complete(complete_file)
    complete_file.write_bytes(content[:-1])
    with pytest.raises(IncompleteFile):
        check_complete(complete_file)


def test_every_preallocated_file_is_seen(complete_file: Path) -> None:
    content = complete_file.read_bytes()
    for share in (0.0, 0.01, 0.1, 0.5, 0.75, 0.85):
        written = int(len(content) * share)
        complete_file.write_bytes(content[:written].ljust(len(content), b"\0"))
        with pytest.raises(IncompleteFile):
            check_complete(complete_file)


def test_longer_mrc_and_png_pass(tmp_path: Path) -> None:
    for name in ("uint16.mrc", "image.png"):
        WRITERS[name](tmp_path / name)
        with (tmp_path / name).open("ab") as file:
            file.write(bytes(10_000))
        check_complete(tmp_path / name)


def test_a_tiff_whose_strip_is_not_written_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image(), compression="lzw", rowsperstrip=16)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.tags["StripByteCounts"].valueoffset
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 2] = bytes(2)
    path.write_bytes(raw)

    with pytest.raises(IncompleteFile, match="strip 1 of 16 is not written"):
        check_complete(path)


def test_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(b"II*\0")

    with pytest.raises(UnreadableFile, match=r"\.mrc, .*\.tif, .*\.png"):
        check_complete(path)
