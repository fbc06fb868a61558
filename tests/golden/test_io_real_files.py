"""Real files, read beside an independent reader (mrcfile, imagecodecs, starfile)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import imagecodecs
import mrcfile
import numpy as np
import pytest

from icestream.domain.errors import IncompleteFile, UnreadableFile, UnusableImage
from icestream.io import (
    check_complete,
    read_header,
    read_micrograph,
    read_stack,
    thumbnail_pixels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Path, height, width, frames, type and pixel size as mrcfile 1.5.4 prints them.
MRC_FILES = [
    ("fullsize/fei-extended.mrc", 3838, 3710, 1, "uint16", 0.8537755),
    ("mrc_formats/EMD-3197.map", 20, 20, 20, "float32", 11.4),
    ("cryosparc/empiar_10076_7.mrc", 320, 320, 7, "float32", None),
    ("star/relion31.mrcs", 256, 256, 5, "float32", 1.0),
    ("betagal_10204/particles.mrcs", 64, 64, 1200, "float16", 3.54),
    ("micrograph_mask/mics_Ucsf_stack_1142_DW.mrc", 927, 959, 1, "float32", 1.0),
    (
        "betagal_10204/spectra/20170629_00021_frameImage_PS.mrc",
        512,
        512,
        1,
        "float32",
        1.3995525,
    ),
]


def file_of(shared_data: Path, name: str) -> Path:
    path = shared_data / name
    if not path.exists():
        pytest.skip(f"Real file is not here: {path}")
    return path


def by_mrcfile(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        # One of the files has neither map word nor machine stamp, and mrcfile says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        with mrcfile.open(path, permissive=True) as mrc:
            return np.array(mrc.data, dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "height_px", "width_px", "frame_count", "dtype", "pixel_size_angst"),
    MRC_FILES,
)
def test_mrc(
    shared_data: Path,
    name: str,
    height_px: int,
    width_px: int,
    frame_count: int,
    dtype: str,
    pixel_size_angst: float | None,
) -> None:
    path = file_of(shared_data, name)
    header = read_header(path)

    check_complete(path)
    assert (header.height_px, header.width_px) == (height_px, width_px)
    assert header.frame_count == frame_count
    assert header.dtype == np.dtype(dtype)
    assert header.pixel_size_angst == (
        None if pixel_size_angst is None else pytest.approx(pixel_size_angst, rel=1e-5)
    )
    expected = by_mrcfile(path)
    if frame_count == 1:
        np.testing.assert_array_equal(read_micrograph(path), expected)
    else:
        np.testing.assert_array_equal(read_stack(path), expected)
        with pytest.raises(UnreadableFile, match=f"{frame_count} frames"):
            read_micrograph(path)


def test_half_of_the_full_size_micrograph_is_incomplete(
    shared_data: Path, tmp_path: Path
) -> None:
    content = file_of(shared_data, "fullsize/fei-extended.mrc").read_bytes()
    path = tmp_path / "a.mrc"
    for share in (0.01, 0.5, 0.998):
        written = content[: int(share * len(content))]
        for now in (written, written.ljust(len(content), b"\0")):
            path.write_bytes(now)
            with pytest.raises(IncompleteFile):
                check_complete(path)
            # Nothing but zeros is blank; with a few rows written it is incomplete.
            is_blank = share == 0.01 and len(now) == len(content)
            with pytest.raises(UnusableImage if is_blank else IncompleteFile):
                read_micrograph(path)


def test_apoferritin_png(shared_data: Path) -> None:
    path = file_of(shared_data, "apoferritin_10146/May08_05.31.00.bin_avg.png")
    header = read_header(path)

    check_complete(path)
    assert (header.height_px, header.width_px) == (1200, 1240)
    assert header.dtype == np.uint16
    image = read_micrograph(path)
    np.testing.assert_array_equal(image, imagecodecs.imread(path))


def test_packed_map_is_refused(shared_data: Path) -> None:
    path = file_of(shared_data, "mrc_formats/EMD-3001.map.bz2")

    with pytest.raises(UnreadableFile, match=r"packed.*Unpack"):
        read_micrograph(path)


def test_thumbnail_of_a_full_size_micrograph(shared_data: Path) -> None:
    # Hot pixels up to 45,804 over a mean of 3,521 must leave the contrast alone.
    image = read_micrograph(file_of(shared_data, "fullsize/fei-extended.mrc"))
    pixels = thumbnail_pixels(image)

    assert pixels.shape == (512, 495)
    assert 110 < pixels.mean() < 145
    assert pixels.std() > 35
