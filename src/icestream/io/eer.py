"""EER: movies of single electrons, by Falcon 4 and 4i cameras.

A TIFF file with a directory for each raw frame, whose one strip says where electrons
fell. Raw frames are added up while they are decoded, so that none is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from icestream.domain.errors import (
    BadSettings,
    IncompleteFile,
    UnreadableFile,
    UnusableImage,
)
from icestream.io import tiff
from icestream.io.access import SPARE_BYTES, read_into
from icestream.io.eer_metadata import EerMetadata, parse_eer_metadata
from icestream.io.header import ImageHeader, MovieHeader
from icestream.io.tiff_directory import Directory, read_directories

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "MOST_EER_FRAMES",
    "EerFrames",
    "EerSampling",
    "data_end_bytes",
    "decode",
    "frames_per_fraction",
    "open_frames",
    "read_header",
]

Upsampling: TypeAlias = Literal[1, 2]

_PROTOTYPE, _FIXED_BITS, _BITS_IN_TAGS = 65000, 65001, 65002
_COMPRESSIONS = (_PROTOTYPE, _FIXED_BITS, _BITS_IN_TAGS)
MOST_EER_FRAMES = int(np.iinfo(np.uint16).max)
"""Raw frames that one fraction can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EerSampling:
    """How the electrons of an EER movie become frames.

    Parameters
    ----------
    upsampling
        1 for the pixels of the camera, 2 for a grid of half of their size.
    frames_per_fraction
        Raw frames that are added up to one; those left over at the end are dropped.

    Raises
    ------
    BadSettings
        No such grid, or a number of frames that cannot be.
    """

    upsampling: Upsampling = 1
    frames_per_fraction: int = 1

    def __post_init__(self) -> None:
        if self.upsampling not in (1, 2):
            raise BadSettings(
                f"EER movies are not sampled {self.upsampling} times as finely.",
                hint="Give 1 or 2.",
            )
        if not 1 <= self.frames_per_fraction <= MOST_EER_FRAMES:
            raise BadSettings(
                f"{self.frames_per_fraction} EER frames to a fraction cannot be.",
                hint=f"Give 1 to {MOST_EER_FRAMES}.",
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds a fraction: a raw frame adds 1 at most."""
        is_small = self.frames_per_fraction <= np.iinfo(np.uint8).max
        return np.dtype(np.uint8 if is_small else np.uint16)


def frames_per_fraction(
    raw_frame_count: int, *, dose_e_per_angst2: float, fraction_dose_e_per_angst2: float
) -> int:
    """Return how many raw frames together come nearest to a dose.

    Parameters
    ----------
    raw_frame_count
        Of the movie.
    dose_e_per_angst2
        Of the whole movie, e/Å².
    fraction_dose_e_per_angst2
        That a fraction shall have, e/Å².

    Returns
    -------
    int
        For `EerSampling`; 1 at least, and no more than there are. Exposures of one
        setup differ by a few raw frames: ask once, for all of them.

    Raises
    ------
    BadSettings
        A dose or a number that is not positive.
    """
    if min(raw_frame_count, dose_e_per_angst2, fraction_dose_e_per_angst2) <= 0:
        raise BadSettings(
            f"{raw_frame_count} raw frames of {dose_e_per_angst2:g} e/Å² cannot be "
            f"divided into fractions of {fraction_dose_e_per_angst2:g} e/Å².",
            hint="Give positive doses.",
        )
    share = fraction_dose_e_per_angst2 / dose_e_per_angst2
    return min(max(round(raw_frame_count * share), 1), raw_frame_count)


def read_header(file: FileIO, path: Path) -> ImageHeader:
    """Return what an EER file says of its raw frames.

    Raises
    ------
    UnreadableFile
        No EER frame, or raw frames that differ.
    IncompleteFile
        The chain of directories breaks off, or has fewer frames than the camera says.
    """
    frames, metadata = _raw_frames(read_directories(file, path), path)
    return ImageHeader(
        height_px=frames[0].number("height"),
        width_px=frames[0].number("width"),
        frame_count=len(frames),
        dtype=np.dtype(np.uint8),
        pixel_size_angst=metadata.pixel_size_angst,
        format="eer",
    )


def data_end_bytes(file: FileIO, path: Path) -> int:
    """Return the size of the file after every strip was found to lie in it.

    Raises
    ------
    UnreadableFile
        As `read_header` does.
    IncompleteFile
        That too; a strip is absent or lies beyond the end.
    """
    directories = read_directories(file, path)
    _raw_frames(directories, path)
    return tiff.check_strips(directories, file, path)


def decode(file: FileIO, path: Path) -> NDArray[Any]:
    """Return all raw frames, ``(frame, h, w)``, rows as stored.

    Raises
    ------
    IncompleteFile
        The electrons of a frame do not end where they should.
    """
    frames = open_frames(file, path)
    header = frames.header
    shape = (header.frame_count, header.height_px, header.width_px)
    pixels = np.empty(shape, header.dtype)
    for number, frame in enumerate(pixels):
        frames.decode_into(file, frame, number, 0, 1)
    return pixels


@dataclass(frozen=True, slots=True)
class EerFrames:
    """The fractions of an EER movie, rows as stored; see `open_frames`."""

    path: Path
    header: MovieHeader
    raw_frames: list[Directory]
    sampling: EerSampling

    @property
    def most_pieces(self) -> int:
        """Into how many pieces a frame can be divided: the stream has no joints."""
        return 1

    def sampled(self, sampling: EerSampling) -> EerFrames:
        """Return the same movie in other fractions.

        Raises
        ------
        UnusableImage
            Not enough raw frames for one fraction, or no place within pixels for a grid
            twice as fine.
        """
        first, finer = self.raw_frames[0], sampling.upsampling
        if finer > 1 and min(_bits(first, self.path)) == 0:
            raise UnusableImage(
                f"{self.path} does not say where in a pixel electrons fell.",
                hint="Sample it as finely as the camera: upsampling 1.",
            )
        together = sampling.frames_per_fraction
        count, left_over = divmod(len(self.raw_frames), together)
        if not count:
            raise UnusableImage(
                f"{self.path} has {left_over} raw frames, fewer than the {together} of"
                " one fraction.",
                hint="Give fewer frames to a fraction, or leave this movie out.",
            )
        pixel_angst = self.header.pixel_size_angst
        header = replace(
            self.header,
            height_px=finer * first.number("height"),
            width_px=finer * first.number("width"),
            frame_count=count,
            dtype=sampling.dtype,
            pixel_size_angst=pixel_angst
            and pixel_angst * self.sampling.upsampling / finer,
            left_over_frame_count=left_over,
        )
        return replace(self, header=header, sampling=sampling)

    def decode_into(
        self,
        file: FileIO,
        target: NDArray[Any],
        frame: int,
        piece: int,
        piece_count: int,
    ) -> None:
        """Add the electrons of a fraction up in ``target``."""
        from icestream.io.events import add_events

        del piece, piece_count
        target[...] = 0
        count = self.sampling.frames_per_fraction
        numbers = range(frame * count, (frame + 1) * count)
        sizes = [
            int(self.raw_frames[number].numbers("strip_byte_counts").sum())
            for number in numbers
        ]
        data = np.empty(max(sizes) + SPARE_BYTES, np.uint8)
        for number in numbers:
            directory = self.raw_frames[number]
            if not add_events(
                data,
                _read_stream(file, directory, data),
                target.reshape(-1),
                directory.number("width"),
                self.sampling.upsampling,
                *_bits(directory, self.path),
                directory.number("compression") == _PROTOTYPE,
            ):
                raise IncompleteFile(
                    f"{self.path}, raw frame {number + 1}: its electrons do not end at"
                    " the last pixel.",
                    hint="The file is damaged: transfer it again.",
                )


def open_frames(file: FileIO, path: Path) -> EerFrames:
    """Prepare to read a movie, its raw frames one by one.

    Raises
    ------
    UnreadableFile, IncompleteFile
        As `read_header` and `data_end_bytes` do.
    """
    raw_frames, metadata = _raw_frames(read_directories(file, path), path)
    tiff.check_strips(raw_frames, file, path)
    sampling = EerSampling()
    header = MovieHeader(
        height_px=raw_frames[0].number("height"),
        width_px=raw_frames[0].number("width"),
        frame_count=len(raw_frames),
        dtype=sampling.dtype,
        pixel_size_angst=metadata.pixel_size_angst,
        format="eer",
        raw_frame_count=len(raw_frames),
        eer=metadata,
    )
    return EerFrames(path, header, raw_frames, sampling)


def _raw_frames(
    directories: list[Directory], path: Path
) -> tuple[list[Directory], EerMetadata]:
    """Return the directories of raw frames and what the first of all says."""
    xml = directories[0].numbers("exposure_xml").astype(np.uint8).tobytes()
    metadata = parse_eer_metadata(xml)
    # A final image in ordinary pixels may stand before them.
    frames = [one for one in directories if one.number("compression") in _COMPRESSIONS]
    if not frames:
        compression = directories[0].number("compression")
        raise UnreadableFile(
            f"{path} has no EER frame: it uses TIFF compression {compression}.",
            hint="Name it after what it is, e.g. .tif.",
        )
    if len({_kind(one, path) for one in frames}) > 1:
        raise UnreadableFile(
            f"{path} has EER frames of different size or code.",
            hint="The file is damaged: transfer it again.",
        )
    if metadata.frame_count is not None and len(frames) < metadata.frame_count:
        raise IncompleteFile(
            f"{path} has {len(frames)} of the {metadata.frame_count} raw frames that"
            " its camera counted.",
            hint="Wait until it is written, or transfer it again.",
        )
    return frames, metadata


def _kind(frame: Directory, path: Path) -> tuple[int, ...]:
    names = ("height", "width", "compression")
    return (*(frame.number(name) for name in names), *_bits(frame, path))


def _bits(frame: Directory, path: Path) -> tuple[int, int, int]:
    """Return the bits of a run, and of the place within a pixel, across and down."""
    if frame.number("compression") != _BITS_IN_TAGS:
        return (8 if frame.number("compression") == _PROTOTYPE else 7), 2, 2
    names = ("run_bits", "horizontal_bits", "vertical_bits")
    run, across, down = (frame.number(name, default=-1) for name in names)
    if not 1 <= run <= 16 or not 0 <= across <= 4 or not 0 <= down <= 4:
        raise UnreadableFile(
            f"{path} has EER codes of {run} bits a run and {across} and {down} bits a"
            " place.",
            hint="The file is damaged: transfer it again.",
        )
    return run, across, down


def _read_stream(file: FileIO, frame: Directory, data: NDArray[np.uint8]) -> int:
    """Put the strips of a raw frame one behind another; return their length."""
    end = 0
    offsets, counts = frame.numbers("strip_offsets"), frame.numbers("strip_byte_counts")
    for offset_bytes, count_bytes in zip(offsets, counts, strict=True):
        room = data[end : end + int(count_bytes)]
        end += read_into(file, int(offset_bytes), room)
    return end
