"""What a gate says of one exposure, and why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict"]


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
    """

    accepted: bool
    rule: str
    value: float | None = None
    limit: float | None = None
    reason: str = ""
