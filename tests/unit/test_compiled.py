"""Compiled loops, also where nothing can be kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest

from icestream.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


def total(values: NDArray[np.float64]) -> float:
    """Add up, one by one."""
    found = 0.0
    for value in values:
        found += value
    return found


@pytest.mark.parametrize("can_keep", [True, False])
def test_a_compiled_loop_does_what_it_did(
    can_keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = numba.njit

    def njit(*given: Any, cache: bool = False, **how: Any) -> object:
        if cache and not can_keep:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*given, **how)

    monkeypatch.setattr(numba, "njit", njit)
    quick = compiled(total)

    assert quick is not total
    assert quick(np.arange(5.0)) == total(np.arange(5.0)) == 10
