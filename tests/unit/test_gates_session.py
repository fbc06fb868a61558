"""The gates that judge by columns in a session: joined, judged again, none lost."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from icestream.domain import Ctf, Micrograph, MovieMotion, Quality
from icestream.domain.errors import CtfNotFound, UnusableImage
from icestream.protocols.curate_exposures import CurateExposures
from icestream.protocols.defocus_balancer import DefocusBalancer
from icestream.protocols.max_shift import MaxShift
from icestream.streaming import schema
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Input, Params, PerItem
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.service import Service
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Port
from small import Number, Numbers, check_replay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from icestream.streaming.protocol import Context

NO_CTF, NO_QUALITY, NO_RINGS, FAR = 40, 41, 42, 43
NUMBERS = {"number": (Port("numbers", "number"),)}


class Fit(PerItem[Params]):
    """Fit what is known; for one exposure there is nothing to fit."""

    name: ClassVar = "fit"
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"ctf": Ctf}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Ctf]:
        if number.value == NO_CTF:
            raise CtfNotFound("No ring.")
        defocus = 8000.0 + 200 * number.value
        ctf = Ctf(
            defocus_u_angst=defocus + 50,
            defocus_v_angst=defocus - 50,
            defocus_angle_deg=0.0,
            score=0.2,
            resolution_angst=None if number.value == NO_RINGS else 4.0,
        )
        return {"ctf": ctf}


class Grade(PerItem[Params]):
    """Measure quality; the ice of the first ones is crystalline."""

    name: ClassVar = "grade"
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"quality": Quality}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Quality]:
        if number.value == NO_QUALITY:
            raise UnusableImage("It is black.")
        quality = Quality(
            mean_intensity=1.0,
            intensity_gradient=0.0,
            intensity_gradient_deg=0.0,
            ice_ring_ratio=5.0 if number.value in (3, 33) else 1.0,
            masked_fraction=0.0,
        )
        return {"quality": quality}


class Move(PerItem[Params]):
    """Add up a movie that moved; one moved far."""

    name: ClassVar = "move"
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"micrograph": Micrograph, "motion": MovieMotion}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, object]:
        micrograph = Micrograph(
            path="a.mrc",
            height_px=8,
            width_px=8,
            pixel_size_angst=1.0,
            setup="k3",
            mean=0.0,
            standard_deviation=1.0,
            thumbnail="a.png",
        )
        motion = MovieMotion(
            movie="/a.tif",
            star="a.star",
            star_residual_angst=0.0,
            shift_y_angst=np.zeros(2),
            shift_x_angst=np.zeros(2),
            total_angst=5.0,
            early_angst=None,
            late_angst=None,
            largest_step_angst=99.0 if number.value == FAR else 2.0,
            frame_count=2,
            dose_e_per_angst2=None,
            has_local=False,
            bad_pixel_count=0,
        )
        return {"micrograph": micrograph, "motion": motion}


def plan_of(rules: Mapping[str, object], *, count: int = 45) -> Plan:
    return Plan(
        [
            Run.of("numbers", Numbers, params={"count": count}),
            Run.of("fit", Fit, inputs=NUMBERS),
            Run.of("grade", Grade, inputs=NUMBERS),
            Run.of("move", Move, inputs=NUMBERS),
            Run.of(
                "curate",
                CurateExposures,
                params={"rules": rules},
                inputs={
                    "ctf": (Port("fit", "ctf"),),
                    "quality": (Port("grade", "quality"),),
                },
            ),
            Run.of(
                "shift",
                MaxShift,
                inputs={
                    "micrograph": (Port("move", "micrograph"),),
                    "motion": (Port("move", "motion"),),
                },
            ),
            Run.of(
                "sample",
                DefocusBalancer,
                params={"count": 5, "from_exposures": 20},
                inputs={"ctf": (Port("curate", "accepted"),)},
            ),
        ]
    )


def run(folder: Path, plan: Plan) -> Service:
    with closing(Ledger(folder / "ledger.db")) as ledger:
        service = Service(
            plan,
            ledger,
            InlineExecutor(),
            session_folder=folder,
            limits=Limits(free_gb=0.0),
        )
        service.command(service.finish)
        service.run()
    check_replay(folder / "ledger.db", service.plan.workflow)
    return service


def sides(service: Service, gate: str) -> dict[int, bool | State]:
    """Where each exposure is: accepted, rejected, or with its state where neither."""
    tasks = service.scheduler.board.tasks[gate]
    return {
        int(key.rpartition("/")[2]): one.state if one.accepted is None else one.accepted
        for key, one in tasks.items()
    }


# The pixel is not told by this source, and no limit may go by it.
OWN: dict[str, object] = {"resolution_angst": {"maximum": 10}}


def test_each_exposure_is_at_one_place_and_says_why(tmp_path: Path) -> None:
    service = run(tmp_path, plan_of(OWN))
    found = sides(service, "curate")
    expected = dict.fromkeys(range(45), True) | {
        33: False,
        NO_CTF: State.SKIPPED,
        NO_QUALITY: False,
        NO_RINGS: False,
    }
    assert found == expected
    tasks = service.scheduler.board.tasks["curate"]
    verdicts = {n: tasks[f"numbers/{n}"].verdict for n in (3, 33, NO_QUALITY, NO_RINGS)}
    told = {n: one and (one.rule, one.reason) for n, one in verdicts.items()}
    assert told == {
        3: ("ice_ring_ratio", "too high"),
        33: ("ice_ring_ratio", "too high"),
        NO_QUALITY: ("ice_ring_ratio", "missing"),
        NO_RINGS: ("resolution_angst", "missing"),
    }
    shifted = sides(service, "shift")
    assert shifted == dict.fromkeys(range(45), True) | {FAR: False}
    sample = Counter(sides(service, "sample").values())
    assert (sample[True], sample[False], sample[State.SKIPPED]) == (5, 36, 4)


def test_other_rules_judge_what_is_there_again(tmp_path: Path) -> None:
    run(tmp_path, plan_of(OWN))
    low: dict[str, object] = {
        "defocus_angst": {"maximum": 12000},
        "ice_ring_ratio": None,
    }
    service = run(tmp_path, plan_of(OWN | low))
    found = sides(service, "curate")
    assert {n for n, one in found.items() if one is True} == set(range(21))
    with closing(LedgerReader(tmp_path / "ledger.db")) as reader:
        kinds = Counter(one["kind"] for one in reader.rows(schema.event))
    assert kinds["judged"] == 1
    assert kinds["started"] == 3 * 45
    sample = sides(service, "sample")
    chosen = {n for n, one in sample.items() if one is True}
    assert chosen <= set(range(21))
