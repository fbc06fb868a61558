"""The gate that curates exposures: default limits, one's own, what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icestream.domain.errors import BadSettings
from icestream.domain.rules import DERIVED
from icestream.protocols.curate_exposures import DEFAULT_LIMITS, CurateExposures
from icestream.streaming.gate_table import numeric_fields
from tables import gate_of, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.domain import Verdict

GOOD = {
    "defocus_u_angst": 15500.0,
    "defocus_v_angst": 15000.0,
    "score": 0.2,
    "resolution_angst": 4.0,
    "pixel_size_angst": 1.0,
}
FINE = {
    "mean_intensity": 40.0,
    "ice_ring_ratio": 1.05,
    "crystal_ratio": 1.0,
    "masked_fraction": 0.02,
}
STILL = {"largest_step_angst": 3.0, "total_angst": 12.0}


def judge(
    *rows: Mapping[str, float | None],
    rank: int = 30,
    rules: Mapping[str, object] | None = None,
    **params: object,
) -> Sequence[Verdict]:
    """Judge exposures that are good but for what is said of each."""
    gate = gate_of(CurateExposures, rules=rules or {}, **params)
    full = [{**GOOD, **one} for one in rows]
    columns = {name: [one[name] for one in full] for name in full[0]}
    return gate.judge(table_of(columns, rank=[rank] * len(rows)))


def one(**values: float | None) -> Verdict:
    return judge(values)[0]


class TestDefaultLimits:
    def test_a_good_exposure_passes(self) -> None:
        assert judge({}, FINE, {**FINE, **STILL})[0].rule == "all"
        assert all(v.accepted for v in judge({**FINE, **STILL}))

    @pytest.mark.parametrize(
        ("values", "rule", "reason"),
        [
            ({"resolution_angst": 12.0}, "resolution_angst", "too high"),
            ({"score": 0.01}, "score", "too low"),
            ({"defocus_u_angst": 1900.0, "defocus_v_angst": 1800.0}, "defocus", "low"),
            ({"defocus_u_angst": 60100.0, "defocus_v_angst": 60000.0}, "defoc", "high"),
            ({"defocus_u_angst": 17600.0}, "astigmatism_angst", "too high"),
            (
                {"defocus_u_angst": 6000.0, "defocus_v_angst": 4500.0},
                "astigmatism_percent",
                "too high",
            ),
            ({**FINE, "ice_ring_ratio": 3.0}, "ice_ring_ratio", "too high"),
            ({**FINE, "crystal_ratio": 5.0}, "crystal_ratio", "too high"),
            ({**FINE, "masked_fraction": 0.9}, "masked_fraction", "too high"),
            ({**STILL, "largest_step_angst": 25.0}, "largest_step_angst", "too high"),
            ({**STILL, "total_angst": 80.0}, "total_angst", "too high"),
            ({"agreement_angst": 40.0}, "agreement_angst", "too high"),
            ({"agreement_angst": None}, "agreement_angst", "missing"),
        ],
    )
    def test_each_rejects(
        self, values: dict[str, float | None], rule: str, reason: str
    ) -> None:
        (found,) = judge(values)
        assert not found.accepted
        assert found.rule.startswith(rule)
        assert reason in found.reason
        assert (found.value is None) is (reason == "missing")
        assert (found.limit is None) is (reason == "missing")

    def test_resolution_scales_with_nyquist_and_tilt(self) -> None:
        assert not one(resolution_angst=12.0).accepted
        assert one(resolution_angst=12.0, pixel_size_angst=3.5).accepted
        assert not one(resolution_angst=15.0, pixel_size_angst=3.5).accepted
        assert one(resolution_angst=12.0, tilt_deg=40.0).accepted
        assert one(resolution_angst=12.0, tilt_deg=-40.0).accepted
        assert not one(resolution_angst=12.0, tilt_deg=5.0).accepted
        unknown = one(resolution_angst=12.0, tilt_deg=None)
        assert (unknown.rule, unknown.limit) == ("resolution_angst", 10.0)
        for wrong in (90.0, -90.0):
            assert not one(resolution_angst=12.0, tilt_deg=wrong).accepted

    def test_near_focus_is_what_a_phase_plate_is_for(self) -> None:
        near = {"defocus_u_angst": 900.0, "defocus_v_angst": 850.0}
        assert not one(**near, phase_plate=0.0).accepted
        assert not one(**near, phase_plate=None).accepted
        assert one(**near, phase_plate=1.0).accepted

    @pytest.mark.parametrize("name", [*GOOD, *STILL, "masked_fraction"])
    def test_what_is_missing_is_rejected_from_the_start(self, name: str) -> None:
        (found,) = judge({**FINE, **STILL, name: None}, rank=0)
        assert not found.accepted
        assert found.reason == "missing"

    def test_ice_may_be_unknown_where_quality_is_known(self) -> None:
        assert one(**{**FINE, "ice_ring_ratio": None, "crystal_ratio": None}).accepted
        failed = one(**dict.fromkeys(FINE))
        assert (failed.accepted, failed.reason) == (False, "missing")

    def test_the_first_of_a_setup_are_only_noted(self) -> None:
        for rank, accepted in ((0, True), (29, True), (30, False)):
            (found,) = judge({"resolution_angst": 12.0}, rank=rank)
            assert found.accepted is accepted
            assert found.rule == "resolution_angst"
            assert (found.value, found.limit) == (12.0, 10.0)
            assert found.reason == "too high"

    def test_they_may_be_put_aside(self) -> None:
        (found,) = judge({"resolution_angst": 30.0}, defaults=False)
        assert found.accepted


class TestOwnRules:
    def test_one_replaces_a_default_limit_and_null_takes_it_away(self) -> None:
        bad: dict[str, float | None] = {"resolution_angst": 12.0}
        assert judge(bad, rules={"resolution_angst": {"maximum": 15}})[0].accepted
        assert judge(bad, rules={"resolution_angst": None})[0].accepted
        strict = judge({}, rules={"resolution_angst": {"maximum": 3.5}})[0]
        assert (strict.accepted, strict.limit) == (False, 3.5)

    def test_one_s_own_hold_from_the_first_exposure(self) -> None:
        rules = {"resolution_angst": {"maximum": 3.5}}
        assert not judge({}, rank=0, rules=rules)[0].accepted

    def test_one_s_own_go_before_default_limits_in_their_order(self) -> None:
        rules = {"phase": {"expression": "score * 100", "maximum": 1}, "score": None}
        bad: dict[str, float | None] = {"resolution_angst": 12.0}
        found = judge(bad, rules=rules)[0]
        assert (found.rule, found.value) == ("phase", 20.0)
        two: dict[str, object] = {
            "score": {"minimum": 0.9},
            "defocus_angst": {"maximum": 1},
        }
        assert judge({}, rules=two)[0].rule == "score"
        back = dict(reversed(two.items()))
        assert judge({}, rules=back)[0].rule == "defocus_angst"

    def test_limits_may_be_expressions(self) -> None:
        rules = {"score": {"minimum": "0.1 + pixel_size_angst / 5"}}
        assert not judge({}, rules=rules)[0].accepted
        assert judge({"pixel_size_angst": 0.4}, rules=rules)[0].accepted

    def test_one_on_what_is_not_connected_rejects_and_says_so(self) -> None:
        (found,) = judge({}, rules={"masked_fraction": {"maximum": 0.1}})
        assert not found.accepted
        assert found.reason == "missing: quality is not connected"

    def test_ice_that_is_unknown_is_rejected_by_one_s_own_rule(self) -> None:
        unknown: dict[str, float | None] = {**FINE, "ice_ring_ratio": None}
        strict = {"ice_ring_ratio": {"maximum": 2}}
        assert judge(unknown, rules=strict)[0].reason == "missing"
        limits = {"maximum": 2, "beside": "mean_intensity"}
        assert judge(unknown, rules={"ice_ring_ratio": limits})[0].accepted

    @pytest.mark.parametrize(
        ("rules", "said"),
        [
            ({"scor": {"minimum": 1}}, "'scor'. Did you mean score?"),
            ({"mine": {"minimum": 1}}, "no number 'mine'"),
            ({"score": {}}, "'score' has no limit"),
            ({"score": {"minimum": 2, "maximum": 1}}, "2 lies above the maximum 1"),
            ({"mine": None}, "no default limit 'mine'"),
            ({"a": {"expression": "score +", "minimum": 1}}, "cannot be read"),
            ({"a": {"expression": "7", "minimum": 1}}, "judges no number"),
            ({"score": {"minimum": "defocus"}}, "'defocus'. Did you mean defocus_"),
            ({"score": {"minimum": float("nan")}}, "finite"),
            ({"score": {"minimum": 1, "least": 1}}, "least"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, rules: dict[str, object], said: str
    ) -> None:
        with pytest.raises(BadSettings) as refused:
            CurateExposures.parse({"rules": rules})
        assert said in refused.value.what


def test_no_two_inputs_give_a_number_of_the_same_name() -> None:
    every = [
        name
        for given in CurateExposures.inputs.values()
        for name in numeric_fields(given.kind)
    ]
    assert len(every) == len(set(every))
    assert set(every).isdisjoint(DERIVED.keys() - {"defocus_angst"})


def test_each_default_limit_is_on_a_number_that_exists() -> None:
    assert DEFAULT_LIMITS
    CurateExposures.parse({})


def test_judging_all_is_judging_one_by_one() -> None:
    rows = [
        {**FINE, **STILL, "score": 0.01 * n, "resolution_angst": 3.0 + n}
        for n in range(12)
    ]
    for rank in (0, 30):
        together = judge(*rows, rank=rank)
        assert list(together) == [judge(row, rank=rank)[0] for row in rows]
