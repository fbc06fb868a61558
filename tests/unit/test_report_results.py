from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import report_session
from icestream.report import read_results
from icestream.report.results import Standing
from icestream.streaming.reader import LedgerReader

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.report import SessionResults
    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan
    from icestream.streaming.service import Service

KEY = "k2/GridSquare_00/FoilHole_00003.mrc"
SMALL: dict[str, Any] = {
    "import": {"thumbnail_px": 0},
    "extract": {"writes_images": False},
}


def results_of(plan: Plan, ledger: Path, **more: Any) -> SessionResults:
    reader = LedgerReader(ledger)
    try:
        return read_results(reader, plan, **more)
    finally:
        reader.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SessionResults:
    folder = tmp_path_factory.mktemp("finished")
    plan = report_session.session_plan(
        folder / "acquisition", keys=("broken.mrc", "crash.mrc"), **SMALL
    )

    def override(service: Service, transaction: Transaction) -> None:
        service.override(transaction, "ctf_limits", KEY, accepted=False)

    report_session.run_session(plan, folder / "session")
    ledger = report_session.run_session(plan, folder / "session", commands=[override])
    return results_of(plan, ledger)


def by_key(results: SessionResults) -> dict[str, Any]:
    return {one.key: one for one in results.exposures}


def test_every_exposure_has_one_standing(finished: SessionResults) -> None:
    assert len(finished.exposures) == 18
    assert sum(finished.count(one) for one in Standing) == 18
    assert finished.count(Standing.FAILED) == 2
    assert finished.is_finished


def test_an_exposure_carries_what_the_runs_found(finished: SessionResults) -> None:
    one = by_key(finished)["k2/GridSquare_00/FoilHole_00002.mrc"]
    truth = report_session.true_picks(one.key, 1.35)
    assert one.setup == one.source == "k2"
    assert one.micrograph.path.endswith("k2/GridSquare_00/FoilHole_00002.mrc")
    assert one.ctf.defocus_u_angst > one.ctf.defocus_v_angst > 5000
    assert one.pick_count == one.particle_count == len(truth)
    assert one.states["extract"] == "done"
    assert one.finished_at >= one.arrived_at


def test_what_others_can_do_without_may_fail(finished: SessionResults) -> None:
    spared = [one for one in finished.exposures if report_session.UNMEASURED in one.key]
    assert spared
    for one in spared:
        assert one.states["quality"] == "quarantined"
        assert one.standing in (Standing.ACCEPTED, Standing.REJECTED)
        assert not one.numbers
    others = [one for one in finished.exposures if one not in spared and one.ctf]
    assert all("ice_ring_ratio" in one.numbers for one in others)


def test_an_override_beats_the_rule_and_both_are_told(
    finished: SessionResults,
) -> None:
    one = by_key(finished)[KEY]
    assert one.verdict.accepted
    assert one.override is False
    assert one.accepted is False
    assert one.standing is Standing.REJECTED
    assert one.particle_count is None


def test_failures_tell_run_key_reason_and_details(finished: SessionResults) -> None:
    found = {one.key: one for one in finished.failures}
    broken, crash = found["k2/broken.mrc"], found["k2/crash.mrc"]
    assert (broken.run, broken.cause, broken.is_final) == (
        "import",
        "UnreadableFile",
        True,
    )
    assert "mode 77" in broken.reason
    assert "Transfer it again" in broken.reason
    assert (crash.run, crash.cause, crash.attempts) == ("pick", "ValueError", 2)
    assert "axis 1 is out of bounds" in crash.details
    assert by_key(finished)["k2/crash.mrc"].reason.startswith("pick: ")


def test_setups_are_optics_groups(finished: SessionResults) -> None:
    assert [(one.number, one.name) for one in finished.groups] == [
        (1, "k2"),
        (2, "falcon"),
    ]
    assert finished.groups[1].setup == report_session.SETUPS[1]


def test_files_not_taken_are_told_with_reasons(finished: SessionResults) -> None:
    states = {(one.run, one.state): one.reason for one in finished.ingest}
    assert states["k2", "waiting"] == "still growing"
    assert states["falcon", "unreadable"] == "ends 2.1 MB too early"
    assert not any(one.state == "taken" for one in finished.ingest)


def test_runs_tell_counts_parameters_and_citations(finished: SessionResults) -> None:
    runs = {one.name: one for one in finished.runs}
    assert runs["import"].counts == {"done": 17, "quarantined": 1}
    assert runs["ctf"].citation.startswith("Rohou")
    assert runs["ctf_limits"].params["max_resolution_angst"] == 6.0
    assert runs["ctf"].mean_s is not None


def test_snapshots_come_as_scalars_and_columns(finished: SessionResults) -> None:
    (one,) = finished.snapshots
    assert one.scalars["total"] == one.columns["count"][0] > 10


def test_known_lengths_are_not_read_again(tmp_path: Path) -> None:
    plan = report_session.session_plan(tmp_path / "acquisition", counts=(2,), **SMALL)
    ledger = report_session.run_session(plan, tmp_path / "session")
    counts: dict[str, int] = {}
    first = results_of(plan, ledger, row_counts=counts)
    assert sorted(counts.values()) == sorted(
        n for one in first.exposures for n in (one.pick_count, one.particle_count) if n
    )
    counts.update(dict.fromkeys(counts, 7))
    assert results_of(plan, ledger, row_counts=counts).pick_count == 14


def test_unfinished_and_paused_sessions_say_so(tmp_path: Path) -> None:
    plan = report_session.session_plan(tmp_path / "acquisition", counts=(20,), **SMALL)
    ledger = report_session.run_session(
        plan,
        tmp_path / "session",
        stop_after=15,
        commands=[lambda service, t: service.pause(t, "pick", "by hand: too slow")],
    )
    report_session.spread_times(ledger, span_s=7200)
    results = results_of(plan, ledger)
    assert results.paused == {"pick": "by hand: too slow"}
    assert not results.is_finished
    assert results.count(Standing.IN_PROGRESS) > 10
    assert results.rates.oldest_unprocessed_s == pytest.approx(7200, abs=400)
    assert results.rates.arrived is not None
    assert results.rates.arrived.per_hour == pytest.approx(9.5, rel=0.05)


def test_nothing_arrived_yet(tmp_path: Path) -> None:
    plan = report_session.session_plan(tmp_path / "acquisition", counts=(0,), **SMALL)
    ledger = report_session.run_session(plan, tmp_path / "session")
    results = results_of(plan, ledger)
    assert results.exposures == ()
    assert results.rates.processed is None
    assert [one.name for one in results.groups] == ["k2"]
