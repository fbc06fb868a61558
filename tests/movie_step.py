"""Run a step that corrects a movie as a slot does, from the file to its products."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain import AcquisitionSetup, Micrograph, MovieMotion, RawFile
from icestream.streaming.execution import (
    Envelope,
    Failure,
    Outcome,
    TaskId,
    execute,
    import_protocol,
)
from icestream.streaming.records import Record, decode, encode
from movie_scene import PIXEL_ANGST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["OURS", "RELIONS", "Done", "correct", "failure", "run_step"]

OURS = "icestream.protocols.correct_motion:CorrectMotion"
RELIONS = "icestream.protocols.correct_motion_relion:CorrectMotionRelion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a movie has become."""

    micrograph: Micrograph
    motion: MovieMotion
    folder: Path
    setup: AcquisitionSetup

    def product(self, ending: str) -> Path:
        """Return the file of this ending."""
        return self.folder / f"product{ending}"


def correct(folder: Path, movie: Path, *, protocol: str = OURS, **given: Any) -> Done:
    """Import a movie and correct it; any failure fails the test."""
    outcome, setup = _attempt(folder, movie, protocol=protocol, **given)
    assert outcome.failure is None, outcome.failure.details
    return Done(
        micrograph=decode(outcome.outputs["micrograph"], Micrograph),
        motion=decode(outcome.outputs["motion"], MovieMotion),
        folder=folder,
        setup=setup,
    )


def failure(
    folder: Path,
    movie: Path,
    *,
    protocol: str = OURS,
    leaves: Sequence[str] = (),
    **given: Any,
) -> Failure:
    """Return why a movie is not imported or corrected; nothing else may be left."""
    outcome, _ = _attempt(folder, movie, protocol=protocol, **given)
    assert outcome.failure is not None
    left = [one.name for one in folder.iterdir() if "product" in one.name]
    assert left == [f"product{one}" for one in leaves]
    return outcome.failure


def run_step(
    protocol: str,
    folder: Path,
    inputs: Mapping[str, Record],
    *,
    setup: AcquisitionSetup,
    params: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run one step of a session in ``folder``."""
    values = asdict(setup) | {"setup": setup.name}
    folder.mkdir(exist_ok=True)
    return execute(
        Envelope(
            task=TaskId("run", "key", "content", 1),
            protocol=protocol,
            params=params or {},
            inputs=inputs,
            acquisition={
                one: values.get(one) for one in import_protocol(protocol).reads
            },
            session_folder=str(folder),
        )
    )


def _attempt(
    folder: Path,
    movie: Path,
    *,
    protocol: str,
    params: Mapping[str, Any] | None = None,
    **setup: Any,
) -> tuple[Outcome, AcquisitionSetup]:
    taken = {"pixel_size_angst": PIXEL_ANGST, "voltage_kv": 300.0} | setup
    optics = AcquisitionSetup(name="krios", **taken)
    raw = RawFile(
        path=str(movie),
        size_bytes=0,
        mtime_ns=0,
        fingerprint="",
        setup="krios",
        gain=optics.gain,
    )
    outcome = run_step(
        "icestream.protocols.import_movies:ImportMovies",
        folder,
        {"file": encode(raw)},
        setup=optics,
    )
    if outcome.failure is not None:
        return outcome, optics
    inputs = {"movie": outcome.outputs["movie"]}
    return run_step(protocol, folder, inputs, setup=optics, params=params), optics
