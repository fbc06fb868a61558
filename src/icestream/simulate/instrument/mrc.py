"""Write movies as MRC stacks frame by frame, counts or corrected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import replacing, write_mrc
from icestream.io.mrc import HEADER_BYTES, header_layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_mrc_movie"]

_IMOD_STAMP = 1146047817


@dataclass(slots=True)
class _Sums:
    """What the header says of all frames together."""

    count: int = 0
    pixel_count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    total_squares: float = 0.0

    def add(self, frame: NDArray[Any]) -> None:
        values = frame.astype(np.float64).reshape(-1)
        self.count += 1
        self.pixel_count += values.size
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.total += float(values.sum())
        self.total_squares += float(values @ values)

    def put_into(self, header: NDArray[np.void]) -> None:
        mean = self.total / self.pixel_count
        header["shape_xyz"][..., 2] = self.count
        header["minimum"], header["maximum"] = self.low, self.high
        header["mean"] = mean
        variance = self.total_squares / self.pixel_count - mean**2
        header["rms"] = math.sqrt(max(variance, 0.0))


def write_mrc_movie(
    path: Path, frames: Iterable[NDArray[Any]], *, pixel_size_angst: float
) -> int:
    """Write a movie as an MRC stack.

    Parameters
    ----------
    path
        The file; replaced in one step.
    frames
        ``(h, w)`` each, of one shape and type: counts as int8 or uint8 (mode 0, the
        latter marked the way of IMOD), int16 (1) or uint16 (6), a corrected movie as
        float16 (12) or float32 (2). One is held at a time. Row 0 is written first.
    pixel_size_angst
        Å/px.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    BadSettings
        No frame, or frames that differ.
    UnusableImage
        The first frame has NaN or infinite values.
    DiskFull, FolderUnavailable
        The file could not be written.

    Notes
    -----
    RELION takes mode 0 as signed whatever the mark of IMOD says, so counts above 127
    come out negative there: write uint16 for it. RELION 3.1 does not read mode 12.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise BadSettings(f"{path} would have no frame.", hint="Give one at least.")
    is_unsigned = first.dtype == np.uint8
    stored = first.view(np.int8) if is_unsigned else first
    sums = _Sums()
    sums.add(first)
    with replacing(path) as temporary:
        write_mrc(
            temporary,
            stored[None],
            pixel_size_angst=pixel_size_angst,
            dtype=stored.dtype,
            is_stack=True,
        )
        with temporary.open("r+b") as file:
            header = np.frombuffer(
                bytearray(file.read(HEADER_BYTES)), header_layout("=")
            )
            file.seek(0, 2)
            for frame in iterator:
                if frame.shape != first.shape or frame.dtype != first.dtype:
                    raise BadSettings(
                        f"Frame {sums.count + 1} of {path} is {frame.dtype} "
                        f"{frame.shape}, not {first.dtype} {first.shape}.",
                        hint="Give frames of one shape and type.",
                    )
                file.write(np.ascontiguousarray(frame).view(np.uint8).data)
                sums.add(frame)
            sums.put_into(header)
            if is_unsigned:
                header["imod_stamp"], header["imod_flags"] = _IMOD_STAMP, 0
            file.seek(0)
            file.write(header.tobytes())
    return sums.count
