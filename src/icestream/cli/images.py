"""Images for the steps that run alone on files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icestream.io import read_micrograph

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["load_image"]


def load_image(path: Path) -> Tensor:
    """Return ``(h, w)`` float32 pixels, rows as stored; raises as `read_micrograph`.

    From now on one thread computes, as in a session's slots: images of this size gain
    little from more, and lose much (a factor of five was measured) on a busy machine.
    """
    torch.set_num_threads(1)
    return torch.from_numpy(read_micrograph(path))
