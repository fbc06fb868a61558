"""A session's runs as they are configured: the graph, the parameters, the setups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from icestream.domain.errors import InternalError
from icestream.streaming.workflow import RunSpec, Workflow, identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icestream.streaming.acquisitions import Arranger
    from icestream.streaming.protocol import Protocol
    from icestream.streaming.workflow import Port

__all__ = ["Plan", "Run"]

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One configured run.

    Parameters
    ----------
    spec
        Its place in the graph.
    protocol
        The protocol's class.
    params
        All its parameters, checked, as plain values.
    acquisition
        Of a source: the fields of its setup that each of its exposures gets.
    """

    spec: RunSpec
    protocol: type[Protocol[Any]]
    params: Mapping[str, Any]
    acquisition: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        name: str,
        protocol: type[Protocol[Any]],
        *,
        params: Mapping[str, Any] | None = None,
        inputs: Mapping[str, tuple[Port, ...]] | None = None,
        acquisition: Mapping[str, Any] | None = None,
    ) -> Run:
        """Configure a run of a protocol, or raise ``BadSettings``."""
        checked = protocol.parse(params or {})
        return cls(
            spec=RunSpec.of(name, protocol, inputs),
            protocol=protocol,
            params=checked.model_dump(mode="json"),
            acquisition=dict(acquisition or {}),
        )

    @property
    def identity(self) -> str:
        """Hash of protocol, revision, parameters and wiring."""
        return identity(self.protocol, self.params, self.spec.wiring)

    def make(self, kind: type[K]) -> K:
        """Make the protocol with its parameters; it must be of a kind."""
        protocol = self.protocol(self.protocol.parse(self.params))
        if not isinstance(protocol, kind):
            raise InternalError(f"Run {self.spec.name!r} is no {kind.__name__}.")
        return protocol


class Plan:
    """All configured runs of a session, and how acquisition fields are arranged."""

    def __init__(
        self, runs: Iterable[Run], *, arrangement: Arranger | None = None
    ) -> None:
        self.arrangement = arrangement
        self.runs = {one.spec.name: one for one in runs}
        self.workflow = Workflow(one.spec for one in self.runs.values())
