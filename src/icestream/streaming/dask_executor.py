"""The executor of a workstation: one process per slot, run by dask.distributed.

Dask is used only as "run this independent task on that slot"; `dask_loop` says how.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from icestream.domain.errors import InternalError, cannot_write
from icestream.streaming.children import tail_of
from icestream.streaming.dask_loop import EngineLoop
from icestream.streaming.dask_node import AHEAD, RECORDS
from icestream.streaming.dask_slot import START_LIMIT_S
from icestream.streaming.execution import Envelope, Executor, Outcome, Slot
from icestream.streaming.processes import read_orphans, reap_strays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.processes import ProcessRecord

__all__ = ["DaskExecutor"]

CLOSE_LIMIT_S = 10.0
_SEEN_GPUS = "CUDA_VISIBLE_DEVICES"


class DaskExecutor(Executor):
    """Runs tasks in one long-lived process per slot on this machine.

    ``deliver`` is called from the executor's own thread: it must be short and
    not raise. After `close` nothing is delivered any more.

    The task that ran when its process died is answered by a `Fault.LOST` failure, the
    others of its bundle and those that waited behind it by `Fault.DROPPED`.

    Parameters
    ----------
    slots
        How many slots; they are called ``slot-0``, ``slot-1`` ...
    folder
        Where logs, scratch files and the records of processes go. One executor's own.
    threads_per_slot
        CPU threads of each, to which the thread pools of libraries are capped.
    gpus
        Names of GPUs, as CUDA has them: the first slots have one each, and see no
        other; the rest see none.
    modules
        What tasks will need: imported in each slot while it waits for its first task.
    environment
        Further variables of the slots' processes.
    recycle_after
        Bundles after which the scheduler's process is replaced, since it grows by about
        1 kB with each. No task is lost or repeated by that.
    memory_bytes
        What all slots may have together, by default most of the machine's memory. A
        slot that keeps more than an equal share of it between tasks is replaced; when
        all together reach it, the largest is killed. Its task is answered as lost where
        it ran alone, else as dropped: then `slots` leaves out one other slot until that
        task has landed.
    """

    def __init__(
        self,
        *,
        slots: int,
        folder: Path,
        threads_per_slot: int = 1,
        gpus: Sequence[str] = (),
        modules: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        recycle_after: int = 50_000,
        memory_bytes: int | None = None,
    ) -> None:
        self._loop: EngineLoop | None = None
        self._folder = folder
        self._environment = {AHEAD: ",".join(modules)} | dict(environment or {})
        self._recycle_after = recycle_after
        self._memory_bytes = memory_bytes
        names = [f"slot-{number}" for number in range(slots)]
        self._gpus = dict(zip(names, gpus, strict=False))
        self._slots = {
            name: Slot(
                name=name, threads=threads_per_slot, gpus=int(name in self._gpus)
            )
            for name in names
        }

    def start(self, deliver: Callable[[Outcome], None]) -> None:
        """Start all processes; return when a slot can take a task.

        Raises
        ------
        InternalError
            No slot came up; the message quotes the log.
        FolderUnavailable, DiskFull
            The folder cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        reap_strays(read_orphans(self._folder / RECORDS))
        self._loop = EngineLoop(
            tuple(self._slots.values()),
            self._folder.absolute(),
            environments={
                name: self._environment | {_SEEN_GPUS: self._gpus.get(name, "")}
                for name in self._slots
            },
            recycle_after=self._recycle_after,
            memory_bytes=self._memory_bytes,
            deliver=deliver,
        )
        self._loop.start()
        self._loop.settled.wait(START_LIMIT_S)
        if not self._loop.usable:
            self.close()
            log = tail_of(self._folder / f"{next(iter(self._slots))}.log")
            raise InternalError(
                f"No slot could be started in {self._folder}. {log}",
                hint="The logs in that folder say more.",
            )

    def slots(self) -> Sequence[Slot]:
        """Return the slots that can take tasks now."""
        return self._loop.usable if self._loop is not None else ()

    @property
    def processes(self) -> Sequence[ProcessRecord]:
        """The engine's processes, the same as in ``engine.json`` of the folder."""
        return self._loop.records if self._loop is not None else ()

    def submit(self, slot: str, bundle: Sequence[Envelope]) -> None:
        """Queue tasks on a slot. While it comes up again they wait for it.

        Raises
        ------
        InternalError
            There is no such slot, or the executor does not run.
        """
        running = self._loop is not None and self._loop.is_alive()
        if self._loop is None or not running or slot not in self._slots:
            raise InternalError(f"There is no slot {slot!r} to submit to.")
        if bundle:
            payload = pickle.dumps(list(bundle), pickle.HIGHEST_PROTOCOL)
            tasks = [one.task for one in bundle]
            self._loop.call(self._loop.submit, slot, tasks, payload)

    def restart_slot(self, slot: str) -> None:
        """End a slot's process and what it started; its tasks are answered as lost."""
        if self._loop is not None and slot in self._slots:
            self._loop.call(self._loop.restart, slot)

    def close(self) -> None:
        """End all processes and remove what is no log. May be called twice."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call(loop.stop)
            loop.join(CLOSE_LIMIT_S)
