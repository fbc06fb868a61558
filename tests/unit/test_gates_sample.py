"""Samples of exposures: spread over defocus, at random, the best; they stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.protocols.defocus_balancer import DefocusBalancer
from icestream.protocols.micrograph_sampler import MicrographSampler
from tables import Asking, gate_of, table_of

RNG = np.random.default_rng(5)
# Most exposures are taken at one defocus, some far from it; one fit went astray.
DEFOCUS = [*RNG.normal(12000, 1500, 150), *RNG.uniform(5000, 25000, 49), 49000.0]
NUMBERS: dict[str, list[float | None]] = {
    "defocus_u_angst": [one + 100 for one in DEFOCUS],
    "defocus_v_angst": [one - 100 for one in DEFOCUS],
    "resolution_angst": [3 + 0.01 * n if n % 10 else None for n in range(200)],
    "score": [0.1] * 200,
    "height_px": [4096.0] * 200,
}


def sampler(**params: object) -> MicrographSampler:
    return gate_of(MicrographSampler, **params)


def balancer(**params: object) -> DefocusBalancer:
    return gate_of(DefocusBalancer, **params)


def chosen(asking: Asking) -> list[int]:
    return sorted(n for n, one in asking.verdicts.items() if one.accepted)


def asked(gate: Any, *, size: int = 200, batch: int = 20) -> Asking:  # noqa: ANN401
    asking = Asking(NUMBERS)
    for start in range(0, size, batch):
        asking.arrive(gate, range(start, min(size, start + batch)))
    return asking


def test_all_are_held_until_enough_are_known() -> None:
    gate = balancer()
    asking = asked(gate, size=90)
    assert asking.sides() == Counter(held=90)
    asking.arrive(gate, range(90, 99))
    assert asking.sides() == Counter(held=99)
    asking.arrive(gate, [99])
    assert asking.sides() == Counter(accepted=25, rejected=75)
    asking.arrive(gate, range(100, 200))
    assert asking.sides() == Counter(accepted=25, rejected=175)
    assert max(chosen(asking)) < 100


def test_those_are_counted_that_have_the_number() -> None:
    gate = sampler(chooses="best", from_exposures=50)
    asking = asked(gate, size=50, batch=10)
    assert asking.sides() == Counter(held=50)
    asking.arrive(gate, range(50, 60))
    assert asking.sides() == Counter(accepted=25, rejected=35)


def test_where_no_more_come_there_is_choice_of_what_is_there() -> None:
    gate = balancer(count=10)
    asking = asked(gate, size=30)
    asking.finish(gate)
    assert asking.sides() == Counter(accepted=10, rejected=20)
    few = asked(gate, size=7)
    few.finish(gate)
    assert few.sides() == Counter(accepted=7)


@pytest.mark.parametrize("gate", [balancer(count=40), sampler(count=40)])
def test_defocus_is_spread_evenly(gate: Any) -> None:  # noqa: ANN401
    """A random choice would take 28 of the 40 from the two bins that most lie in."""
    asking = Asking(NUMBERS)
    asking.arrive(gate, range(200))
    values = np.array([DEFOCUS[n] for n in chosen(asking)])
    low, high = np.percentile(DEFOCUS, [2, 98])
    edges = np.linspace(low, high, 11)
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    there = np.histogram(np.clip(DEFOCUS, edges[0], edges[-1]), edges)[0]
    assert counts.sum() == 40
    assert (counts >= np.minimum(there, 4)).all()
    assert counts.max() <= 6


def test_the_best_have_rings_furthest_then_the_highest_score() -> None:
    gate = sampler(chooses="best", count=3, from_exposures=1)
    asking = Asking(NUMBERS)
    asking.arrive(gate, [50, 10, 3, 8, 1, 20, 30, 99])
    assert chosen(asking) == [1, 3, 8]
    asking.arrive(gate, [2])
    assert not asking.verdicts[2].accepted
    table = table_of({"resolution_angst": [4, 4, 4], "score": [0.1, 0.3, None]})
    best = sampler(chooses="best", count=1, from_exposures=1).judge(table)
    assert [one is not None and one.accepted for one in best] == [False, True, False]


def test_chance_belongs_to_exposures_and_not_to_their_order() -> None:
    gate = sampler(chooses="random", from_exposures=150)
    forward, back = Asking(NUMBERS), Asking(NUMBERS)
    forward.arrive(gate, range(200))
    back.arrive(gate, range(199, -1, -1))
    assert forward.verdicts == back.verdicts
    other = Asking(NUMBERS)
    other.arrive(sampler(chooses="random", from_exposures=150, seed=1), range(200))
    assert chosen(other) != chosen(forward)


def test_chance_is_fair() -> None:
    """Of 4000 drawings of 20 of 200, each exposure is in 400, give or take 19."""
    counts = np.zeros(200)
    table = Asking(NUMBERS, order=list(range(200))).table(range(200))
    for seed in range(4000):
        gate = sampler(chooses="random", count=20, from_exposures=1, seed=seed)
        counts += [one is not None and one.accepted for one in gate.judge(table)]
    assert counts.sum() == 20 * 4000
    assert abs(counts - 400).max() < 5 * 19
    assert 15 < counts.std() < 23


def test_chance_differs_by_setup() -> None:
    numbers: dict[str, list[float | None]]
    numbers = {"height_px": [1.0] * 100}
    one, other = (
        sampler(chooses="random", count=50, from_exposures=1).judge(
            table_of(numbers, setup=[name] * 100)
        )
        for name in ("k2", "k3")
    )
    assert one != other


def test_what_was_chosen_stays_and_a_higher_count_adds_to_it() -> None:
    asking = asked(balancer())
    first = chosen(asking)
    asking.judge_again(balancer(count=40, seed=7))
    second = chosen(asking)
    assert set(first) < set(second)
    assert len(second) == 40
    asking.judge_again(balancer(count=10))
    assert chosen(asking) == second
    asking.judge_again(balancer(count=50, from_exposures=1000))
    assert chosen(asking) == second


def test_a_sample_that_is_not_full_is_filled_by_later_ones() -> None:
    gate = balancer(count=10, from_exposures=5)
    asking = asked(gate, size=6)
    assert asking.sides() == Counter(accepted=6)
    asking.arrive(gate, range(6, 30))
    assert asking.sides() == Counter(accepted=10, rejected=20)


def test_without_the_number_it_is_missing() -> None:
    gate = sampler(from_exposures=2, count=3)
    numbers: dict[str, list[float | None]]
    numbers = {"defocus_u_angst": [2, None, 3], "defocus_v_angst": [1, 1, 2]}
    found = gate.judge(table_of(numbers))
    assert found[1] is not None
    assert (found[1].accepted, found[1].rule) == (False, "defocus_angst")
    assert found[1].reason == "missing"
    unconnected = gate.judge(table_of({"height_px": [1, 1, 1]}))
    assert {one and one.reason for one in unconnected} == {
        "missing: its input is not connected"
    }


def test_one_defocus_for_all_is_no_trouble() -> None:
    numbers: dict[str, list[float | None]]
    numbers = {"defocus_u_angst": [9.0] * 30, "defocus_v_angst": [9.0] * 30}
    found = balancer(from_exposures=30).judge(table_of(numbers))
    assert sum(one is not None and one.accepted for one in found) == 25


@pytest.mark.parametrize(
    "params", [{"count": 0}, {"from_exposures": 0}, {"bins": 0}, {"chooses": "worst"}]
)
def test_what_cannot_be_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(BadSettings):
        MicrographSampler.parse(params)
