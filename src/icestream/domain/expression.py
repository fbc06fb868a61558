"""A small language of numbers: columns in, a column out.

It has ``+ - * / **``, parentheses, numbers, names, and ``abs sqrt log exp minimum
maximum``. A missing value (NaN) makes every result that it enters missing, and so does
what has no finite result: a division by zero, the root of a negative number.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "Expression"]

_LONGEST = 300
_DEEPEST = 30
_TOKEN = re.compile(
    r"[ \t]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|[A-Za-z_]\w*|\*\*|[-+*/(),]",
    re.ASCII,
)

Number: TypeAlias = "NDArray[np.float64] | float"
Evaluation: TypeAlias = "Callable[[Mapping[str, NDArray[np.float64]]], Number]"

FUNCTIONS: dict[str, tuple[Callable[..., Number], bool]] = {
    "abs": (np.abs, False),
    "sqrt": (np.sqrt, False),
    "log": (np.log, False),
    "exp": (np.exp, False),
    "minimum": (np.minimum, True),
    "maximum": (np.maximum, True),
}
"""Functions by name, and whether one takes several numbers instead of one."""


def _power(base: Number, exponent: Number) -> Number:
    """Raise to a power; NumPy's own makes 1 of ``nan ** 0`` and ``1 ** nan``."""
    broken = np.isnan(base) | np.isnan(exponent)
    return np.where(broken, np.nan, np.power(base, exponent))


_PAIRS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
    ast.Pow: _power,
}


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read and holds nothing but what the language has.

    Parameters
    ----------
    text
        As it was written, e.g. ``astigmatism_angst / defocus_angst``.

    Raises
    ------
    BadSettings
        It cannot be read, or is too long or too deep; the message says where.
    """

    text: str
    names: frozenset[str] = field(init=False)
    _evaluation: Evaluation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tree = _parsed(self.text)
        object.__setattr__(self, "_evaluation", _read(tree, self.text.strip(" \t")))
        names = (one.id for one in ast.walk(tree) if isinstance(one, ast.Name))
        object.__setattr__(self, "names", frozenset(names) - FUNCTIONS.keys())

    def __str__(self) -> str:
        return self.text

    def evaluate(self, columns: Mapping[str, NDArray[np.float64]]) -> Number:
        """Work it out for all rows at once.

        Parameters
        ----------
        columns
            ``(row,)`` each, at least those of `names`.

        Returns
        -------
        array or float
            ``(row,)``; one number where no name stands in it. NaN is a missing value.
        """
        with np.errstate(all="ignore"):
            return self._evaluation(columns)


def _parsed(text: str) -> ast.expr:
    text = text.strip(" \t")
    if len(text) > _LONGEST:
        raise BadSettings(
            f"An expression of {len(text)} characters is too long.",
            hint=f"It may have {_LONGEST}: {text[:20]} ...",
        )
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise _unreadable(text, at, f"{text[at]!r} does not belong there")
        at = token.end()
    try:
        # Spaces instead of tabs, whose number would be read as an indent.
        return ast.parse(text.replace("\t", " "), mode="eval").body
    except SyntaxError as error:
        at = max(0, (error.offset or 1) - 1)
        raise _unreadable(text, at, "this cannot be read") from error
    except (MemoryError, RecursionError) as error:
        raise _unreadable(text, 0, "it is nested too deeply") from error


def _read(node: ast.expr, text: str, depth: int = 0) -> Evaluation:
    """Make a function of the columns; refuse what the language does not have."""
    if depth > _DEEPEST:
        raise _unreadable(text, node.col_offset, "it is nested too deeply")
    match node:
        case ast.Constant():
            return _constant(node, text)
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise _unreadable(text, node.col_offset, f"{name} needs parentheses")
            return lambda columns: _finite(columns[name])
        case ast.UnaryOp(op=ast.USub()):
            inner = _read(node.operand, text, depth + 1)
            return lambda columns: -inner(columns)
        case ast.BinOp(left=left, right=right) if type(node.op) in _PAIRS:
            return _applied(_PAIRS[type(node.op)], [left, right], text, depth)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _applied(_function(node, name, text), args, text, depth)
    raise _unreadable(text, node.col_offset, "this is not part of the language")


def _constant(node: ast.Constant, text: str) -> Evaluation:
    if type(node.value) not in (int, float):
        raise _unreadable(text, node.col_offset, "this is no number")
    number = float(node.value)  # type: ignore[arg-type]
    if not np.isfinite(number):
        raise _unreadable(text, node.col_offset, "the number is too large")
    return lambda _: number


def _function(node: ast.Call, name: str, text: str) -> Callable[..., Number]:
    if name not in FUNCTIONS:
        raise _unreadable(text, node.col_offset, f"there is no function {name!r}")
    function, takes_several = FUNCTIONS[name]
    if not (len(node.args) > 1 if takes_several else len(node.args) == 1):
        wanted = "two numbers or more" if takes_several else "one number"
        raise _unreadable(text, node.col_offset, f"{name} takes {wanted}")
    if not takes_several:
        return function
    return lambda *numbers: functools.reduce(function, numbers)


def _applied(
    function: Callable[..., Number], args: Sequence[ast.expr], text: str, depth: int
) -> Evaluation:
    inner = [_read(one, text, depth + 1) for one in args]
    return lambda columns: _finite(function(*(one(columns) for one in inner)))


def _finite(number: Number) -> Number:
    """Make NaN of what is infinite: it must not come back as a number."""
    return np.where(np.isfinite(number), number, np.nan)


def _unreadable(text: str, at: int, why: str) -> BadSettings:
    return BadSettings(
        f"Expression {text!r}: {why}, at character {at + 1}.",
        hint=f"It may have numbers, names, + - * / **, ( ) and {', '.join(FUNCTIONS)}.",
    )
