"""Sums of moved frames on a CPU: a thread a group, each with a buffer of its own."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
import torch

from icestream.compiled import compiled
from icestream.engines.motion.groups import radial_table
from icestream.engines.motion.interpolation import ShiftLattice, add_moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.engines.motion.groups import FrameGroup

__all__ = ["sums_on_cpu"]

_TABLE_SIZE = 1 << 13
_BANDS = 16
# Pixels of a frame from which its mean is taken: one in so many of both axes.
_SPARSE = 37


def sums_on_cpu(
    frames: NDArray[Any],
    gain: NDArray[np.float32] | None,
    lattice: ShiftLattice,
    groups: Sequence[FrameGroup],
    shape: tuple[int, int],
    threads: int,
) -> dict[str, Tensor]:
    """Return the images that the groups make, by name; see `average_frames`."""
    stack = np.ascontiguousarray(frames)
    even = np.ones((1, 1), np.float32)
    flat = even if gain is None else np.ascontiguousarray(gain, dtype=np.float32)
    sums = _Sums((stack.shape[1], stack.shape[2]), shape)
    kept = local()

    def work(group: FrameGroup) -> None:
        if not hasattr(kept, "image"):
            torch.set_num_threads(1)
            kept.image = np.empty(stack.shape[1:], np.float32)
            kept.spectrum = torch.empty(
                stack.shape[1], stack.shape[2] // 2 + 1, dtype=torch.complex64
            )
        _add_up(stack, flat, lattice, group, kept.image)
        torch.fft.rfft2(torch.from_numpy(kept.image), out=kept.spectrum)
        sums.add(kept.spectrum.numpy(), group)

    with ThreadPoolExecutor(threads) as pool:
        # The largest first, so that no thread is left alone with it.
        order = sorted(groups, key=lambda one: len(one.frames), reverse=True)
        for _ in pool.map(work, order):
            pass
    return sums.images(lattice, threads)


def _add_up(
    frames: NDArray[Any],
    gain: NDArray[np.float32],
    lattice: ShiftLattice,
    group: FrameGroup,
    out: NDArray[np.float32],
) -> None:
    out[:] = 0
    for number in group.frames:
        sparse = frames[number, ::_SPARSE, ::_SPARSE] * gain[::_SPARSE, ::_SPARSE]
        add_moved(
            frames[number],
            gain,
            lattice,
            number,
            out=out,
            rows=range(len(out)),
            beyond=float(sparse.mean(dtype=np.float64)),
        )


class _Sums:
    """Sums of transforms, cut to the images' size; several threads add to them."""

    def __init__(self, size: tuple[int, int], shape: tuple[int, int]) -> None:
        self._size, self._shape = size, shape
        self._totals: dict[str, NDArray[np.complex64]] = {}
        self._locks = [Lock() for _ in range(_BANDS)]
        height, width = shape
        self._y = scipy.fft.fftfreq(height) * height / size[0]
        self._x = scipy.fft.rfftfreq(width) * width / size[1]
        # A cut leaves what it has in both signs: no frequency at its own edge.
        down = (height - 1) // 2 if height < size[0] else height // 2
        across = (width - 1) // 2 if width < size[1] else width // 2
        row = np.rint(self._y * size[0]).astype(np.int64)
        self._source = row % size[0]
        edges = np.linspace(0, height, _BANDS + 1).astype(int)
        bands = [np.arange(*pair) for pair in itertools.pairwise(edges)]
        self._bands = [band[np.abs(row[band]) <= down] for band in bands]
        self._y_square = np.square(self._y).astype(np.float32)
        self._x_square = np.square(self._x[: across + 1]).astype(np.float32)

    def add(self, spectrum: NDArray[np.complex64], group: FrameGroup) -> None:
        """Add a transform to the images that it counts in."""
        with self._locks[0]:
            totals = [self._total(name) for name in group.names]
            weighted = None
            if group.weights is not None:
                weighted = self._total("dose_weighted")
        table = radial_table(
            np.ones(2) if group.weights is None else group.weights, _TABLE_SIZE
        )
        # Threads begin at different bands, so that they seldom meet.
        first = group.frames[0] % _BANDS
        for turn in range(_BANDS):
            band = (first + turn) % _BANDS
            rows = self._bands[band]
            with self._locks[band]:
                for total in totals:
                    _add(spectrum, total, self._source[rows], rows, len(self._x_square))
                if weighted is not None:
                    _add_weighted(
                        spectrum,
                        weighted,
                        self._source[rows],
                        rows,
                        self._y_square[rows],
                        self._x_square,
                        table,
                    )

    def _total(self, name: str) -> NDArray[np.complex64]:
        if name not in self._totals:
            height, width = self._shape
            self._totals[name] = np.zeros((height, width // 2 + 1), np.complex64)
        return self._totals[name]

    def images(self, lattice: ShiftLattice, threads: int) -> dict[str, Tensor]:
        """Return all sums as images, with what the interpolation took away."""
        pixels = self._shape[0] * self._shape[1] / (self._size[0] * self._size[1])
        up, along = (
            np.interp(
                np.abs(one),
                np.linspace(0, 0.5, 257),
                lattice.restoring(257, axis=axis),
            ).astype(np.float32)
            for axis, one in enumerate((self._y, self._x))
        )
        up *= np.float32(pixels)
        images = {}
        for name, total in self._totals.items():
            _scale(total, up, along)
            image = scipy.fft.irfft2(
                total, s=self._shape, workers=threads, overwrite_x=True
            )
            images[name] = torch.from_numpy(image)
        return images


@compiled
def _add(
    spectrum: NDArray[np.complex64],
    total: NDArray[np.complex64],
    source: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: int,
) -> None:
    for i in range(len(rows)):
        old, new = spectrum[source[i]], total[rows[i]]
        for x in range(columns):
            new[x] += old[x]


@compiled
def _add_weighted(
    spectrum: NDArray[np.complex64],
    total: NDArray[np.complex64],
    source: NDArray[np.int64],
    rows: NDArray[np.int64],
    y_square: NDArray[np.float32],
    x_square: NDArray[np.float32],
    table: NDArray[np.float32],
) -> None:
    scale = np.float32(2 * len(table))
    last = len(table) - 1
    for i in range(len(rows)):
        old, new = spectrum[source[i]], total[rows[i]]
        for x in range(len(x_square)):
            at = min(int((y_square[i] + x_square[x]) * scale), last)
            new[x] += table[at] * old[x]


@compiled
def _scale(
    total: NDArray[np.complex64],
    up: NDArray[np.float32],
    along: NDArray[np.float32],
) -> None:
    for y in range(len(total)):
        row = total[y]
        for x in range(len(along)):
            row[x] = row[x] * (up[y] * along[x])
