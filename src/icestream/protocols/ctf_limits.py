"""The gate that judges an exposure by its contrast transfer function."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from icestream.domain import Ctf, Verdict
from icestream.streaming.protocol import Gate, Input, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def decide(self, *, ctf: Ctf) -> Verdict:
        """Return the first rule that is broken, or that all hold."""
        for rule, value, low, high in self._rules(ctf):
            if low is None and high is None:
                continue
            if value is None:
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
        self, ctf: Ctf
    ) -> Iterator[tuple[str, float | None, float | None, float | None]]:
        limits = self.params
        yield (
            "defocus_angst",
            ctf.defocus_angst,
            limits.defocus_min_angst,
            limits.defocus_max_angst,
        )
        yield (
            "astigmatism_angst",
            ctf.astigmatism_angst,
            None,
            limits.astigmatism_max_angst,
        )
        yield (
            "resolution_angst",
            ctf.resolution_angst,
            None,
            limits.resolution_max_angst,
        )
        yield "score", ctf.score, limits.score_min, None
