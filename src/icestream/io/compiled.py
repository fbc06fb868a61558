"""Decoding loops that are compiled when they are first called."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled", "inlined"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a loop over bytes; it lets other threads run meanwhile.

    Parameters
    ----------
    function
        Within what numba compiles. Its integers are unsigned throughout: one that may
        be negative makes every index a branch.

    Returns
    -------
    callable
        The same, compiled. What was compiled is kept for the next process where a
        folder for it can be written.
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
