import queue
import threading

import pytest

from icestream.domain.errors import InternalError
from icestream.streaming.execution import Envelope, Fault, Outcome, TaskId
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.records import encode
from icestream.testing.trivial import Tick

TRIVIAL = "icestream.testing.trivial"


def hop(number: int, protocol: str = "Hop", **params: object) -> Envelope:
    return Envelope(
        task=TaskId("run", f"key-{number}", "content", 1),
        protocol=f"{TRIVIAL}:{protocol}",
        params=params,
        inputs={"tick": encode(Tick(number=number))},
    )


def test_outcomes_come_in_order_from_another_thread() -> None:
    answers: queue.Queue[tuple[Outcome, threading.Thread]] = queue.Queue()
    executor = InlineExecutor(slots=2)
    executor.start(lambda outcome: answers.put((outcome, threading.current_thread())))
    try:
        executor.submit("slot-0", [hop(0), hop(1)])
        executor.submit("slot-1", [hop(2)])
        found = [answers.get(timeout=5) for _ in range(3)]
    finally:
        executor.close()
    assert [one.task.key for one, _ in found] == ["key-0", "key-1", "key-2"]
    assert [one.slot for one, _ in found] == ["slot-0", "slot-0", "slot-1"]
    assert threading.current_thread() not in {thread for _, thread in found}


def test_deliver_may_submit() -> None:
    done = threading.Event()
    executor = InlineExecutor()

    def chain(outcome: Outcome) -> None:
        number = int(outcome.outputs["tick"].scalars["number"])
        if number == 500:
            done.set()
        else:
            executor.submit("slot-0", [hop(number + 1)])

    executor.start(chain)
    executor.submit("slot-0", [hop(0)])
    assert done.wait(10)
    executor.close()


def test_restart_answers_what_waits_as_lost() -> None:
    answers: queue.Queue[Outcome] = queue.Queue()
    executor = InlineExecutor()
    executor.start(answers.put)
    try:
        executor.submit("slot-0", [hop(0, "Sleepy", seconds=0.3), hop(1)])
        executor.restart_slot("slot-0")
        executor.submit("slot-0", [hop(2)])
        found = {one.task.key: one for one in (answers.get(timeout=5) for _ in "012")}
    finally:
        executor.close()
    lost = found["key-1"].failure
    assert lost is not None
    assert lost.fault is Fault.LOST
    assert found["key-2"].failure is None


def test_close_leaves_no_thread_and_delivers_nothing_more() -> None:
    answers: list[Outcome] = []
    before = threading.active_count()
    executor = InlineExecutor()
    executor.start(answers.append)
    executor.submit("slot-0", [hop(0, "Sleepy", seconds=0.2)])
    executor.submit("slot-0", [hop(1), hop(2)])
    executor.close()
    executor.close()
    assert threading.active_count() == before
    assert len(answers) <= 1
    assert executor.slots() == ()
    with pytest.raises(InternalError, match="slot-0"):
        executor.submit("slot-0", [hop(3)])
