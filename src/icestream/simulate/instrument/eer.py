"""Write electron-event movies (EER) as Falcon 4 and 4i cameras do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import replacing
from icestream.simulate.instrument.directory import (
    DirectoryWriter,
    Field,
    bytes_field,
    integer_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "EerCompression",
    "EerExposure",
    "EerSummary",
    "EventFrame",
    "encode_events",
    "metadata_xml",
    "write_eer",
]

EerCompression: TypeAlias = Literal[65001, 65002]
"""65001 has fixed bits; 65002 says them in tags of its own and has XML in each frame.

65000 is left out: readers disagree on it. RELION 3.1 wants a position behind every code
of all ones, imagecodecs none.
"""

_RUN_BITS = 7
_LONGEST_RUN = (1 << _RUN_BITS) - 1
_MOST_ESCAPES = 64 // _RUN_BITS - 2
_SUBPIXEL_BITS = 2
_BLOCK = 1 << 15
# The upper bit of each sub-pixel coordinate is stored inverted.
_STORED_INVERTED = 0b1010

_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 259, 262, 274
_SAMPLES_PER_PIXEL, _ROWS_PER_STRIP = 277, 278
_ACQUISITION_METADATA, _FRAME_METADATA = 65001, 65002
_SKIP_BITS, _HORIZONTAL_BITS, _VERTICAL_BITS = 65007, 65008, 65009
# Real files say 2 or 5. No reader heeds it.
_ORIENTATION_OF_CAMERA = 2


@dataclass(frozen=True, slots=True)
class EventFrame:
    """The electrons of one raw frame, at most one a pixel.

    Parameters
    ----------
    pixel
        ``(n,)`` integer, ``y * width + x``, strictly increasing.
    subpixel
        ``(n,)`` uint8, ``4 * y + x`` of the quarter of the pixel, each 0 to 3 in the
        direction of increasing row and column.

    Raises
    ------
    BadSettings
        Not as many of the one as of the other, or a quarter that is none.
    """

    pixel: NDArray[Any]
    subpixel: NDArray[np.uint8]

    def __post_init__(self) -> None:
        quarters = 1 << 2 * _SUBPIXEL_BITS
        if self.pixel.shape != self.subpixel.shape or (self.subpixel >= quarters).any():
            raise BadSettings(
                f"{self.pixel.size} pixels with {self.subpixel.size} positions of "
                f"0 to {quarters - 1} cannot be.",
                hint="Give one position a pixel.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EerExposure:
    """What the camera knows of the exposure.

    Parameters
    ----------
    started_at
        With its offset from UTC.
    frame_rate_hz
        Raw frames a second: about 250 for Falcon 4, 320 for Falcon 4i.
    pixel_size_angst
        Å/px at the specimen.
    gain_reference
        Name of the ``.gain`` file.
    camera_name, commercial_name, serial_number, acquisition_id
        As the camera says them.
    """

    started_at: datetime
    frame_rate_hz: float
    pixel_size_angst: float
    gain_reference: str
    camera_name: str = "EF-Falcon"
    commercial_name: str = "Falcon 4i"
    serial_number: str = "22-51-A38-SIM"
    acquisition_id: str = "0"


@dataclass(frozen=True, slots=True)
class EerSummary:
    """What was written: number of raw frames and of events."""

    frame_count: int
    event_count: int


def encode_events(frame: EventFrame, *, pixel_count: int) -> bytes:
    """Pack the events of one raw frame into the bit stream of its strip.

    Parameters
    ----------
    frame
        The events.
    pixel_count
        Of the camera; the last run ends there.

    Returns
    -------
    bytes
        Of even length.

    Raises
    ------
    BadSettings
        Pixels that are not increasing or lie off the camera.

    Notes
    -----
    Least significant bit first, for each event: as many codes of all ones (127)
    as the run of empty pixels before it holds, the rest of the run, then the
    position within the pixel as ``yyxx``, the upper bit of both inverted. The run after
    the last event reaches the last pixel and has no position.

    An event with its all-ones codes is one word of up to 64 bits; longer runs put
    filling words before it. Blocks of events stay in the processor's cache.
    """
    runs = _runs(frame, pixel_count)
    most_bits = runs.size * (_RUN_BITS + 2 * _SUBPIXEL_BITS)
    most_bits += pixel_count // _LONGEST_RUN * _RUN_BITS
    stream = np.zeros(most_bits // 64 + 2, dtype="<u8")
    end_bit = 0
    for begin in range(0, runs.size, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        words, lengths = _words(runs[block], frame.subpixel[block])
        end_bit = _put(stream, words, lengths, end_bit)
    length_bytes = (end_bit + 7) // 8
    return stream.tobytes()[: length_bytes + length_bytes % 2]


def _runs(frame: EventFrame, pixel_count: int) -> NDArray[np.int64]:
    """Return the number of empty pixels before each event and after the last."""
    pixel = frame.pixel.astype(np.int64, copy=False)
    runs = np.empty(pixel.size + 1, dtype=np.int64)
    runs[:-1] = pixel
    runs[-1] = pixel_count
    runs[1:] -= pixel
    runs[1:] -= 1
    if runs.min() < 0:
        raise BadSettings(
            f"The events do not lie in increasing order on {pixel_count} pixels.",
            hint="Sort them, one a pixel.",
        )
    return runs


def _words(
    runs: NDArray[np.int64], subpixel: NDArray[np.uint8]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the codes of each run and its event, and their lengths in bits.

    The last run has no event when ``subpixel`` is one shorter. ``runs`` is changed.
    """
    words = np.zeros(runs.size, dtype=np.uint64)
    words[: subpixel.size] = subpixel ^ _STORED_INVERTED
    words <<= np.uint64(_RUN_BITS)
    lengths = np.full(runs.size, _RUN_BITS, dtype=np.int64)
    lengths[: subpixel.size] += 2 * _SUBPIXEL_BITS
    where = np.flatnonzero(runs >= _LONGEST_RUN)
    quotients = runs[where] // _LONGEST_RUN
    runs[where] -= quotients * _LONGEST_RUN
    words |= runs.view(np.uint64)
    fillings, escapes = np.divmod(quotients, _MOST_ESCAPES)
    escape_bits = escapes * _RUN_BITS
    lengths[where] += escape_bits
    shifts = escape_bits.view(np.uint64)
    words[where] = (words[where] << shifts) | ((np.uint64(1) << shifts) - np.uint64(1))
    if fillings.any():
        where = np.repeat(where, fillings)
        filling_bits = _MOST_ESCAPES * _RUN_BITS
        words = np.insert(words, where, np.uint64((1 << filling_bits) - 1))
        lengths = np.insert(lengths, where, filling_bits)
    return words, lengths


def _put(
    stream: NDArray[np.uint64],
    words: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    begin_bit: int,
) -> int:
    """Join the low bits of words to a stream; return where they end.

    Each word of the stream has one begin in it, since none is longer than 64 bits; so
    what falls into it is one segment of a segmented OR, and what spills over is the end
    of its last word.
    """
    begins = np.cumsum(lengths)
    end_bit = begin_bit + int(begins[-1])
    begins += begin_bit - lengths
    shifts = (begins & 63).view(np.uint64)
    begins >>= 6
    last = np.append(np.flatnonzero(begins[1:] != begins[:-1]), words.size - 1)
    first = np.concatenate(([0], last[:-1] + 1))
    # Two shifts, since one by 64 bits has no meaning.
    spilled = words[last] >> np.uint64(1) >> (np.uint64(63) - shifts[last])
    words <<= shifts
    begin, end = int(begins[0]), int(begins[-1]) + 1
    stream[begin:end] |= np.bitwise_or.reduceat(words, first)
    stream[begin + 1 : end + 1] |= spilled
    return end_bit


def metadata_xml(items: dict[str, tuple[str, str]]) -> bytes:
    """Return the XML block of the camera.

    Parameters
    ----------
    items
        Name to value and unit; an empty unit is left out.
    """
    rows = (
        f"<item name={quoteattr(name)}"
        + (f" unit={quoteattr(unit)}" if unit else "")
        + f">{escape(value)}</item>"
        for name, (value, unit) in items.items()
    )
    return f"<metadata>{''.join(rows)}</metadata>".encode()


def write_eer(
    path: Path,
    frames: Iterable[EventFrame],
    *,
    shape: tuple[int, int] = (4096, 4096),
    exposure: EerExposure,
    compression: EerCompression = 65001,
) -> EerSummary:
    """Write a movie of electron events.

    Parameters
    ----------
    path
        The file; replaced in one step.
    frames
        Raw frames in order; one is held at a time. Their number need not be known: a
        real camera's varies by a few between exposures.
    shape
        Rows and columns. Real ones, and all that RELION reads, are 4096 x 4096.
    exposure
        For the metadata.
    compression
        65001 is what RELION 3.1 reads; newer EPU writes 65002.

    Returns
    -------
    EerSummary
        Frames and events.

    Raises
    ------
    BadSettings
        No frame, or as `encode_events` says.
    DiskFull, FolderUnavailable
        The file could not be written.

    Notes
    -----
    BigTIFF, one directory and one strip a raw frame. Tag 65001 of the first directory
    holds the XML of the exposure, which is known, and written, last; with 65002, tag
    65002 of each directory holds that of the frame.
    """
    pixel_count = shape[0] * shape[1]
    common = _common_fields(shape, compression)
    position, tags = 0, sorted(common)
    summary = EerSummary(0, 0)
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = DirectoryWriter(file, is_big=True)
        for frame in frames:
            strip = encode_events(frame, pixel_count=pixel_count)
            count = frame.pixel.size
            fields = dict(common)
            if compression == 65002:
                fields[_FRAME_METADATA] = bytes_field(
                    _frame_xml(summary.frame_count, count / pixel_count, exposure)
                )
            if not summary.frame_count:
                fields[_ACQUISITION_METADATA] = bytes_field(b"")
                tags = sorted(fields)
            written_at = writer.append(fields, [strip])
            position = position or written_at
            summary = EerSummary(summary.frame_count + 1, summary.event_count + count)
        if not summary.frame_count:
            raise BadSettings(
                f"{path} would have no frame.", hint="Give one raw frame at least."
            )
        xml = bytes_field(_acquisition_xml(summary, shape, exposure))
        writer.replace_field(position, tags, _ACQUISITION_METADATA, xml)
    return summary


def _common_fields(
    shape: tuple[int, int], compression: EerCompression
) -> dict[int, Field]:
    fields = {
        _WIDTH: integer_field("long", shape[1]),
        _HEIGHT: integer_field("long", shape[0]),
        _COMPRESSION: integer_field("short", compression),
        _PHOTOMETRIC: integer_field("short", 1),
        _ORIENTATION: integer_field("short", _ORIENTATION_OF_CAMERA),
        _SAMPLES_PER_PIXEL: integer_field("short", 1),
        _ROWS_PER_STRIP: integer_field("long", shape[0]),
    }
    if compression == 65002:
        fields[_SKIP_BITS] = integer_field("short", _RUN_BITS)
        fields[_HORIZONTAL_BITS] = integer_field("short", _SUBPIXEL_BITS)
        fields[_VERTICAL_BITS] = integer_field("short", _SUBPIXEL_BITS)
    return fields


def _frame_xml(number: int, dose_e_per_px: float, exposure: EerExposure) -> bytes:
    time = exposure.started_at + timedelta(seconds=number / exposure.frame_rate_hz)
    items = {
        "frameID": (str(number), ""),
        "dose": (f"{dose_e_per_px:.6f}", "e/pixel"),
        "nrOfSubPixelPerDirection": (str(1 << _SUBPIXEL_BITS), ""),
        "rleCodeLength": (str(_RUN_BITS), "bit"),
        "timestamp": (time.isoformat(timespec="microseconds"), ""),
    }
    return metadata_xml(items)


def _acquisition_xml(
    summary: EerSummary, shape: tuple[int, int], exposure: EerExposure
) -> bytes:
    exposure_s = summary.frame_count / exposure.frame_rate_hz
    dose_e_per_px = summary.event_count / (shape[0] * shape[1])
    pixel_size_m = f"{exposure.pixel_size_angst * 1e-10:.6e}"
    items = {
        "acquisitionID": (exposure.acquisition_id, ""),
        "cameraName": (exposure.camera_name, ""),
        "commercialName": (exposure.commercial_name, ""),
        "eerGainReference": (exposure.gain_reference, ""),
        "exposureTime": (f"{exposure_s:.6f}", "s"),
        "meanDoseRate": (f"{dose_e_per_px / exposure_s:.6f}", "e/pixel/s"),
        "numberOfFrames": (str(summary.frame_count), ""),
        "sensorImageHeight": (str(shape[0]), "pixel"),
        "sensorImageWidth": (str(shape[1]), "pixel"),
        "sensorPixelSize.height": (pixel_size_m, "m"),
        "sensorPixelSize.width": (pixel_size_m, "m"),
        "serialNumber": (exposure.serial_number, ""),
        "timestamp": (exposure.started_at.isoformat(timespec="microseconds"), ""),
        "totalDose": (f"{dose_e_per_px:.6f}", "e/pixel"),
    }
    return metadata_xml(items)
