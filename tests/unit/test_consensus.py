"""Agreement of contrast transfer functions against what follows from their phases."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.consensus import agreement_angst, average_ctf, closest_group
from icestream.domain import Ctf, CtfAgreement
from icestream.domain.units import electron_wavelength_angst
from icestream.protocols.ctf_consensus import CtfConsensus, CtfConsensusParams
from icestream.streaming.protocol import AcquisitionView, Context, Missing

if TYPE_CHECKING:
    from pathlib import Path

FINEST = 2.0


def ctf(
    mean: float,
    astigmatism: float = 0.0,
    angle: float = 0.0,
    phase: float = 0.0,
    resolution: float | None = 4.0,
) -> Ctf:
    return Ctf(
        defocus_u_angst=mean + astigmatism / 2,
        defocus_v_angst=mean - astigmatism / 2,
        defocus_angle_deg=angle,
        phase_shift_deg=phase,
        score=0.2,
        resolution_angst=resolution,
    )


def agreement(one: Ctf, other: Ctf, kv: float = 300.0) -> float:
    (found,) = agreement_angst([one], [other], voltage_kv=kv, finest_angst=FINEST)
    return float(found)


CTFS = st.builds(
    ctf,
    st.floats(3_000, 50_000),
    st.floats(0, 2_000),
    st.floats(0, 179.9),
    st.floats(0, 179.9),
)


class TestAgreement:
    @pytest.mark.parametrize(("kv", "difference"), [(300, 100), (200, 600), (80, 3000)])
    def test_of_a_difference_of_defocus_alone(
        self, kv: float, difference: float
    ) -> None:
        # pi L g^2 D = pi / 2, so 1 / g = sqrt(2 L D)
        expected = math.sqrt(2 * electron_wavelength_angst(kv) * difference)
        found = agreement(ctf(12_000), ctf(12_000 + difference), kv)
        assert found == pytest.approx(max(expected, FINEST), rel=1e-3)

    def test_of_crossed_astigmatism(self) -> None:
        # U - V of 400 A turned by 90 degrees: the defocus differs by 400 cos(2 phi),
        # by 400 * 2 / pi on the mean.
        expected = math.sqrt(2 * electron_wavelength_angst(300) * 400 * 2 / math.pi)
        found = agreement(ctf(12_000, 400, 10), ctf(12_000, 400, 100))
        assert found == pytest.approx(expected, rel=5e-3)

    def test_a_phase_shift_may_make_up_for_defocus_for_a_while(self) -> None:
        alone = agreement(ctf(12_000), ctf(12_400))
        # More defocus and less phase shift: the phases cross, then part.
        helped = agreement(ctf(12_000, phase=60), ctf(12_400, phase=20))
        hindered = agreement(ctf(12_000, phase=20), ctf(12_400, phase=60))
        assert helped < alone < hindered

    def test_phase_shifts_are_compared_modulo_180(self) -> None:
        assert agreement(ctf(12_000, phase=1), ctf(12_000, phase=179)) == FINEST
        assert agreement(ctf(12_000, phase=0), ctf(12_000, phase=90)) == 1_000

    @given(CTFS, CTFS)
    def test_is_symmetric_and_finite(self, one: Ctf, other: Ctf) -> None:
        there, back = agreement(one, other), agreement(other, one)
        assert there == pytest.approx(back, rel=1e-6)
        assert FINEST <= there <= 1_000

    @given(CTFS)
    def test_one_agrees_with_itself_to_the_end(self, one: Ctf) -> None:
        assert agreement(one, one) == FINEST

    @given(CTFS, st.lists(st.floats(10, 5_000), min_size=2, max_size=6))
    def test_the_further_off_the_coarser(self, one: Ctf, steps: list[float]) -> None:
        others = [ctf(one.defocus_angst + step) for step in sorted(steps)]
        flat = ctf(one.defocus_angst)
        found = [agreement(flat, other) for other in others]
        assert all(a <= b + 1e-9 for a, b in pairwise(found))

    def test_many_pairs_are_those_one_by_one(self) -> None:
        pairs = [
            (ctf(12_000), ctf(12_000 + 3 * n, n % 300, n % 180)) for n in range(50)
        ]
        first, second = zip(*pairs, strict=True)
        together = agreement_angst(first, second, voltage_kv=300, finest_angst=FINEST)
        alone = [agreement(one, other) for one, other in pairs]
        assert np.allclose(together, alone)
        nothing = agreement_angst([], [], voltage_kv=300, finest_angst=FINEST)
        assert nothing.shape == (0,)


class TestGroups:
    def test_the_majority_is_found(self) -> None:
        table = np.array([[0, 9, 8.5], [9, 0, 3], [8.5, 3, 0]])
        assert closest_group(table, size=2) == ((1, 2), 3.0)
        assert closest_group(table, size=3) == ((0, 1, 2), 9.0)

    def test_one_alone_agrees(self) -> None:
        assert closest_group(np.zeros((1, 1)), size=1) == ((0,), 0.0)


class TestAverage:
    def test_angles_are_averaged_as_axes(self) -> None:
        found = average_ctf([ctf(12_000, 300, 175), ctf(12_200, 300, 5)])
        assert found.defocus_angst == pytest.approx(12_100)
        turn = (found.defocus_angle_deg + 90) % 180 - 90
        assert turn == pytest.approx(0, abs=1e-6)
        expected = 300 * math.cos(math.radians(10))
        assert found.astigmatism_angst == pytest.approx(expected)

    def test_crossed_astigmatism_cancels(self) -> None:
        found = average_ctf([ctf(12_000, 300, 20), ctf(12_000, 300, 110)])
        assert found.astigmatism_angst == pytest.approx(0, abs=1e-6)

    def test_phase_shifts_are_averaged_across_180(self) -> None:
        found = average_ctf([ctf(12_000, phase=170), ctf(12_000, phase=4)])
        assert found.phase_shift_deg == pytest.approx(177)

    def test_the_coarsest_resolution_counts(self) -> None:
        both = average_ctf([ctf(1e4, resolution=4), ctf(1e4, resolution=6)])
        assert both.resolution_angst == 6
        assert (
            average_ctf([ctf(1e4), ctf(1e4, resolution=None)]).resolution_angst is None
        )

    @given(CTFS)
    def test_of_one_is_itself(self, one: Ctf) -> None:
        found = average_ctf([one])
        assert found.defocus_u_angst == pytest.approx(one.defocus_u_angst)
        assert found.phase_shift_deg == one.phase_shift_deg


def judged(
    folder: Path, passes: str = "primary", **estimate: Ctf | Missing
) -> tuple[Ctf, CtfAgreement]:
    params = CtfConsensusParams.model_validate({"passes": passes})
    context = Context(
        key="a",
        acquisition=AcquisitionView({"voltage_kv": 300.0, "pixel_size_angst": 1.0}),
        session_folder=folder,
        product_stem="a",
    )
    found = CtfConsensus(params).process(context, estimate=estimate)
    passed, consensus = found["ctf"], found["consensus"]
    assert isinstance(passed, Ctf)
    assert isinstance(consensus, CtfAgreement)
    return passed, consensus


FAR = ctf(36_000)


class TestStep:
    def test_two_that_agree(self, tmp_path: Path) -> None:
        first, second = ctf(12_000), ctf(12_100)
        passed, found = judged(tmp_path, one=first, two=second)
        assert passed == first
        assert found.agreement_angst == pytest.approx(agreement(first, second))
        assert (found.agreeing_count, found.outliers, found.failed) == (2, "", "")
        assert found.defocus_difference_angst == pytest.approx(100)
        average, _ = judged(tmp_path, "average", one=first, two=second)
        assert average.defocus_angst == pytest.approx(12_050)

    def test_two_that_do_not(self, tmp_path: Path) -> None:
        passed, found = judged(tmp_path, one=ctf(12_000), two=FAR)
        assert passed == ctf(12_000)
        assert found.agreement_angst is not None
        assert found.agreement_angst > 25
        assert found.agreeing_count == 0
        assert found.outliers == "one, two"

    def test_the_one_that_stands_alone_is_named(self, tmp_path: Path) -> None:
        passed, found = judged(tmp_path, one=FAR, two=ctf(12_000), three=ctf(12_050))
        assert passed == ctf(12_000), "the primary one is wrong"
        assert found.outliers == "one"
        assert found.agreeing_count == 2
        assert found.agreement_angst is not None
        assert found.agreement_angst < 3

    def test_one_that_failed_is_no_hole(self, tmp_path: Path) -> None:
        lost = Missing("two failed: no ring")
        passed, found = judged(tmp_path, one=ctf(12_000), two=lost)
        assert passed == ctf(12_000)
        assert found.agreement_angst is None, "nobody agrees with it"
        assert (found.estimator_count, found.failed_count) == (2, 1)
        assert found.failed == "two: two failed: no ring"
        passed, found = judged(tmp_path, one=lost, two=ctf(12_000), three=ctf(12_010))
        assert passed == ctf(12_000)
        assert found.agreement_angst is not None
        assert found.agreement_angst < 3
        assert found.failed_count == 1
