"""The gate that judges exposures by rules on any of their numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from icestream.domain import Ctf, MovieMotion, Quality, Verdict
from icestream.domain.consensus import CtfAgreement
from icestream.domain.errors import BadSettings
from icestream.domain.expression import Expression
from icestream.domain.rules import (
    Rule,
    check_names,
    judge_rows,
    with_derived,
)
from icestream.streaming.gate_table import numeric_fields
from icestream.streaming.protocol import Gate, Input, Params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.domain.table import Table

__all__ = ["DEFAULT_LIMITS", "CurateExposures", "CurateExposuresParams", "RuleParams"]

SPARED_EXPOSURES = 30

_CONDITIONS = ("has_phase_plate", "tilt_thickening")


class RuleParams(Params):
    """Limits of one number, which it may reach."""

    expression: str | None = Field(
        default=None,
        description="What is judged, of numbers by name; by default the number that "
        "the rule is called after.",
    )
    minimum: float | str | None = Field(
        default=None, description="Lowest value: a number, or an expression."
    )
    maximum: float | str | None = Field(
        default=None, description="Highest value: a number, or an expression."
    )
    beside: str | None = Field(
        default=None,
        description="A number beside which this one may be unknown. Without it, what "
        "is unknown is rejected.",
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        low, high = self.minimum, self.maximum
        if isinstance(low, float) and isinstance(high, float) and low > high:
            raise ValueError(f"the minimum {low:g} lies above the maximum {high:g}")
        return self

    def rule(self, name: str, *, is_lenient: bool) -> Rule:
        """Return the rule of this name."""
        return Rule(
            name=name,
            value=Expression(self.expression or name),
            minimum=_limit(self.minimum),
            maximum=_limit(self.maximum),
            beside=self.beside,
            is_lenient=is_lenient,
        )


DEFAULT_LIMITS: Mapping[str, RuleParams] = MappingProxyType(
    {
        # Rings that end before this tell no defocus to what a map needs. Where pixels
        # are coarse, as in screening, they end earlier; and so they do in tilted ice,
        # which is thicker along the beam.
        "resolution_angst": RuleParams(
            maximum="maximum(10, 2 * nyquist_angst) * tilt_thickening"
        ),
        # A model that explains hardly anything.
        "score": RuleParams(minimum=0.05),
        # What single particles are taken at, with room to both sides; with a phase
        # plate nearly in focus.
        "defocus_angst": RuleParams(
            minimum="2000 - 1500 * has_phase_plate", maximum=50000
        ),
        # Beyond what a microscope that was aligned this week has, or two wrong rings.
        "astigmatism_angst": RuleParams(maximum=2000),
        # Of a small defocus that limit is too wide.
        "astigmatism_percent": RuleParams(maximum=25),
        # Estimators that part before that: one of them fitted other rings. Few pixels
        # do not let them agree further.
        "agreement_angst": RuleParams(maximum="maximum(10, 2 * nyquist_angst)"),
        # Drift takes the rings along its way; good ones reach 0.07, and 0 Å. Unaligned
        # averages have up to 0.15. Other programs do not tell it, nor the next two.
        "directional_loss": RuleParams(maximum=0.12, beside="score"),
        "smear_angst": RuleParams(maximum=8, beside="score"),
        # Carbon film has 0.4 and more, protein in ice up to 0.1.
        "ring_contrast": RuleParams(maximum=0.25, beside="score"),
        # Amorphous ice has 1 of both, thick one 1.3 of the first; crystals have rings,
        # and spots on them.
        "ice_ring_ratio": RuleParams(maximum=1.5, beside="mean_intensity"),
        "crystal_ratio": RuleParams(maximum=2, beside="mean_intensity"),
        # Less than half of the image is ice that may hold protein.
        "masked_fraction": RuleParams(maximum=0.5),
        # Frames that are blurred in themselves; a stage that has not come to rest.
        "largest_step_angst": RuleParams(maximum="10 * tilt_thickening"),
        "total_angst": RuleParams(maximum="50 * tilt_thickening"),
    }
)
"""What holds where nothing else is said: the one place to change it.

A limit on a number whose input is not connected does not count.
"""


class CurateExposuresParams(Params):
    """What an exposure must fulfil."""

    rules: dict[str, RuleParams | None] = Field(
        default={},
        description="Rules by name, e.g. {score: {minimum: 0.1}}: limits of the number "
        "of that name, or of an expression. One in place of a default limit replaces "
        "it; null takes it away.",
    )
    defaults: bool = Field(
        default=True, description="Whether default limits hold beside them."
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        known = [*with_derived(CurateExposures.numbers()), *_CONDITIONS]
        try:
            for rule in self.in_order:
                check_names(rule, known)
        except BadSettings as error:
            raise ValueError(str(error)) from error
        taken_away = [name for name, one in self.rules.items() if one is None]
        for name in taken_away:
            if name not in DEFAULT_LIMITS:
                limits = ", ".join(DEFAULT_LIMITS)
                raise ValueError(f"there is no default limit {name!r}, only {limits}")
        return self

    @cached_property
    def in_order(self) -> list[Rule]:
        """The rules, one's own before the default limits."""
        own = [
            one.rule(name, is_lenient=False)
            for name, one in self.rules.items()
            if one is not None
        ]
        if not self.defaults:
            return own
        return own + [
            one.rule(name, is_lenient=True)
            for name, one in DEFAULT_LIMITS.items()
            if name not in self.rules
        ]


class CurateExposures(Gate[CurateExposuresParams]):
    """Accept exposures whose numbers keep to rules.

    A value that is missing rejects: it never passes. Default limits only note what
    they would reject among a setup's first 30 exposures; one's own hold from the start.
    """

    name: ClassVar = "curate_exposures"
    Params: ClassVar = CurateExposuresParams
    inputs: ClassVar = {
        "ctf": Input(kind=Ctf),
        "quality": Input(kind=Quality, required=False),
        "motion": Input(kind=MovieMotion, required=False),
        "consensus": Input(kind=CtfAgreement, required=False),
    }
    reads: ClassVar = ("pixel_size_angst", "phase_plate")
    passes: ClassVar = "ctf"

    @classmethod
    @cache
    def numbers(cls) -> dict[str, str]:
        """Return the numbers that it may be given, and the input that gives each."""
        found = dict.fromkeys(cls.reads, "")
        for name, one in cls.inputs.items():
            found |= dict.fromkeys(numeric_fields(one.kind), name)
        return found

    def judge(self, table: Table) -> Sequence[Verdict]:
        """Return what decides for each row: a broken rule, or that all hold."""
        given = {**table.numbers, **_conditions(table)}
        known = set(with_derived(given))
        absent = {
            name: f"{source} is not connected"
            for name, source in self.numbers().items()
            if name not in given
        }
        rules = [
            one
            for one in self.params.in_order
            if not one.is_lenient or one.names <= known
        ]
        return judge_rows(
            rules,
            replace(table, numbers=given),
            spared=SPARED_EXPOSURES,
            absent=absent,
        )


def _limit(limit: float | str | None) -> Expression | None:
    return None if limit is None else Expression(str(limit))


def _conditions(
    table: Table,
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return what limits depend on, with what is not told taken as usual."""
    none = np.full(len(table.rank), np.nan)
    plate = table.numbers.get("phase_plate", none)
    tilt_deg = table.numbers.get("tilt_deg", none)
    flat = np.where(np.abs(tilt_deg) < 80, tilt_deg, 0.0)
    return {
        "has_phase_plate": np.nan_to_num(plate),
        "tilt_thickening": 1 / np.cos(np.deg2rad(flat)),
    }
