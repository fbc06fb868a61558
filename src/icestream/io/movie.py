"""Read the frames of a movie: TIFF, MRC or EER, in the order of rows of RELION.

Frames are decoded in parallel, each straight into its place; nothing else of the size
of the movie is held. Row 0 of a frame is the last of a TIFF file, the first of an MRC
or EER file, as RELION has it: coordinates, gain and shifts of all three agree with its.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from icestream.domain.errors import (
    IncompleteFile,
    InternalError,
    UnreadableFile,
    UnusableImage,
)
from icestream.io import eer as eer_files
from icestream.io import mrc, tiff_frames
from icestream.io.access import reading
from icestream.io.eer import EerFrames
from icestream.io.formats import opened_image
from icestream.io.header import format_of_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.io.eer import EerSampling
    from icestream.io.header import ImageFormat, MovieHeader

__all__ = ["MovieFile", "open_movie", "read_frames", "read_movie_header"]


class _Frames(Protocol):
    """What the module of a format offers of a movie whose header was read."""

    @property
    def header(self) -> MovieHeader:
        """What it is once decoded."""

    @property
    def most_pieces(self) -> int:
        """Into how many pieces a frame can be divided, at least 1."""

    def decode_into(
        self,
        file: FileIO,
        target: NDArray[Any],
        frame: int,
        piece: int,
        piece_count: int,
    ) -> None:
        """Write one piece of a frame, of so many, into its place in ``target``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MovieFile:
    """A movie that was looked through once; its file is opened again to decode.

    Looking through an EER movie is a read for each raw frame, thousands on a network.

    Parameters
    ----------
    path
        TIFF, MRC or EER.
    size_bytes
        Of the file.
    frames
        How they lie in it.
    """

    path: Path
    size_bytes: int
    frames: _Frames

    @property
    def header(self) -> MovieHeader:
        """What it is once decoded."""
        return self.frames.header

    def sampled(self, eer: EerSampling | None) -> MovieFile:
        """Return an EER movie in other fractions; any other as it is.

        Raises
        ------
        UnusableImage
            It cannot be sampled so.
        """
        if eer is None or not isinstance(self.frames, EerFrames):
            return self
        return replace(self, frames=self.frames.sampled(eer))

    def decode(
        self,
        *,
        frames: range | None = None,
        out: NDArray[Any] | None = None,
        threads: int = 1,
    ) -> NDArray[Any]:
        """Decode frames, as `read_frames` does.

        Raises
        ------
        UnreadableFile, IncompleteFile, UnusableImage, InternalError
            As said there; also a file that has another size than before.
        """
        header = self.header
        chosen = range(header.frame_count) if frames is None else frames
        _check_range(chosen, header, self.path)
        stack = _buffer(out, len(chosen), header)
        if threads < 1:
            raise InternalError(f"{threads} threads decode nothing.")
        pieces = min(-(-threads // len(chosen)), self.frames.most_pieces)
        with reading(self.path) as file:
            self._check_size(file)

            def decode_piece(job: int) -> None:
                index, piece = divmod(job, pieces)
                self.frames.decode_into(
                    file, stack[index], chosen[index], piece, pieces
                )

            _run(decode_piece, len(chosen) * pieces, threads)
        return stack

    def _check_size(self, file: FileIO) -> None:
        size_bytes = file.seek(0, 2)
        if size_bytes != self.size_bytes:
            raise IncompleteFile(
                f"{self.path} had {self.size_bytes} bytes, and has {size_bytes} now.",
                hint="Wait until it is written, or transfer it again.",
            )


def open_movie(path: Path, *, eer: EerSampling | None = None) -> MovieFile:
    """Look a movie through; parameters and errors as of `read_movie_header`."""
    with opened_image(path) as (_, file):
        opener = _OPENERS.get(format_of_name(path))
        if opener is None:
            raise UnreadableFile(
                f"{path} is no movie.", hint="Movies are TIFF, MRC or EER files."
            )
        frames = opener(file, path)
        movie = MovieFile(path=path, size_bytes=file.seek(0, 2), frames=frames)
    return movie.sampled(eer)


def read_movie_header(path: Path, *, eer: EerSampling | None = None) -> MovieHeader:
    """Return what a movie will be once it is decoded; no pixel is decoded.

    Parameters
    ----------
    path
        TIFF, MRC or EER; of one frame too.
    eer
        How an EER movie is to be sampled; its raw frames, if not given.

    Raises
    ------
    UnreadableFile
        Not of its kind, of a kind that is not read, frames that differ, or no
        permission.
    IncompleteFile
        Shorter than its header says, or fewer frames than the camera counted.
    UnusableImage
        An EER movie that cannot be sampled so.
    """
    return open_movie(path, eer=eer).header


def read_frames(
    path: Path,
    *,
    frames: range | None = None,
    out: NDArray[Any] | None = None,
    threads: int = 1,
    eer: EerSampling | None = None,
) -> NDArray[Any]:
    """Decode frames of a movie.

    Parameters
    ----------
    path
        TIFF, MRC or EER.
    frames
        Which of them, from 0; fractions for EER. All, if not given.
    out
        Where to, ``(t, h, w)`` C-contiguous of the movie's type: a buffer that is kept
        from movie to movie saves the first touch of fresh memory. A new one, if not
        given.
    threads
        How many frames are decoded at a time; where there are fewer, strips of them.
    eer
        How an EER movie is sampled; its raw frames, if not given.

    Returns
    -------
    ndarray
        ``(t, h, w)`` C-contiguous, in the stored type and unit; ``out`` where given.
        Counts are not checked: a blank frame or a NaN is handed on.

    Raises
    ------
    UnreadableFile, IncompleteFile
        As `read_movie_header` does; also a strip that is damaged.
    UnusableImage
        Frames that the movie does not have.
    InternalError
        ``out`` is not as said above, or less than one thread.
    """
    return open_movie(path, eer=eer).decode(frames=frames, out=out, threads=threads)


_OPENERS: dict[ImageFormat, Callable[[FileIO, Path], _Frames]] = {
    "tiff": tiff_frames.open_frames,
    "mrc": mrc.open_frames,
    "eer": eer_files.open_frames,
}


def _check_range(chosen: range, header: MovieHeader, path: Path) -> None:
    if chosen and min(chosen) >= 0 and max(chosen) < header.frame_count:
        return
    raise UnusableImage(
        f"{path} has {header.frame_count} frames; asked for were"
        f" {len(chosen)} from {chosen.start + 1} to {chosen.stop}.",
        hint="Give frames that every movie has, or leave this one out.",
    )


def _buffer(
    out: NDArray[Any] | None, frame_count: int, header: MovieHeader
) -> NDArray[Any]:
    shape = (frame_count, header.height_px, header.width_px)
    if out is None:
        return np.empty(shape, header.dtype)
    if out.shape != shape or out.dtype != header.dtype or not out.flags.c_contiguous:
        raise InternalError(
            f"A buffer of {out.dtype} {out.shape} was given for {header.dtype} {shape}."
        )
    return out


def _run(decode: Callable[[int], None], job_count: int, threads: int) -> None:
    if threads == 1:
        for job in range(job_count):
            decode(job)
        return
    with ThreadPoolExecutor(min(threads, job_count)) as pool:
        # Raises what the first failing job did, and drops those not begun.
        for _ in pool.map(decode, range(job_count)):
            pass
