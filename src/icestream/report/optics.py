"""Optics groups: exposures with the same acquisition fields share one."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from icestream.domain import AcquisitionSetup, OpticsGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icestream.streaming.plan import Plan

__all__ = ["Optics"]

_FIELDS = tuple(one.name for one in fields(AcquisitionSetup) if one.name != "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """The optics groups of a session, and the one of each exposure.

    Parameters
    ----------
    groups
        Numbered from 1, in order of the sources and then of first arrival.
    of_key
        Group of each exposure whose acquisition is known.
    """

    groups: tuple[OpticsGroup, ...]
    of_key: Mapping[str, OpticsGroup]

    @classmethod
    def of(cls, plan: Plan, exposures: Iterable[tuple[str, str]]) -> Optics:
        """Make groups from the sources' setups and from exposures: key, fields as JSON.

        An exposure keeps the fields that it came with, so a setup that was changed in
        the middle of the session gives two groups; the later one gets another name.
        """
        found: dict[tuple[Any, ...], OpticsGroup] = {}
        of_key: dict[str, OpticsGroup] = {}
        for name, run in plan.runs.items():
            if run.acquisition:
                _group(found, run.acquisition, _name(plan, name))
        by_text: dict[tuple[str, str], OpticsGroup | None] = {}
        for key, text in exposures:
            same = (key.partition("/")[0], text)
            if same not in by_text:
                name = _name(plan, same[0])
                by_text[same] = _group(found, json.loads(text), name)
            group = by_text[same]
            if group is not None:
                of_key[key] = group
        return cls(groups=tuple(found.values()), of_key=of_key)


def _name(plan: Plan, source: str) -> str:
    if source not in plan.runs:
        return source
    return str(plan.runs[source].params.get("setup", source))


def _group(
    found: dict[tuple[Any, ...], OpticsGroup],
    acquisition: Mapping[str, Any],
    source_setup: str,
) -> OpticsGroup | None:
    name = str(acquisition.get("name") or acquisition.get("setup") or source_setup)
    identity = (name, *(acquisition.get(one) for one in _FIELDS))
    if identity in found:
        return found[identity]
    known = {one: acquisition[one] for one in _FIELDS if one in acquisition}
    if not {"pixel_size_angst", "voltage_kv"} <= set(known):
        return None
    taken = {one.name for one in found.values()}
    setup = AcquisitionSetup(name=name, **known)
    if name in taken:
        setup = replace(setup, name=_fresh(name, taken))
    found[identity] = OpticsGroup(number=len(found) + 1, setup=setup)
    return found[identity]


def _fresh(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
