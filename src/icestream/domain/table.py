"""Numbers of many exposures side by side, for whoever judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a gate knows of its exposures, in columns.

    Parameters
    ----------
    numbers
        ``(row,)`` each, by the name of the field that holds it; a boolean is 0 or 1,
        NaN is a missing value. A name whose input is not connected has no column; a
        name that an input before has is ``input.name``.
    words
        ``(row,)`` of texts, by acquisition field; empty where it has none.
    rank
        ``(row,)`` how many exposures of the same setup arrived before this one.
    standing
        ``(row,)`` 1 accepted, 0 rejected by the verdict that stands, -1 without one.
    asked
        Rows for which a verdict is wanted.
    is_complete
        Whether no row will come any more.
    """

    numbers: Mapping[str, NDArray[np.float64]]
    words: Mapping[str, NDArray[np.object_]]
    rank: NDArray[np.int64]
    standing: NDArray[np.int8]
    asked: NDArray[np.intp]
    is_complete: bool = False
