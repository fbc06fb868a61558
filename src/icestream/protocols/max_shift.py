"""The gate that judges micrographs by how their movies moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from icestream.domain import Micrograph, MovieMotion, Verdict
from icestream.domain.expression import Expression
from icestream.domain.rules import Rule, judge_rows
from icestream.streaming.protocol import Gate, Input, Params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain.table import Table

__all__ = ["MaxShift", "MaxShiftParams"]

_MISSING = "missing"


class MaxShiftParams(Params):
    """How far a movie may move."""

    max_frame_shift_angst: float = Field(
        default=10.0, gt=0, description="Largest step from one frame to the next, Å."
    )
    max_movie_shift_angst: float = Field(
        default=50.0, gt=0, description="Longest path of a whole movie, Å."
    )
    rejects: Literal["frame", "movie", "either", "both"] = Field(
        default="either",
        description="What rejects: a step, the path, either of them, or only both "
        "together.",
    )
    max_early_angst: float | None = Field(
        default=None,
        gt=0,
        description="Longest path up to 4 e/Å2, Å, beside the others; null for any. A "
        "movie whose dose is not known has none and is rejected.",
    )


class MaxShift(Gate[MaxShiftParams]):
    """Accept micrographs whose movies moved little.

    A movie of which no shifts are known is rejected as missing.
    """

    name: ClassVar = "max_shift"
    Params: ClassVar = MaxShiftParams
    inputs: ClassVar = {
        "micrograph": Input(kind=Micrograph),
        "motion": Input(kind=MovieMotion),
    }
    passes: ClassVar = "micrograph"

    def judge(self, table: Table) -> Sequence[Verdict]:
        """Return which movement went too far, or that none did."""
        limits, rejects = self.params, self.params.rejects
        frame = _at_most("largest_step_angst", limits.max_frame_shift_angst)
        movie = _at_most("total_angst", limits.max_movie_shift_angst)
        early = (
            []
            if limits.max_early_angst is None
            else [_at_most("early_angst", limits.max_early_angst)]
        )
        if rejects != "both":
            asked = {"frame": [frame], "movie": [movie], "either": [frame, movie]}
            return judge_rows([*asked[rejects], *early], table)
        ways = (judge_rows(rules, table) for rules in ([frame], [movie], early))
        return [_of_both(*verdicts) for verdicts in zip(*ways, strict=True)]


def _of_both(frame: Verdict, movie: Verdict, early: Verdict) -> Verdict:
    """Reject for a step only where the path is too long as well."""
    for one in (frame, movie):
        if one.reason == _MISSING:
            return one
    return early if frame.accepted or movie.accepted else frame


def _at_most(name: str, limit: float) -> Rule:
    return Rule(name=name, value=Expression(name), maximum=Expression(str(limit)))
