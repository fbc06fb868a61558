"""The eight ways in which a gain can lie against its movies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ORIENTATIONS", "Orientation"]

_T = TypeVar("_T", bound=np.generic)
_TURNS = ("", "turned by 90°", "turned by 180°", "turned by 270°")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """What to do to an array: mirror it, then turn it.

    Parameters
    ----------
    quarter_turns
        0 to 3; after one, the last column is the first row: counter-clockwise where
        row 0 is shown on top.
    is_mirrored
        Whether the columns are reversed before that.
    """

    quarter_turns: int = 0
    is_mirrored: bool = False

    def __post_init__(self) -> None:
        if self.quarter_turns not in range(4):
            raise BadSettings(
                f"An orientation of {self.quarter_turns} quarter turns.",
                hint="Give 0 to 3.",
            )

    def __str__(self) -> str:
        parts = ["mirrored left to right"] if self.is_mirrored else []
        parts += [_TURNS[self.quarter_turns]] if self.quarter_turns else []
        return ", then ".join(parts) or "as it is"

    def apply(self, array: NDArray[_T]) -> NDArray[_T]:
        """Return a copy that lies so, C-contiguous; ``(h, w)`` or ``(w, h)``."""
        mirrored: NDArray[Any] = array[:, ::-1] if self.is_mirrored else array
        return np.ascontiguousarray(np.rot90(mirrored, self.quarter_turns))

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that an array of this shape has then."""
        return shape[::-1] if self.quarter_turns % 2 else shape


ORIENTATIONS = tuple(
    Orientation(quarter_turns=turns, is_mirrored=is_mirrored)
    for is_mirrored in (False, True)
    for turns in range(4)
)
"""All eight, the one that changes nothing first."""
