"""Whatever comes in whatever order: each exposure is at one place, and stays found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.protocols.curate_exposures import CurateExposures
from icestream.protocols.defocus_balancer import DefocusBalancer
from icestream.protocols.max_shift import MaxShift
from icestream.protocols.micrograph_sampler import MicrographSampler
from tables import Asking, gate_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from icestream.streaming.protocol import Gate

_COLUMNS = (
    *("defocus_u_angst", "defocus_v_angst", "resolution_angst", "score"),
    *("pixel_size_angst", "largest_step_angst", "total_angst", "height_px"),
    *("mean_intensity", "ice_ring_ratio", "crystal_ratio", "masked_fraction"),
)
_NUMBER = st.one_of(
    st.none(),
    st.sampled_from([0.0, 1.0, 5.0, 12000.0, float("inf"), float("-inf")]),
    st.floats(-1e5, 1e5),
)
_SIZE = 8
_TABLES = st.fixed_dictionaries(
    {name: st.lists(_NUMBER, min_size=_SIZE, max_size=_SIZE) for name in _COLUMNS}
)
_LIMIT = st.floats(-10, 20000)
_RULES = st.dictionaries(
    st.sampled_from(["score", "defocus_angst", "resolution_angst"]),
    st.one_of(
        st.none(),
        st.fixed_dictionaries({"maximum": _LIMIT}),
        st.fixed_dictionaries({"minimum": _LIMIT}),
    ),
    max_size=3,
)
_COUNTS = st.fixed_dictionaries(
    {
        "count": st.integers(1, 8),
        "from_exposures": st.integers(1, _SIZE),
        "seed": st.integers(0, 3),
        "bins": st.integers(1, 5),
    }
)
_CURATE = st.builds(
    lambda rules, defaults: gate_of(CurateExposures, rules=rules, defaults=defaults),
    _RULES,
    st.booleans(),
)
_SHIFT = st.builds(
    lambda rejects, frame: gate_of(
        MaxShift, rejects=rejects, max_frame_shift_angst=frame
    ),
    st.sampled_from(["frame", "movie", "either", "both"]),
    st.floats(1, 100),
)
_SAMPLER = st.builds(
    lambda params, chooses: gate_of(MicrographSampler, chooses=chooses, **params),
    _COUNTS,
    st.sampled_from(["spread", "random", "best"]),
)
_BALANCER = _COUNTS.map(lambda params: gate_of(DefocusBalancer, **params))
_GATES: dict[str, st.SearchStrategy[Gate[Any]]] = {
    "curate": _CURATE,
    "max_shift": _SHIFT,
    "sampler": _SAMPLER,
    "balancer": _BALANCER,
}
_LOCAL = ("curate", "max_shift")
_KEEPING = ("sampler", "balancer")


@st.composite
def histories(draw: st.DrawFn, name: str) -> tuple[Asking, list[Gate[Any]]]:
    """Let exposures come in batches, with restarts and other rules between them."""
    asking = Asking(draw(_TABLES))
    coming = draw(st.permutations(range(draw(st.integers(0, _SIZE)))))
    gates = [draw(_GATES[name])]
    for _ in range(draw(st.integers(0, 8))):
        match draw(st.sampled_from(["arrive", "arrive", "restart", "rules"])):
            case "arrive":
                count = draw(st.integers(0, len(coming)))
                asking.arrive(gates[-1], coming[:count])
                coming = coming[count:]
            case "restart":
                asking.restart(draw(st.permutations(asking.order)))
            case "rules":
                gates.append(draw(_GATES[name]))
                before = dict(asking.verdicts)
                asking.judge_again(gates[-1])
                _check_what_stands(name, before, asking)
        _check_places(asking)
    asking.arrive(gates[-1], coming)
    return asking, gates


def _check_places(asking: Asking) -> None:
    """Each that has come is accepted, rejected or held, once, and no other is."""
    assert len(set(asking.order)) == len(asking.order)
    assert asking.verdicts.keys() <= set(asking.order)
    assert asking.sides().total() == len(asking.order)


def _check_what_stands(name: str, before: dict[int, Any], asking: Asking) -> None:
    assert before.keys() <= asking.verdicts.keys()
    if name in _KEEPING:
        chosen = {n for n, one in before.items() if one.accepted}
        assert all(asking.verdicts[n].accepted for n in chosen)


@pytest.mark.parametrize("name", list(_GATES))
@settings(max_examples=50)
@given(st.data())
def test_none_is_lost_or_doubled(name: str, data: st.DataObject) -> None:
    asking, gates = data.draw(histories(name))
    _check_places(asking)
    asking.finish(gates[-1])
    _check_places(asking)
    assert not asking.sides()["held"]


@pytest.mark.parametrize("name", _LOCAL)
@settings(max_examples=50)
@given(st.data())
def test_a_history_ends_where_one_question_does(name: str, data: st.DataObject) -> None:
    """Order, batches, restarts and earlier rules leave no trace; nor do other rows."""
    asking, gates = data.draw(histories(name))
    assert not asking.sides()["held"]
    alone: dict[int, Any] = {}
    for one in asking.order:
        single = Asking(asking.numbers)
        single.arrive(gates[-1], [one])
        alone |= single.verdicts
    assert asking.verdicts == alone


@pytest.mark.parametrize("name", _KEEPING)
@given(st.data())
def test_a_sample_is_as_large_as_it_can_be(name: str, data: st.DataObject) -> None:
    asking = Asking(data.draw(_TABLES))
    gate = data.draw(_GATES[name])
    asking.arrive(gate, range(_SIZE))
    if asking.sides()["held"]:
        asking.finish(gate)
    usable = sum(one.reason != "missing" for one in asking.verdicts.values())
    assert asking.sides()["accepted"] == min(gate.params.count, usable)


@pytest.mark.parametrize("name", _KEEPING)
@given(st.data())
def test_a_sample_does_not_depend_on_the_order_of_rows(
    name: str, data: st.DataObject
) -> None:
    numbers, gate = data.draw(_TABLES), data.draw(_GATES[name])
    one, other = Asking(numbers), Asking(numbers)
    one.order = list(range(_SIZE))
    other.order = data.draw(st.permutations(range(_SIZE)))
    one.finish(gate)
    other.finish(gate)
    assert one.verdicts == other.verdicts


_NEEDED: dict[str, Callable[[Gate[Any]], tuple[str, ...]]] = {
    "curate": lambda gate: (
        tuple(
            name
            for name in ("score", "resolution_angst")
            if name not in gate.params.rules
        )
        if gate.params.defaults
        else ()
    ),
    "max_shift": lambda gate: {
        "frame": ("largest_step_angst",),
        "movie": ("total_angst",),
    }.get(gate.params.rejects, ("largest_step_angst", "total_angst")),
}


@pytest.mark.parametrize("name", _LOCAL)
@given(st.data())
def test_a_broken_number_never_passes(name: str, data: st.DataObject) -> None:
    numbers, gate = data.draw(_TABLES), data.draw(_GATES[name])
    needed = _NEEDED[name](gate)
    asking = Asking(numbers)
    asking.arrive(gate, range(_SIZE))
    for row, verdict in asking.verdicts.items():
        values = [numbers[one][row] for one in needed]
        if any(one is None or one in (float("inf"), -float("inf")) for one in values):
            assert not verdict.accepted
