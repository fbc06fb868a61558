"""One pass over memory gives what the library's own operations give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain.errors import InternalError
from icestream.simulate import warp as warping
from icestream.simulate.columns import inverse_along_y, turned_anywhere

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = 96, 70


@pytest.mark.parametrize("way", [(0.0, 0.0), (0.3, -0.2), (-1.1, 0.8), (5.0, -3.0)])
def test_columns_are_turned_blurred_and_put_in_their_place(
    way: tuple[float, float],
) -> None:
    chance = torch.Generator().manual_seed(1)
    planes = torch.randn(2, 5, HEIGHT, generator=chance)
    along_y = torch.randn(3, HEIGHT, generator=chance)
    along_x = torch.randn(3, 5, generator=chance)
    along_y[2], along_x[2] = torch.fft.fftfreq(HEIGHT), torch.linspace(0, 0.5, 5)
    whole = torch.zeros(HEIGHT, 9, dtype=torch.complex64)
    way_px = np.array(way)

    inverse_along_y(
        planes, along_y=along_y, along_x=along_x, way_px=way_px, out=whole, first=3
    )

    turned = turned_anywhere(planes, along_y, along_x, way_px)
    expected = torch.fft.ifft(turned, dim=1).T
    torch.testing.assert_close(whole[:, 3:8], expected, atol=1e-4, rtol=0)
    assert not whole[:, :3].any()
    assert not whole[:, 8:].any()


def test_the_warp_is_the_same_by_any_device_s_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = torch.randn(HEIGHT + 20, WIDTH + 20, generator=torch.Generator())

    def shift_px(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        y, x = np.broadcast_arrays(y, x)
        return np.stack([1.4 + 4e-3 * x, -2.1 + 3e-3 * y - 2e-3 * x], axis=-1)

    def warped() -> torch.Tensor:
        return warping.warp(image, shift_px, shape=(HEIGHT, WIDTH), margin_px=9)

    quick = warped()
    monkeypatch.setattr(warping, "_weigh", warping.weigh_anywhere)

    torch.testing.assert_close(quick, warped(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("shift", [(6.6, 0.0), (0.0, -6.6), (-6.6, 6.6)])
def test_a_warp_never_reads_beside_the_image(shift: tuple[float, float]) -> None:
    image = torch.zeros(HEIGHT + 18, WIDTH + 18)

    def shift_px(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.broadcast_to(shift, (*np.broadcast(y, x).shape, 2)).copy()

    with pytest.raises(InternalError, match="margin of 9 px"):
        warping.warp(image, shift_px, shape=(HEIGHT, WIDTH), margin_px=9)
