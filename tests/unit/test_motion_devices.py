"""What goes to another device must come back by itself; no such device is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.engines.motion import CorrectionRecipe, correct_movie, field_on_grid
from movie_scene import PIXEL_ANGST, SIDE, draw_frames

if TYPE_CHECKING:
    import pytest
    from numpy.typing import NDArray

RECIPE = CorrectionRecipe(
    pixel_size_angst=PIXEL_ANGST, dose_e_per_angst2=2.0, with_halves=True
)


def test_all_comes_back_from_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy reads no tensor of another device that was not brought back."""
    frames = draw_frames()
    here = correct_movie(frames.copy(), recipe=RECIPE)
    bring, read = torch.Tensor.cpu, torch.Tensor.numpy
    brought: list[torch.Tensor] = []

    def is_back(one: torch.Tensor) -> bool:
        return any(one is other for other in brought)

    def cpu(self: torch.Tensor) -> torch.Tensor:
        brought.append(bring(self).clone())
        return brought[-1]

    def numpy(self: torch.Tensor, **how: bool) -> NDArray[Any]:
        if not is_back(self):
            raise TypeError("Use Tensor.cpu() to copy the tensor to host memory first.")
        found: NDArray[Any] = read(self, **how)
        return found

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    # Not the name of the usual device, so that it is taken for another.
    there = correct_movie(frames, recipe=RECIPE, device="cpu:0")
    grid = np.linspace(0, SIDE - 1, 9)
    found, wanted = (
        field_on_grid(one.motion.field, grid, grid) for one in (there, here)
    )
    np.testing.assert_allclose(found, wanted, atol=0.03)
    for name in ("dose_weighted", "odd", "even"):
        image, same = (read(getattr(one.averages, name)) for one in (there, here))
        assert is_back(getattr(there.averages, name))
        np.testing.assert_allclose(image, same, atol=0.05 * same.std())
