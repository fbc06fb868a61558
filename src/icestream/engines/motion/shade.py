"""What lets few electrons through, foil above all, is left out of the alignment.

Its edge is stronger than all content, and says nothing of motion along itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["light_weight"]

_BLOCK_ANGST = 50.0
# A block is dark with less than this share of the light in bright ones; so many blocks
# around it are left out too. With less than this share of the image left, all is used.
_DARK, _BRIGHT = 0.6, 0.9
_AROUND = 2
_LEAST_LEFT = 0.1


def light_weight(frames: Tensor, *, pixel_size_angst: float) -> Tensor | None:
    """Return how much each place counts.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` real.
    pixel_size_angst
        Å/px.

    Returns
    -------
    Tensor or None
        ``(h, w)`` from 0 to 1, which changes over some 150 Å; ``None`` where nothing is
        dark, or next to all.
    """
    block = max(1, round(_BLOCK_ANGST / pixel_size_angst))
    if min(frames.shape[1:]) < block:
        return None
    light = avg_pool2d(frames.sum(0, dtype=torch.float32)[None, None], block)
    is_dark = (light < _DARK * torch.quantile(light, _BRIGHT)).float()
    if not is_dark.any():
        return None
    around = max_pool2d(is_dark, 2 * _AROUND + 1, stride=1, padding=_AROUND)
    if float(around.mean()) > 1 - _LEAST_LEFT:
        return None
    soft = avg_pool2d(1 - around, 3, 1, padding=1, count_include_pad=False) * (
        1 - around
    )
    size = (frames.shape[1], frames.shape[2])
    weight: Tensor = interpolate(soft, size, mode="bilinear", align_corners=False)[0, 0]
    return weight
