"""What an aggregate is told of an output's log: what came, what went, and no more."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from icestream.streaming.tasks import Change, ChangeKind, net_of

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["motion", "import"]),
        st.sampled_from("ab"),
        st.sampled_from([None, "1", "2", "3"]),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 30))
def test_a_batch_leads_from_one_state_to_the_next(
    steps: list[tuple[str, str, str | None]], start: int
) -> None:
    """However a key is replaced within it, nothing is told that is not so any more."""
    stands: dict[tuple[str, str], str] = {}
    log: list[Change] = []
    before: Counter[str] = Counter()
    for number, (run, key, content) in enumerate(steps):
        if number == start:
            before, log = Counter(stands.values()), []
        old = stands.pop((run, key), None)
        name = None if content is None else f"{run}{key}{content}"
        if name is not None:
            stands[run, key] = name
        log.append(Change(number, run, "out", key, ChangeKind.REPLACED, name, old))
    if start >= len(steps):
        before, log = Counter(stands.values()), []
    come, go = net_of(log)
    after = Counter(stands.values())
    assert Counter(come) == after - before
    assert Counter(go) == before - after
