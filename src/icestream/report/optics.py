"""Optics groups: exposures with the same optics and beam share one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from icestream.domain import AcquisitionSetup, OpticsGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icestream.streaming.plan import Plan

__all__ = ["Optics"]

_FIELDS = (
    "pixel_size_angst",
    "voltage_kv",
    "spherical_aberration_mm",
    "amplitude_contrast",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """The optics groups of a session, and the one of each exposure.

    Parameters
    ----------
    groups
        In order of their numbers, from 1. Numbers that were given while exposures came
        stay; others follow, in order of the sources and then of first arrival.
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
        numbered: list[tuple[str, Mapping[str, Any]]] = []
        others: list[tuple[str, Mapping[str, Any]]] = []
        for key, text in exposures:
            acquisition = json.loads(text)
            which = numbered if "optics_group" in acquisition else others
            which.append((key, acquisition))
        sources = {_source(key) for key, _ in numbered}
        declared = [
            (f"{name}/", run.acquisition)
            for name, run in plan.runs.items()
            if run.acquisition and name not in sources
        ]
        found: dict[tuple[Any, ...], OpticsGroup] = {}
        of_key: dict[str, OpticsGroup] = {}
        for key, acquisition in (*numbered, *declared, *others):
            group = _group(found, acquisition, _name(plan, _source(key)))
            if group is not None:
                of_key[key] = group
        groups = sorted(found.values(), key=lambda one: one.number)
        return cls(groups=tuple(groups), of_key=of_key)


def _source(key: str) -> str:
    return key.partition("/")[0]


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
    beam = acquisition.get("optics_group", {})
    identity = (name, beam.get("number"), *(acquisition.get(one) for one in _FIELDS))
    if identity in found:
        return found[identity]
    known = {one: acquisition[one] for one in _FIELDS if one in acquisition}
    if not {"pixel_size_angst", "voltage_kv"} <= set(known):
        return None
    numbers = {one.number for one in found.values()}
    number = beam.get("number")
    if number is None or number in numbers:
        number = max(numbers, default=0) + 1
    group = OpticsGroup(
        number=number,
        setup=AcquisitionSetup(name=name, **known),
        is_of_beam=any(beam.get(one) for one in ("position", "beam_shift")),
    )
    taken = {one.name for one in found.values()}
    if group.name in taken:
        setup = replace(group.setup, name=_fresh(name, taken))
        group = replace(group, setup=setup)
    found[identity] = group
    return group


def _fresh(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
