"""A session against the truth of the simulated acquisition that it has processed."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from icestream.app.session import Session
from icestream.cli.arguments import Json, SessionDir
from icestream.cli.output import print_json, stdout
from icestream.cli.score_tables import print_score
from icestream.domain import Coordinates, MovieMotion
from icestream.domain.errors import BadSettings
from icestream.io.relion_motion import read_relion_motion
from icestream.report import read_results
from icestream.report.results import ExposureResult, SessionResults, Standing
from icestream.simulate.score import Found, FoundMotion, Score, score_acquisition
from icestream.simulate.score.values import Outcome
from icestream.simulate.truth import TRUTH_NAME, read_truth
from icestream.streaming.control import ServiceState
from icestream.streaming.plan import Plan
from icestream.streaming.reader import LedgerReader
from icestream.streaming.records import decode

__all__ = ["print_score", "score_command", "score_session"]


def score_command(
    truth: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help=f"{TRUTH_NAME} of the acquisition, or the folder that holds it.",
            show_default=False,
        ),
    ],
    session_dir: SessionDir = Path(),
    json: Json = False,
) -> None:
    """Compare a session with the truth of a simulated acquisition.

    Says which exposures are lost or doubled, how far CTF fits and picks are off, and
    which verdicts are wrong. Works while the session and the acquisition go on; what
    was taken after all that a running session has seen is still to come.

    Files are found by their paths, from the end: grid2/x.mrc is another exposure than
    grid1/x.mrc, wherever they were copied to. Pixel size, shape and voltage tell the
    truth of another acquisition, which is refused.
    """
    path = truth / TRUTH_NAME if truth.is_dir() else truth
    session = Session(session_dir)
    score = score_session(session, path)
    if json:
        where = {"session": os.fspath(session.folder), "truth": os.fspath(path)}
        print_json(where | asdict(score))
    else:
        print_score(stdout(), score)


def score_session(session: Session, truth_path: Path) -> Score:
    """Compare all that a session holds now with the truth.

    Parameters
    ----------
    session
        Running or not.
    truth_path
        File of the truth.

    Returns
    -------
    Score
        Of everything in both.

    Raises
    ------
    BadSettings
        It is no such file, or of an acquisition of which the session has seen nothing.
    LedgerUnusable
        The session has no ledger yet, or it cannot be read.
    """
    goes_on = session.service().state is not ServiceState.STOPPED
    truth = read_truth(truth_path)
    reader = session.read()
    try:
        found = _found(reader, session)
    finally:
        reader.close()
    root = truth_path.resolve().parent.as_posix()
    score = score_acquisition(truth, found, root=root, goes_on=goes_on)
    if found and truth.exposures and not score.items.seen:
        raise BadSettings(
            f"{session.folder} has no exposure in common with {truth_path}: "
            f"{found[0].key} is none of it, for example.",
            hint="Give the truth of the acquisition that the session has watched.",
        )
    return score


def _found(reader: LedgerReader, session: Session) -> list[Found]:
    plan = session.plan
    results = read_results(reader, plan)
    picks = _picks(reader, plan, results)
    motions = _motions(reader, session, results)
    return [
        Found(
            key=one.key,
            path=_path(one, plan),
            outcome=_outcome(one),
            ctf=one.ctf,
            picks=picks.get(one.key),
            shape=(one.micrograph.height_px, one.micrograph.width_px)
            if one.micrograph
            else None,
            pixel_size_angst=one.micrograph.pixel_size_angst
            if one.micrograph
            else None,
            voltage_kv=plan.runs[one.source].acquisition.get("voltage_kv"),
            motion=motions.get(one.key),
        )
        for one in results.exposures
    ]


def _picks(
    reader: LedgerReader, plan: Plan, results: SessionResults
) -> Mapping[str, Coordinates]:
    port = results.roles.coordinates
    if port is None:
        return {}
    records = reader.records(port.run, port.output)
    return {key: decode(one, Coordinates) for key, one in records.items()}


def _motions(
    reader: LedgerReader, session: Session, results: SessionResults
) -> Mapping[str, FoundMotion]:
    port = results.roles.motion
    if port is None:
        return {}
    records = reader.records(port.run, port.output)
    return {
        key: _motion(session.folder, decode(one, MovieMotion))
        for key, one in records.items()
    }


def _motion(folder: Path, motion: MovieMotion) -> FoundMotion:
    star = read_relion_motion(folder / motion.star)
    return FoundMotion(
        field=star.field,
        first_frame=star.first_frame,
        frame_count=star.frame_count or star.field.frame_count,
        error_angst=motion.error_angst,
        is_upside_down=Path(motion.movie).suffix.lower() in (".tif", ".tiff"),
        is_as_in_first_frame=motion.is_as_in_first_frame,
    )


def _outcome(exposure: ExposureResult) -> Outcome:
    """Return where it stands; without a gate, nothing is decided."""
    if exposure.standing is Standing.FAILED:
        return "failed"
    is_over = exposure.standing in (Standing.ACCEPTED, Standing.REJECTED)
    if not is_over or exposure.accepted is None:
        return "undecided"
    return "accepted" if exposure.accepted else "rejected"


def _path(exposure: ExposureResult, plan: Plan) -> str:
    """Return where its file was seen, as far as its source says so."""
    folder = plan.runs[exposure.source].params.get("folder")
    if folder is None:
        return exposure.key
    return (Path(folder).resolve() / exposure.key.partition("/")[2]).as_posix()
