"""Each way that a task can go, and each thing that a run does by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from icestream.domain.errors import InternalError
from icestream.domain.verdict import Verdict
from icestream.streaming import events as ev
from icestream.streaming.execution import Fault
from icestream.streaming.scheduler import Scheduler
from icestream.streaming.state import SESSION, Notice, Policy, StoreRun
from icestream.streaming.tasks import ChangeKind, State
from icestream.streaming.workflow import ACCEPTED, REJECTED, Port, RunSpec, Workflow
from scheduling import (
    CPU,
    GPU,
    Desk,
    aggregate,
    check_finished,
    check_replay,
    gate,
    per_item,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def desk_of(*specs: RunSpec, policy: Policy | None = None) -> Desk:
    return Desk(Workflow(specs), policy)


def chain(policy: Policy | None = None) -> Desk:
    """Movies, motion, ctf."""
    return desk_of(
        source("movies"),
        per_item("motion", movie="movies.out"),
        per_item("ctf", micrograph="motion.out"),
        policy=policy,
    )


def gated() -> Desk:
    """Movies, ctf, a gate, a step for what passes and one for what does not."""
    return desk_of(
        source("movies"),
        per_item("ctf", movie="movies.out"),
        gate("limit", "ctf", ctf="ctf.out"),
        per_item("pick", ctf="limit.accepted"),
        per_item("junk", ctf="limit.rejected"),
        aggregate("classes", "pick.out"),
    )


def joined(*, optional: Sequence[str] = ("mask",)) -> Desk:
    """Two sources whose keys are joined; the second may be missing."""
    return desk_of(
        source("movies"),
        source("masks"),
        per_item("mask", mask="masks.out"),
        per_item("pick", optional=optional, movie="movies.out", mask="mask.out"),
    )


def judged() -> Desk:
    """Movies, a gate that a person has let key ``a`` pass, motion, ctf."""
    desk = desk_of(
        source("movies"),
        gate("limit", "movie", movie="movies.out"),
        per_item("motion", movie="limit.accepted"),
        per_item("ctf", micrograph="motion.out"),
        aggregate("classes", "ctf.out"),
    )
    desk.arrive("movies", "a")
    desk.override("limit", "a", True)
    desk.decide("limit", "a")
    return desk


def started(policy: Policy | None = None) -> Desk:
    """A chain whose motion of key ``a`` runs."""
    desk = chain(policy)
    desk.arrive("movies", "a")
    desk.start()
    return desk


def fail(desk: Desk, fault: Fault, wait_s: float | None = None) -> None:
    desk.fail(desk.flight("motion", "a"), fault, wait_s)


class TestStates:
    def test_new_key_is_ready_where_inputs_are_there_and_waits_elsewhere(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        assert desk.state("movies", "a") is State.DONE
        assert desk.state("motion", "a") is State.READY
        assert desk.state("ctf", "a") is State.WAITING
        assert desk.task("ctf", "a").reason == "waits for micrograph"

    def test_ready_to_running_to_done(self) -> None:
        desk = started()
        assert desk.state("motion", "a") is State.RUNNING
        assert desk.task("motion", "a").attempt == 1
        desk.succeed(desk.flight("motion", "a"))
        task = desk.task("motion", "a")
        assert task.state is State.DONE
        assert task.published == task.content
        assert desk.state("ctf", "a") is State.READY

    def test_skipped_when_a_required_input_is_absent(self) -> None:
        desk = judged()
        desk.override("limit", "a", False)
        assert desk.state("motion", "a") is State.SKIPPED
        assert desk.task("motion", "a").reason == "limit rejected it by hand"
        assert desk.state("ctf", "a") is State.SKIPPED

    def test_skipped_goes_again_when_the_input_comes_back(self) -> None:
        desk = judged()
        desk.override("limit", "a", False)
        desk.override("limit", "a", True)
        assert desk.state("motion", "a") is State.READY
        assert desk.state("ctf", "a") is State.WAITING

    def test_done_is_withdrawn_with_its_input(self) -> None:
        desk = judged()
        desk.drive()
        desk.override("limit", "a", False)
        assert desk.state("ctf", "a") is State.SKIPPED
        assert desk.tables.changes[-1].kind is ChangeKind.WITHDRAWN
        standing = {str(port) for port, _ in desk.tables.standing}
        assert standing == {"movies.out", "limit.rejected"}

    def test_a_task_that_merely_waited_in_a_lost_slot_is_not_to_blame(self) -> None:
        desk = started(Policy(lost_attempts=1))
        for _ in range(3):
            fail(desk, Fault.DROPPED)
            assert desk.state("motion", "a") is State.READY
            assert desk.task("motion", "a").failures == 0
            desk.start()

    def test_failed_backs_off_twice_as_long_each_time(self) -> None:
        desk = started(Policy(lost_attempts=4, back_off_s=2.0))
        for wait in (2.0, 4.0, 8.0):
            fail(desk, Fault.LOST)
            task = desk.task("motion", "a")
            assert task.state is State.FAILED
            assert task.retry_at == desk.time + wait
            assert desk.start() is None
            desk.tick(wait - 0.1)
            assert desk.state("motion", "a") is State.FAILED
            desk.tick(0.1)
            assert desk.state("motion", "a") is State.READY
            assert desk.task("motion", "a").retry_at is None
            desk.start()
        fail(desk, Fault.LOST)
        assert desk.state("motion", "a") is State.QUARANTINED
        assert desk.task("motion", "a").attempt == 4

    def test_internal_failures_are_tried_twice(self) -> None:
        desk = started()
        fail(desk, Fault.INTERNAL)
        assert desk.state("motion", "a") is State.FAILED
        desk.tick(1.0)
        desk.start()
        fail(desk, Fault.INTERNAL)
        assert desk.state("motion", "a") is State.QUARANTINED

    def test_the_items_fault_quarantines_at_once(self) -> None:
        desk = started()
        fail(desk, Fault.ITEM)
        assert desk.state("motion", "a") is State.QUARANTINED
        assert desk.task("ctf", "a").reason == "motion failed: it is item"
        assert desk.state("ctf", "a") is State.SKIPPED

    def test_quarantine_withdraws_what_was_published(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        desk.drive()
        desk.arrive("movies", "a", 1)
        assert desk.state("ctf", "a") is State.STALE
        desk.start()
        fail(desk, Fault.ITEM)
        standing = {str(port) for port, _ in desk.tables.standing}
        assert standing == {"movies.out"}

    def test_incomplete_waits_and_goes_again(self) -> None:
        desk = started()
        fail(desk, Fault.INCOMPLETE, wait_s=5.0)
        task = desk.task("motion", "a")
        assert task.state is State.WAITING
        assert task.retry_at == desk.time + 5.0
        assert desk.scheduler.next_due() == desk.time + 5.0
        desk.tick(4.9)
        assert desk.state("motion", "a") is State.WAITING
        desk.tick(0.1)
        assert desk.state("motion", "a") is State.READY
        assert desk.scheduler.next_due() is None
        assert desk.task("motion", "a").failures == 0

    def test_incomplete_without_a_wait_is_the_items_fault(self) -> None:
        desk = started()
        fail(desk, Fault.INCOMPLETE)
        assert desk.state("motion", "a") is State.QUARANTINED

    def test_closing_does_not_cut_the_wait_for_a_file_short(self) -> None:
        desk = started()
        fail(desk, Fault.INCOMPLETE, wait_s=5.0)
        desk.close()
        task = desk.task("motion", "a")
        assert task.state is State.WAITING
        assert task.retry_at == desk.time + 5.0
        desk.drive()
        check_finished(desk)

    def test_back_off_outlives_an_input_that_comes_and_goes(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.drive()
        (side,) = (n for n in ("pick", "junk") if desk.state(n, "a") is State.DONE)
        desk.configure(side, 1)
        flight = desk.start()
        assert flight is not None
        desk.fail(flight, Fault.LOST)
        desk.send(ev.Judged("limit", {}, ("a",)))
        assert desk.state(side, "a") is State.STALE
        desk.decide("limit", "a")
        assert desk.start() is None
        assert desk.task(side, "a").retry_at == desk.time + 1.0
        assert desk.task(side, "a").reason == "it is lost"
        desk.tick(1.0)
        assert desk.state(side, "a") is State.READY

    def test_a_new_revision_does_not_wait_for_the_old_one(self) -> None:
        desk = started()
        fail(desk, Fault.INCOMPLETE, wait_s=5.0)
        desk.arrive("movies", "a", 1)
        assert desk.state("motion", "a") is State.READY
        assert desk.scheduler.next_due() is None

    def test_failures_count_for_one_content_only(self) -> None:
        desk = started()
        fail(desk, Fault.INTERNAL)
        desk.arrive("movies", "a", 1)
        assert desk.task("motion", "a").failures == 0
        desk.start()
        fail(desk, Fault.INTERNAL)
        assert desk.state("motion", "a") is State.FAILED

    def test_quarantined_goes_again_with_a_new_revision(self) -> None:
        desk = started()
        fail(desk, Fault.ITEM)
        desk.arrive("movies", "a", 1)
        assert desk.state("motion", "a") is State.READY
        desk.start()
        fail(desk, Fault.LOST)
        assert desk.state("motion", "a") is State.FAILED

    def test_skipped_waits_for_no_time(self) -> None:
        desk = judged()
        desk.start()
        fail(desk, Fault.LOST)
        desk.override("limit", "a", False)
        assert desk.state("motion", "a") is State.SKIPPED
        assert desk.scheduler.next_due() is None

    def test_done_is_stale_while_its_input_is_made_anew(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        desk.drive()
        before = dict(desk.tables.standing)
        desk.configure("motion", 1)
        assert desk.state("motion", "a") is State.READY
        assert desk.state("ctf", "a") is State.STALE
        assert desk.tables.standing == before, "results do not flicker"
        desk.drive()
        assert desk.state("ctf", "a") is State.DONE
        kinds = [one.kind for one in desk.tables.changes]
        assert kinds == [ChangeKind.ADDED] * 3 + [ChangeKind.REPLACED] * 2

    def test_stale_is_done_again_when_the_input_comes_back_unchanged(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        desk.drive()
        desk.configure("motion", 1)
        desk.configure("motion", 0)
        assert desk.state("ctf", "a") is State.DONE
        assert desk.start() is None

    def test_running_goes_on_while_its_input_comes_and_goes(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.run_one("ctf", "a")
        desk.decide("limit", "a")
        flight = desk.start()
        assert flight is not None
        desk.send(ev.Judged("limit", {}, ("a",)))
        assert desk.state(flight.run, "a") is State.WAITING
        desk.decide("limit", "a")
        assert desk.state(flight.run, "a") is State.RUNNING
        assert desk.start() is None


class TestRetry:
    def test_one_key(self) -> None:
        desk = chain()
        for key in "ab":
            desk.arrive("movies", key)
        desk.drive(bad=[("motion", "a"), ("motion", "b")])
        desk.send(ev.Retried("motion", "a"))
        assert desk.state("motion", "a") is State.READY
        assert desk.task("motion", "a").failures == 0
        assert desk.state("motion", "b") is State.QUARANTINED
        assert desk.state("ctf", "a") is State.WAITING

    def test_all_keys_of_a_closed_run(self) -> None:
        desk = chain()
        for key in "ab":
            desk.arrive("movies", key)
        desk.close()
        desk.drive(bad=[("motion", "a"), ("motion", "b")])
        assert desk.scheduler.is_finished()
        desk.retry("motion")
        assert not desk.scheduler.is_finished()
        desk.drive()
        check_finished(desk)
        assert desk.state("ctf", "b") is State.DONE

    def test_only_what_is_quarantined(self) -> None:
        desk = started()
        assert not desk.retry("motion")
        assert not desk.send(ev.Retried("motion", "unknown"))


class TestLateAndTwice:
    def test_a_result_of_an_old_revision_is_ignored(self) -> None:
        desk = started()
        old = desk.flight("motion", "a")
        desk.arrive("movies", "a", 1)
        assert desk.state("motion", "a") is State.READY
        desk.succeed(old)
        assert desk.state("motion", "a") is State.READY
        assert desk.task("motion", "a").published is None

    def test_an_attempt_is_taken_up_again_when_its_revision_is(self) -> None:
        desk = started()
        desk.arrive("movies", "a", 1)
        desk.arrive("movies", "a", 0)
        assert desk.state("motion", "a") is State.RUNNING
        assert desk.start() is None
        desk.succeed(desk.flight("motion", "a"))
        assert desk.state("motion", "a") is State.DONE

    def test_a_result_in_the_ledger_is_not_made_again(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        desk.drive()
        desk.arrive("movies", "a", 1)
        desk.drive()
        desk.arrive("movies", "a", 0)
        desk.drive()
        assert desk.state("ctf", "a") is State.DONE
        assert set(desk.starts.values()) == {1}

    def test_success_twice(self) -> None:
        desk = started()
        desk.succeed(desk.flight("motion", "a"))
        assert not desk.send(desk.delivered[-1])

    @pytest.mark.parametrize("fault", Fault)
    def test_failure_twice_counts_once(self, fault: Fault) -> None:
        desk = started()
        fail(desk, fault, wait_s=5.0 if fault is Fault.INCOMPLETE else None)
        twice = desk.delivered[-1]
        assert not desk.send(twice)
        desk.retry("motion")
        desk.resume_all()
        desk.tick(10.0)
        assert desk.state("motion", "a") is State.READY
        assert not desk.send(twice)
        desk.start()
        assert not desk.send(twice), "it is not about the attempt that runs now"
        assert desk.state("motion", "a") is State.RUNNING

    def test_a_failure_that_is_older_than_the_service(self) -> None:
        desk = started()
        lost = desk.failure(desk.flight("motion", "a"), Fault.ITEM)
        desk.crash()
        assert desk.state("motion", "a") is State.READY
        assert not desk.send(lost)

    def test_a_result_for_a_key_that_nobody_knows(self) -> None:
        desk = chain()
        assert not desk.send(ev.Succeeded("motion", "x", "0", 1))

    def test_the_same_arrival(self) -> None:
        desk = chain()
        desk.arrive("movies", "a", voltage=300)
        desk.close()
        desk.drive()
        assert not desk.arrive("movies", "a", voltage=300)
        assert desk.scheduler.is_finished()


class TestAcquisition:
    def test_late_fields_redo_what_reads_them_and_no_more(self) -> None:
        desk = desk_of(
            source("movies"),
            per_item("motion", movie="movies.out"),
            per_item("ctf", micrograph="motion.out", reads=("voltage",)),
            per_item("pick", micrograph="motion.out"),
        )
        desk.arrive("movies", "a", voltage=200)
        desk.close()
        desk.drive()
        desk.arrive("movies", "a", voltage=300, beam_tilt=0.1)
        assert desk.state("ctf", "a") is State.READY
        assert desk.state("motion", "a") is State.DONE
        assert desk.state("pick", "a") is State.DONE
        assert not desk.scheduler.is_finished()
        desk.drive()
        check_finished(desk)

    def test_late_fields_reach_what_does_not_follow_from_their_file(self) -> None:
        desk = desk_of(
            source("movies"),
            source("imports"),
            per_item("ctf", movie="movies.out imports.out", reads=("voltage",)),
        )
        desk.arrive("movies", "a", voltage=200)
        desk.drive()
        desk.arrive("imports", "a", voltage=300)
        assert desk.state("ctf", "a") is State.READY

    def test_fields_that_nobody_reads_change_nothing(self) -> None:
        desk = chain()
        desk.arrive("movies", "a", voltage=200)
        desk.close()
        desk.drive()
        desk.arrive("movies", "a", voltage=300)
        assert desk.scheduler.is_finished()


class TestParameters:
    def test_before_the_first_ones(self) -> None:
        desk = chain()
        scheduler = Scheduler(desk.workflow)
        scheduler.handle(ev.Arrived("movies", "a", "0"))
        before = scheduler.board.tasks["motion"]["a"].content
        scheduler.handle(ev.Configured("motion", "motion#0"))
        assert scheduler.board.tasks["motion"]["a"].content != before

    def test_the_same_again(self) -> None:
        desk = chain()
        assert not desk.configure("motion", 0)

    def test_what_runs_with_old_ones_goes_on_beside_the_new(self) -> None:
        desk = started()
        old = desk.flight("motion", "a")
        desk.configure("motion", 1)
        assert desk.state("motion", "a") is State.READY
        desk.start()
        desk.succeed(old)
        assert desk.state("motion", "a") is State.RUNNING
        desk.succeed(desk.flight("motion", "a"))
        assert desk.state("motion", "a") is State.DONE

    def test_quarantined_goes_again_with_new_ones(self) -> None:
        desk = started()
        fail(desk, Fault.ITEM)
        desk.configure("motion", 1)
        assert desk.state("motion", "a") is State.READY

    def test_a_limit_moved_there_and_back_starts_nothing(self) -> None:
        desk = gated()
        for key in "abcd":
            desk.arrive("movies", key)
        desk.close()
        desk.drive()
        sides = dict(desk.tables.standing)
        starts = dict(desk.starts)
        desk.configure("limit", 2)
        desk.drive()
        assert desk.tables.standing == sides, "number 2 decides as number 0"
        assert desk.starts == starts
        assert desk.scheduler.is_finished()

    def test_a_limit_moved_across_takes_results_from_the_ledger(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.close()
        desk.drive()
        desk.configure("limit", 1)
        desk.drive()
        desk.configure("limit", 0)
        desk.drive()
        made = {what: n for what, n in desk.starts.items() if what[1]}
        assert {run for run, _, _ in made} == {"ctf", "pick", "junk"}
        assert set(made.values()) == {1}
        check_finished(desk)


class TestGates:
    def test_other_rules_change_sides_without_a_detour(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.drive()
        (side,) = (n for n in ("pick", "junk") if desk.state(n, "a") is State.DONE)
        (other,) = {"pick", "junk"} - {side}
        content = desk.task("limit", "a").content
        verdict = Verdict(accepted=side == "junk", rule="new", value=1, limit=2)
        desk.send(ev.Judged("limit", {"a": (content, verdict)}))
        assert desk.task("limit", "a").verdict == verdict
        assert desk.state(side, "a") is State.SKIPPED
        assert desk.state(other, "a") is State.READY

    def test_a_verdict_on_what_has_changed_since_does_not_count(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.drive()
        before = desk.task("limit", "a")
        verdict = Verdict(accepted=True, rule="new")
        desk.send(ev.Judged("limit", {"a": ("another", verdict)}))
        assert desk.task("limit", "a") == before
        assert desk.send(ev.Judged("limit", {"b": ("c", verdict)}, ("b",))) == []

    def test_a_field_that_a_gate_reads_and_that_comes_late_asks_it_again(self) -> None:
        desk = desk_of(
            source("movies"),
            gate("limit", "movie", reads=("tilt",), movie="movies.out"),
        )
        desk.arrive("movies", "a", tilt=None)
        desk.drive()
        desk.arrive("movies", "a", tilt=None, unread=3)
        assert desk.state("limit", "a") is State.DONE
        desk.arrive("movies", "a", tilt=30.0)
        assert desk.scheduler.undecided() == [("limit", "a")]

    def test_decides_and_passes_its_item_on_unchanged(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.run_one("ctf", "a")
        assert desk.scheduler.undecided() == [("limit", "a")]
        desk.decide("limit", "a")
        task = desk.task("limit", "a")
        assert task.state is State.DONE
        side = ACCEPTED if task.accepted else REJECTED
        item = desk.tables.standing[Port("ctf", "out"), "a"]
        assert desk.tables.standing[Port("limit", side), "a"] == item
        other = "junk" if task.accepted else "pick"
        assert desk.task(other, "a").reason == f"limit {side} it by parity"

    @pytest.mark.parametrize("accepted", [True, False])
    def test_a_persons_word_beats_the_rule_and_survives(self, accepted: bool) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.drive()
        desk.override("limit", "a", accepted)
        desk.arrive("movies", "a", 1)
        desk.configure("limit", 1)
        desk.close()
        desk.drive()
        assert desk.task("limit", "a").accepted is accepted
        check_finished(desk)
        other = "junk" if accepted else "pick"
        assert desk.task(other, "a").reason.endswith("by hand")

    def test_undoing_returns_to_the_rule(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.close()
        desk.drive()
        before = dict(desk.tables.standing)
        by_rule = desk.task("limit", "a").accepted
        desk.override("limit", "a", not by_rule)
        assert not desk.scheduler.is_finished()
        desk.drive()
        assert desk.tables.standing != before
        desk.override("limit", "a", None)
        desk.drive()
        assert desk.tables.standing == before
        check_finished(desk)

    def test_the_rules_word_goes_with_the_item_and_the_persons_stays(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.drive()
        desk.override("limit", "a", True)
        desk.arrive("movies", "a", 1)
        desk.drive(bad=[("ctf", "a")])
        task = desk.task("limit", "a")
        assert task.state is State.SKIPPED
        assert task.verdict is None
        assert task.override is True

    def test_a_word_given_before_the_decision_counts(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.override("limit", "a", False)
        desk.drive()
        assert desk.task("limit", "a").accepted is False

    def test_a_word_about_something_else_is_ignored(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        assert not desk.send(ev.Overridden("ctf", "a", accepted=True))
        assert not desk.send(ev.Overridden("limit", "unknown", accepted=True))

    def test_a_rule_that_fails_is_quarantined_until_it_changes(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.run_one("ctf", "a")
        desk.fail_gate("limit", "a", Fault.ITEM)
        assert desk.state("limit", "a") is State.QUARANTINED
        desk.configure("limit", 1)
        assert desk.state("limit", "a") is State.READY
        assert desk.task("limit", "a").failures == 0
        desk.drive()
        assert desk.state("limit", "a") is State.DONE

    def test_a_verdict_of_an_old_revision_is_ignored(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.run_one("ctf", "a")
        desk.decide("limit", "a")
        decided = ev.load_event(*desk.log[-1])
        assert not desk.send(decided), "twice"
        desk.arrive("movies", "a", 1)
        desk.run_one("ctf", "a")
        assert not desk.send(decided), "late"
        assert desk.state("limit", "a") is State.READY

    def test_a_verdict_without_an_item_is_our_fault(self) -> None:
        spec = gate("limit", "ctf", ctf="movies.out")
        nothing = RunSpec(
            name=spec.name, shape=spec.shape, inputs=spec.inputs, outputs=spec.outputs
        )
        desk = desk_of(source("movies"), nothing)
        desk.arrive("movies", "a")
        with pytest.raises(InternalError, match="without a verdict"):
            desk.decide("limit", "a")


class TestJoins:
    def test_fires_with_missing_and_again_for_a_late_partner(self) -> None:
        desk = joined()
        desk.arrive("movies", "a")
        assert desk.task("pick", "a").reason == "waits for mask"
        desk.close("masks")
        desk.drive()
        assert desk.state("pick", "a") is State.DONE
        desk.arrive("masks", "a")
        assert not desk.board.runs["pick"].closed, "what comes late reopens"
        assert desk.state("pick", "a") is State.STALE
        desk.close()
        desk.drive()
        assert desk.tables.changes[-1].kind is ChangeKind.REPLACED
        check_finished(desk)

    def test_skips_without_a_required_partner(self) -> None:
        desk = joined(optional=())
        desk.arrive("movies", "a")
        desk.close("masks")
        assert desk.state("pick", "a") is State.SKIPPED
        assert desk.task("pick", "a").reason == "mask.out lacks it"

    def test_fires_with_missing_when_the_partner_is_quarantined(self) -> None:
        desk = joined()
        for run in ("movies", "masks"):
            desk.arrive(run, "a")
        desk.drive(bad=[("mask", "a")])
        assert desk.state("pick", "a") is State.DONE

    def test_reopening_keeps_results(self) -> None:
        desk = joined()
        desk.arrive("movies", "a")
        desk.close()
        desk.drive()
        before = dict(desk.tables.standing)
        desk.arrive("masks", "b")
        assert desk.state("pick", "a") is State.DONE
        assert before.items() <= desk.tables.standing.items()

    @pytest.mark.parametrize("is_running", [False, True])
    def test_reopening_holds_back_what_would_fire_with_missing(
        self, is_running: bool
    ) -> None:
        desk = joined()
        desk.arrive("movies", "a")
        desk.close("masks")
        assert desk.state("pick", "a") is State.READY
        if is_running:
            desk.start()
        desk.arrive("masks", "b")
        assert desk.state("pick", "a") is State.WAITING
        desk.drive()
        assert desk.state("pick", "a") is State.WAITING
        desk.close()
        desk.drive()
        check_finished(desk)
        assert set(desk.starts.values()) == {1}

    def test_a_gate_decides_anew_only_what_it_can_see(self) -> None:
        spec = gate("limit", "movie", movie="movies.out", mask="masks.out")
        lenient = replace(spec, required=frozenset({"movie"}))
        desk = desk_of(source("movies"), source("masks"), lenient)
        desk.arrive("movies", "a")
        desk.close()
        desk.drive()
        assert desk.state("limit", "a") is State.DONE
        desk.arrive("masks", "b")
        desk.configure("limit", 1)
        assert desk.scheduler.undecided() == []
        assert desk.state("limit", "a") is State.STALE
        desk.close()
        desk.drive()
        check_finished(desk)

    def test_a_union_takes_the_first_port_that_has_the_key(self) -> None:
        desk = desk_of(
            source("movies"),
            gate("limit", "movie", movie="movies.out"),
            source("imports"),
            per_item("m", x="limit.accepted imports.out"),
        )
        desk.arrive("imports", "a")
        desk.drive()
        assert desk.inputs("m", "a") == {"x": ("file", "imports-a-0")}
        desk.arrive("movies", "a")
        desk.override("limit", "a", True)
        desk.drive()
        assert desk.inputs("m", "a") == {"x": ("file", "movies-a-0")}
        desk.override("limit", "a", False)
        desk.drive()
        assert desk.inputs("m", "a") == {"x": ("file", "imports-a-0")}

    def test_a_union_waits_for_the_port_that_is_at_work(self) -> None:
        desk = desk_of(
            source("movies"),
            gate("limit", "movie", movie="movies.out"),
            per_item("pick", movie="limit.accepted"),
            per_item("junk", movie="limit.rejected"),
            per_item("view", shown="pick.out junk.out"),
            per_item("again", shown="junk.out pick.out"),
        )
        desk.arrive("movies", "a")
        desk.decide("limit", "a")
        assert State.SKIPPED in {desk.state("pick", "a"), desk.state("junk", "a")}
        assert desk.state("view", "a") is State.WAITING
        assert desk.state("again", "a") is State.WAITING
        desk.drive()
        assert desk.state("view", "a") is State.DONE
        assert desk.state("again", "a") is State.DONE


class TestAggregates:
    @staticmethod
    def classes(policy: Policy | None = None) -> Desk:
        desk = desk_of(
            source("movies"), aggregate("classes", "movies.out"), policy=policy
        )
        for key in "ab":
            desk.arrive("movies", key)
        return desk

    def test_follows_changes_and_closes_behind_its_input(self) -> None:
        desk = self.classes()
        desk.close()
        assert not desk.scheduler.is_finished()
        desk.drive()
        state = desk.board.runs["classes"]
        assert (state.cursor, state.head, state.closed) == (2, 2, True)
        desk.arrive("movies", "a", 1)
        assert not desk.board.runs["classes"].closed
        desk.close()
        desk.drive()
        check_finished(desk)

    def test_takes_out_what_is_rejected_and_takes_it_in_again(self) -> None:
        desk = judged()
        desk.close()
        desk.drive()
        for accepted in (False, True):
            desk.override("limit", "a", accepted)
            assert not desk.board.runs["classes"].closed
            desk.drive()
            counted = desk.checkpoints["classes", "classes#0"][1]
            assert bool(counted) is accepted
            check_finished(desk)

    def test_one_update_at_a_time(self) -> None:
        desk = self.classes()
        assert desk.start() is not None
        desk.arrive("movies", "c")
        assert desk.start() is None
        desk.succeed(desk.flights[0])
        assert desk.start() is not None

    def test_new_parameters_start_from_the_beginning(self) -> None:
        desk = self.classes()
        desk.close()
        desk.drive()
        desk.configure("classes", 1)
        assert desk.board.runs["classes"].cursor == 0
        assert not desk.scheduler.is_finished()
        desk.drive()
        check_finished(desk)

    def test_new_parameters_with_nothing_to_read_change_little(self) -> None:
        desk = desk_of(source("movies"), aggregate("classes", "movies.out"))
        desk.close()
        desk.configure("classes", 1)
        assert desk.scheduler.is_finished()

    def test_an_update_with_old_parameters_is_dropped(self) -> None:
        desk = self.classes()
        desk.start()
        desk.configure("classes", 1)
        assert desk.start() is None, "one in flight"
        desk.succeed(desk.flights[0])
        assert desk.board.runs["classes"].cursor == 0
        desk.drive()
        assert desk.board.runs["classes"].cursor == 2

    def test_a_failure_with_old_parameters_is_dropped(self) -> None:
        desk = self.classes()
        desk.start()
        desk.configure("classes", 1)
        desk.fail(desk.flights[0], Fault.INTERNAL)
        assert desk.board.runs["classes"].paused is None
        assert desk.start() is not None

    def test_an_update_told_twice_does_not_go_back(self) -> None:
        desk = self.classes()
        desk.drive()
        first = desk.delivered[-1]
        desk.arrive("movies", "c")
        desk.start()
        assert not desk.send(first)
        assert desk.start() is None, "one in flight"
        desk.succeed(desk.flights[0])
        assert not desk.send(first)
        assert desk.board.runs["classes"].cursor == 3

    def test_lost_updates_go_again_then_pause_the_run(self) -> None:
        desk = self.classes(Policy(lost_attempts=2))
        for paused in (None, "it is lost"):
            desk.start()
            desk.fail(desk.flights[0], Fault.LOST)
            assert not desk.send(desk.delivered[-1]), "twice"
            assert desk.board.runs["classes"].paused == paused
        assert desk.start() is None
        desk.resume_all()
        assert desk.board.runs["classes"].failures == 0
        desk.drive()
        assert desk.board.runs["classes"].cursor == 2

    @pytest.mark.parametrize(
        ("fault", "run"),
        [
            (Fault.ITEM, "classes"),
            (Fault.INTERNAL, "classes"),
            (Fault.SESSION, SESSION),
        ],
    )
    def test_a_failed_update_pauses(self, fault: Fault, run: str) -> None:
        desk = self.classes()
        desk.start()
        desk.fail(desk.flights[0], fault)
        assert desk.board.runs[run].paused is not None
        assert desk.start() is None


class TestPauses:
    def test_a_paused_run_starts_nothing(self) -> None:
        desk = chain()
        desk.arrive("movies", "a")
        assert desk.board.ready_count() == 1
        desk.send(ev.Paused("motion", "lunch"))
        assert desk.tables.notices == [Notice("motion", "lunch")]
        assert desk.board.ready_count() == 0
        assert desk.start() is None
        desk.send(ev.Paused("motion", "dinner"))
        assert desk.board.runs["motion"].paused == "lunch"
        desk.send(ev.Resumed("motion"))
        assert desk.start() is not None

    def test_a_paused_session_starts_and_decides_nothing(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.run_one("ctf", "a")
        desk.arrive("movies", "b")
        desk.send(ev.Paused(None, "lunch"))
        assert desk.start() is None
        assert desk.scheduler.undecided() == []
        desk.send(ev.Resumed(None))
        assert desk.scheduler.undecided() == [("limit", "a")]
        assert desk.start() is not None

    def test_the_sessions_fault_pauses_it_and_keeps_the_task(self) -> None:
        desk = started()
        fail(desk, Fault.SESSION)
        assert desk.state("motion", "a") is State.READY
        assert desk.task("motion", "a").failures == 0
        assert desk.board.runs[SESSION].paused == "motion: it is session"
        assert desk.tables.notices == [Notice(None, "motion: it is session")]
        desk.send(ev.Resumed(None))
        assert desk.start() is not None

    def test_k_of_the_last_n_for_one_cause(self) -> None:
        desk = chain(Policy(same_cause=3, of_last=4))
        keys = "abcdefg"
        for key in keys:
            desk.arrive("movies", key)
        while desk.start():
            pass
        for key, is_good in zip(keys, [0, 0, 1, 1, 0, 0, 0], strict=True):
            assert desk.board.runs["motion"].paused is None
            if is_good:
                desk.succeed(desk.flight("motion", key))
            else:
                desk.fail(desk.flight("motion", key), Fault.ITEM)
        paused = desk.board.runs["motion"].paused
        assert paused is not None
        assert paused.startswith("3 of the last 4 failed for the same cause (item)")
        desk.send(ev.Resumed("motion"))
        assert desk.board.runs["motion"].recent == ()

    def test_files_that_are_not_complete_do_not_pause(self) -> None:
        desk = chain(Policy(same_cause=2))
        for key in "abc":
            desk.arrive("movies", key)
        for _ in range(3):
            flight = desk.start()
            assert flight is not None
            desk.fail(flight, Fault.INCOMPLETE)
        assert desk.state("motion", "c") is State.QUARANTINED
        assert desk.board.runs["motion"].paused is None

    def test_failures_for_different_causes_do_not_pause(self) -> None:
        desk = chain(Policy(same_cause=2, internal_attempts=1, lost_attempts=1))
        for key in "abc":
            desk.arrive("movies", key)
        for fault in (Fault.ITEM, Fault.LOST, Fault.INTERNAL):
            flight = desk.start()
            assert flight is not None
            desk.fail(flight, fault)
        assert desk.board.runs["motion"].paused is None


class TestClosing:
    def test_reaches_the_end_and_comes_back(self) -> None:
        desk = gated()
        desk.arrive("movies", "a")
        desk.close()
        desk.drive()
        check_finished(desk)
        desk.arrive("movies", "b")
        assert not any(desk.board.runs[n].closed for n in desk.workflow.runs)
        desk.drive()
        assert not desk.scheduler.is_finished(), "the source is open"
        desk.close()
        check_finished(desk)

    def test_of_a_session_in_which_nothing_came(self) -> None:
        desk = gated()
        desk.close()
        check_finished(desk)
        closing = desk.send(ev.Closed("movies"))
        assert not closing, "closing twice does nothing"

    def test_is_told_once_for_each_run(self) -> None:
        desk = chain()
        told = desk.send(ev.Closed("movies"))
        assert [one.run for one in told if isinstance(one, StoreRun)] == [
            "movies",
            "motion",
            "ctf",
        ]


class TestRestart:
    def test_what_ran_is_ready_again(self) -> None:
        desk = started()
        desk.crash()
        assert desk.state("motion", "a") is State.READY
        flight = desk.start()
        assert flight is not None
        assert flight.attempt == 2

    def test_replay_and_restore_agree(self) -> None:
        desk = gated()
        for key in "abc":
            desk.arrive("movies", key, voltage=300)
        desk.drive(bad=[("ctf", "b")])
        desk.configure("limit", 1)
        desk.start()
        check_replay(desk)


class TestChoosing:
    def test_started_exposures_first_then_the_newest(self) -> None:
        desk = chain(Policy(oldest_every=100))
        for key in "abc":
            desk.arrive("movies", key)
        desk.run_one("motion", "c")
        assert desk.board.choose(CPU) == ("ctf", "c")
        desk.start()
        assert desk.board.choose(CPU) == ("motion", "b")

    def test_what_the_slot_still_holds_comes_before_depth(self) -> None:
        desk = chain(Policy(oldest_every=100))
        for key in "abc":
            desk.arrive("movies", key)
        desk.run_one("motion", "c")
        assert desk.board.choose(CPU, recent=["a"]) == ("motion", "a")
        assert desk.board.choose(CPU, recent=["unknown"]) == ("ctf", "c")

    def test_only_what_fits_the_slot(self) -> None:
        desk = desk_of(
            source("movies"),
            per_item("wide", movie="movies.out", threads=4),
            per_item("motion", movie="movies.out", gpus=1),
            aggregate("classes", "movies.out", gpus=1),
        )
        desk.arrive("movies", "a")
        assert desk.board.choose(CPU) is None
        chosen = [desk.start(GPU) for _ in range(3)]
        assert {one.run for one in chosen if one} == {"wide", "motion", "classes"}

    def test_every_slot_takes_the_oldest_now_and_then(self) -> None:
        desk = desk_of(
            source("movies"),
            per_item("motion", movie="movies.out", gpus=1),
            per_item("ctf", movie="movies.out"),
        )
        for number in range(40):
            desk.arrive("movies", f"{number:02}")
        desk.send(ev.Paused("ctf", "later"))
        first = []
        for _ in range(6):
            flight = desk.start(GPU)
            assert flight is not None
            first.append(flight.key)
            desk.send(ev.Resumed("ctf"))
            for _ in range(4):
                desk.start(CPU)
            desk.send(ev.Paused("ctf", "later"))
        assert first == ["39", "38", "37", "36", "00", "35"]

    def test_updates_take_their_turn(self) -> None:
        desk = desk_of(
            source("movies"),
            per_item("motion", movie="movies.out"),
            aggregate("classes", "movies.out"),
            policy=Policy(aggregate_every=4, oldest_every=100),
        )
        for number in range(10):
            desk.arrive("movies", str(number))
        runs = [desk.board.choose(CPU) for _ in range(8)]
        turns = [one == ("classes", "") for one in runs]
        assert turns == [False, False, False, True] * 2
