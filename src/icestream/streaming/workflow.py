"""The graph of runs: which output feeds which input, checked before anything starts."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import BadSettings
from icestream.streaming.execution import import_protocol
from icestream.streaming.protocol import (
    Aggregate,
    Gate,
    PerItem,
    Protocol,
    Resources,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = [
    "ACCEPTED",
    "REJECTED",
    "Port",
    "RunSpec",
    "Shape",
    "Workflow",
    "declared_name",
    "identity",
    "item_id",
    "item_on",
    "passed",
]

ACCEPTED = "accepted"
REJECTED = "rejected"

_NAME = re.compile(r"\w[\w-]*")


class Shape(StrEnum):
    """The four shapes of protocol."""

    SOURCE = "source"
    PER_ITEM = "per_item"
    GATE = "gate"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class Port:
    """One output of one run."""

    run: str
    output: str

    def __str__(self) -> str:
        return f"{self.run}.{self.output}"


def item_id(content: str, output: str) -> str:
    """Return the id under which a result's item for one output is stored."""
    return f"{content}/{output}"


def passed(side: str, item: str) -> str:
    """Return what a gate's task publishes: a side, and the id of what it lets pass."""
    return f"{side}:{item}"


def declared_name(name: str) -> str:
    """Return the input that a protocol declares, of one of its many."""
    return name.partition(".")[0]


def item_on(output: str, published: str, *, shape: Shape) -> str | None:
    """Return the id of the item that a task of this shape has published on an output.

    ``None`` where a gate has let it pass to the other side.
    """
    if shape is not Shape.GATE:
        return item_id(published, output)
    side, _, item = published.partition(":")
    return item if side == output else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run: a protocol's static description and where its inputs come from.

    An input may be fed by several ports; each key comes from one of them. One that
    takes ``many`` stands here as several, ``estimate.ctf`` and ``estimate.second``,
    with a port each.
    """

    name: str
    shape: Shape
    inputs: Mapping[str, tuple[Port, ...]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    passes: str | None = None
    resources: Resources = field(default_factory=Resources)
    protocol: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        protocol: type[Protocol[Any]],
        inputs: Mapping[str, tuple[Port, ...]] | None = None,
    ) -> RunSpec:
        """Describe a run of a protocol.

        Raises
        ------
        BadSettings
            The inputs are not those that the protocol declares.
        """
        given = dict(inputs or {})
        required = frozenset(n for n, one in protocol.inputs.items() if one.required)
        if unknown := set(given) - set(protocol.inputs):
            raise BadSettings(
                f"Run {name!r}: {protocol.name} has no input {sorted(unknown)[0]!r}.",
                hint=f"It has: {', '.join(protocol.inputs) or 'none'}.",
            )
        if lacking := required - {n for n, ports in given.items() if ports}:
            raise BadSettings(
                f"Run {name!r}: input {sorted(lacking)[0]!r} is not connected.",
                hint="Name the output that feeds it, e.g. `ctf.ctf`.",
            )
        shape = _shape(protocol)
        passes = getattr(protocol, "passes", None)
        if shape is Shape.GATE and passes not in required:
            raise BadSettings(
                f"Gate {protocol.name} must pass one of its required inputs, not "
                f"{passes!r}."
            )
        many = frozenset(n for n, one in protocol.inputs.items() if one.many)
        return cls(
            name=name,
            shape=shape,
            inputs=_one_by_one(given, many),
            required=required,
            many=many,
            outputs=(ACCEPTED, REJECTED)
            if shape is Shape.GATE
            else tuple(protocol.outputs),
            reads=tuple(protocol.reads),
            passes=passes,
            resources=protocol.resources,
            protocol=f"{protocol.__module__}:{protocol.__qualname__}",
        )

    @property
    def wiring(self) -> dict[str, list[str]]:
        """The outputs that feed each input, as text."""
        return {n: [str(port) for port in ports] for n, ports in self.inputs.items()}

    def ports(self) -> Iterable[Port]:
        """All ports that feed this run."""
        return (port for ports in self.inputs.values() for port in ports)

    def needed(self) -> Iterable[list[str]]:
        """Yield groups of inputs; of each a key needs at least one."""
        for name in sorted(self.required):
            if name in self.many:
                yield [one for one in self.inputs if declared_name(one) == name]
            else:
                yield [name]


class Workflow:
    """Runs in an order in which each comes after those that feed it.

    Raises
    ------
    BadSettings
        Two runs share a name, a port does not exist or carries the wrong kind, or the
        runs form a circle.
    """

    def __init__(self, runs: Iterable[RunSpec]) -> None:
        given: dict[str, RunSpec] = {}
        for one in runs:
            if not _NAME.fullmatch(one.name):
                raise BadSettings(
                    f"{one.name!r} cannot be the name of a run or source.",
                    hint="Use letters, digits, `_` and `-`: it also names a folder.",
                )
            if one.name in given:
                raise BadSettings(f"Two runs are called {one.name!r}.")
            given[one.name] = one
        for spec in given.values():
            for port in spec.ports():
                if port.run not in given or port.output not in given[port.run].outputs:
                    raise BadSettings(
                        f"Run {spec.name!r} reads {port}, which does not exist.",
                        hint=f"There are: {', '.join(_all_ports(given.values()))}.",
                    )
        # No sets: their order differs by process, and the order numbers the changes.
        graph = {
            n: list(dict.fromkeys(port.run for port in one.ports()))
            for n, one in given.items()
        }
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise BadSettings(
                f"These runs feed each other in a circle: {' → '.join(error.args[1])}."
            ) from error
        self.runs: Mapping[str, RunSpec] = {name: given[name] for name in order}
        self.level = {name: index for index, name in enumerate(order)}
        self.downstream: Mapping[str, tuple[str, ...]] = {
            name: tuple(other for other in order if name in graph[other])
            for name in order
        }
        self.listeners = _aggregates_by_port(self.runs.values())
        self._check_kinds()

    def kind(self, port: Port) -> type:
        """Return the dataclass that flows on a port; a gate's is that of its input."""
        spec = self.runs[port.run]
        if spec.shape is Shape.GATE and spec.passes is not None:
            return self.kind(spec.inputs[spec.passes][0])
        return _protocol(spec.protocol).outputs[port.output]

    def _check_kinds(self) -> None:
        for spec in self.runs.values():
            if not spec.protocol:
                continue
            declared = _protocol(spec.protocol).inputs
            for name, ports in spec.inputs.items():
                for port in ports:
                    if self.runs[port.run].shape is Shape.AGGREGATE:
                        raise BadSettings(
                            f"Run {spec.name!r} reads {port}: snapshots of an "
                            "aggregate belong to no exposure and feed no run."
                        )
                    have, want = self.kind(port), declared[declared_name(name)].kind
                    if not issubclass(have, want):
                        raise BadSettings(
                            f"Run {spec.name!r}: input {name!r} takes {want.__name__}, "
                            f"but {port} carries {have.__name__}."
                        )


def identity(
    protocol: type[Protocol[Any]],
    params: Mapping[str, Any],
    wiring: Mapping[str, Sequence[str]],
) -> str:
    """Hash what makes a run another one: protocol, revision, parameters, wiring."""
    text = json.dumps(
        [protocol.name, protocol.revision, dict(params), dict(wiring)],
        sort_keys=True,
        default=str,
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@functools.cache
def _protocol(path: str) -> type[Protocol[Any]]:
    return import_protocol(path)


def _shape(protocol: type[Protocol[Any]]) -> Shape:
    for kind, shape in (
        (Source, Shape.SOURCE),
        (PerItem, Shape.PER_ITEM),
        (Gate, Shape.GATE),
        (Aggregate, Shape.AGGREGATE),
    ):
        if issubclass(protocol, kind):
            return shape
    raise BadSettings(f"{protocol.__name__} is none of the four shapes of protocol.")


def _one_by_one(
    inputs: Mapping[str, tuple[Port, ...]], many: Collection[str]
) -> dict[str, tuple[Port, ...]]:
    """Make an input of its own of each port that feeds one of many."""
    found: dict[str, tuple[Port, ...]] = {}
    for name, ports in inputs.items():
        if name not in many:
            found[name] = ports
            continue
        runs = [port.run for port in ports]
        for port in ports:
            label = port.run if runs.count(port.run) == 1 else str(port)
            found[f"{name}.{label}"] = (port,)
    return found


def _aggregates_by_port(specs: Iterable[RunSpec]) -> Mapping[Port, tuple[str, ...]]:
    found: dict[Port, tuple[str, ...]] = {}
    for spec in specs:
        if spec.shape is Shape.AGGREGATE:
            for port in spec.ports():
                found[port] = (*found.get(port, ()), spec.name)
    return found


def _all_ports(specs: Iterable[RunSpec]) -> list[str]:
    return [f"{one.name}.{output}" for one in specs for output in one.outputs]
