"""What is written is read back, for every format; damage is told, never a crash."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hypothesis.extra.numpy as hnp
import imagecodecs
import numpy as np
import pytest
import starfile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.domain.errors import ItemError
from icestream.io import (
    StarColumns,
    check_complete,
    read_frames,
    read_header,
    read_micrograph,
    read_stack,
    thumbnail_pixels,
    write_mrc,
    write_star,
)
from icestream.simulate.instrument import EerExposure, EventFrame, write_eer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SHAPES = st.tuples(st.integers(1, 40), st.integers(2, 40))
FLOATS = st.floats(-6e4, 6e4, width=16)
RELAXED = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def usable(image: NDArray[Any]) -> NDArray[Any]:
    """Make it not constant, and not ending in zeros."""
    image = image.copy()
    image[0, 0] = 3
    image[-1] = 5
    return image


def integers(dtype: str) -> st.SearchStrategy[NDArray[Any]]:
    return hnp.arrays(dtype, SHAPES).filter(lambda a: a.shape[0] > 1).map(usable)


@RELAXED
@given(
    array=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=3), elements=FLOATS
    ),
    dtype=st.sampled_from(["float16", "float32"]),
    pixel_size_angst=st.floats(0.1, 50),
)
def test_mrc_stack(
    folder: Path, array: NDArray[np.float32], dtype: str, pixel_size_angst: float
) -> None:
    path = folder / "a.mrcs"
    write_mrc(
        path, array, pixel_size_angst=pixel_size_angst, dtype=dtype, is_stack=True
    )

    header = read_header(path)
    assert header.pixel_size_angst == pytest.approx(pixel_size_angst, rel=1e-5)
    np.testing.assert_array_equal(
        read_stack(path), array.reshape((-1, *array.shape[-2:]))
    )


@RELAXED
@given(
    image=st.sampled_from(["int8", "int16", "uint16"]).flatmap(integers),
)
def test_mrc_micrograph(folder: Path, image: NDArray[Any]) -> None:
    path = folder / "a.mrc"
    write_mrc(path, image, pixel_size_angst=1, dtype=image.dtype)

    check_complete(path)
    np.testing.assert_array_equal(read_micrograph(path), image.astype(np.float32))


@RELAXED
@given(
    image=st.sampled_from(["uint8", "int16", "uint16", "int32"]).flatmap(integers),
    compression=st.sampled_from([None, "lzw", "zlib", "zstd"]),
    bigtiff=st.booleans(),
    byteorder=st.sampled_from(["<", ">"]),
    rows_per_strip=st.integers(1, 50),
)
def test_tiff(
    folder: Path,
    image: NDArray[Any],
    compression: str | None,
    bigtiff: bool,
    byteorder: Literal["<", ">"],
    rows_per_strip: int,
) -> None:
    path = folder / "a.tif"
    tifffile.imwrite(
        path,
        image,
        compression=compression,
        bigtiff=bigtiff,
        byteorder=byteorder,
        rowsperstrip=rows_per_strip,
        photometric="minisblack",
    )

    check_complete(path)
    assert read_header(path).dtype == image.dtype
    np.testing.assert_array_equal(read_micrograph(path), image.astype(np.float32))


@RELAXED
@given(image=st.sampled_from(["uint8", "uint16"]).flatmap(integers))
def test_png(folder: Path, image: NDArray[Any]) -> None:
    path = folder / "a.png"
    path.write_bytes(imagecodecs.png_encode(image))

    check_complete(path)
    np.testing.assert_array_equal(read_micrograph(path), image.astype(np.float32))


@settings(max_examples=10, deadline=None)
@given(
    x_px=hnp.arrays(
        np.float32, st.integers(1, 30), elements=st.floats(0, 9999, width=32)
    ),
    name=st.from_regex(r"[A-Za-z0-9_/.@-]{1,40}", fullmatch=True),
)
def test_star(folder: Path, x_px: NDArray[np.float32], name: str) -> None:
    path = folder / "a.star"
    name = f"m{name}"
    columns: StarColumns = {
        "rlnMicrographName": [name] * len(x_px),
        "rlnCoordinateX": x_px,
    }
    write_star(path, {"particles": columns})

    read = starfile.read(path)
    np.testing.assert_allclose(read["rlnCoordinateX"], x_px, atol=5e-7)
    assert set(read["rlnMicrographName"].astype(str)) == {name}


EXPOSURE = EerExposure(
    started_at=datetime(2026, 3, 14, tzinfo=UTC),
    frame_rate_hz=320,
    pixel_size_angst=0.73,
    gain_reference="a.gain",
)


def _events() -> Iterator[EventFrame]:
    for seed in range(3):
        generator = np.random.default_rng(seed)
        pixel = np.flatnonzero(generator.random(48 * 40) < 0.05)
        yield EventFrame(pixel, np.zeros(pixel.size, np.uint8))


def _examples() -> dict[str, bytes]:
    image = np.random.default_rng(1).poisson(30, (48, 40)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        write_mrc(path / "a.mrc", image, pixel_size_angst=1)
        tifffile.imwrite(path / "a.tif", image, compression="lzw", rowsperstrip=8)
        tifffile.imwrite(path / "a.tiff", image, compression="zlib", bigtiff=True)
        (path / "a.png").write_bytes(imagecodecs.png_encode(image))
        write_eer(path / "a.eer", _events(), shape=(48, 40), exposure=EXPOSURE)
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


EXAMPLES = _examples()


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(EXAMPLES)),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 8),
    is_in_head=st.booleans(),
)
def test_damage_never_escapes_our_errors(
    folder: Path, name: str, seed: int, count: int, is_in_head: bool
) -> None:
    raw = bytearray(EXAMPLES[name])
    generator = np.random.default_rng(seed)
    reach = min(300, len(raw)) if is_in_head else len(raw)
    for place in generator.integers(0, reach, count):
        raw[place] = generator.integers(0, 256)
    path = folder / name
    path.write_bytes(raw)

    for read in (read_header, check_complete, read_micrograph, read_frames):
        with suppress(ItemError):
            read(path)


@settings(max_examples=25, deadline=None)
@given(
    image=hnp.arrays(np.float32, SHAPES, elements=FLOATS),
    scale=st.floats(0.125, 100),
    offset=st.floats(-1000, 1000),
)
def test_a_thumbnail_does_not_depend_on_the_unit(
    image: NDArray[np.float32], scale: float, offset: float
) -> None:
    before = image.copy()
    pixels = thumbnail_pixels(image, side_px=16)

    np.testing.assert_array_equal(image, before)
    assert max(pixels.shape) <= max(16, 1)
    other = thumbnail_pixels(image * np.float32(scale) + np.float32(offset), side_px=16)
    # Within rounding of float32, unless all contrast drowns in it.
    if np.ptp(image) > 10:
        assert np.abs(other.astype(int) - pixels).max() <= 3
