"""Read the frames of a movie: TIFF, MRC or EER, in the order of rows of RELION.

Frames are decoded in parallel, each straight into its place; nothing else of the size
of the movie is held. Row 0 of a frame is the last of a TIFF file, the first of an MRC
or EER file, as RELION has it: coordinates, gain and shifts of all three agree with its.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from icestream.domain.errors import InternalError, UnreadableFile, UnusableImage
from icestream.io import eer as eer_files
from icestream.io import mrc, tiff_frames
from icestream.io.eer import EerSampling
from icestream.io.formats import opened_image
from icestream.io.header import format_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.io.header import MovieHeader

__all__ = ["read_frames", "read_movie_header"]


class _Frames(Protocol):
    """What the module of a format offers of an open movie."""

    @property
    def header(self) -> MovieHeader:
        """What it is once decoded."""

    @property
    def most_pieces(self) -> int:
        """Into how many pieces a frame can be divided, at least 1."""

    def decode_into(
        self, target: NDArray[Any], frame: int, piece: int, piece_count: int
    ) -> None:
        """Write one piece of a frame, of so many, into its place in ``target``."""


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
    with _opened_movie(path, eer) as movie:
        return movie.header


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
    with _opened_movie(path, eer) as movie:
        header = movie.header
        chosen = range(header.frame_count) if frames is None else frames
        _check_range(chosen, header, path)
        stack = _buffer(out, len(chosen), header)
        if threads < 1:
            raise InternalError(f"{threads} threads decode nothing.")
        pieces = min(-(-threads // len(chosen)), movie.most_pieces)

        def decode(job: int) -> None:
            index, piece = divmod(job, pieces)
            movie.decode_into(stack[index], chosen[index], piece, pieces)

        _run(decode, len(chosen) * pieces, threads)
    return stack


@contextmanager
def _opened_movie(path: Path, sampling: EerSampling | None) -> Iterator[_Frames]:
    with opened_image(path) as (_, file):
        movie: _Frames
        match format_of_name(path):
            case "tiff":
                movie = tiff_frames.open_frames(file, path)
            case "mrc":
                movie = mrc.open_frames(file, path)
            case "eer":
                movie = eer_files.open_frames(file, path, sampling or EerSampling())
            case _:
                raise UnreadableFile(
                    f"{path} is no movie.", hint="Movies are TIFF, MRC or EER files."
                )
        yield movie


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
