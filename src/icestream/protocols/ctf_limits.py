"""The gate that judges an exposure by its contrast transfer function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from icestream.domain import Ctf, Verdict
from icestream.streaming.protocol import Gate, Input, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icestream.domain.table import Table

__all__ = ["CtfLimits", "CtfLimitsParams"]


class CtfLimitsParams(Params):
    """What an exposure must fulfil; a limit that is ``null`` does not count."""

    defocus_min_angst: float | None = Field(
        default=2000.0, description="Lowest mean defocus, Å."
    )
    defocus_max_angst: float | None = Field(
        default=50000.0, description="Highest mean defocus, Å."
    )
    astigmatism_max_angst: float | None = Field(
        default=2000.0, description="Largest U - V, Å."
    )
    resolution_max_angst: float | None = Field(
        default=10.0, description="Coarsest resolution to which rings are fitted, Å."
    )
    score_min: float | None = Field(
        default=None, description="Lowest correlation of model and spectrum."
    )


class CtfLimits(Gate[CtfLimitsParams]):
    """Accept exposures whose defocus, astigmatism and fit lie within limits.

    A value that is missing rejects: it never passes.
    """

    name: ClassVar = "ctf_limits"
    Params: ClassVar = CtfLimitsParams
    inputs: ClassVar = {"ctf": Input(kind=Ctf)}
    passes: ClassVar = "ctf"

    def judge(self, table: Table) -> list[Verdict | None]:
        """Return the first rule that is broken, or that all hold, of each row."""
        return [self._verdict(table, row) for row in table.asked]

    def _verdict(self, table: Table, row: int) -> Verdict:
        for rule, value, low, high in self._rules(table, row):
            if low is None and high is None:
                continue
            if math.isnan(value):
                return Verdict(accepted=False, rule=rule, reason="missing")
            if low is not None and value < low:
                return Verdict(
                    accepted=False, rule=rule, value=value, limit=low, reason="too low"
                )
            if high is not None and value > high:
                return Verdict(
                    accepted=False,
                    rule=rule,
                    value=value,
                    limit=high,
                    reason="too high",
                )
        return Verdict(accepted=True, rule="all")

    def _rules(
        self, table: Table, row: int
    ) -> Iterator[tuple[str, float, float | None, float | None]]:
        limits = self.params
        u, v, resolution, score = (
            float(table.numbers[name][row])
            for name in (
                "defocus_u_angst",
                "defocus_v_angst",
                "resolution_angst",
                "score",
            )
        )
        yield (
            "defocus_angst",
            (u + v) / 2,
            limits.defocus_min_angst,
            limits.defocus_max_angst,
        )
        yield "astigmatism_angst", u - v, None, limits.astigmatism_max_angst
        yield "resolution_angst", resolution, None, limits.resolution_max_angst
        yield "score", score, limits.score_min, None
