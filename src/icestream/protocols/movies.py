"""Movies for the steps that read them: their frames, gain and defects.

Long-lived workers keep one buffer of frames and the last gains: the first touch of
fresh memory costs more than decoding into it.
"""

from __future__ import annotations

import functools
import math
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import UnreadableFile, UnusableImage
from icestream.engines.gain import fit_defects, fit_shape
from icestream.io.defects import read_defects
from icestream.io.gain import read_gain
from icestream.protocols.gain_check import DeclaredGain, declared_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from icestream.engines.gain import Orientation
    from icestream.io.movie import MovieFile

__all__ = ["load_defects", "load_gain", "loaded_frames", "naming"]

# The buffer of this process; whoever has it, has it alone.
_kept = {"bytes": np.empty(0, np.uint8)}
_lock = threading.Lock()
_SPARSE = 8
_FAR, _DEAD = 10.0, 1000.0


@contextmanager
def loaded_frames(
    movie: MovieFile,
    *,
    frames: range | None = None,
    threads: int = 1,
) -> Iterator[NDArray[Any]]:
    """Decode a movie into this process's buffer.

    Parameters
    ----------
    movie
        As it was opened.
    frames
        Which, from 0; all, if not given.
    threads
        Frames that are decoded at a time.

    Yields
    ------
    ndarray
        ``(frames, h, w)`` as stored, float16 as float32; may be changed, and is
        overwritten by the next.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        As `MovieFile.decode` does; also frames that do not fit into memory.
    """
    header = movie.header
    count = header.frame_count if frames is None else len(frames)
    shape = (count, header.height_px, header.width_px)
    size = math.prod(shape) * header.dtype.itemsize
    with _lock:
        if _kept["bytes"].size < size:
            _kept["bytes"] = np.empty(0, np.uint8)  # before there are two
            _kept["bytes"] = _room(movie.path, size)
        buffer = _kept["bytes"][:size].view(header.dtype).reshape(shape)
        movie.decode(frames=frames, out=buffer, threads=threads)
        # Compiled loops know no float16.
        yield buffer.astype(np.float32) if buffer.dtype == np.float16 else buffer


def load_gain(
    declared: DeclaredGain, *, is_for_eer: bool, frame_shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Return a gain as it fits the frames, of mean 1, and its defects.

    Read once a worker; do not write to it. ``None`` where there is none.

    Raises
    ------
    UnreadableFile
        It is not there, or no gain.
    UnusableImage
        Values that are no numbers, or a shape that does not fit.
    """
    if declared.gain is None:
        return None
    path = Path(declared.gain)
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableFile(
            f"The gain reference {path} cannot be read: {error.strerror}.",
            hint="Bring it, or take it out of the setup, then `icestream retry`.",
        ) from error
    with naming(path):
        return _read_gain(
            path,
            is_for_eer,
            declared_orientation(declared),
            declared.gain_divides,
            frame_shape,
            (status.st_size, status.st_mtime_ns),
        )


def load_defects(path: Path, *, frame_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a list of defects as ``(h, w)``; raises `UnreadableFile`."""
    return read_defects(path, shape=frame_shape)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name before what is said of its pixels."""
    try:
        yield
    except UnusableImage as error:
        if str(path) in error.what:
            raise
        raise UnusableImage(f"{path}: {error.what}", hint=error.hint) from error


def _room(path: Path, size_bytes: int) -> NDArray[np.uint8]:
    """Return memory for a movie's frames; refuse a header that asks for too much."""
    try:
        return np.empty(size_bytes, np.uint8)
    except (MemoryError, ValueError) as error:
        raise UnusableImage(
            f"{path} would take {size_bytes / 1e9:.0f} GB of memory when decoded.",
            hint="Is its header damaged? Transfer it again, or use another computer.",
        ) from error


@functools.lru_cache(maxsize=2)
def _read_gain(
    path: Path,
    is_for_eer: bool,
    orientation: Orientation,
    is_divisor: bool,
    frame_shape: tuple[int, int],
    _status: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    gain = read_gain(path, is_for_eer=is_for_eer)
    factors = orientation.apply(gain.factors)
    if is_divisor:
        factors = np.divide(1, factors, out=np.zeros_like(factors), where=factors > 0)
    is_defect = orientation.apply(gain.is_defect)
    return (
        _of_mean_one(fit_shape(factors, frame_shape=frame_shape)),
        fit_defects(is_defect, frame_shape=frame_shape),
    )


def _of_mean_one(factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return factors that leave the sum of counts as it is, whatever a gain's unit.

    Pixels far from the others do not count for that; one that counts next to nothing is
    as good as dead, 0.
    """
    sparse = factors[::_SPARSE, ::_SPARSE]
    middle = float(np.median(sparse[sparse > 0])) if sparse.any() else 1.0
    is_usual = (factors > middle / _FAR) & (factors < middle * _FAR)
    mean = factors.mean(dtype=np.float64, where=is_usual)
    alive = np.where(factors < middle * _DEAD, factors, 0) / mean
    return np.asarray(alive, np.float32)
