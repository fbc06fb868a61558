"""Loops over pixels or bytes that are compiled for a CPU when they are first called."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled", "inlined"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function of arrays and numbers; it lets other threads run meanwhile.

    Parameters
    ----------
    function
        Within what numba compiles. Loops over one-dimensional slices, with no branch
        and few arrays, run on whole vectors. An index that may be negative is a branch:
        unsigned ones are quicker where loops go over bytes.

    Returns
    -------
    callable
        The same, a hundred times as quick. What was compiled is kept for the next
        process where a folder for it can be written, beside the source or the user's.
    """
    try:
        made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder can be written
        made = numba.njit(nogil=True, error_model="numpy")(function)
    return cast("Callable[_P, _R]", made)


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a part of compiled loops: it is put into each that calls it.

    Parameters
    ----------
    function
        As of `compiled`. Called from Python it would be compiled as well.

    Returns
    -------
    callable
        The same. Left to itself the compiler calls small functions, at twice the time.
    """
    made = numba.njit(inline="always", error_model="numpy")(function)
    return cast("Callable[_P, _R]", made)
