"""The value that says where content goes refuses what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from icestream.domain import MotionField
from icestream.domain.errors import BadSettings


def test_counts_its_frames() -> None:
    field = MotionField(
        shape_px=(40, 50),
        shift_angst=np.zeros((7, 2)),
        local_angst=np.zeros((7, 4, 5, 2)),
    )
    assert field.frame_count == 7


@pytest.mark.parametrize(
    ("shift", "local"),
    [
        (np.zeros((7, 3)), None),
        (np.zeros((0, 2)), None),
        (np.zeros((7, 2)), np.zeros((6, 4, 4, 2))),
        (np.zeros((7, 2)), np.zeros((7, 3, 4, 2))),
        (np.zeros((7, 2)), np.zeros((7, 4, 2))),
        (np.full((7, 2), np.nan), None),
        (np.zeros((7, 2)), np.full((7, 4, 4, 2), np.inf)),
    ],
)
def test_refuses_shapes_and_values(
    shift: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    local: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None,
) -> None:
    with pytest.raises(BadSettings):
        MotionField(shape_px=(40, 50), shift_angst=shift, local_angst=local)
