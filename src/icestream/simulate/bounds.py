"""Refuse numbers that cannot be, by the name of the field and its value."""

from __future__ import annotations

import math

from icestream.domain.errors import BadSettings

__all__ = ["check_number", "check_range"]


def check_number(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> None:
    """Refuse a number out of bounds.

    Parameters
    ----------
    name
        What the message calls it.
    value
        The number.
    least, most
        Bounds that it may have.
    above
        A bound that it may not have.

    Raises
    ------
    BadSettings
        It is out of bounds, infinite or not a number.
    """
    if math.isfinite(value) and least <= value <= most and value > above:
        return
    raise BadSettings(f"{name}: {value:g} cannot be.", hint=_hint(least, most, above))


def check_range(
    name: str,
    values: tuple[float, float],
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> None:
    """Refuse a range that falls, or has a bound that `check_number` refuses."""
    low, high = values
    for one in values:
        check_number(name, one, least=least, most=most, above=above)
    if low > high:
        raise BadSettings(
            f"{name}: {low:g} to {high:g} cannot be.", hint="Give the lower one first."
        )


def _hint(least: float, most: float, above: float) -> str:
    bounds = [
        *([f"{least:g} or more"] if least > -math.inf else []),
        *([f"more than {above:g}"] if above > -math.inf else []),
        *([f"{most:g} at most"] if most < math.inf else []),
    ]
    return f"Give {', '.join(bounds) or 'a finite number'}."
