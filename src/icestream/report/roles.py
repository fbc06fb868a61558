"""Which run plays which part, found by what flows and not by the runs' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.domain import (
    Coordinates,
    Ctf,
    Micrograph,
    MovieMotion,
    Particles,
    Quality,
)
from icestream.streaming.workflow import Port, Shape

if TYPE_CHECKING:
    from icestream.streaming.plan import Plan

__all__ = ["Roles"]

_NUMBERS = (Quality,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The runs that a report and an export speak about.

    Where several runs make the same kind, the last one in the workflow's order counts:
    a consensus comes after what it judges.

    Parameters
    ----------
    sources, per_item, gates, aggregates
        Names of runs, upstream first.
    micrograph, motion, ctf, coordinates, particles
        Where each kind comes from; ``None`` where no run makes it.
    numbers
        Where further numbers of an exposure come from.
    spare
        Runs that others can do without: where they fail, the exposure has not failed.
    """

    sources: tuple[str, ...]
    per_item: tuple[str, ...]
    gates: tuple[str, ...]
    aggregates: tuple[str, ...]
    micrograph: Port | None
    motion: Port | None
    ctf: Port | None
    coordinates: Port | None
    particles: Port | None
    numbers: tuple[Port, ...] = ()
    spare: frozenset[str] = frozenset()

    @classmethod
    def of(cls, plan: Plan) -> Roles:
        """Find them in a session's plan."""
        return cls(
            sources=_named(plan, Shape.SOURCE),
            per_item=_named(plan, Shape.PER_ITEM),
            gates=_named(plan, Shape.GATE),
            aggregates=_named(plan, Shape.AGGREGATE),
            micrograph=_maker(plan, Micrograph),
            motion=_maker(plan, MovieMotion),
            ctf=_maker(plan, Ctf),
            coordinates=_maker(plan, Coordinates),
            particles=_maker(plan, Particles),
            numbers=tuple(
                port for kind in _NUMBERS if (port := _maker(plan, kind)) is not None
            ),
            spare=_spare(plan),
        )


def _named(plan: Plan, shape: Shape) -> tuple[str, ...]:
    return tuple(n for n, one in plan.workflow.runs.items() if one.shape is shape)


def _spare(plan: Plan) -> frozenset[str]:
    """Find the runs that feed others, but none that needs just them."""
    used: set[str] = set()
    needed: set[str] = set()
    for spec in plan.workflow.runs.values():
        used |= {port.run for port in spec.ports()}
        for names in spec.needed():
            if len(names) == 1:
                needed |= {port.run for port in spec.inputs[names[0]]}
    return frozenset(used - needed)


def _maker(plan: Plan, kind: type) -> Port | None:
    found = None
    for name in _named(plan, Shape.PER_ITEM):
        for output, made in plan.runs[name].protocol.outputs.items():
            if issubclass(made, kind):
                found = Port(name, output)
    return found
