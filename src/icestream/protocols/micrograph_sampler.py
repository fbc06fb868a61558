"""The gate that lets some micrographs pass, to try things on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from icestream.domain import Ctf, Micrograph
from icestream.protocols.exposure_sample import (
    SampleParams,
    chance,
    sample_by_defocus,
    sample_rows,
)
from icestream.streaming.protocol import Gate, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain import Verdict
    from icestream.domain.table import Table
    from icestream.protocols.exposure_sample import Column, Rows

__all__ = ["MicrographSampler", "MicrographSamplerParams"]


class MicrographSamplerParams(SampleParams):
    """How many are chosen, of how many, and by what."""

    chooses: Literal["spread", "random", "best"] = Field(
        default="spread",
        description="Spread over defocus; at random; or the best: those whose rings "
        "are seen furthest, then by score.",
    )


class MicrographSampler(Gate[MicrographSamplerParams]):
    """Accept some micrographs, for tests and training.

    All are held until there are enough to choose from. What is chosen then stays
    chosen, later ones are rejected; with a higher count more are chosen.
    """

    name: ClassVar = "micrograph_sampler"
    Params: ClassVar = MicrographSamplerParams
    inputs: ClassVar = {
        "micrograph": Input(kind=Micrograph),
        "ctf": Input(kind=Ctf, required=False),
    }
    reads: ClassVar = ("setup",)
    passes: ClassVar = "micrograph"

    def judge(self, table: Table) -> Sequence[Verdict | None]:
        """Return which belong to the sample; ``None`` until it can be chosen."""
        params = self.params
        if params.chooses == "spread":
            return sample_by_defocus(table, params)
        luck = chance(table, params.seed)

        def at_random(_: Column, free: Rows, __: Rows, wanted: int) -> Rows:
            return free[np.argsort(luck[free])[:wanted]]

        if params.chooses == "random":
            return sample_rows(table, params, "height_px", at_random)

        def best(value: Column, free: Rows, _: Rows, wanted: int) -> Rows:
            score = np.nan_to_num(table.numbers["score"][free])
            return free[np.lexsort((luck[free], -score, value[free]))[:wanted]]

        return sample_rows(table, params, "resolution_angst", best)
