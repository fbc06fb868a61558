"""Running a session: its service, its socket, its report, its log."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from contextlib import ExitStack
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icestream.app.reporting import update_report
from icestream.domain.errors import cannot_write
from icestream.streaming.control import ControlServer, writer_lock
from icestream.streaming.dask_executor import DaskExecutor
from icestream.streaming.execution import Failure, guard
from icestream.streaming.ledger import Ledger
from icestream.streaming.service import Service
from icestream.streaming.workflow import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from icestream.app.session import Session
    from icestream.streaming.execution import Executor

__all__ = ["run_session"]

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 3.0
_REPORT_SHARE = 20
"""A report may take one part in so many of the time between two."""

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
"""The driver has a folder in it for each GPU."""


def run_session(
    session: Session,
    *,
    executor: Executor | None = None,
    finish: bool = False,
    started: Callable[[Service], None] | None = None,
) -> None:
    """Run a session's service until it is stopped, or finished when asked to.

    Signals are the caller's business: `Service.stop` may be called from a handler.

    Parameters
    ----------
    session
        The session.
    executor
        Runs the tasks; by default local processes, one a core.
    finish
        End when the sources are quiet and all is done.
    started
        Called in this thread before the service runs.

    Raises
    ------
    SessionInUse
        Another service runs this session.
    LedgerUnusable, DiskFull
        The ledger cannot be read or written.
    FolderUnavailable
        The session's folder cannot be written.
    SourceUnavailable
        It was to finish, and a source stayed away.
    """
    with ExitStack() as stack:
        session.claim_ledger()
        stack.enter_context(writer_lock(session.lock_path))
        stack.enter_context(_logging(session))
        ledger = Ledger(session.ledger_path)
        stack.callback(ledger.close)
        service = Service(
            session.plan,
            ledger,
            executor or _local(session),
            session_folder=session.folder,
        )
        server = ControlServer(
            session.socket_path, lambda asked: _answer(session, service, asked)
        )
        stack.callback(server.close)
        stack.enter_context(_Reporter(session))
        if finish:
            service.command(service.finish)
        if started is not None:
            started(service)
        service.run()


def _local(session: Session) -> DaskExecutor:
    """Make slots as wide as the widest run needs, as many as there are cores.

    The first ones have a GPU each, where there are some.
    """
    runs = [
        one
        for one in session.plan.workflow.runs.values()
        if one.shape in (Shape.PER_ITEM, Shape.AGGREGATE)
    ]
    threads = max((one.resources.threads for one in runs), default=1)
    gpus = _gpus()
    usual = max(1, len(gpus), (os.cpu_count() or 1) // threads)
    return DaskExecutor(
        slots=session.settings.slots or usual,
        threads_per_slot=threads,
        gpus=gpus,
        folder=session.ledger_path.with_name("engine"),
        modules=sorted({one.protocol.partition(":")[0] for one in runs}),
    )


def _gpus() -> list[str]:
    """Return the names of the GPUs that CUDA may use here: as it was told, or all."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [one for one in told.split(",") if one.strip()]
    return [str(number) for number, _ in enumerate(_NVIDIA_GPUS.glob("*"))]


def _answer(session: Session, service: Service, asked: Mapping[str, Any]) -> Any:  # noqa: ANN401
    values = dict(asked)
    command = values.pop("command")
    if command == "ping":
        return os.getpid()
    if command == "stop":
        service.stop()
        return None
    return service.command(session.work(service, command, values)).result(timeout=60)


class _Reporter:
    """Keeps the report up to date while the session runs, in a thread of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        result = guard(lambda: update_report(self._session, running=False))
        _warn(result)

    def _run(self) -> None:
        seen, wait = -1, 0.0
        row_counts: dict[str, int] = {}
        while not self._stop.wait(wait):
            clock = time.perf_counter()
            result = guard(
                functools.partial(
                    update_report,
                    self._session,
                    running=True,
                    unless=seen,
                    row_counts=row_counts,
                )
            )
            seen = seen if isinstance(result, Failure) else result
            _warn(result)
            took = time.perf_counter() - clock
            wait = max(_REPORT_EVERY_S, _REPORT_SHARE * took)


def _warn(result: int | Failure) -> None:
    """Say that a report failed: a session goes on, and ends well, without it."""
    if isinstance(result, Failure):
        log.warning("The report could not be written: %s", result.message)


class _logging:  # noqa: N801 - used as a context, like contextlib's
    """Writes the service's log into the session, rotated."""

    def __init__(self, session: Session) -> None:
        path = session.logs / "service.log"
        try:
            session.logs.mkdir(parents=True, exist_ok=True)
            self._handler = RotatingFileHandler(
                path, maxBytes=5_000_000, backupCount=3, encoding="utf-8"
            )
        except OSError as error:
            raise cannot_write(path, error) from error
        self._handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )

    def __enter__(self) -> None:
        logger = logging.getLogger("icestream")
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("icestream").removeHandler(self._handler)
        self._handler.close()
