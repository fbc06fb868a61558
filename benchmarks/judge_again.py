"""Other limits for a session of many exposures: how long until all verdicts stand.

A session of `--exposures` with a CTF for each is made in a ledger. Then the limit of a
gate is moved, in a service that has judged before (warm) and in one that has just
opened the ledger (cold; reading the session's state is told apart). What follows
downstream, an extraction for each accepted exposure, is settled in the same
transaction. Seconds are those of the processor.

    python benchmarks/judge_again.py [--exposures 20000] [--flipped 0.1] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from icestream.domain import Ctf
from icestream.protocols.curate_exposures import CurateExposures
from icestream.streaming import events as ev
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Context, Input, Params, PerItem, Source
from icestream.streaming.records import encode
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from icestream.streaming.ledger import Transaction
    from icestream.streaming.protocol import Sighting

LIMIT_ANGST = 6.0


class Fits(Source[Params]):
    """Stand for the steps that fit CTFs."""

    name: ClassVar = "fits"
    outputs: ClassVar = {"ctf": Ctf}

    def poll(self) -> Sequence[Sighting]:
        """Return nothing: the ledger is filled directly."""
        return []

    def resume(self, seen: Sequence[Sighting]) -> None:
        """Do nothing."""


class Extract(PerItem[Params]):
    """Stand for what follows."""

    name: ClassVar = "extract"
    inputs: ClassVar = {"ctf": Input(kind=Ctf)}
    outputs: ClassVar = {"ctf": Ctf}

    def process(self, context: Context, /, *, ctf: Ctf) -> Mapping[str, Ctf]:
        """Return the fit as it came."""
        return {"ctf": ctf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exposures", type=int, default=20_000)
    parser.add_argument(
        "--flipped", type=float, default=0.1, help="share of verdicts that change side"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="icestream-judge-") as folder:
        result = measure(Path(folder), given.exposures, given.flipped)
    if given.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24} {value:10.4g}")


def measure(folder: Path, count: int, flipped: float) -> dict[str, float]:
    """Make a session, move its limit twice, and time that."""
    random = np.random.default_rng(1)
    resolutions = random.uniform(3.0, 9.0, count)
    with closing(Ledger(folder / "ledger.db")) as ledger:
        service = service_of(folder, ledger, LIMIT_ANGST)
        obey(service, lambda one: fill(one, service, resolutions))
        # So many lie between the old limit and this.
        nearest = float(np.quantile(resolutions, np.mean(resolutions < 6.0) - flipped))
        warm_s = obey(service, lambda one: service.configure(one, gate(nearest)))
        changed = count_rejected(service)
    with closing(Ledger(folder / "ledger.db")) as ledger:
        service = service_of(folder, ledger, nearest)
        opened = time.process_time()
        ledger.restore(service.scheduler)
        open_s = time.process_time() - opened
        cold_s = obey(service, lambda one: service.configure(one, gate(LIMIT_ANGST)))
    return {
        "exposures": count,
        "rejected": changed,
        "warm_s": warm_s,
        "open_s": open_s,
        "cold_s": cold_s,
    }


def service_of(folder: Path, ledger: Ledger, limit: float) -> Service:
    extract = Run.of("extract", Extract, inputs={"ctf": (Port("limits", "accepted"),)})
    plan = Plan([Run.of("fits", Fits), gate(limit), extract])
    return Service(plan, ledger, InlineExecutor(), session_folder=folder)


def gate(limit: float) -> Run:
    ports = {"ctf": (Port("fits", "ctf"),)}
    params = {"rules": {"resolution_angst": {"maximum": limit}}}
    return Run.of("limits", CurateExposures, params=params, inputs=ports)


def obey(service: Service, work: Any) -> float:  # noqa: ANN401
    """Do some work in one transaction; return how long that took, s."""
    started = time.process_time()
    with service.ledger.transaction() as transaction:
        work(transaction)
        service._recorder.settle(transaction)  # noqa: SLF001
    return time.process_time() - started


def fill(
    transaction: Transaction, service: Service, resolutions: NDArray[np.float64]
) -> None:
    """Store a fit for each exposure, as if it had just been made."""
    for run in service.plan.runs.values():
        service._recorder.configure(  # noqa: SLF001
            transaction, run, identity=run.identity
        )
    for number, resolution in enumerate(resolutions):
        ctf = Ctf(
            defocus_u_angst=12000.0 + number % 500,
            defocus_v_angst=11800.0,
            defocus_angle_deg=30.0,
            score=0.2,
            resolution_angst=float(resolution),
        )
        key, content = f"fits/grid/exposure_{number:06}", f"content-{number}"
        transaction.add_records(content, {"ctf": encode(ctf)})
        event = ev.Arrived("fits", key, content, {"setup": "k3"})
        service._recorder.apply(transaction, event)  # noqa: SLF001


def count_rejected(service: Service) -> int:
    tasks = service.scheduler.board.tasks["limits"].values()
    return sum(one.accepted is False for one in tasks)


if __name__ == "__main__":
    main()
