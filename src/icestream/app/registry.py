"""Protocols by name: ours and a facility's, found by their entry points."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.streaming.protocol import Protocol

__all__ = ["find_protocol", "protocol_names"]

GROUP = "icestream.protocols"


@functools.cache
def _entries() -> Mapping[str, Any]:
    return {one.name: one for one in entry_points(group=GROUP)}


def protocol_names() -> list[str]:
    """Return the names of all protocols that are installed."""
    return sorted(_entries())


def find_protocol(name: str) -> type[Protocol[Any]]:
    """Return a protocol's class.

    Parameters
    ----------
    name
        As registered under the entry point group ``icestream.protocols``, or an import
        path ``module:Class``.

    Raises
    ------
    BadSettings
        None of this name is installed.
    """
    if ":" in name:
        from icestream.streaming.execution import import_protocol

        return import_protocol(name)
    if name not in _entries():
        raise BadSettings(
            f"There is no protocol {name!r}.",
            hint=f"Installed: {', '.join(protocol_names())}.",
        )
    try:
        return _entries()[name].load()  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise BadSettings(
            f"Protocol {name!r} ({_entries()[name].value}) cannot be loaded: {error}.",
            hint="Mend or uninstall the package that registers it.",
        ) from error
