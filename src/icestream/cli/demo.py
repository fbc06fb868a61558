"""A small session from end to end, with simulated movies or real micrographs."""

import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.cli.demo_material import Material, find_material, simulate_material
from icestream.cli.demo_score import score_lines
from icestream.cli.live import LiveView
from icestream.cli.output import say, seconds_text, stdout
from icestream.cli.score import print_score, score_session
from icestream.cli.start import Interruption
from icestream.cli.summary import load_results, print_summary
from icestream.domain.errors import BadSettings, IcestreamError
from icestream.io import guarding_writes
from icestream.report.results import SessionResults
from icestream.simulate.replay import replay
from icestream.simulate.truth import TRUTH_NAME
from icestream.streaming.control import writer_lock
from icestream.streaming.service import Service

__all__ = ["demo_command"]

_MARKER = ".made-by-icestream-demo"
_ACQUIRED, _WATCHED, _SESSION = "microscope", "watched", "session"
_DIAMETER_ANGST = (110.0, 140.0)


def demo_command(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Real micrographs: apoferritin_10146/*bin_avg.png and "
            "fullsize/fei-extended.mrc in one folder.",
            show_default="simulated",
        ),
    ] = None,
    keep: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where to; what an earlier demo made there is replaced, and a folder "
            "with anything else is refused.",
        ),
    ] = Path("demo"),
    movies: Annotated[
        int, typer.Option(min=1, help="How many exposures, where simulated.")
    ] = 12,
    rate: Annotated[
        float, typer.Option(min=1, help="Exposures an hour that arrive.")
    ] = 3_600.0,
) -> None:
    """Show a small session from end to end.

    Movies, simulated with known truth, arrive in a watched folder, one a second, while
    a session corrects their motion, fits, judges, picks and extracts. It ends with what
    was found beside what is known, and with the report's path. Real micrographs can
    stand in their place.
    """
    folder = keep.absolute()
    real = [] if data is None else find_material(data)
    _prepare(folder)
    acquired = folder / _ACQUIRED
    materials = real or [simulate_material(acquired, count=movies)]
    session = _create(folder, materials)
    interruption = Interruption()
    microscope = _Microscope(folder / _WATCHED, materials, every_s=3_600 / rate)
    expected = {one.setup.name: len(one.files) for one in materials}
    with LiveView(session, expected=expected) as view, microscope:

        def started(service: Service) -> None:
            interruption.watch(view, service)
            view.begin()
            microscope.begin(service)

        run_session(session, started=started)
    results = load_results(session)
    if not real:
        score = score_session(session, acquired / TRUTH_NAME)
        # The files were copied, and plainly from there.
        print_score(stdout(), replace(score, by_name=0))
    _print_numbers(session, results, materials)
    print_summary(session, results)
    interruption.leave()


def _print_numbers(
    session: Session, results: SessionResults, materials: Sequence[Material]
) -> None:
    diameter_angst = sum(_DIAMETER_ANGST) / 2
    console = stdout()
    for line in score_lines(session, results, materials, diameter_angst=diameter_angst):
        say(console, line)
    lags = [
        one.finished_at - one.arrived_at
        for one in results.exposures
        if one.finished_at is not None and one.arrived_at is not None
    ]
    if lags:
        say(console, f"Slowest from arrival to last result: {seconds_text(max(lags))}")


def _prepare(folder: Path) -> None:
    """Make the folder anew; what the demo has not made itself is never touched."""
    _check(folder)
    with guarding_writes(folder):
        if (folder / _MARKER).exists():
            lock = folder / _SESSION / "ledger.lock"
            if lock.exists():
                with writer_lock(lock):  # refuses while another demo runs there
                    pass
            for name in (_ACQUIRED, _WATCHED, _SESSION):
                if (folder / name).exists():
                    shutil.rmtree(folder / name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARKER).touch()


def _check(folder: Path) -> None:
    """Refuse a folder that holds anything which is not of an earlier demo."""
    other = "Choose another folder: icestream demo --keep DIR."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadSettings(
            f"{folder} is no folder of its own: the demo has not made it.", hint=other
        )
    if not folder.exists():
        return
    with guarding_writes(folder):
        found = sorted(folder.iterdir())
    has_marker = folder / _MARKER in found
    if found and not has_marker:
        raise BadSettings(f"{folder} exists, and the demo has not made it.", hint=other)
    strangers = [one for one in found if not _is_own(one)]
    if strangers:
        raise BadSettings(
            f"{folder} is of an earlier demo, but {strangers[0].name} in it is not.",
            hint="Move it away, or choose another folder: icestream demo --keep DIR.",
        )


def _is_own(path: Path) -> bool:
    if path.name == _MARKER:
        return True
    is_folder = path.is_dir() and not path.is_symlink()
    return is_folder and path.name in (_ACQUIRED, _WATCHED, _SESSION)


def _create(folder: Path, materials: Sequence[Material]) -> Session:
    changes = ["title=Demo", f"pick.diameter_angst={list(_DIAMETER_ANGST)}"]
    for one in materials:
        values = asdict(one.setup)
        name = values.pop("name")
        changes += [
            f"setups.{name}.{field}={value}"
            for field, value in values.items()
            if value is not None
        ]
        changes.append(f"sources.{name}.folder={folder / 'watched' / name}")
        changes.append(f"sources.{name}.poll_s=0.5")
    return create_session(
        folder / _SESSION, template=materials[0].template, changes=changes
    )


class _Microscope:
    """Brings the files of all sources, each in its own thread, then lets it finish."""

    def __init__(
        self, folder: Path, materials: Sequence[Material], *, every_s: float
    ) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._error: IcestreamError | None = None
        self._threads = [
            threading.Thread(
                target=self._bring, args=(one, folder / one.setup.name), daemon=True
            )
            for one in materials
        ]
        self._last: threading.Thread | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._last is not None:
            self._last.join()
        if self._error is not None:
            raise self._error

    def begin(self, service: Service) -> None:
        """Let files arrive; when all are there, the service may finish."""
        self._last = threading.Thread(
            target=self._wait_and_finish, args=(service,), daemon=True
        )
        for one in self._threads:
            one.start()
        self._last.start()

    def _bring(self, material: Material, into: Path) -> None:
        try:
            for _ in replay(
                material.files, into=into, every_s=self._every_s, sleep=self._pause
            ):
                if self._stop.is_set():
                    return
        except IcestreamError as error:
            self._error = error
            self._stop.set()

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _wait_and_finish(self, service: Service) -> None:
        for one in self._threads:
            one.join()
        if not self._stop.is_set():
            service.command(service.finish)
        elif self._error is not None:
            service.stop()
