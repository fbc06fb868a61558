"""Move frames by a field, once, and add them up.

Cubic convolution (Keys, IEEE Trans. ASSP 29 (1981) 1153) along y, then along x, with
shifts that go linearly between the nodes of a lattice. Counts become float32, times the
gain, on the way. The same on a CPU, compiled, and on any other device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from icestream.compiled import compiled
from icestream.domain.errors import UnusableImage
from icestream.engines.motion.surface import field_on_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.domain import MotionField

_Numbers = TypeVar("_Numbers", "NDArray[np.float64]", "Tensor")

__all__ = ["ShiftLattice", "add_moved", "add_moved_anywhere", "shift_lattice"]

_STEP_PX = 64
_TAPS = 4
# Parts of a pixel that are told apart where transfers are averaged.
_PARTS = 128
_LEAST_TRANSFER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShiftLattice:
    """Shifts of frames at nodes ``step_px`` apart, and what they need around.

    Parameters
    ----------
    shift_px
        ``(frames, rows, columns, 2)`` float32 y and x, px: content that belongs at
        ``r`` lies at ``r + shift``.
    step_px
        From node to node along both axes; the first lies on the first pixel.
    margin_px
        Beyond the frame that shifts may point at, px.
    ring_rows
        Rows that a row of the result can need at once.
    """

    shift_px: NDArray[np.float32]
    step_px: int
    margin_px: int
    ring_rows: int

    def restoring(self, count: int, *, axis: int) -> NDArray[np.float64]:
        """Return what gives back by how much interpolation has weakened frequencies.

        On the mean; and what it has taken away altogether, as half a pixel takes the
        finest frequency, is not given back: at most five times what is left.

        Parameters
        ----------
        count
            Frequencies from 0 to 1/2 a pixel, both included.
        axis
            0 for y, 1 for x.

        Returns
        -------
        ndarray
            ``(count,)``: over all frames and nodes.
        """
        place = np.rint(self.shift_px[..., axis].ravel() * _PARTS).astype(np.int64)
        often = np.bincount(place % _PARTS, minlength=_PARTS) / len(place)
        part = np.arange(_PARTS) / _PARTS
        frequency = 2 * math.pi * np.linspace(0, 0.5, count)
        transfer = np.zeros(count)
        for tap, weight in zip((-1, 0, 1, 2), _keys(part), strict=True):
            phase = np.multiply.outer(frequency, tap - part)
            transfer += np.cos(phase) @ (weight * often)
        found: NDArray[np.float64] = 1 / np.maximum(transfer, _LEAST_TRANSFER)
        return found


def shift_lattice(field: MotionField, *, pixel_size_angst: float) -> ShiftLattice:
    """Return a field's shifts as `add_moved` wants them.

    Parameters
    ----------
    field
        Where content goes.
    pixel_size_angst
        Å/px of the frames.

    Raises
    ------
    UnusableImage
        A shift as large as the frame.
    """
    height, width = field.shape_px
    y, x = (
        np.arange(math.ceil(side / _STEP_PX) + 1, dtype=np.float64) * _STEP_PX
        for side in (height, width)
    )
    shift = field_on_grid(field, y, x) / pixel_size_angst
    most = float(np.abs(shift).max())
    if most >= min(height, width):
        raise UnusableImage(
            f"Content moves by {most:.0f} px in frames of {height} x {width} px.",
            hint="Leave this movie out; was the stage moved meanwhile?",
        )
    span = float(np.ptp(shift[..., 0], axis=2).max())
    return ShiftLattice(
        shift_px=shift.astype(np.float32),
        step_px=_STEP_PX,
        margin_px=math.ceil(most) + _TAPS,
        ring_rows=math.ceil(span) + 2 * _TAPS,
    )


def add_moved(
    frame: NDArray[Any],
    gain: NDArray[np.float32],
    lattice: ShiftLattice,
    number: int,
    *,
    out: NDArray[np.float32],
    rows: range,
    beyond: float,
) -> None:
    """Add rows of a frame whose content is moved to where it belongs.

    Parameters
    ----------
    frame
        ``(h, w)`` C-contiguous counts of any real type.
    gain
        ``(h, w)``, or ``(1, 1)`` for none.
    lattice, number
        Shifts of all frames, and which frame this is.
    out
        ``(h, w)`` C-contiguous: the result is added to these rows of it.
    rows
        Which; other threads may do others.
    beyond
        What stands for what lies beyond the frame's edges: its mean, times the gain.
    """
    shift = lattice.shift_px[number]
    _add_rows(
        frame,
        gain,
        np.ascontiguousarray(shift[..., 0]),
        np.ascontiguousarray(shift[..., 1]),
        lattice.step_px,
        lattice.margin_px,
        lattice.ring_rows,
        out,
        rows.start,
        rows.stop,
        np.float32(beyond),
    )


@compiled
def _add_rows(
    frame: NDArray[Any],
    gain: NDArray[np.float32],
    shift_y: NDArray[np.float32],
    shift_x: NDArray[np.float32],
    step: int,
    margin: int,
    ring_rows: int,
    out: NDArray[np.float32],
    first: int,
    stop: int,
    beyond: np.float32,
) -> None:
    width = frame.shape[1]
    ring = np.empty((ring_rows, width), np.float32)
    line = np.full(width + 2 * margin, beyond, np.float32)
    at_y, at_x = np.empty_like(shift_y[0]), np.empty_like(shift_x[0])
    done = -(1 << 40)
    for y in range(first, stop):
        _between_nodes(shift_y, y, step, at_y)
        _between_nodes(shift_x, y, step, at_x)
        top = y + int(np.floor(at_y.min())) - 1
        bottom = y + int(np.floor(at_y.max())) + 2
        for row in range(max(top, done + 1), bottom + 1):
            _fill(frame, gain, row, beyond, ring[row % ring_rows])
        done = max(done, bottom)
        _take_rows(ring, at_y, y, step, line[margin : margin + width])
        _add_columns(line, at_x, margin, step, out[y])


@compiled
def _between_nodes(
    shift: NDArray[np.float32], y: int, step: int, out: NDArray[np.float32]
) -> None:
    node = y // step
    below = np.float32(y - node * step) / np.float32(step)
    above = np.float32(1) - below
    for k in range(len(out)):
        out[k] = above * shift[node, k] + below * shift[node + 1, k]


@compiled
def _fill(
    frame: NDArray[Any],
    gain: NDArray[np.float32],
    row: int,
    beyond: np.float32,
    out: NDArray[np.float32],
) -> None:
    if row < 0 or row >= len(frame):
        out[:] = beyond
    elif gain.size > 1:
        _convert_with_gain(frame[row], gain[row], out)
    else:
        _convert(frame[row], out)


@compiled
def _take_rows(
    ring: NDArray[np.float32],
    shift: NDArray[np.float32],
    y: int,
    step: int,
    out: NDArray[np.float32],
) -> None:
    """Interpolate along y, a segment of one whole shift after the other."""
    count = len(ring)
    for k in range(len(shift) - 1):
        left, right = k * step, min(k * step + step, len(out))
        whole = int(np.floor((shift[k] + shift[k + 1]) * np.float32(0.5)))
        at = y + whole
        _interpolate(
            ring[(at - 1) % count, left:right],
            ring[at % count, left:right],
            ring[(at + 1) % count, left:right],
            ring[(at + 2) % count, left:right],
            shift[k] - np.float32(whole),
            (shift[k + 1] - shift[k]) / np.float32(step),
            out[left:right],
        )


@compiled
def _add_columns(
    line: NDArray[np.float32],
    shift: NDArray[np.float32],
    margin: int,
    step: int,
    out: NDArray[np.float32],
) -> None:
    """Do so along x, and add."""
    for k in range(len(shift) - 1):
        left, right = k * step, min(k * step + step, len(out))
        whole = int(np.floor((shift[k] + shift[k + 1]) * np.float32(0.5)))
        low, high = margin + left + whole, margin + right + whole
        _add_interpolated(
            line[low - 1 : high - 1],
            line[low:high],
            line[low + 1 : high + 1],
            line[low + 2 : high + 2],
            shift[k] - np.float32(whole),
            (shift[k + 1] - shift[k]) / np.float32(step),
            out[left:right],
        )


@compiled
def _convert(counts: NDArray[Any], out: NDArray[np.float32]) -> None:
    for i in range(len(out)):
        out[i] = np.float32(counts[i])


@compiled
def _convert_with_gain(
    counts: NDArray[Any], gain: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    for i in range(len(out)):
        out[i] = np.float32(counts[i]) * gain[i]


@compiled
def _interpolate(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    c: NDArray[np.float32],
    d: NDArray[np.float32],
    start: np.float32,
    slope: np.float32,
    out: NDArray[np.float32],
) -> None:
    half, one = np.float32(0.5), np.float32(1)
    for i in range(len(out)):
        f = start + slope * np.float32(i)
        square = f * f
        cube = square * f
        wa = square - half * (cube + f)
        wd = half * (cube - square)
        wb = np.float32(1.5) * cube - np.float32(2.5) * square + one
        wc = one - wa - wb - wd
        out[i] = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]


@compiled
def _add_interpolated(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    c: NDArray[np.float32],
    d: NDArray[np.float32],
    start: np.float32,
    slope: np.float32,
    out: NDArray[np.float32],
) -> None:
    half, one = np.float32(0.5), np.float32(1)
    for i in range(len(out)):
        f = start + slope * np.float32(i)
        square = f * f
        cube = square * f
        wa = square - half * (cube + f)
        wd = half * (cube - square)
        wb = np.float32(1.5) * cube - np.float32(2.5) * square + one
        wc = one - wa - wb - wd
        out[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]


def add_moved_anywhere(
    frame: Tensor,
    lattice: ShiftLattice,
    number: int,
    *,
    out: Tensor,
    beyond: float,
) -> None:
    """Do as `add_moved` on any device, all rows.

    Parameters
    ----------
    frame
        ``(h, w)`` float32, times the gain.
    lattice, number, beyond
        As of `add_moved`.
    out
        ``(h, w)`` float32: the result is added to it.
    """
    height, width = out.shape
    margin, step = lattice.margin_px, lattice.step_px
    shift = torch.from_numpy(lattice.shift_px[number]).to(out)
    y, x = (torch.arange(side, device=out.device) for side in (height, width))
    at = _between_rows(shift, y, step)
    whole, part = _split(at, x, step)
    padded = torch.nn.functional.pad(frame, [0, 0, margin, margin], value=beyond)
    base = y[:, None] + whole[..., 0] + margin
    taps = zip((-1, 0, 1, 2), _keys(part[..., 0]), strict=True)
    moved = sum(weight * padded[base + tap, x[None]] for tap, weight in taps)
    padded = torch.nn.functional.pad(torch.as_tensor(moved), [margin] * 2, value=beyond)
    base = x[None] + whole[..., 1] + margin
    for tap, weight in zip((-1, 0, 1, 2), _keys(part[..., 1]), strict=True):
        out += weight * padded.gather(1, base + tap)


def _between_rows(shift: Tensor, y: Tensor, step: int) -> Tensor:
    """Return ``(h, columns, 2)``: shifts of the nodes' columns at every row."""
    node = torch.div(y, step, rounding_mode="floor")
    part = ((y - node * step) / step)[:, None, None]
    return (1 - part) * shift[node] + part * shift[node + 1]


def _split(at: Tensor, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return ``(h, w, 2)`` whole pixels, one number a segment, and what is left."""
    node = torch.div(x, step, rounding_mode="floor")
    left, right = at[:, node], at[:, node + 1]
    whole = torch.floor((left + right) * 0.5)
    part = left - whole + (right - left) * ((x - node * step) / step)[:, None]
    return whole.long(), part


def _keys(f: _Numbers) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
    """Return the weights of the four taps; of any kind of array."""
    square, cube = f * f, f * f * f
    a, d = square - 0.5 * (cube + f), 0.5 * (cube - square)
    b = 1.5 * cube - 2.5 * square + 1
    return a, b, 1 - a - b - d, d
