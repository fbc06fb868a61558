"""The queue of ready keys."""

from __future__ import annotations

from icestream.streaming.ready import ReadyQueue


def test_newest_and_oldest() -> None:
    queue = ReadyQueue(["ctf", "pick"])
    for arrival, key in enumerate("abc"):
        queue.add("ctf", key, arrival)
    assert queue.newest("ctf") == (2, "c")
    assert queue.oldest("ctf") == (0, "a")
    assert queue.newest("pick") is None
    assert queue.oldest("pick") is None


def test_looking_takes_nothing_out() -> None:
    queue = ReadyQueue(["ctf"])
    queue.add("ctf", "a", 0)
    queue.newest("ctf")
    queue.oldest("ctf")
    assert queue.count("ctf") == len(queue) == 1


def test_a_key_that_left_is_passed_over() -> None:
    queue = ReadyQueue(["ctf"])
    for arrival, key in enumerate("abcd"):
        queue.add("ctf", key, arrival)
    queue.discard("ctf", "a")
    queue.discard("ctf", "d")
    assert queue.newest("ctf") == (2, "c")
    assert queue.oldest("ctf") == (1, "b")
    assert queue.count("ctf") == 2


def test_entering_twice_and_leaving_twice() -> None:
    queue = ReadyQueue(["ctf"])
    queue.add("ctf", "a", 0)
    queue.add("ctf", "a", 0)
    assert len(queue) == 1
    queue.discard("ctf", "a")
    queue.discard("ctf", "a")
    assert len(queue) == 0
    assert queue.newest("ctf") is None


def test_a_key_that_comes_back_with_another_place() -> None:
    queue = ReadyQueue(["ctf"])
    queue.add("ctf", "a", 0)
    queue.add("ctf", "b", 1)
    queue.discard("ctf", "a")
    queue.add("ctf", "a", 2)
    assert queue.newest("ctf") == (2, "a")
    assert queue.oldest("ctf") == (1, "b")


def test_which_of_some_keys_are_ready() -> None:
    queue = ReadyQueue(["ctf"])
    queue.add("ctf", "a", 0)
    queue.add("ctf", "b", 1)
    assert list(queue.among("ctf", ["x", "b", "a"])) == ["b", "a"]
