"""Write XML the way of the .NET serialiser: one line, prefixes declared where used."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

__all__ = ["NIL", "Identities", "element", "text"]

NIL = {"i:nil": "true"}
"""Attributes of an element without a value."""


def element(tag: str, *content: str, attributes: dict[str, str] | None = None) -> str:
    """Return one element.

    Parameters
    ----------
    tag
        With its prefix.
    content
        Elements, or what `text` returns.
    attributes
        Name, with its prefix, to value; declarations of prefixes too.
    """
    head = tag + "".join(
        f" {name}={quoteattr(value)}" for name, value in (attributes or {}).items()
    )
    inside = "".join(content)
    return f"<{head}>{inside}</{tag}>" if inside else f"<{head}/>"


def text(value: str | float | bool) -> str:
    """Return a value as .NET writes it: ``true``, ``1E-06`` in upper case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).upper().removesuffix(".0")
    return escape(str(value))


class Identities:
    """Count the ``z:Id`` attributes of one document."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, **further: str) -> dict[str, str]:
        """Return the attributes of the next object; ``further`` with prefix ``z:``."""
        self._last += 1
        attributes = {"z:Id": str(self._last)}
        return attributes | {f"z:{name}": value for name, value in further.items()}
