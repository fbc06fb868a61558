"""What a gate says of one exposure, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icestream.domain.errors import InternalError

__all__ = ["Verdict"]

_INF = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Accepted or rejected, with the rule, the value and the limit that decided.

    Parameters
    ----------
    accepted
        Whether the item flows on.
    rule
        The rule that decided, e.g. ``resolution_angst``; ``all`` where all passed.
    value, limit
        What was found and what was allowed; ``None`` where it does not apply.
    reason
        In words for people, e.g. ``missing``.

    Raises
    ------
    InternalError
        ``accepted`` is neither yes nor no, or there is no rule.
    """

    accepted: bool
    rule: str
    value: float | None = None
    limit: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        given: tuple[object, object] = (self.accepted, self.rule)
        if given[0] is None or not isinstance(given[1], str) or not given[1]:
            raise InternalError(
                f"A verdict says accepted={self.accepted!r} by rule {self.rule!r}.",
                hint="It needs True or False, and the name of the rule that decided.",
            )
        # A column's value (a NumPy scalar) becomes a plain one that can be stored.
        if type(self.accepted) is not bool:
            object.__setattr__(self, "accepted", bool(self.accepted))
        for name in ("value", "limit"):
            number = getattr(self, name)
            if number is not None and (
                type(number) is not float or not -_INF < number < _INF
            ):
                number = float(number) if math.isfinite(number) else None
                object.__setattr__(self, name, number)
        for name in ("rule", "reason"):
            text = getattr(self, name)
            if not (type(text) is str and text.isascii()):
                text = str(text).encode("utf-8", "backslashreplace").decode()
                object.__setattr__(self, name, text)
