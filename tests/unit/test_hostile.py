"""What authors, operators and strangers get wrong never ends a service."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.domain import Verdict
from icestream.domain.errors import (
    BadSettings,
    FolderUnavailable,
    InternalError,
    ItemError,
)
from icestream.domain.table import Table
from icestream.streaming import schema
from icestream.streaming.control import (
    ControlServer,
    ServiceState,
    ServiceStatus,
    find_service,
    request,
)
from icestream.streaming.dispatch import product_stem
from icestream.streaming.execution import (
    Envelope,
    Fault,
    Outcome,
    TaskId,
    execute,
    guard,
)
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import (
    Context,
    Gate,
    Input,
    Params,
    PerItem,
    Sighting,
    Source,
)
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.records import encode
from icestream.streaming.service import Service
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Port
from small import Number, Numbers, sighting, small_plan, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Silent(Exception):
    """Fails even to say what it is."""

    def __str__(self) -> str:
        raise ValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Of no kind that anybody has declared."""

    value: int = 0


RAISED: Mapping[str, BaseException] = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "base": BaseException("all bets are off"),
    "silent": Silent(),
    "surrogate": ItemError("a name like \udc80"),
    "endless": ItemError("x" * 10_000_000),
}


class SpoilerParams(Params):
    """What goes wrong, with the number 1."""

    how: str


class Spoiler(PerItem[SpoilerParams]):
    """Go wrong as authors' code does."""

    name: ClassVar = "spoiler"
    Params: ClassVar = SpoilerParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"number": Number}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Any]:
        how = self.params.how
        if how in RAISED:
            raise RAISED[how]
        if how == "stranger":
            return {"number": Stranger()}
        if how == "unwritten":
            context.product(".bin")
        if how == "left":
            temporary = context.product(".bin").temporary
            temporary.with_name(f".{temporary.name}.0123.part").write_bytes(b"half")
        return {"number": number}


class Judge(Gate[SpoilerParams]):
    """Judge as no gate should."""

    name: ClassVar = "judge"
    Params: ClassVar = SpoilerParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    passes: ClassVar = "number"

    def judge(self, table: Table) -> list[Verdict | None]:
        return [self._verdict(table.numbers["value"][row]) for row in table.asked]

    def _verdict(self, number: float) -> Verdict:
        given: dict[str, Any] = {
            "none": lambda: None,
            "true": lambda: True,
            "undecided": lambda: Verdict(accepted=None, rule="all"),  # type: ignore[arg-type]
            "no rule": lambda: Verdict(accepted=True, rule=""),
            "exit": lambda: exec("raise SystemExit(3)"),
            "numpy": lambda: Verdict(
                accepted=np.bool_(True),  # type: ignore[arg-type]
                rule="odd \udc80",
                value=np.float32(1.5),  # type: ignore[arg-type]
                limit=float("nan"),
            ),
        }
        if number == 1:
            found: Verdict = given[self.params.how]()
            return found
        return Verdict(accepted=True, rule="all")


class SpringParams(Params):
    """What goes wrong at the second poll."""

    how: str
    count: int = 4


class Spring(Source[SpringParams]):
    """Yield a number a poll, and nonsense at the second."""

    name: ClassVar = "spring"
    Params: ClassVar = SpringParams
    outputs: ClassVar = {"number": Number}

    def __init__(self, params: SpringParams) -> None:
        super().__init__(params)
        self.polls = 0

    def resume(self, seen: Sequence[Sighting]) -> None:
        self.polls = len(seen)

    @property
    def interval_s(self) -> float:
        if self.params.how == "interval" and self.polls == 2:
            raise ZeroDivisionError
        return 0.01

    def poll(self) -> Sequence[Sighting]:
        self.polls += 1
        good = [sighting(self.polls, self.polls)] if self.polls <= 4 else []
        if self.polls == 2:
            nonsense: dict[str, Any] = {
                "none": None,
                "strings": ["a path", *good],
                "surrogate": [_sighting("\udc80"), *good],
                "column": [_sighting("x", item=Number(value=object())), *good],  # type: ignore[arg-type]
            }
            if self.params.how == "exit":
                raise SystemExit(3)
            found: Sequence[Sighting] = nonsense.get(self.params.how, good)
            return found
        return good

    def close(self) -> None:
        super().close()
        if self.params.how == "close":
            raise OSError


def _sighting(path: str, item: Number | None = None) -> Sighting:
    good = sighting(0, 0)
    return Sighting(
        path=path, state=good.state, reason="", key=path, item=item or good.item
    )


def envelope(folder: Path, how: str, *, attempt: int = 1) -> Envelope:
    return Envelope(
        task=TaskId("spoiler", "numbers/1", "content", attempt),
        protocol=f"{__name__}:Spoiler",
        params={"how": how},
        inputs={"number": encode(Number(value=1))},
        session_folder=str(folder),
        product_stem="products/spoiler/numbers/1.content",
    )


def run_to_end(folder: Path, *runs: Run) -> Service:
    ledger = Ledger(folder / "ledger.db")
    service = Service(
        Plan(runs),
        ledger,
        InlineExecutor(),
        session_folder=folder,
        limits=Limits(free_gb=0.0),
    )
    try:
        service.command(service.finish)
        service.run()
    finally:
        ledger.close()
    return service


# Authors --------------------------------------------------------------------------


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    monkeypatch.setattr(
        "icestream.streaming.execution.import_protocol", lambda _: Spoiler
    )

    def run(how: str, *, attempt: int = 1) -> Outcome:
        return execute(envelope(tmp_path, how, attempt=attempt))

    return run


@pytest.mark.parametrize(
    ("how", "fault", "said"),
    [
        ("exit", Fault.LOST, "SystemExit: 3"),
        ("interrupt", Fault.LOST, "KeyboardInterrupt"),
        ("base", Fault.LOST, "all bets are off"),
        ("silent", Fault.INTERNAL, "Silent"),
        ("surrogate", Fault.ITEM, "\\udc80"),
        ("endless", Fault.ITEM, "xxx"),
        ("stranger", Fault.INTERNAL, "returned a Stranger as 'number' instead of"),
        ("unwritten", Fault.INTERNAL, "announced but not written"),
    ],
)
def test_a_task_is_always_answered(
    spoil: Any,  # noqa: ANN401
    how: str,
    fault: Fault,
    said: str,
) -> None:
    failure = spoil(how).failure
    assert failure is not None
    assert failure.fault is fault
    assert said in failure.message
    assert len(failure.message) < 10_000
    assert failure.details.encode()


def test_a_later_attempt_removes_what_a_killed_one_has_left(
    spoil: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    spoil("left")
    folder = tmp_path / "products" / "spoiler" / "numbers"
    (folder / ".2.content.partial.bin").write_bytes(b"of another")
    assert len(list(folder.iterdir())) == 2
    assert spoil("ok", attempt=2).failure is None
    assert [one.name for one in folder.iterdir()] == [".2.content.partial.bin"]


def test_a_folder_of_products_that_cannot_be_made_is_the_sessions_fault(
    spoil: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    (tmp_path / "products").write_text("in the way")
    failure = spoil("unwritten").failure
    assert failure.fault is Fault.SESSION
    assert "products" in failure.message


@pytest.mark.parametrize("how", ["none", "true", "undecided", "no rule"])
def test_a_gate_without_a_verdict_sets_its_item_aside(tmp_path: Path, how: str) -> None:
    service = run_to_end(tmp_path, *judged(how))
    tasks = service.scheduler.board.tasks["judge"]
    assert tasks["numbers/1"].state is State.QUARANTINED
    assert "erdict" in tasks["numbers/1"].reason
    assert tasks["numbers/0"].state is tasks["numbers/2"].state is State.DONE


def test_a_verdict_may_hold_numpy_scalars(tmp_path: Path) -> None:
    service = run_to_end(tmp_path, *judged("numpy"))
    verdict = service.scheduler.board.tasks["judge"]["numbers/1"].verdict
    assert verdict == Verdict(accepted=True, rule="odd \\udc80", value=1.5)
    assert type(verdict.accepted) is bool
    assert type(verdict.value) is float


def test_a_gate_that_leaves_the_interpreter_leaves_the_service_alone() -> None:
    judge = Judge(SpoilerParams(how="exit"))
    rows = np.array([0])
    table = Table(
        numbers={"value": np.array([1.0])},
        words={},
        rank=rows,
        standing=np.array([-1], np.int8),
        asked=rows,
    )
    failure = guard(lambda: judge.judge(table))
    assert getattr(failure, "fault", None) is Fault.LOST


def judged(how: str) -> Sequence[Run]:
    return (
        Run.of("numbers", Numbers, params={"count": 3}),
        Run.of(
            "judge",
            Judge,
            params={"how": how},
            inputs={"number": (Port("numbers", "number"),)},
        ),
    )


@pytest.mark.parametrize(
    "how", ["none", "strings", "surrogate", "column", "exit", "interval", "close"]
)
def test_a_source_that_goes_wrong_goes_on(tmp_path: Path, how: str) -> None:
    service = run_to_end(tmp_path, Run.of("spring", Spring, params={"how": how}))
    lost = {"2"} if how in ("none", "exit") else set[str]()
    keys = {
        one.removeprefix("spring/") for one in service.scheduler.board.tasks["spring"]
    }
    assert keys == {"1", "2", "3", "4"} - lost
    reader = LedgerReader(tmp_path / "ledger.db")
    notices = reader.rows(schema.notice)
    reader.close()
    assert len(notices) == (how not in ("interval", "close"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../x", "a.b", "a\n", "-"])
def test_a_run_is_not_called_what_would_lead_elsewhere(name: str) -> None:
    with pytest.raises(BadSettings, match="cannot be the name"):
        Plan([Run.of(name, Numbers)])


def test_products_stay_in_their_folder_whatever_the_key(tmp_path: Path) -> None:
    for key in (
        "s/../../../x.mrc",
        "s//etc/x.mrc",
        "s/" + "d/" * 2000 + "x",
        "s/é" * 90,
    ):
        stem = product_stem(TaskId("import", key, "0123456789abcdef", 1))
        path = Path(os.path.normpath(tmp_path / stem))
        assert path.is_relative_to(tmp_path / "products" / "import")
        assert path.name.endswith("0123456789ab")
        assert all(len(one.encode()) < 200 for one in path.parts)
        assert len(stem.encode()) < 2000


# The socket -----------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return create_session(
        tmp_path / "session",
        template="micrographs",
        changes=[
            f"sources.grid.folder={tmp_path / 'watched'}",
            "setups.grid.pixel_size_angst=1.5",
            "setups.grid.voltage_kv=300",
        ],
    )


@contextmanager
def at_work(session: Session) -> Iterator[Service]:
    found: list[Service] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            run_session(session, executor=InlineExecutor(), started=found.append)
        except (TypeError, AttributeError, ValueError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: found and session.service().pid)
        yield found[0]
        assert not errors
    finally:
        found[0].stop()
        thread.join(20)
    assert not errors
    assert not session.socket_path.exists()


def say(session: Session, line: bytes) -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(5)
        connection.connect(str(session.socket_path))
        connection.sendall(line)
        return connection.recv(65536)


def test_nonsense_on_the_socket_is_refused_in_words(session: Session) -> None:
    with at_work(session) as service:
        for line in (
            *(b"garbage", b"\xff\xfe", b"[]", b'{"command": 5}', b"[" * 100_000),
            *(
                b'{"command": "pause", "run": ["a"]}',
                b'{"command": "resume", "run": {}}',
            ),
            *(
                b'{"command": "pause", "reason": 5}',
                b'{"command": "retry", "key": [1]}',
            ),
            *(
                b'{"command": "set", "changes": 5}',
                b'{"command": "set", "changes": [1]}',
            ),
            b'{"command": "set", "changes": ["ctf.box_px=[1"]}',
            b'{"command": "set", "changes": ["ctf.box_px=\\u0000"]}',
            b'{"command": "set", "changes": ["ctf.box_px=!!python/object:os.x y"]}',
            b'{"command": "accept", "run": "curate", "key": "no/such"}',
        ):
            assert say(session, line + b"\n").startswith(b'{"ok": false'), line
        assert say(session, b'{"command": "pause", "reason": "\\ud800"}\n').startswith(
            b'{"ok": true'
        )
        assert service.scheduler.board.runs[""].paused == "\\ud800"
        assert request(session.socket_path, "ping") == os.getpid()


def test_two_hundred_at_once_are_all_answered(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "control.sock", lambda asked: asked["command"])
    try:
        connections = []
        for _ in range(200):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(10)
            connection.connect(str(tmp_path / "control.sock"))
            connections.append(connection)
        assert request(tmp_path / "control.sock", "ping") == "ping"
        for connection in connections:
            connection.sendall(b'{"command": "ping"}\n')
        for connection in connections:
            with closing(connection):
                assert connection.recv(100) == b'{"ok": true, "result": "ping"}\n'
    finally:
        server.close()


@pytest.mark.parametrize(
    "change",
    [
        "sources.grid.poll_s=3",
        "setups.grid.pixel_size_angst=1.1",
        "ledger=/tmp/elsewhere",
    ],
)
def test_a_change_that_is_refused_changes_nothing(
    session: Session, change: str
) -> None:
    before = session.settings_path.read_text(encoding="utf-8")
    with at_work(session) as service:
        with pytest.raises(BadSettings, match="stop"):
            session.send("set", changes=["ctf.box_px=256", change])
        assert service.plan.runs["ctf"].params["box_px"] == 512
    assert session.settings_path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("fate", ["gone", "no text", "a folder", "no YAML"])
def test_settings_that_are_lost_while_it_runs_are_refused(
    session: Session, fate: Literal["gone", "no text", "a folder", "no YAML"]
) -> None:
    path = session.settings_path
    with at_work(session) as service:
        match fate:
            case "gone":
                path.unlink()
            case "no text":
                path.write_bytes(b"title: \xff\n")
            case "a folder":
                path.unlink()
                path.mkdir()
            case "no YAML":
                path.write_text("runs: [")
        with pytest.raises(BadSettings, match=r"session\.yaml"):
            request(session.socket_path, "set", changes=["ctf.box_px=256"])
        assert service.plan.runs["ctf"].params["box_px"] == 512
    with pytest.raises((BadSettings, FolderUnavailable), match=r"session\.yaml"):
        Session(session.folder)


def test_a_socket_that_was_left_over_is_replaced(session: Session) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(session.socket_path))
    with at_work(session):
        assert request(session.socket_path, "ping") == os.getpid()


def test_a_socket_that_was_removed_does_not_hide_who_has_the_session(
    session: Session,
) -> None:
    with at_work(session):
        session.socket_path.unlink()
        found = find_service(session.socket_path, session.lock_path)
        assert found == ServiceStatus(ServiceState.BUSY, os.getpid())


# The session's own pause ----------------------------------------------------------


def test_space_that_returns_does_not_undo_a_persons_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icestream.streaming.service.SPACE_EVERY_S", 0.05)
    free = [0]
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(free[0]))

    def start(plan: Plan) -> tuple[Service, threading.Thread, Ledger]:
        ledger = Ledger(tmp_path / "ledger.db")
        service = Service(plan, ledger, InlineExecutor(), session_folder=tmp_path)
        thread = threading.Thread(target=service.run)
        thread.start()
        return service, thread, ledger

    def end(service: Service, thread: threading.Thread, ledger: Ledger) -> None:
        service.stop()
        thread.join(20)
        ledger.close()

    first = start(small_plan())
    wait_for(lambda: first[0].scheduler.board.runs[""].paused)
    end(*first)
    free[0] = 2_000_000_000
    second = start(small_plan())  # after a restart, too, it goes on by itself
    board = second[0].scheduler.board
    wait_for(
        lambda: (
            sum(one.state is State.DONE for one in board.tasks["join"].values()) == 6
        )
    )
    second[0].command(lambda t: second[0].pause(t, None, "lunch")).result(10)
    free[0] = 0
    threading.Event().wait(0.3)
    free[0] = 2_000_000_000
    threading.Event().wait(0.3)
    assert board.runs[""].paused == "lunch"
    end(*second)


def test_a_clock_that_is_set_back_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    plan = small_plan(count=3, add={"crash": [1]})
    service = Service(plan, ledger, InlineExecutor(), session_folder=tmp_path)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        tasks = service.scheduler.board.tasks["add"]
        wait_for(lambda: getattr(tasks.get("numbers/1"), "failures", 0) == 1)
        now = time.time
        monkeypatch.setattr("time.time", lambda: now() - 86_400)
        wait_for(lambda: tasks["numbers/1"].state is State.QUARANTINED, seconds=10)
    finally:
        service.stop()
        thread.join(20)
        ledger.close()


@dataclass(frozen=True)
class _Usage:
    free: int


def test_a_report_that_cannot_be_written_ends_no_session(session: Session) -> None:
    session.report_path.mkdir()
    with at_work(session) as service:
        wait_for(lambda: service.scheduler.board.runs["grid"].identity)
    log = (session.logs / "service.log").read_text(encoding="utf-8")
    assert "The report could not be written" in log


def test_a_log_that_cannot_be_written_is_named(session: Session) -> None:
    session.logs.write_text("in the way")
    with pytest.raises(FolderUnavailable, match=r"service\.log"):
        run_session(session, executor=InlineExecutor())


def test_a_verdict_needs_a_rule() -> None:
    with pytest.raises(InternalError, match="name of the rule"):
        Verdict(accepted=True, rule="")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema_version: 1", "schema_version: 99", "schema version 99"),
        ("estimate_ctf", "no.such:Thing", "'no.such:Thing'.*No module named 'no'"),
        ("estimate_ctf", "os:path", "'os:path' is no protocol"),
        ("estimate_ctf", "broken_protocol:Thing", "SyntaxError"),
        ("  statistics:\n", "  ../../statistics:\n", "cannot be the name"),
        ("title: Micrographs", "title: " + "[" * 5000, "no YAML"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    said: str,
) -> None:
    (tmp_path / "broken_protocol.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)
    text = session.settings_path.read_text(encoding="utf-8")
    assert old in text
    session.settings_path.write_text(text.replace(old, new))
    with pytest.raises(BadSettings, match=said):
        _ = Session(session.folder).plan


@pytest.mark.parametrize("text", ["", "null", "[1, 2]", "5"])
def test_a_file_without_settings_is_refused(session: Session, text: str) -> None:
    session.settings_path.write_text(text)
    with pytest.raises(BadSettings, match="holds no settings"):
        Session(session.folder)
