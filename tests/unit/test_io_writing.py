"""Written files are valid for others, replaced in one step, and never half there."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import starfile

from icestream.domain.errors import (
    DiskFull,
    FolderUnavailable,
    InternalError,
    UnusableImage,
)
from icestream.io import (
    guarding_writes,
    read_header,
    read_stack,
    replacing,
    write_mrc,
    write_star,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image() -> NDArray[np.float32]:
    generator = np.random.default_rng(5)
    return generator.normal(50, 7, (48, 64)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", "int8"])
@pytest.mark.parametrize(
    ("array", "is_stack"),
    [
        (image(), False),
        (np.stack([image()] * 4), True),
        (image()[None], True),
        (np.stack([image()] * 4), False),
    ],
    ids=["image", "stack", "stack of one", "volume"],
)
def test_mrcfile_finds_it_valid(
    tmp_path: Path, array: NDArray[np.float32], is_stack: bool, dtype: str
) -> None:
    path = tmp_path / "a.mrc"
    write_mrc(path, array, pixel_size_angst=1.25, dtype=dtype, is_stack=is_stack)

    messages = io.StringIO()
    assert mrcfile.validate(path, print_file=messages), messages.getvalue()
    with mrcfile.open(path) as mrc:
        assert mrc.is_image_stack() == (is_stack and len(array) > 1)
        assert mrc.is_volume() == (array.ndim == 3 and not is_stack)
        assert mrc.voxel_size.x == pytest.approx(1.25)
        expected = array if dtype == "float32" else np.rint(array)
        np.testing.assert_array_equal(mrc.data.reshape(array.shape), expected)


def test_float16_has_the_statistics_of_its_own_values(tmp_path: Path) -> None:
    # Sums of squares overflow in float16, which mrcfile.validate computes with.
    path = tmp_path / "a.mrc"
    write_mrc(path, image() * 100, pixel_size_angst=1.25)

    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == 12
        stored = mrc.data.astype(np.float64)
        assert mrc.header.dmin == stored.min()
        assert mrc.header.dmax == stored.max()
        assert mrc.header.dmean == pytest.approx(stored.mean(), rel=1e-6)
        assert mrc.header.rms == pytest.approx(stored.std(), rel=1e-6)
    np.testing.assert_allclose(stored, image() * 100, rtol=2**-11)


@pytest.mark.parametrize("dtype", ["float16", "uint16", "int16", "int8"])
def test_what_does_not_fit_is_refused(tmp_path: Path, dtype: str) -> None:
    for bad in (1e6, -1e6, np.nan, np.inf):
        array = image()
        array[0, 0] = bad
        with pytest.raises(UnusableImage, match="do not fit"):
            write_mrc(tmp_path / "a.mrc", array, pixel_size_angst=1, dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "pixel_size_angst", "dtype"),
    [
        (image()[0], 1.0, "float32"),
        (image()[:0], 1.0, "float32"),
        (image(), 1.0, "float64"),
        (image(), 0.0, "float32"),
    ],
)
def test_programming_errors_are_ours(
    tmp_path: Path, array: NDArray[np.float32], pixel_size_angst: float, dtype: str
) -> None:
    with pytest.raises(InternalError):
        write_mrc(
            tmp_path / "a.mrc", array, pixel_size_angst=pixel_size_angst, dtype=dtype
        )


def test_input_is_not_changed_and_may_be_a_view(tmp_path: Path) -> None:
    array = image()
    copy = array.copy()
    write_mrc(tmp_path / "a.mrcs", array[None, ::2, ::-1], pixel_size_angst=1)

    np.testing.assert_array_equal(array, copy)
    stored = read_stack(tmp_path / "a.mrcs")[0]
    np.testing.assert_array_equal(stored, array[::2, ::-1].astype(np.float16))


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    write_mrc(path, image(), pixel_size_angst=1)
    before = path.read_bytes()

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            assert temporary.parent == tmp_path
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_umask_is_honoured(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_mrc(tmp_path / "a.mrc", image(), pixel_size_angst=1)
    finally:
        os.umask(old)

    assert (tmp_path / "a.mrc").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"

    def write_to_a_full_disk() -> None:
        with replacing(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x")

    with pytest.raises(DiskFull, match="No space left") as caught:
        write_to_a_full_disk()

    assert str(tmp_path) in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_no_quota_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), guarding_writes(tmp_path / "a"):
        raise OSError(122, "Disk quota exceeded")


def test_an_absent_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable, match="absent"):
        write_mrc(tmp_path / "absent" / "a.mrc", image(), pixel_size_angst=1)


def test_star_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "particles.star"
    blocks: dict[str, dict[str, Any]] = {
        "optics": {
            "rlnOpticsGroupName": ["k2"],
            "rlnOpticsGroup": [1],
            "rlnVoltage": [300.0],
        },
        "particles": {
            "rlnImageName": [f"{i:06d}@Extract/a.mrcs" for i in (1, 2, 3)],
            "rlnCoordinateX": np.array([1.5, 2.25, 4000.125], np.float32),
            "rlnOpticsGroup": np.ones(3, np.int32),
        },
    }
    write_star(path, blocks)

    read = starfile.read(path, always_dict=True)
    assert list(read) == ["optics", "particles"]
    for name, columns in blocks.items():
        assert list(read[name]) == list(columns)
        for column, values in columns.items():
            assert list(read[name][column]) == list(values)
    lines = path.read_text().splitlines()
    assert "data_optics" in lines
    # RELION reads a table by its loop; a block of one row must be one too.
    assert lines.count("loop_") == 2
    assert "_rlnOpticsGroupName #1" in lines


def test_star_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    write_star(path, {"particles": {"rlnCoordinateX": [], "rlnCoordinateY": []}})

    text = path.read_text()
    assert "_rlnCoordinateX #1" in text
    assert "_rlnCoordinateY #2" in text


def test_star_columns_are_of_one_length(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="differ"):
        write_star(tmp_path / "a.star", {"p": {"rlnA": [1], "rlnB": [1, 2]}})


def test_header_of_what_was_written(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", image(), pixel_size_angst=0.822)

    header = read_header(tmp_path / "a.mrc")
    assert header.pixel_size_angst == pytest.approx(0.822)
    assert header.dtype == np.float16
