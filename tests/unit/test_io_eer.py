"""EER movies: every electron in its fraction and place, and what is refused."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import (
    BadSettings,
    IncompleteFile,
    UnreadableFile,
    UnusableImage,
)
from icestream.io import (
    EerMetadata,
    EerSampling,
    check_complete,
    frames_per_fraction,
    read_frames,
    read_header,
    read_micrograph,
    read_movie_header,
)
from icestream.io.access import SPARE_BYTES
from icestream.io.eer_metadata import parse_eer_metadata
from icestream.io.events import add_events
from icestream.io.movie import open_movie
from icestream.simulate.instrument import EerExposure, EventFrame, write_eer
from icestream.simulate.instrument.eer import encode_events

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.simulate.instrument.eer import EerCompression

SHAPE = (64, 96)
EXPOSURE = EerExposure(
    started_at=datetime(2026, 3, 14, 17, 40, 48, 482908, tzinfo=UTC),
    frame_rate_hz=320,
    pixel_size_angst=0.73,
    gain_reference="20260314_EER_GainReference.gain",
)
PIXELS = SHAPE[0] * SHAPE[1]


def raw_frames(count: int, *, density: float = 0.05) -> list[EventFrame]:
    generator = np.random.default_rng(count)
    frames = []
    for _ in range(count):
        pixel = np.flatnonzero(generator.random(PIXELS) < density)
        code = generator.integers(0, 16, pixel.size, dtype=np.uint8)
        frames.append(EventFrame(pixel, code))
    return frames


def written(
    folder: Path, frames: list[EventFrame], compression: EerCompression = 65001
) -> Path:
    path = folder / "movie.eer"
    write_eer(path, frames, shape=SHAPE, exposure=EXPOSURE, compression=compression)
    return path


def image_of(frames: list[EventFrame], upsampling: int) -> NDArray[np.int64]:
    """Count the electrons of some raw frames, independent of the bit stream."""
    image = np.zeros((SHAPE[0] * upsampling, SHAPE[1] * upsampling), np.int64)
    for frame in frames:
        y, x = np.divmod(frame.pixel, SHAPE[1])
        fine_y, fine_x = 4 * y + (frame.subpixel >> 2), 4 * x + (frame.subpixel & 3)
        step = 4 // upsampling
        np.add.at(image, (fine_y // step, fine_x // step), 1)
    return image


@pytest.mark.parametrize("compression", [65001, 65002])
@pytest.mark.parametrize("upsampling", [1, 2])
@pytest.mark.parametrize("threads", [1, 3])
def test_fractions_hold_every_electron_in_its_place(
    tmp_path: Path, compression: EerCompression, upsampling: int, threads: int
) -> None:
    frames = raw_frames(17)
    path = written(tmp_path, frames, compression)
    sampling = EerSampling(
        upsampling=2 if upsampling == 2 else 1, frames_per_fraction=4
    )

    header = read_movie_header(path, eer=sampling)
    assert (header.frame_count, header.raw_frame_count) == (4, 17)
    assert header.left_over_frame_count == 1
    assert (header.height_px, header.width_px) == (64 * upsampling, 96 * upsampling)
    assert header.dtype == np.uint8
    assert header.pixel_size_angst == pytest.approx(0.73 / upsampling)
    found = read_frames(path, eer=sampling, threads=threads)
    assert found.dtype == np.uint8
    truth = [image_of(frames[i : i + 4], upsampling) for i in (0, 4, 8, 12)]
    np.testing.assert_array_equal(found, truth)
    assert found.sum() == sum(frame.pixel.size for frame in frames[:16])


def test_a_movie_is_sampled_as_often_as_wanted(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(7))
    wanted = EerSampling(upsampling=1, frames_per_fraction=3)
    movie = open_movie(path, eer=EerSampling(upsampling=2)).sampled(wanted)
    assert movie.header == read_movie_header(path, eer=wanted)
    np.testing.assert_array_equal(movie.decode(), read_frames(path, eer=wanted))


def test_the_finer_grid_adds_up_to_the_pixels_of_the_camera(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(6))
    coarse = read_frames(path, eer=EerSampling(frames_per_fraction=3))
    fine = read_frames(path, eer=EerSampling(upsampling=2, frames_per_fraction=3))
    np.testing.assert_array_equal(fine.reshape(2, 64, 2, 96, 2).sum((2, 4)), coarse)
    assert (fine != np.repeat(np.repeat(coarse, 2, 1), 2, 2)).any()


def test_raw_frames_come_one_by_one_if_nothing_is_said(tmp_path: Path) -> None:
    frames = raw_frames(3)
    path = written(tmp_path, frames)
    header = read_header(path)
    assert (header.format, header.frame_count) == ("eer", 3)
    assert header.pixel_size_angst == pytest.approx(0.73)
    found = read_frames(path)
    np.testing.assert_array_equal(found, [image_of([one], 1) for one in frames])


def test_a_single_raw_frame_is_read_as_an_image_too(tmp_path: Path) -> None:
    frame = EventFrame(np.arange(PIXELS - 1), np.zeros(PIXELS - 1, np.uint8))
    path = written(tmp_path, [frame])
    np.testing.assert_array_equal(read_micrograph(path), image_of([frame], 1))


def test_a_kept_buffer_is_emptied_first(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(4))
    sampling = EerSampling(frames_per_fraction=2)
    buffer = np.full((1, *SHAPE), 7, np.uint8)
    found = read_frames(path, frames=range(1, 2), out=buffer, eer=sampling)
    assert found is buffer
    np.testing.assert_array_equal(found[0], read_frames(path, eer=sampling)[1])


@pytest.mark.parametrize(("count", "dtype"), [(255, "uint8"), (256, "uint16")])
def test_no_fraction_overflows(tmp_path: Path, count: int, dtype: str) -> None:
    """One pixel that every raw frame hits."""
    always = EventFrame(np.array([0, 77]), np.array([0, 3], np.uint8))
    path = written(tmp_path, [always] * count)
    found = read_frames(path, eer=EerSampling(frames_per_fraction=count))
    assert found.dtype == dtype
    assert found.max() == count
    assert found.sum(dtype=np.int64) == 2 * count


def test_the_camera_is_heard(tmp_path: Path) -> None:
    frames = raw_frames(8)
    eer = read_movie_header(written(tmp_path, frames)).eer
    events = sum(frame.pixel.size for frame in frames)
    assert eer is not None
    assert eer.started_at == EXPOSURE.started_at
    assert eer.exposure_s == pytest.approx(8 / 320)
    assert eer.frame_count == 8
    assert eer.total_dose_e_per_px == pytest.approx(events / PIXELS, abs=1e-6)
    assert eer.dose_rate_e_per_px_s == pytest.approx(40 * events / PIXELS, abs=1e-5)
    assert eer.gain_reference == EXPOSURE.gain_reference
    assert (eer.camera_name, eer.serial_number) == ("Falcon 4i", "22-51-A38-SIM")
    assert eer.pixel_size_angst == pytest.approx(0.73)


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"\0\0",
        b"<metadata><item",
        b"<metadata/>",
        b'<?xml version="1.0" encoding="klingon"?><metadata/>',
        b'<?xml version="1.0" encoding="utf-32"?><metadata/>',
        b'<!DOCTYPE m [<!ENTITY a "7">]><metadata>'
        b'<item name="totalDose">&a;</item></metadata>',
        b'<metadata><item name="totalDose" unit="e/pixel"> </item>'
        b'<item name="exposureTime">soon</item><item name="numberOfFrames">nan</item>'
        b'<item name="sensorPixelSize.width">1</item>'
        b'<item name="timestamp">today</item><item>5</item></metadata>',
    ],
)
def test_what_the_camera_does_not_say_is_none(xml: bytes) -> None:
    assert parse_eer_metadata(xml) == EerMetadata()


def test_fractions_are_chosen_by_dose() -> None:
    def chosen(raw_frame_count: int, dose: float, fraction: float) -> int:
        return frames_per_fraction(
            raw_frame_count,
            dose_e_per_angst2=dose,
            fraction_dose_e_per_angst2=fraction,
        )

    assert chosen(1000, 50.0, 1.0) == 20
    assert chosen(1018, 40.0, 1.0) == 25
    assert chosen(100, 50.0, 0.1) == 1
    assert chosen(100, 50.0, 80.0) == 100
    for wrong in ((0, 50.0, 1.0), (100, 0.0, 1.0), (100, 50.0, -1.0)):
        with pytest.raises(BadSettings):
            chosen(*wrong)


def test_a_sampling_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings):
        EerSampling(upsampling=4)  # type: ignore[arg-type]
    for count in (0, 65536):
        with pytest.raises(BadSettings):
            EerSampling(frames_per_fraction=count)


def test_too_few_raw_frames_for_a_fraction_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(3))
    with pytest.raises(UnusableImage, match="3 raw frames, fewer than the 4"):
        read_frames(path, eer=EerSampling(frames_per_fraction=4))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9, 0.999])
def test_a_movie_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path, raw_frames(9))
    check_complete(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for read in (check_complete, read_header, read_movie_header, read_frames):
        with pytest.raises(IncompleteFile):
            read(path)


def test_fewer_frames_than_the_camera_counted_are_refused(tmp_path: Path) -> None:
    """The chain of directories ends well, but too early."""
    path = written(tmp_path, raw_frames(9))
    with tifffile.TiffFile(path) as tiff:
        sixth = tiff.pages[5].aspage().offset
    raw = bytearray(path.read_bytes())
    (entries,) = struct.unpack_from("<Q", raw, sixth)
    struct.pack_into("<Q", raw, sixth + 8 + 20 * entries, 0)
    path.write_bytes(raw)
    for read in (check_complete, read_frames):
        with pytest.raises(IncompleteFile, match="6 of the 9 raw frames"):
            read(path)


def test_a_damaged_raw_frame_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(6))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[4].aspage()
        place, size = page.dataoffsets[0], page.databytecounts[0]
    raw = bytearray(path.read_bytes())
    raw[place + size // 2 : place + size] = bytes(size - size // 2)
    path.write_bytes(raw)
    sampling = EerSampling(frames_per_fraction=2)
    with pytest.raises(IncompleteFile, match="raw frame 5: its electrons"):
        read_frames(path, eer=sampling, threads=2)
    assert read_frames(path, frames=range(2), eer=sampling).any()


def directory(path: Path, tags: dict[int, tuple[int, int]], strip: bytes) -> Path:
    """Write a classic TIFF of one page by hand: tag to type and value."""
    tags = tags | {273: (4, 8), 279: (4, len(strip))}
    rows = b"".join(
        struct.pack("<HHII", tag, kind, 1, value)
        for tag, (kind, value) in sorted(tags.items())
    )
    head = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    path.write_bytes(head + strip + struct.pack("<H", len(tags)) + rows + bytes(4))
    return path


def stream(codes: list[tuple[int, int]]) -> bytes:
    """Put codes of so many bits one behind another, least significant bit first."""
    total = shift = 0
    for value, bits in codes:
        total |= value << shift
        shift += bits
    return total.to_bytes(2 * (-(-shift // 16)), "little")


def test_codes_of_the_prototype_are_read(tmp_path: Path) -> None:
    """Runs of 8 bits, and a place of no account behind the longest.

    As the camera maker's reader and RELION have it; imagecodecs has no such place.
    """
    upper_left = 0b1010
    strip = stream(
        [
            *((5, 8), (upper_left, 4)),
            *((255, 8), (9, 4), (44, 8), (upper_left, 4)),
            *((255, 8), (3, 4), (255, 8), (3, 4), (1024 - 306 - 510, 8)),
        ]
    )
    size = {256: (4, 32), 257: (4, 32), 259: (3, 65000), 278: (4, 32)}
    path = directory(tmp_path / "old.eer", size, strip)
    found = read_frames(path)[0]
    np.testing.assert_array_equal(np.flatnonzero(found), [5, 6 + 255 + 44])


def test_bits_are_read_from_tags(tmp_path: Path) -> None:
    """Runs of 5 bits, 1 bit across, none down."""
    strip = stream([(31, 5), (3, 5), (0, 1), (0, 5), (1, 1), (28, 5)])
    tags = {256: (4, 8), 257: (4, 8), 259: (3, 65002), 278: (4, 8)}
    bits = {65007: (3, 5), 65008: (3, 1), 65009: (3, 0)}
    path = directory(tmp_path / "a.eer", tags | bits, strip)
    np.testing.assert_array_equal(np.flatnonzero(read_frames(path)[0]), [34, 35])
    with pytest.raises(UnusableImage, match="where in a pixel"):
        read_frames(path, eer=EerSampling(upsampling=2))
    wrong = directory(tmp_path / "b.eer", tags | {**bits, 65007: (3, 40)}, strip)
    with pytest.raises(UnreadableFile, match="40 bits a run"):
        read_frames(wrong)


def test_an_ordinary_tiff_by_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.eer"
    tifffile.imwrite(path, np.ones((20, 30), np.uint8))
    for read in (read_header, check_complete, read_frames):
        with pytest.raises(UnreadableFile, match="no EER frame"):
            read(path)


def test_an_eer_movie_by_the_name_of_tiff_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, raw_frames(2)).rename(tmp_path / "a.tif")
    with pytest.raises(UnreadableFile, match=r"65001.*\.eer"):
        read_header(path)


def added(strip: bytes, shape: tuple[int, int], upsampling: int) -> NDArray[np.uint8]:
    data = np.frombuffer(strip + b"\xff" * SPARE_BYTES, np.uint8)
    image = np.zeros((shape[0] * upsampling, shape[1] * upsampling), np.uint8)
    is_whole = add_events(
        data, len(strip), image.reshape(-1), shape[1], upsampling, 7, 2, 2, False
    )
    assert is_whole
    return image


@given(st.data())
def test_any_electrons_are_found_as_imagecodecs_finds_them(data: st.DataObject) -> None:
    # imagecodecs wants sides that its super-resolution divides.
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    shape = (4 * shape[0], 4 * shape[1])
    pixel = data.draw(st.sets(st.integers(0, shape[0] * shape[1] - 1), max_size=99))
    code = np.random.default_rng(len(pixel)).integers(0, 16, len(pixel), np.uint8)
    frame = EventFrame(np.array(sorted(pixel), np.int64), code)
    strip = encode_events(frame, pixel_count=shape[0] * shape[1])
    for upsampling in (1, 2):
        finer = (shape[0] * upsampling, shape[1] * upsampling)
        theirs = imagecodecs.eer_decode(strip, finer, 7, 2, 2, superres=upsampling - 1)
        np.testing.assert_array_equal(added(strip, shape, upsampling), theirs)


@given(strip=st.binary(max_size=500), upsampling=st.sampled_from([1, 2]))
def test_rubbish_stays_inside(strip: bytes, upsampling: int) -> None:
    data = np.frombuffer(strip + bytes(SPARE_BYTES), np.uint8)
    room = np.zeros(300 * upsampling**2 + 64, np.uint8)
    image = room[32:-32]
    add_events(data, len(strip), image, 20, upsampling, 7, 2, 2, False)
    assert not room[:32].any()
    assert not room[-32:].any()
