"""A session that waits for a person says so, once, and what to type."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.cli.live import LiveView
from icestream.streaming.inline import InlineExecutor

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.streaming.service import Service

_SESSION = """
schema_version: 1
setups:
  k2: {pixel_size_angst: 1.35, voltage_kv: 300}
sources:
  k2: {protocol: 'report_session:FakeWatch', setup: k2, folder: /acq, count: 8,
       trouble: false, keys: [broken1, broken2, broken3, broken4, broken5, broken6]}
runs:
  import: {protocol: 'report_session:FakeImport', inputs: {file: sources},
           params: {thumbnail_px: 0}}
"""
_SECONDS = 60.0


def wait_until_paused(service: Service) -> None:
    deadline = time.monotonic() + _SECONDS
    runs = service.scheduler.board.runs
    while runs["import"].paused is None and time.monotonic() < deadline:
        time.sleep(0.02)


def run_until_paused(session: Session) -> None:
    """Let it finish if it can, and end it some looks after a run has paused."""
    threads = []

    def end(service: Service) -> None:
        wait_until_paused(service)
        time.sleep(1.2)
        service.stop()

    with LiveView(session) as view:

        def started(service: Service) -> None:
            view.begin()
            threads.append(threading.Thread(target=end, args=(service,)))
            threads[0].start()

        run_session(session, executor=InlineExecutor(), finish=True, started=started)
    threads[0].join()


@pytest.fixture
def session(tmp_path: Path) -> Session:
    template = tmp_path / "fakes.yaml"
    template.write_text(_SESSION, encoding="utf-8")
    return create_session(tmp_path / "session", template=str(template))


def test_a_run_that_waits_for_a_person_says_so_once(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    # Paused while it runs, and found paused when it is started again.
    for _ in range(2):
        run_until_paused(session)
        told = capsys.readouterr().err
        assert told.count("import is paused and waits for you: ") == 1
        assert "failed for the same cause (UnreadableFile)" in told
        assert f"`icestream resume {session.folder} import` goes on" in told
