"""The gate that lets exposures pass whose defocus is spread evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from icestream.domain import Ctf
from icestream.protocols.exposure_sample import SampleParams, sample_by_defocus
from icestream.streaming.protocol import Gate, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain import Verdict
    from icestream.domain.table import Table

__all__ = ["DefocusBalancer"]


class DefocusBalancer(Gate[SampleParams]):
    """Accept as many exposures from each range of defocus, as far as it has them.

    All are held until there are enough to choose from. What is chosen then stays
    chosen, later ones are rejected; with a higher count more are chosen.
    """

    name: ClassVar = "defocus_balancer"
    Params: ClassVar = SampleParams
    inputs: ClassVar = {"ctf": Input(kind=Ctf)}
    reads: ClassVar = ("setup",)
    passes: ClassVar = "ctf"

    def judge(self, table: Table) -> Sequence[Verdict | None]:
        """Return which belong to the sample; ``None`` until it can be chosen."""
        return sample_by_defocus(table, self.params)
