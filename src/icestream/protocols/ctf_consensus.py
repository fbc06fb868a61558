"""The step that holds several estimates of one CTF against each other."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from icestream.consensus import agreement_angst, average_ctf, closest_group
from icestream.domain import Ctf, CtfAgreement
from icestream.streaming.protocol import Context, Input, Missing, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CtfConsensus", "CtfConsensusParams"]


class CtfConsensusParams(Params):
    """Who agrees with whom, and what is passed on."""

    agreement_max_angst: float = Field(
        default=10.0,
        gt=0,
        description="Estimators agree where their phases differ by 90° at this "
        "resolution or finer, Å; others are named as outliers.",
    )
    passes: Literal["primary", "average"] = Field(
        default="primary",
        description="What is passed on of those that agree best: the one that is "
        "connected first, or their average.",
    )


class CtfConsensus(PerItem[CtfConsensusParams]):
    """Compare any number of estimates of the contrast transfer function.

    More than half of the estimators that are connected must have a result for an
    agreement; one that failed is told and loses nothing.
    """

    name: ClassVar = "ctf_consensus"
    Params: ClassVar = CtfConsensusParams
    inputs: ClassVar = {"estimate": Input(kind=Ctf, many=True)}
    outputs: ClassVar = {"ctf": Ctf, "consensus": CtfAgreement}
    reads: ClassVar = ("voltage_kv", "pixel_size_angst")

    def process(
        self, context: Context, /, *, estimate: Mapping[str, Ctf | Missing]
    ) -> Mapping[str, Ctf | CtfAgreement]:
        """Return what is passed on, and how far the estimators agree."""
        found = {n: one for n, one in estimate.items() if not isinstance(one, Missing)}
        names, ctfs = list(found), list(found.values())
        table = _pairwise(
            ctfs,
            voltage_kv=context.acquisition.voltage_kv,
            finest_angst=2 * context.acquisition.pixel_size_angst,
        )
        majority = len(estimate) // 2 + 1
        size = min(majority, len(ctfs))
        group, agreement = closest_group(table, size=size)
        close = self.params.agreement_max_angst
        agreeing = [i for i in range(len(ctfs)) if all(table[i, group] <= close)]
        chosen = [i for i in agreeing if i in group] or list(group)
        passed = ctfs[chosen[0]]
        if self.params.passes == "average":
            passed = average_ctf([ctfs[i] for i in chosen])
        consensus = CtfAgreement(
            agreement_angst=None if len(ctfs) < majority else agreement,
            estimator_count=len(estimate),
            failed_count=len(estimate) - len(ctfs),
            agreeing_count=len(agreeing),
            outliers=", ".join(n for i, n in enumerate(names) if i not in agreeing),
            failed="; ".join(
                f"{name}: {one.reason}"
                for name, one in estimate.items()
                if isinstance(one, Missing)
            ),
            **_differences(passed, ctfs),
        )
        return {"ctf": passed, "consensus": consensus}


def _pairwise(
    ctfs: Sequence[Ctf], *, voltage_kv: float, finest_angst: float
) -> NDArray[np.float64]:
    """Return to which resolution each pair agrees, ``(estimator, estimator)``, Å."""
    table = np.zeros((len(ctfs), len(ctfs)))
    pairs = list(combinations(range(len(ctfs)), 2))
    found = agreement_angst(
        [ctfs[one] for one, _ in pairs],
        [ctfs[other] for _, other in pairs],
        voltage_kv=voltage_kv,
        finest_angst=finest_angst,
    )
    for pair, value in zip(pairs, found, strict=True):
        table[pair] = table[pair[::-1]] = value
    return table


def _differences(passed: Ctf, ctfs: Sequence[Ctf]) -> Mapping[str, float]:
    """Return the largest differences from what is passed on, by field."""

    def turn(one: float, other: float) -> float:
        return abs((one - other + 90) % 180 - 90)

    return {
        "defocus_difference_angst": max(
            abs(one.defocus_angst - passed.defocus_angst) for one in ctfs
        ),
        "astigmatism_difference_angst": max(
            abs(one.astigmatism_angst - passed.astigmatism_angst) for one in ctfs
        ),
        "angle_difference_deg": max(
            turn(one.defocus_angle_deg, passed.defocus_angle_deg) for one in ctfs
        ),
        "phase_shift_difference_deg": max(
            turn(one.phase_shift_deg, passed.phase_shift_deg) for one in ctfs
        ),
    }
