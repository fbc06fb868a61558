"""Every event survives the log."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from icestream.domain.verdict import Verdict
from icestream.streaming import events as ev
from icestream.streaming.execution import Fault

VERDICT = Verdict(
    accepted=False, rule="resolution_angst", value=7.25, limit=6.0, reason="ice"
)
EVENTS: list[ev.Event] = [
    ev.Configured("ctf", "0f"),
    ev.Arrived("movies", "grid/a", "c0"),
    ev.Arrived(
        "movies", "µ/ä", "c1", {"voltage_kv": 300.0, "tilt_deg": None, "hole": [1, "x"]}
    ),
    ev.Closed("movies"),
    ev.Started("ctf", "a", "c1", 2, "gpu0"),
    ev.Started("classes", "", "0f", 1, "gpu0"),
    ev.Succeeded("ctf", "a", "c1", 0),
    ev.Failed("ctf", "a", "c1", 3, Fault.ITEM, "BadFile", "cut off", 1.7e9 + 0.1),
    ev.Failed("ctf", "a", "c1", 3, Fault.INCOMPLETE, "Short", "grows", 0.1, 2.5),
    ev.Decided("limit", "a", "c1", VERDICT),
    ev.Decided("limit", "a", "c1", Verdict(accepted=True, rule="all")),
    ev.Judged("limit", {"a": ("c1", VERDICT)}, ("b",)),
    ev.Overridden("limit", "a", accepted=None),
    ev.Overridden("limit", "a", accepted=False),
    ev.Updated("classes", "0f", 12),
    ev.Retried("ctf", "a"),
    ev.Paused(None, "lunch"),
    ev.Paused("ctf", "lunch"),
    ev.Resumed(None),
    ev.Resumed("ctf"),
    ev.Ticked(1.5),
    ev.Recovered(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: type(one).__name__)
def test_round_trip(event: ev.Event) -> None:
    assert ev.load_event(*ev.dump_event(event)) == event


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_comes_back_as_itself(fault: Fault) -> None:
    event = ev.Failed("ctf", "a", "c", 1, fault, "X", "x", 0.0)
    loaded = ev.load_event(*ev.dump_event(event))
    assert isinstance(loaded, ev.Failed)
    assert loaded.fault is fault


def test_every_kind_is_tried_here() -> None:
    assert {type(one) for one in EVENTS} == set(get_args(ev.Event))


def test_run_and_key_stand_in_their_own_columns() -> None:
    kind, run, key, body = ev.dump_event(ev.Succeeded("ctf", "a", "c1", 2))
    assert (kind, run, key) == ("succeeded", "ctf", "a")
    assert json.loads(body) == {"content": "c1", "attempt": 2}
