"""Tasks on their way to a slot and back: envelopes, outcomes, and running one.

An envelope is plain data and names its protocol by import path, so a worker needs
nothing but the installed package. `guard` is the one place where any exception is
caught: a fault of an author's code becomes a `Failure`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import shutil
import time
import traceback
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from typing import Protocol as Contract

from icestream.domain.errors import (
    IcestreamError,
    IncompleteFile,
    InternalError,
    ItemError,
    SessionError,
    cannot_write,
)
from icestream.streaming.protocol import (
    AcquisitionView,
    Aggregate,
    Context,
    Missing,
    PerItem,
    Product,
)
from icestream.streaming.records import Record, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Artifact",
    "Envelope",
    "Executor",
    "Failure",
    "Fault",
    "Outcome",
    "Slot",
    "TaskId",
    "execute",
    "guard",
    "import_protocol",
]

T = TypeVar("T")

_LONGEST_MESSAGE = 2_000
_LONGEST_DETAILS = 50_000
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that only who writes can meet: no fault of an item."""

STATE = "state"
"""Name under which an aggregate's state travels, beside its snapshot."""


@dataclass(frozen=True, slots=True)
class TaskId:
    """One attempt at one task. ``key`` is empty for an aggregate's update."""

    run: str
    key: str
    content_key: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """All that a slot needs to know to run one task.

    Parameters
    ----------
    task
        Which attempt this is.
    protocol
        Import path, ``module:Class``.
    params
        Its parameters as plain values.
    inputs
        Records by input name; for an aggregate its ``state``, where it has one.
    added, withdrawn
        For an aggregate: records that come and that go.
    acquisition
        The fields that the protocol declares to read.
    session_folder, product_stem
        Where products go; the stem carries the content key.
    threads
        CPU threads that the task may use.
    time_limit_s
        After this the slot is restarted.
    """

    task: TaskId
    protocol: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Record | Missing] = field(default_factory=dict)
    added: Sequence[Record] = ()
    withdrawn: Sequence[Record] = ()
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    session_folder: str = "."
    product_stem: str = "product"
    threads: int = 1
    time_limit_s: float = 900.0


class Fault(StrEnum):
    """Whose fault a failure is, and so what happens next.

    ``LOST`` is said of the task that ran when its worker died, ``DROPPED`` of those
    that merely waited behind it, and of one that was killed for the memory of others.
    """

    ITEM = "item"
    INCOMPLETE = "incomplete"
    SESSION = "session"
    LOST = "lost"
    DROPPED = "dropped"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed. ``cause`` is short and equal for equal failures."""

    fault: Fault
    cause: str
    message: str
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A product's file: path relative to the session, size, and how long it is kept."""

    path: str
    size_bytes: int
    keep: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one attempt: records by output name, or a failure."""

    task: TaskId
    outputs: Mapping[str, Record] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    failure: Failure | None = None
    slot: str = ""
    started: float = 0.0
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place where one task runs at a time, with GPUs of its own."""

    name: str
    threads: int = 1
    gpus: int = 0


class Executor(Contract):
    """Runs independent tasks on named slots. Holds no truth.

    Every submitted envelope is answered by exactly one outcome, handed to ``deliver``
    from any thread; a task whose worker died is answered by a `Fault.LOST` failure.
    """

    def start(self, deliver: Callable[[Outcome], None]) -> None:
        """Bring the slots up; returns when at least one can take a task."""

    def slots(self) -> Sequence[Slot]:
        """Return the slots that can take tasks now."""

    def submit(self, slot: str, bundle: Sequence[Envelope]) -> None:
        """Queue tasks on a slot, to be run there one after the other."""

    def restart_slot(self, slot: str) -> None:
        """End what runs on a slot, since it takes too long, and bring it up again."""

    def close(self) -> None:
        """End all slots and their processes."""


def import_protocol(path: str) -> type[Any]:
    """Return the class at ``module:Class``.

    Raises
    ------
    InternalError
        There is none on this machine.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise InternalError(
            f"Protocol {path!r} cannot be imported here: {error}.",
            hint="Install the same packages on every machine that runs tasks.",
        ) from error


def guard(work: Callable[[], T]) -> T | Failure:
    """Do some work that an author wrote; a fault of any kind becomes a `Failure`.

    This is the one place where every exception is caught, those included that would
    end the process: an author's ``sys.exit()`` must not end the service or a slot.
    """
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - the executor's edge
        return _failure(error)


def execute(envelope: Envelope, slot: str = "") -> Outcome:
    """Run one task and return what came of it; never raises for the task's fault."""
    started = time.time()
    clock = time.perf_counter()
    products: list[Product] = []
    result = guard(lambda: _run_and_publish(envelope, products))
    for product in products:
        # What cannot be removed (the folder has gone) is no reason to lose the answer.
        with contextlib.suppress(OSError):
            product.temporary.unlink(missing_ok=True)
    failure = result if isinstance(result, Failure) else None
    outputs, artifacts = ({}, ()) if isinstance(result, Failure) else result
    return Outcome(
        task=envelope.task,
        outputs=outputs,
        artifacts=artifacts,
        failure=failure,
        slot=slot,
        started=started,
        elapsed_s=time.perf_counter() - clock,
    )


def _run_and_publish(
    envelope: Envelope, products: list[Product]
) -> tuple[Mapping[str, Record], Sequence[Artifact]]:
    if envelope.task.attempt > 1:
        _remove_leftovers(envelope)
    outputs = _run(envelope, products)
    return outputs, _publish(products, Path(envelope.session_folder))


def _remove_leftovers(envelope: Envelope) -> None:
    """Remove what an attempt that was killed has left under temporary names."""
    stem = Path(envelope.session_folder) / envelope.product_stem
    with contextlib.suppress(OSError):
        for path in stem.parent.iterdir():
            name = path.name
            if name.startswith(".") and f".{stem.name}.partial" in name:
                path.unlink(missing_ok=True)


def _run(envelope: Envelope, products: list[Product]) -> Mapping[str, Record]:
    kind = import_protocol(envelope.protocol)
    protocol = kind(kind.parse(envelope.params))
    if isinstance(protocol, Aggregate):
        return _run_aggregate(protocol, envelope, products)
    if isinstance(protocol, PerItem):
        return _run_per_item(protocol, envelope, products)
    raise InternalError(f"{kind.__name__} is no protocol that runs on a slot.")


def _run_per_item(
    protocol: PerItem[Any], envelope: Envelope, products: list[Product]
) -> Mapping[str, Record]:
    inputs: dict[str, Any] = {
        name: {} for name, declared in protocol.inputs.items() if declared.many
    }
    for name, one in envelope.inputs.items():
        of, _, label = name.partition(".")
        kind = protocol.inputs[of].kind
        item = one if isinstance(one, Missing) else decode(one, kind)
        if label:
            inputs[of][label] = item
        else:
            inputs[of] = item
    for name in protocol.inputs:
        inputs.setdefault(name, Missing("is not connected"))
    items = protocol.process(_context(envelope, products), **inputs)
    if set(items) != set(protocol.outputs):
        raise InternalError(
            f"{protocol.name} returned {sorted(items)} instead of its declared outputs "
            f"{sorted(protocol.outputs)}."
        )
    for name, item in items.items():
        if not isinstance(item, protocol.outputs[name]):
            raise InternalError(
                f"{protocol.name} returned a {type(item).__name__} as {name!r} instead "
                f"of a {protocol.outputs[name].__name__}."
            )
    return {name: encode(item) for name, item in items.items()}


def _context(envelope: Envelope, products: list[Product]) -> Context:
    context = Context(
        key=envelope.task.key,
        acquisition=AcquisitionView(envelope.acquisition),
        session_folder=Path(envelope.session_folder),
        product_stem=envelope.product_stem,
        threads=envelope.threads,
    )
    context.products = products
    return context


def _run_aggregate(
    protocol: Aggregate[Any, Any], envelope: Envelope, products: list[Product]
) -> Mapping[str, Record]:
    (source,) = protocol.inputs.values()
    (output,) = protocol.outputs
    state = protocol.start()
    stored = envelope.inputs.get(STATE)
    if isinstance(stored, Record):
        state = decode(stored, type(state))
    state = protocol.update(
        _context(envelope, products),
        state,
        [decode(one, source.kind) for one in envelope.added],
        [decode(one, source.kind) for one in envelope.withdrawn],
    )
    return {STATE: encode(state), output: encode(protocol.snapshot(state))}


def _publish(products: Sequence[Product], folder: Path) -> Sequence[Artifact]:
    artifacts = []
    for product in products:
        final = folder / product.path
        size = _move(product.temporary, final)
        artifacts.append(
            Artifact(path=product.path, size_bytes=size, keep=product.keep.value)
        )
    return artifacts


def _move(temporary: Path, final: Path) -> int:
    """Give a product its name; returns its size in bytes."""
    try:
        size = temporary.stat().st_size
    except FileNotFoundError as error:
        raise InternalError(f"{temporary} was announced but not written.") from error
    try:
        shutil.move(temporary, final)
    except OSError as error:
        raise cannot_write(final, error) from error
    return size


def _failure(error: BaseException) -> Failure:
    if isinstance(error, OSError) and error.errno in _OF_WRITING:
        error = cannot_write(str(error.filename or "A product"), error)
    return Failure(
        fault=_fault(error),
        cause=type(error).__name__,
        message=_storable(_message(error), _LONGEST_MESSAGE),
        details=_storable("".join(traceback.format_exception(error)), _LONGEST_DETAILS),
    )


def _message(error: BaseException) -> str:
    if isinstance(error, IcestreamError):
        return str(error)
    # An author's error may fail to say what it is; this one always can.
    return "".join(traceback.format_exception_only(error)).strip()


def _storable(text: str, longest: int) -> str:
    """Return a text that any database takes: valid UTF-8, and not megabytes of it."""
    return text[:longest].encode("utf-8", "backslashreplace").decode()


def _fault(error: BaseException) -> Fault:
    for kind, fault in (
        (IncompleteFile, Fault.INCOMPLETE),
        (ItemError, Fault.ITEM),
        (SessionError, Fault.SESSION),
        (MemoryError, Fault.LOST),
    ):
        if isinstance(error, kind):
            return fault
    return Fault.INTERNAL if isinstance(error, Exception) else Fault.LOST
