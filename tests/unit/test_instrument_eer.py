"""EER movies: every event comes back where it was, from imagecodecs and from RELION."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings
from icestream.simulate.instrument.eer import (
    EerCompression,
    EerExposure,
    EventFrame,
    encode_events,
    write_eer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EXPOSURE = EerExposure(
    started_at=datetime(2025, 3, 14, 17, 40, 48, 482908, tzinfo=UTC),
    frame_rate_hz=320,
    pixel_size_angst=0.73,
    gain_reference="20250314_120449_EER_GainReference.gain",
)
NAME = "FoilHole_9015883_Data_9017347_6_20250314_174048_EER.eer"


def event_frame(pixels: list[int], *, seed: int = 0) -> EventFrame:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 16, len(pixels), dtype=np.uint8)
    return EventFrame(np.array(pixels, dtype=np.int64), codes)


def fine_positions(frame: EventFrame, width_px: int) -> NDArray[np.int64]:
    """Flat indices on the grid four times as fine."""
    y, x = np.divmod(frame.pixel, width_px)
    sub = frame.subpixel.astype(np.int64)
    fine = (4 * y + (sub >> 2)) * 4 * width_px + 4 * x + (sub & 3)
    return np.sort(fine)


def check_decodes(frame: EventFrame, shape: tuple[int, int]) -> None:
    strip = encode_events(frame, pixel_count=shape[0] * shape[1])
    assert len(strip) % 2 == 0
    coarse = imagecodecs.eer_decode(strip, shape, 7, 2, 2)
    np.testing.assert_array_equal(np.flatnonzero(coarse), frame.pixel)
    assert coarse.max(initial=0) <= 1
    fine_shape = (4 * shape[0], 4 * shape[1])
    fine = imagecodecs.eer_decode(strip, fine_shape, 7, 2, 2, superres=2)
    np.testing.assert_array_equal(np.flatnonzero(fine), fine_positions(frame, shape[1]))


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ((8, 8), []),
        ((8, 8), [0]),
        ((8, 8), [63]),
        ((8, 8), [0, 63]),
        ((8, 8), list(range(64))),
        ((1, 127), []),
        ((1, 127), [126]),
        ((1, 128), [127]),
        ((1, 128), [126]),
        ((2, 127), []),
        ((1, 255), [127]),
        ((1, 255), [128, 254]),
        ((64, 64), [888, 889 + 889, 4000]),
        ((64, 64), [889, 890 + 890, 4095]),
        ((64, 64), []),
    ],
)
def test_runs_and_ends_of_every_kind_come_back(
    shape: tuple[int, int], pixels: list[int]
) -> None:
    check_decodes(event_frame(pixels), shape)


@given(st.data())
def test_any_events_come_back(data: st.DataObject) -> None:
    height_px = data.draw(st.integers(1, 60))
    width_px = data.draw(st.integers(1, 60))
    last = height_px * width_px - 1
    pixels = data.draw(st.sets(st.integers(0, last), max_size=200))
    check_decodes(event_frame(sorted(pixels)), (height_px, width_px))


@pytest.mark.parametrize("density", [0.5, 0.02, 0.0003])
def test_more_events_than_a_block_come_back(density: float) -> None:
    shape = (512, 512)
    generator = np.random.default_rng(3)
    pixels = np.flatnonzero(generator.random(shape[0] * shape[1]) < density)
    check_decodes(event_frame(pixels.tolist()), shape)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_end_of_a_block_is_no_special_place(extra: int) -> None:
    check_decodes(event_frame(list(range(0, 2 * ((1 << 15) + extra), 2))), (300, 300))


@pytest.mark.parametrize("pixels", [[3, 3], [4, 3], [64], [-1, 2]])
def test_events_out_of_order_or_off_the_camera_are_refused(pixels: list[int]) -> None:
    with pytest.raises(BadSettings):
        encode_events(event_frame(pixels), pixel_count=64)


def test_positions_that_are_none_are_refused() -> None:
    with pytest.raises(BadSettings):
        EventFrame(np.arange(3), np.zeros(2, dtype=np.uint8))
    with pytest.raises(BadSettings):
        EventFrame(np.arange(1), np.array([16], dtype=np.uint8))


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint64"])
def test_any_integer_type_of_pixel_gives_the_same_bytes(dtype: str) -> None:
    frame = event_frame([0, 200, 4000])
    other = EventFrame(frame.pixel.astype(dtype), frame.subpixel)
    assert encode_events(other, pixel_count=4096) == encode_events(
        frame, pixel_count=4096
    )


@pytest.mark.parametrize("compression", [65001, 65002])
def test_a_movie_reads_back_with_its_metadata(
    tmp_path: Path, compression: EerCompression
) -> None:
    shape = (64, 96)
    frames = [event_frame(list(range(i, 6000, 37 + i)), seed=i) for i in range(5)]
    frames[2] = event_frame([])
    path = tmp_path / NAME
    summary = write_eer(
        path,
        iter(frames),
        shape=shape,
        exposure=EXPOSURE,
        compression=compression,
    )
    total = sum(frame.pixel.size for frame in frames)
    assert (summary.frame_count, summary.event_count) == (5, total)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_eer
        metadata = tiff.eer_metadata
        assert metadata is not None
        assert len(tiff.pages) == 5
        for page, frame in zip(tiff.pages, frames, strict=True):
            np.testing.assert_array_equal(np.flatnonzero(page.asarray()), frame.pixel)
    assert metadata["numberOfFrames"] == 5
    assert metadata["exposureTime"] == pytest.approx(5 / 320)
    assert metadata["totalDose"] == pytest.approx(total / (64 * 96), abs=1e-6)
    assert metadata["sensorPixelSize.width"] == pytest.approx(0.73e-10)
    assert metadata["eerGainReference"] == EXPOSURE.gain_reference
    assert ("rleCodeLength" in metadata) == (compression == 65002)


def test_a_movie_without_frames_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadSettings):
        write_eer(tmp_path / NAME, iter([]), shape=(8, 8), exposure=EXPOSURE)
    assert not list(tmp_path.iterdir())


@pytest.mark.relion
@pytest.mark.skipif(
    shutil.which("relion_convert_to_tiff") is None, reason="RELION is not installed"
)
@pytest.mark.parametrize("upsampling", [1, 2])
def test_relion_finds_every_event_in_its_place(tmp_path: Path, upsampling: int) -> None:
    shape = (4096, 4096)
    generator = np.random.default_rng(1)
    last = shape[0] * shape[1] - 1
    drawn = (np.unique(generator.integers(0, last + 1, 20_000)) for _ in range(2))
    frames = [event_frame(pixels.tolist(), seed=len(pixels)) for pixels in drawn]
    frames += [event_frame([]), event_frame([0, last]), event_frame([last - 127])]
    write_eer(tmp_path / NAME, iter(frames), exposure=EXPOSURE)
    command = ["relion_convert_to_tiff", "--i", NAME, "--o", "./"]
    command += ["--eer_grouping", "5", "--eer_upsampling", str(upsampling)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    rendered = tifffile.imread((tmp_path / NAME).with_suffix(".tif"))
    counts = np.zeros(4096 * upsampling * 4096 * upsampling, dtype=np.uint8)
    for frame in frames:
        fine_y, fine_x = np.divmod(fine_positions(frame, 4096), 4 * 4096)
        step = 4 // upsampling
        np.add.at(
            counts, fine_y // step * 4096 * upsampling + fine_x // step, np.uint8(1)
        )
    # RELION holds row 0 of EER as its row 0, and writes TIFF upside down.
    np.testing.assert_array_equal(rendered[::-1], counts.reshape(rendered.shape))
