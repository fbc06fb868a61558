"""Words, numbers and units as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from icestream.domain.units import micrometre_from_angst

if TYPE_CHECKING:
    from icestream.domain.verdict import Verdict
    from icestream.report.results import Rate

__all__ = [
    "Quantity",
    "clock",
    "day_and_time",
    "duration",
    "number",
    "percent",
    "plain",
    "quantity",
    "rate_text",
    "verdict_sentence",
]

_THIN_SPACE = "\u202f"
_LABELS = {
    "total_angst": "whole path of motion",
    "early_angst": "path up to 4 e⁻/Å²",
    "late_angst": "path after 4 e⁻/Å²",
}
_UNITS = {
    "e_per_angst2": "e⁻/Å²",
    "angst": "Å",
    "px": "px",
    "deg": "°",
    "kv": "kV",
    "mm": "mm",
    "s": "s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How a named value is shown.

    Parameters
    ----------
    label
        Its name in words, lower case.
    unit
        The unit that people read, or nothing.
    factor
        From the stored unit to that one.
    digits
        Digits after the point.
    """

    label: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 2

    def text(self, value: float | None) -> str:
        """Return a value with its unit."""
        if value is None:
            return "–"
        shown = number(value * self.factor, self.digits)
        gap = "" if self.unit == "°" or not self.unit else "\u00a0"
        return f"{shown}{gap}{self.unit}"


def quantity(name: str) -> Quantity:
    """Take the name of a field apart: ``defocus_u_angst`` is read in µm."""
    words, unit = name, ""
    for ending, found in _UNITS.items():
        if name.endswith(f"_{ending}"):
            words, unit = name.removesuffix(f"_{ending}"), found
            break
    label = _LABELS.get(name) or words.replace("_", " ").strip()
    if unit == "Å" and "defocus" in name:
        return Quantity(label=label, unit="µm", factor=micrometre_from_angst(1))
    if unit == "Å":
        return Quantity(label=label, unit=unit, digits=_angst_digits(name))
    return Quantity(label=label, unit=unit)


def _angst_digits(name: str) -> int:
    if "pixel" in name:
        return 3
    return 0 if "astigmatism" in name or "diameter" in name else 1


def verdict_sentence(verdict: Verdict) -> str:
    """Say why, with value and limit: ``resolution 8.1 Å > 6 Å``."""
    shown = quantity(verdict.rule)
    if verdict.value is None or verdict.limit is None:
        return f"{shown.label}: {verdict.reason}" if verdict.reason else shown.label
    if verdict.accepted:
        sign = "≤" if verdict.value <= verdict.limit else "≥"
    else:
        sign = ">" if verdict.value > verdict.limit else "<"
    value, limit = shown.text(verdict.value), shown.text(verdict.limit)
    if value == limit:
        value = Quantity(
            label="", unit=shown.unit, factor=shown.factor, digits=shown.digits + 2
        ).text(verdict.value)
    return f"{shown.label} {value} {sign} {limit}"


def number(value: float | None, digits: int = 0) -> str:
    """Group thousands by thin spaces and drop zeros at the end; ``–`` for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}"
    if digits:
        text = text.rstrip("0").rstrip(".")
    return ("0" if text == "-0" else text).replace(",", _THIN_SPACE)


def percent(part: float, whole: float) -> str:
    """Return a share as a whole per cent, never rounded up to all or down to none."""
    if not whole or not part:
        return "0\u00a0%"
    rounded = round(100 * part / whole)
    if part < whole:
        rounded = min(max(rounded, 1), 99)
    return f"{rounded}\u00a0%"


def plain(value: object) -> str:
    """Show any parameter or scalar: short numbers, words for nothing and for yes."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value) or "none"
    return str(value)


def duration(seconds: float | None) -> str:
    """Say how long, in the two largest units that matter."""
    if seconds is None:
        return "–"
    if seconds < 0.1:
        return f"{1000 * seconds:.0f}\u00a0ms"
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes}\u00a0min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}\u00a0h {minutes:02d}\u00a0min"
    days, hours = divmod(hours, 24)
    return f"{days}\u00a0d {hours}\u00a0h"


def rate_text(rate: Rate | None) -> str:
    """Say a rate: ``450 per hour``; ``18 in 42 s`` if that is too short."""
    if rate is None:
        return "–"
    if rate.per_hour is None and rate.span_s < 1:
        return f"{number(rate.count)} at once"
    if rate.per_hour is None:
        return f"{number(rate.count)} in {duration(rate.span_s)}"
    return f"{number(rate.per_hour)} per hour"


def clock(seconds: float) -> str:
    """Return the local time of day."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M}"


def day_and_time(seconds: float | None) -> str:
    """Return the local date and time with the name of the zone."""
    if seconds is None:
        return "–"
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %Z}"
