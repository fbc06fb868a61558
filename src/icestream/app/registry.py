"""Protocols by name: ours and a facility's, found by their entry points."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import BadSettings
from icestream.streaming.execution import Failure, guard, import_protocol
from icestream.streaming.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        return _loaded(name, name, functools.partial(import_protocol, name))
    if name not in _entries():
        raise BadSettings(
            f"There is no protocol {name!r}.",
            hint=f"Installed: {', '.join(protocol_names())}.",
        )
    return _loaded(name, _entries()[name].value, _entries()[name].load)


def _loaded(name: str, place: str, load: Callable[[], Any]) -> type[Protocol[Any]]:
    """Import a protocol; what its author's module does wrong is said in words."""
    found = guard(load)
    if isinstance(found, Failure):
        raise BadSettings(
            f"Protocol {name!r} ({place}) cannot be loaded: {found.message}",
            hint="Mend the package that holds it, or choose another protocol.",
        )
    if not (isinstance(found, type) and issubclass(found, Protocol)):
        raise BadSettings(
            f"{name!r} is no protocol.",
            hint="Name a class made from Source, PerItem, Gate or Aggregate.",
        )
    return found
