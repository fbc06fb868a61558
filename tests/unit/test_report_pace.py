from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

import report_session
from icestream.app.session import Session
from icestream.cli.overview import LedgerFollower
from icestream.cli.summary import rate_text as rate_text_of_cli
from icestream.report import read_results
from icestream.report.pace import Pace, rate_of
from icestream.report.results import Rate
from icestream.report.wording import rate_text
from icestream.streaming.answers import Moment
from icestream.streaming.reader import LedgerReader
from icestream.streaming.workflow import Shape

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.streaming.plan import Plan

SMALL: dict[str, Any] = {
    "import": {"thumbnail_px": 0},
    "extract": {"writes_images": False},
}


def per_hour(rate: Rate | None) -> float | None:
    assert rate is not None
    return rate.per_hour


def test_a_rate_over_a_session_counts_from_its_beginning() -> None:
    # one every ten seconds, the first one ten seconds after the beginning
    times = [1000.0 + 10 * n for n in range(1, 91)]
    assert rate_of(times, begun=1000.0) == Rate(count=90, span_s=900.0, per_hour=360.0)


def test_what_begins_a_session_does_not_count_for_its_own_rate() -> None:
    times = [1000.0 + 10 * n for n in range(91)]
    rate = rate_of(times, begun=1000.0)
    assert rate == Rate(count=91, span_s=900.0, per_hour=360.0)


def test_now_is_the_last_ten_minutes() -> None:
    early, late = [float(n) for n in range(3000)], [7000.0 + 6 * n for n in range(50)]
    rate = rate_of(early + late, begun=0.0, now=7400.0)
    assert rate == Rate(count=50, span_s=600.0, per_hour=300.0)
    assert per_hour(rate_of(early + late, begun=0.0, now=9000.0)) == 0


@pytest.mark.parametrize("now", [None, 12.0])
def test_a_few_seconds_are_no_rate_per_hour(now: float | None) -> None:
    times = [0.1 * n for n in range(120)]
    rate = rate_of(times, begun=0.0, now=now)
    assert rate is not None
    assert rate.per_hour is None
    assert rate.count == 120
    assert rate.span_s == pytest.approx(12, abs=0.2)


@pytest.mark.parametrize(
    ("count", "span_s", "is_told"),
    [(9, 599.0, False), (9, 600.0, True), (99, 60.0, False), (100, 60.0, True)],
)
def test_ten_minutes_or_a_hundred_in_one_minute_are(
    count: int, span_s: float, is_told: bool
) -> None:
    times = [span_s * n / count for n in range(1, count + 1)]
    assert (per_hour(rate_of(times, begun=0.0)) is not None) is is_told
    assert (per_hour(rate_of(times, begun=0.0, now=span_s)) is not None) is is_told


def test_no_result_is_no_rate_and_no_time_is_no_division() -> None:
    assert rate_of([], begun=5.0, now=700.0) is None
    assert rate_of([5.0, 5.0], begun=5.0) == Rate(count=2, span_s=0.0, per_hour=None)


def test_rates_in_words() -> None:
    short = Rate(count=1018, span_s=42.0, per_hour=None)
    none = Rate(count=12, span_s=0.0, per_hour=None)
    long = Rate(count=1018, span_s=3600.0, per_hour=1017.6)
    assert rate_text_of_cli(short) == "1,018 in 42 s"
    assert rate_text_of_cli(long) == "1,018/h"
    assert rate_text_of_cli(none) == rate_text(none) == "12 at once"
    assert rate_text_of_cli(None) == ""
    assert rate_text(short) == "1\u202f018 in 42\u00a0s"
    assert rate_text(long) == "1\u202f018 per hour"
    assert rate_text(None) == "–"


def pace_of(*moments: tuple[str, str, float]) -> Pace:
    pace = Pace()
    pace.add(Moment(run == "watch", run, key, time) for run, key, time in moments)
    return pace


def test_lag_is_from_arrival_to_the_last_of_the_first_results() -> None:
    pace = pace_of(
        ("watch", "a", 10.0),
        ("import", "a", 11.0),
        ("ctf", "a", 13.0),
        ("watch", "b", 20.0),
        ("import", "b", 21.0),
        ("ctf", "b", 27.0),
        # made anew much later, and a new revision of the file: no lag
        ("ctf", "a", 900.0),
        ("watch", "a", 950.0),
    )
    assert pace.arrived_at("a") == 10.0
    assert pace.finished_at("a") == 13.0
    rates = pace.rates(set(), now=1000.0)
    assert rates.lag_s == pytest.approx(5.0)
    assert rates.oldest_unprocessed_s is None


def test_what_is_not_finished_has_no_lag_but_an_age() -> None:
    pace = pace_of(
        ("watch", "a", 10.0),
        ("import", "a", 12.0),
        ("watch", "b", 20.0),
        ("import", "b", 21.0),
    )
    rates = pace.rates({"b", "never seen"}, now=100.0)
    assert rates.lag_s == pytest.approx(2.0)
    assert rates.oldest_unprocessed_s == pytest.approx(80.0)
    assert rates.processed == Rate(count=1, span_s=2.0, per_hour=None)


def test_the_lag_is_that_of_the_exposures_finished_last() -> None:
    # one a minute; the queue grows: each takes a second longer than the one before
    moments = []
    for n in range(200):
        moments += [("watch", f"{n}", 60.0 * n), ("ctf", f"{n}", 61.0 * n)]
    random.Random(0).shuffle(moments)
    lag_s = pace_of(*moments).rates(set(), now=1e5).lag_s
    assert lag_s == pytest.approx(174.5)


def test_a_runs_rate_counts_from_the_first_arrival_and_a_sources_from_its_own() -> None:
    moments = [("watch", "first", 0.0)]
    moments += [("late", f"{n}", 3600.0 + 10 * n) for n in range(361)]
    moments += [("ctf", f"{n}", 7200.0) for n in range(10)]
    pace = Pace()
    pace.add(Moment(run != "ctf", run, key, time) for run, key, time in moments)
    assert per_hour(pace.run("late")) == pytest.approx(360)
    assert per_hour(pace.run("ctf")) == pytest.approx(5)
    assert pace.run("pick") is None


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return a session over two hours in which something is left to be done."""
    plan = report_session.session_plan(
        tmp_path / "acquisition", counts=(24, 8), keys=("broken.mrc",), **SMALL
    )
    ledger = report_session.run_session(plan, tmp_path / "session", stop_after=70)
    report_session.spread_times(ledger, span_s=7200)
    return _session(ledger, plan)


def _session(ledger: Path, plan: Plan) -> Session:
    class Given(Session):
        def __init__(self) -> None:
            self.folder = ledger.parent
            self.plan = plan

        def read(self) -> LedgerReader:
            return LedgerReader(ledger)

    return Given()


def test_live_view_and_report_say_the_same(session: Session) -> None:
    overview = LedgerFollower(session).look()
    reader = session.read()
    results = read_results(reader, session.plan)
    reader.close()
    assert overview.rates.lag_s == results.rates.lag_s == pytest.approx(4)
    assert overview.rates.processed == results.rates.processed
    assert overview.rates.arrived == results.rates.arrived
    assert per_hour(overview.rates.arrived) == pytest.approx(15.6, rel=0.02)
    assert overview.rates.oldest_unprocessed_s == pytest.approx(
        results.rates.oldest_unprocessed_s, abs=60
    )
    assert overview.waiting_files == 2
    for line, run in zip(overview.runs, results.runs, strict=True):
        assert line.name == run.name
        assert line.counts == run.counts
        assert (line.rate is None) is (run.rate_now is None)
        if line.rate is not None and run.rate_now is not None:
            assert line.rate.per_hour == run.rate_now.per_hour
    rejected = sum(one.accepted is False for one in results.exposures)
    assert rejected == sum(one.rejected for one in overview.runs)


def test_a_second_look_brings_only_what_is_new(session: Session) -> None:
    follower = LedgerFollower(session)
    first = follower.look()
    assert any(one.startswith("import: k2/broken.mrc: ") for one in first.news)
    second = follower.look()
    assert second.news == []
    assert second.rates.processed == first.rates.processed
    later = LedgerFollower(session)
    later.begin()
    assert later.look().news == []
    # what happened before counts for the pace, though it is no news
    assert later.look().rates.lag_s == first.rates.lag_s


def test_lines_tell_what_is_left(session: Session) -> None:
    overview = LedgerFollower(session).look()
    lines = {one.name: one for one in overview.runs}
    assert lines["k2"].shape is Shape.SOURCE
    assert lines["k2"].total == 24
    assert lines["import"].failed == 1
    assert any(one.waiting or one.running for one in lines.values())
