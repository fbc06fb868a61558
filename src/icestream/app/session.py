"""A session: one folder with its settings, ledger, products and report."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Any

from icestream.app.ownership import check_marks, ledger_path, marks_of
from icestream.app.settings import (
    Settings,
    draft_settings,
    new_settings,
    read_settings,
    store_settings,
)
from icestream.domain.errors import (
    BadSettings,
    LedgerUnusable,
    ServiceUnreachable,
    cannot_write,
)
from icestream.streaming import schema
from icestream.streaming.control import (
    ServiceState,
    ServiceStatus,
    find_service,
    in_use,
    request,
    writer_lock,
)
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.reader import LedgerReader
from icestream.streaming.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan

__all__ = ["Session", "create_session"]


class Session:
    """A session on disk.

    Parameters
    ----------
    folder
        Its folder.

    Raises
    ------
    BadSettings
        The folder holds no session, or its settings cannot be read.
    FolderUnavailable
        There is no permission to read them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.settings_path = self.folder / "session.yaml"
        if not os.path.lexists(self.settings_path):
            raise BadSettings(
                f"{folder} is no session: it has no session.yaml.",
                hint="`icestream new` makes one.",
            )
        text = read_settings(self.settings_path)
        self.settings = Settings.parse(text, where=str(self.settings_path))

    @functools.cached_property
    def plan(self) -> Plan:
        """The runs as configured; made on demand, since it imports the protocols.

        Raises
        ------
        BadSettings
            A setup, source, protocol, parameter or connection cannot be.
        """
        return self.settings.plan()

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies: in the session, or where its settings say."""
        return ledger_path(self.folder, self.settings)

    @property
    def socket_path(self) -> Path:
        """Where a running service listens."""
        return self.ledger_path.with_name("control.sock")

    @property
    def lock_path(self) -> Path:
        """The writer's lock."""
        return self.ledger_path.with_name("ledger.lock")

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.folder / "logs"

    def claim_ledger(self) -> None:
        """Make the folder of the ledger, and the ledger in it this session's own.

        Raises
        ------
        FolderUnavailable
            It cannot be made.
        LedgerUnusable
            It is another session's, or of no use to this program.
        SessionInUse
            A service of this session has it.
        """
        folder = self.ledger_path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            instead = "name another with `ledger:`"
            raise cannot_write(folder, error, instead=instead) from error
        service = self._check_service()
        if service.state is ServiceState.RUNNING:  # whatever became of its lock
            raise in_use(folder, service.pid)
        marks = marks_of(self.folder, self.settings)
        with writer_lock(self.lock_path):
            ledger = Ledger(self.ledger_path)
            try:
                with ledger.transaction() as transaction:
                    found = transaction.marks()
                    check_marks(self.ledger_path, found, marks)
                    if found != found | marks:
                        transaction.set_marks(marks)
            finally:
                ledger.close()

    def _check_service(self) -> ServiceStatus:
        """Refuse the service that answers here where it is another session's."""
        found = self.service()
        if found.state is ServiceState.RUNNING:
            self.read().close()
        return found

    def read(self) -> LedgerReader:
        """Open the ledger for reading.

        Raises
        ------
        LedgerUnusable
            There is none, or it is another session's.
        """
        reader = LedgerReader(self.ledger_path)
        try:
            found = {row["name"]: row["value"] for row in reader.rows(schema.meta)}
            check_marks(self.ledger_path, found, marks_of(self.folder, self.settings))
        except LedgerUnusable:
            reader.close()
            raise
        return reader

    def service(self) -> ServiceStatus:
        """Return whether a service runs here, and as which process."""
        return find_service(self.socket_path, self.lock_path)

    def send(self, command: str, **values: Any) -> Any:  # noqa: ANN401 - JSON
        """Have a command carried out: by the running service, or here without one.

        Raises
        ------
        BadSettings
            The command is unknown or cannot be; the message says why.
        SessionInUse
            A service is just starting or ending.
        LedgerUnusable
            The ledger, and the service that runs on it, are another session's.
        """
        self._check_service()
        try:
            return request(self.socket_path, command, **values)
        except ServiceUnreachable:
            if command in ("stop", "finish"):
                raise
        self.claim_ledger()
        with writer_lock(self.lock_path):
            ledger = Ledger(self.ledger_path)
            try:
                service = Service(
                    self.plan, ledger, InlineExecutor(), session_folder=self.folder
                )
                return service.obey(self.work(service, command, values))
            finally:
                ledger.close()

    def work(
        self, service: Service, command: str, values: Mapping[str, Any]
    ) -> Callable[[Transaction], Any]:
        """Return what a command does within a transaction of the service.

        Raises
        ------
        BadSettings
            There is no such command, or an argument lacks or is no text.
        """
        run, key = _text(values, "run"), _text(values, "key")
        reason = _text(values, "reason") or "paused by hand"
        match command:
            case "pause":
                return functools.partial(service.pause, run=run, reason=reason)
            case "resume":
                return functools.partial(service.resume, run=run)
            case "retry":
                return functools.partial(service.retry, run=run, key=key)
            case "accept" | "reject" | "reset":
                accepted = {"accept": True, "reject": False, "reset": None}[command]
                if run is None or key is None:
                    raise BadSettings(
                        f"{command} needs a gate and an exposure.",
                        hint="`icestream status --json` lists both.",
                    )
                return functools.partial(
                    service.override, run=run, key=key, accepted=accepted
                )
            case "set":
                return functools.partial(
                    self._set, service, changes=_texts(values, "changes")
                )
            case "finish":
                return service.finish
        raise BadSettings(f"There is no command {command!r}.")

    def _set(
        self, service: Service, transaction: Transaction, *, changes: Sequence[str]
    ) -> list[str]:
        """Change parameters in the settings, then in the service.

        The two may differ, since anybody may edit the settings. Returned is what has
        changed: ``session.yaml``, and runs.
        """
        settings, text = draft_settings(self.settings_path, changes)
        before, plan = self.plan, settings.plan()
        if plan.workflow.runs != before.workflow.runs:
            raise BadSettings(
                "The graph of runs changes only while the session is stopped."
            )
        if settings.ledger != self.settings.ledger:
            raise BadSettings(
                "The place of the ledger cannot be set: results would be left behind.",
                hint="`icestream stop`, move the ledger, then edit session.yaml.",
            )
        if settings.id != self.settings.id:
            raise BadSettings(
                "The session's id cannot be set: it says whose the ledger is.",
                hint="Nothing was changed. Put it back in session.yaml.",
            )
        changed = [n for n, one in plan.runs.items() if one != before.runs[n]]
        # All that may refuse comes before the first thing that changes.
        service.check_changes(plan.runs[name] for name in changed)
        if plan.arrangement != before.arrangement:
            service.check_setups()
        if text is not None:
            store_settings(self.settings_path, text)
        for name in changed:
            service.configure(transaction, plan.runs[name])
        self.settings, self.plan = settings, plan
        return [self.settings_path.name] * (text is not None) + changed


def _text(values: Mapping[str, Any], name: str) -> str | None:
    """Return an argument of a request, which anybody may have written."""
    value = values.get(name)
    return None if value is None else _checked(name, value)


def _texts(values: Mapping[str, Any], name: str) -> list[str]:
    value = values.get(name, ())
    if not isinstance(value, list | tuple):
        raise BadSettings(f"The argument {name!r} is no list of texts.")
    return [_checked(name, one) for one in value]


def _checked(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadSettings(f"The argument {name!r} is no text.")
    return value.encode("utf-8", "backslashreplace").decode()


def create_session(
    folder: Path, *, template: str, changes: Sequence[str] = ()
) -> Session:
    """Make a new session's folder with its settings.

    Raises
    ------
    BadSettings
        A session is there already, or the settings cannot be.
    FolderUnavailable
        The folder cannot be made.
    """
    path = folder.absolute() / "session.yaml"
    if path.exists():
        raise BadSettings(
            f"{folder} holds a session already.",
            hint="Choose another folder, or `icestream start` it.",
        )
    text = new_settings(template, changes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y-%m-%d %H:%M")
        path.write_text(f"# Made {stamp}, template {template}.\n{text}", "utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    return Session(folder)
