"""Estimators, their consensus and the gate in a session: each exposure in one place."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import Field

from icestream.domain import Ctf
from icestream.domain.errors import CtfNotFound
from icestream.protocols.ctf_consensus import CtfConsensus
from icestream.protocols.curate_exposures import CurateExposures
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Context, Input, Params, PerItem
from icestream.streaming.recorder import Limits
from icestream.streaming.service import Service
from icestream.streaming.tasks import State
from icestream.streaming.workflow import Port
from small import Number, Numbers, check_replay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COUNT = 8
ACQUISITION = {
    "voltage_kv": 300.0,
    "pixel_size_angst": 1.0,
    "phase_plate": False,
    "setup": "k3",
}


class GuessParams(Params):
    """How far off it is, by exposure, and where it fails."""

    wrong: dict[int, float] = Field(default={})
    bad: tuple[int, ...] = ()


class Guess(PerItem[GuessParams]):
    """Say what the CTF of an exposure is."""

    name: ClassVar = "guess"
    Params: ClassVar = GuessParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"ctf": Ctf}

    def process(self, context: Context, /, *, number: Number) -> Mapping[str, Ctf]:
        if number.value in self.params.bad:
            raise CtfNotFound("No ring.")
        mean = 12_000 + 500 * number.value + self.params.wrong.get(number.value, 0.0)
        ctf = Ctf(
            defocus_u_angst=mean + 100,
            defocus_v_angst=mean - 100,
            defocus_angle_deg=30.0,
            score=0.2,
            resolution_angst=4.0,
        )
        return {"ctf": ctf}


def plan_of(*estimators: Mapping[str, Any], **rules: Any) -> Plan:
    number = (Port("numbers", "number"),)
    names = [f"guess{n}" for n in range(1, len(estimators) + 1)]
    guesses = [
        Run.of(name, Guess, params=params, inputs={"number": number})
        for name, params in zip(names, estimators, strict=True)
    ]
    consensus = Run.of(
        "consensus",
        CtfConsensus,
        inputs={"estimate": tuple(Port(name, "ctf") for name in names)},
    )
    params = {"rules": {"agreement_angst": {"maximum": 10.0}} | rules}
    gate = Run.of(
        "curate",
        CurateExposures,
        params=params,
        inputs={
            "ctf": (Port("consensus", "ctf"),),
            "consensus": (Port("consensus", "consensus"),),
        },
    )
    source = Run.of(
        "numbers", Numbers, params={"count": COUNT}, acquisition=ACQUISITION
    )
    return Plan([source, *guesses, consensus, gate])


def run(folder: Path, plan: Plan, *, has_new_run: bool = False) -> dict[int, str]:
    """Run a session to its end; where each exposure stands then."""
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
    if not has_new_run:
        # The log tells nothing of a run that is not in the workflow yet.
        check_replay(folder / "ledger.db", service.plan.workflow)
    tasks = service.scheduler.board.tasks["curate"]
    found = {}
    for number in range(COUNT):
        task = tasks[f"numbers/{number}"]
        if task.state is State.DONE:
            reason = task.verdict.reason if task.verdict else ""
            side = "accepted" if task.accepted else f"rejected: {reason}"
            found[number] = side.partition(": missing")[0] + (
                " as missing" if ": missing" in side else ""
            )
        else:
            found[number] = task.state.value
    return found


def test_each_exposure_is_in_one_place(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        plan_of({"wrong": {1: 50.0, 2: 9_000.0}, "bad": [3, 4]}, {"bad": [4, 5]}),
    )
    assert found == {
        0: "accepted",
        1: "accepted",
        2: "rejected: too high",
        # One has failed: nobody agrees with the other.
        3: "rejected as missing",
        # All have failed.
        4: "skipped",
        5: "rejected as missing",
        6: "accepted",
        7: "accepted",
    }


def test_of_three_the_majority_counts(tmp_path: Path) -> None:
    wrong = {"wrong": {2: 9_000.0}, "bad": [3]}
    found = run(tmp_path, plan_of(wrong, {}, {"wrong": {6: 200.0}, "bad": [5]}))
    assert set(found.values()) == {"accepted"}


def test_other_rules_and_a_late_estimator_change_places(tmp_path: Path) -> None:
    bad = {"wrong": {2: 9_000.0}, "bad": [3]}
    before = run(tmp_path, plan_of(bad, {}))
    assert before[2] == "rejected: too high"
    assert before[3] == "rejected as missing"
    lenient = run(tmp_path, plan_of(bad, {}, agreement_angst={"maximum": 100.0}))
    assert lenient[2] == "accepted"
    assert run(tmp_path, plan_of(bad, {})) == before
    after = run(tmp_path, plan_of(bad, {}, {}), has_new_run=True)
    assert set(after.values()) == {"accepted"}


@pytest.mark.parametrize("passes", ["primary", "average"])
def test_what_is_passed_on(tmp_path: Path, passes: str) -> None:
    plan = plan_of({}, {"wrong": {0: 100.0}})
    consensus = Run.of(
        "consensus",
        CtfConsensus,
        params={"passes": passes},
        inputs={"estimate": (Port("guess1", "ctf"), Port("guess2", "ctf"))},
    )
    runs = [
        consensus if one == "consensus" else run_ for one, run_ in plan.runs.items()
    ]
    run(tmp_path, Plan(runs))
    with closing(Ledger(tmp_path / "ledger.db")) as ledger, ledger.transaction() as t:
        (content,) = {
            one.content
            for one in t.changes([Port("consensus", "ctf")], after=0, limit=100)
            if one.key == "numbers/0"
        }
        scalars = t.scalars([str(content)])[str(content)]
    mean = (scalars["defocus_u_angst"] + scalars["defocus_v_angst"]) / 2
    assert mean == pytest.approx(12_000 if passes == "primary" else 12_050)
