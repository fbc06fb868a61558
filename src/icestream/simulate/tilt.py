"""Defocus that changes across the image: what a tilted stage does to the whole field.

Each place has a transfer function of its own, but they differ by one phase,
``u b(g)``, with ``b = pi L D g^2``, the largest further defocus D and a coordinate u
from -1 to 1 across the axis. Jacobi and Anger part the two::

    exp(i u b) = sum over k of e_k i^k J_k(b) T_k(u),    e_0 = 1, e_k = 2

so that a few images, each filtered everywhere alike and weighted by a polynomial of
the place, add up to what every place shows by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import jv

from icestream.engines.ctf import defocus_slope
from icestream.simulate.ice import radial_frequency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from icestream.simulate.optics import Optics

__all__ = ["TiltSeries"]

# Finer detail than this may lose contrast where the series ends.
_FINEST_ANGST = 2.0
_LEAST = 1e-3
_NODES = 1 << 14


class TiltSeries:
    """The terms of the series for one tilted field.

    Parameters
    ----------
    canvas
        ``(H, W)``, px.
    optics
        Tilt and its axis.
    middle_px
        y and x of the image's middle on the canvas.
    pixel_size_angst, voltage_kv
        Å/px, kV.
    device
        Where the terms lie.

    Attributes
    ----------
    count
        How many terms reach 0.1 % at 2 Å.
    """

    def __init__(
        self,
        canvas: tuple[int, int],
        *,
        optics: Optics,
        middle_px: tuple[float, float],
        pixel_size_angst: float,
        voltage_kv: float,
        device: torch.device | str = "cpu",
    ) -> None:
        # As `defocus_at_angst` has it: less underfocus where the field lies higher.
        axis = math.radians(optics.tilt_axis_deg)
        rise = math.tan(math.radians(optics.tilt_deg)) * pixel_size_angst
        slopes = -rise * math.cos(axis), rise * math.sin(axis)
        along = [
            slope * (torch.arange(side, dtype=torch.float64) - middle)
            for slope, side, middle in zip(slopes, canvas, middle_px, strict=True)
        ]
        most_angst = sum(float(one.abs().max()) for one in along)
        self._y, self._x = (
            (one / max(most_angst, 1e-9)).float().to(device) for one in along
        )
        frequency = radial_frequency(canvas, pixel_size_angst, device=device)
        highest = float(frequency.max())
        per_g2 = defocus_slope(voltage_kv) * most_angst
        nodes = np.linspace(0, highest, _NODES + 1)
        finest = per_g2 * min(highest, 1 / _FINEST_ANGST) ** 2
        orders = np.arange(math.ceil(finest) + 30)
        self.count = int(np.flatnonzero(np.abs(jv(orders, finest)) > _LEAST)[-1]) + 1
        self._tables = torch.from_numpy(
            jv(np.arange(self.count)[:, None], per_g2 * nodes**2)
        ).to(device=device, dtype=torch.float32)
        self._node = (frequency.T * (_NODES / highest)).round_().to(torch.int32)

    def bessel(self, term: int, columns: slice) -> Tensor:
        """Return ``J_k(b)`` for some columns of the rfft2, ``(n, H)``."""
        node = self._node[columns]
        return self._tables[term].index_select(0, node.reshape(-1)).view(node.shape)

    def weights(self, rows: slice, columns: slice) -> Iterator[Tensor]:
        """Give ``e_k T_k(u)`` in a part of the canvas, one term after the other."""
        u = self._y[rows, None] + self._x[columns]
        now, after = torch.ones_like(u), u.clone()
        yield now.clone()
        for _ in range(1, self.count):
            yield 2 * after
            # T_(k+1) = 2 u T_k - T_(k-1)
            now = now.neg_().addcmul_(u, after, value=2)
            now, after = after, now
