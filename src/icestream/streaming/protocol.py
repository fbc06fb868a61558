"""The four shapes of protocol: what an author writes.

============== ===================================== ==================
shape          the author writes                     who runs it
============== ===================================== ==================
``Source``     ``poll``: what appeared               session service
``PerItem``    ``process``: one key at a time        a slot
``Gate``       ``judge``: accepted or rejected       session service
``Aggregate``  ``update`` and ``snapshot``           a slot
============== ===================================== ==================

A protocol is made with its parameters and holds nothing else. Inputs and outputs are
named; their kinds are frozen dataclasses of scalars, strings and ``(n,)`` columns.
"""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from icestream.domain.errors import BadSettings, InternalError, cannot_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from icestream.domain.table import Table
    from icestream.domain.verdict import Verdict

__all__ = [
    "AcquisitionView",
    "Aggregate",
    "Context",
    "Gate",
    "Input",
    "Item",
    "Keep",
    "Missing",
    "Params",
    "PerItem",
    "Product",
    "Protocol",
    "Resources",
    "Sighting",
    "SightingState",
    "Source",
]

Item: TypeAlias = Any
"""A frozen dataclass that flows; which one, a protocol declares."""


class Params(BaseModel):
    """Parameters of a protocol: one model validates, documents and makes the flags."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


P = TypeVar("P", bound=Params)
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A named input: the kind of its items, and whether a key needs it.

    Of ``many`` outputs may each give one item for a key: they come as a mapping by the
    name of the run that made them, in the order in which they are connected. A key
    needs at least one of them, where it is required.
    """

    kind: type
    required: bool = True
    many: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands in for an optional input that this key does not have."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one task occupies: CPU threads, GPUs, and for how long at most."""

    threads: int = 1
    gpus: int = 0
    time_limit_s: float = 900.0


class Keep(StrEnum):
    """How long a product's file is kept.

    ``UNTIL_STALE`` is for aggregates: until a later update's state and snapshot name
    it no more.
    """

    KEEP = "keep"
    UNTIL_STALE = "until_stale"
    CACHE = "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A file that a step makes: write to ``temporary``, put ``path`` in the item."""

    temporary: Path
    path: str
    keep: Keep


class AcquisitionView:
    """The acquisition fields that a protocol declared to read, and no others."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, field: str) -> Any:  # noqa: ANN401 - fields differ in type
        if field.startswith("__"):
            raise AttributeError(field)
        try:
            return self._values[field]
        except KeyError:
            raise InternalError(
                f"Acquisition field {field!r} was read but not declared.",
                hint="Add it to the protocol's `reads`: only what is declared decides "
                "what is recomputed.",
            ) from None


class Context:
    """What a running step sees of the world: its key, its acquisition, its files.

    Parameters
    ----------
    key
        The exposure that is processed; empty for an aggregate's update.
    acquisition
        The declared acquisition fields of this exposure.
    session_folder
        Absolute path of the session; products and relative paths lie in it.
    product_stem
        Path of this task's products relative to the session, without ending; carries
        the content key.
    threads
        CPU threads that the task may use.
    """

    def __init__(
        self,
        *,
        key: str,
        acquisition: AcquisitionView,
        session_folder: Path,
        product_stem: str,
        threads: int = 1,
    ) -> None:
        self.key = key
        self.acquisition = acquisition
        self.threads = threads
        self.products: list[Product] = []
        self._session_folder = session_folder
        self._stem = product_stem

    def locate(self, path: str) -> Path:
        """Return the absolute path of a file named in an item."""
        return self._session_folder / path

    def product(self, ending: str, *, keep: Keep = Keep.KEEP) -> Product:
        """Announce a file, e.g. ``product(".mrcs")``; it appears only on success."""
        path = f"{self._stem}{ending}"
        final = self.locate(path)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(final, error) from error
        temporary = final.with_name(f".{final.stem}.partial{final.suffix}")
        product = Product(temporary=temporary, path=path, keep=keep)
        self.products.append(product)
        return product


class SightingState(StrEnum):
    """What a source thinks of a path."""

    TAKEN = "taken"
    WAITING = "waiting"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One line of the ingest ledger: a path, what was made of it, and why.

    ``key``, ``item`` and ``fingerprint`` belong to taken paths only, and so does what
    the source knows of how it was taken: ``acquisition``, plain values by name, which
    may come later than the path. On `Source.resume` they are all that is known.
    """

    path: str
    state: SightingState
    reason: str
    key: str | None = None
    item: Item | None = None
    fingerprint: str | None = None
    acquisition: Mapping[str, Any] = field(default_factory=dict)


class Protocol(ABC, Generic[P]):
    """What the four shapes share: a name, a model of parameters, a citation.

    ``reads`` names the acquisition fields that it uses; ``whole.part`` is one in a
    field that has parts, and `AcquisitionView` has it as ``part``.
    ``citation`` names whose method is followed; it is empty where none is. What it says
    stands in the report and in `icestream protocols NAME`.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    Params: ClassVar[type[BaseModel]] = Params
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[Mapping[str, type]] = {}
    reads: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()
    citation: ClassVar[str] = ""

    def __init__(self, params: P) -> None:
        self.params = params

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> BaseModel:
        """Check parameter values.

        Raises
        ------
        BadSettings
            A name is unknown or a value out of range; the message names it.
        """
        try:
            return cls.Params.model_validate(dict(values))
        except ValueError as error:
            raise BadSettings(
                f"Parameters of {cls.name}: {_explain(error)}.",
                hint=f"Known: {', '.join(cls.Params.model_fields) or 'none'}.",
            ) from error


class Source(Protocol[P]):
    """Yields items as they appear. Polled by the session service, in a thread."""

    def __init__(self, params: P) -> None:
        super().__init__(params)
        self._closed = threading.Event()

    @abstractmethod
    def poll(self) -> Sequence[Sighting]:
        """Return what changed since the last call."""

    @abstractmethod
    def resume(self, seen: Sequence[Sighting]) -> None:
        """Learn what the ledger already knows, before the first poll."""

    @property
    def interval_s(self) -> float:
        """Seconds between two polls."""
        return 1.0

    def wait(self, timeout_s: float) -> None:
        """Wait for the next poll; returns early when there is news, or on `close`."""
        self._closed.wait(timeout_s)

    def close(self) -> None:
        """Let go of what the source holds open. May be called from another thread."""
        self._closed.set()

    @property
    def finished(self) -> bool:
        """Whether the source knows that nothing more will come (seldom)."""
        return False


class PerItem(Protocol[P]):
    """Works on one key at a time: pure and stateless, its inputs joined by key."""

    @abstractmethod
    def process(
        self, context: Context, /, *args: Any, **inputs: Any
    ) -> Mapping[str, Item]:
        """Return one item per output. Inputs come as keywords, by their names.

        Raises
        ------
        ItemError
            The item cannot be processed; it is set aside and the stream goes on.
        """


class Gate(Protocol[P]):
    """Lets items pass to ``accepted`` or ``rejected``, unchanged, with a verdict.

    It has no state: what it knows are the numbers of all its keys, and the verdicts
    that stand. It is asked for new keys, and for all of them where its parameters have
    changed. A verdict is stored and not derived again.
    """

    passes: ClassVar[str]

    @abstractmethod
    def judge(self, table: Table) -> Sequence[Verdict | None]:
        """Return a verdict for each row that is asked for, in that order.

        ``None`` holds a row back: it is asked for again when there are other rows, or
        when the table is complete. Then no row may be held.
        """


class Aggregate(Protocol[P], Generic[P, S]):
    """Follows one output from change to change and publishes snapshots.

    The state is checkpointed with its place in the output's log: each change is
    counted exactly once. What is too large for it goes to products that the state
    names. Where it has ``notices``, a tuple of texts, people are told those that the
    state before did not have. ``outputs`` names the one snapshot.
    """

    @abstractmethod
    def start(self) -> S:
        """Return the state before the first change: a dataclass like an item."""

    @abstractmethod
    def update(
        self,
        context: Context,
        state: S,
        added: Sequence[Item],
        withdrawn: Sequence[Item],
    ) -> S:
        """Return the state with some items added and others taken out again."""

    @abstractmethod
    def snapshot(self, state: S) -> Item:
        """Return what is published of a state."""


def _explain(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'value'}: {one['msg']}"
        + (f" (got {one['input']!r})" if one["type"] != "missing" else "")
        for one in errors()
    )
