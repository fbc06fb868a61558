"""Running statistics of a session: the first aggregate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from icestream.domain import Ctf
from icestream.streaming.protocol import Aggregate, Input, Params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.streaming.protocol import Context

__all__ = ["CtfStatistics", "CtfSums", "SessionStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfSums:
    """Counts, sums and sums of squares; of resolution only where there is one."""

    count: int = 0
    defocus_angst: float = 0.0
    defocus_squared: float = 0.0
    astigmatism_angst: float = 0.0
    astigmatism_squared: float = 0.0
    resolution_count: int = 0
    resolution_angst: float = 0.0
    resolution_squared: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfStatistics:
    """Mean and standard deviation of what the contrast transfer functions say."""

    count: int
    defocus_mean_angst: float | None
    defocus_deviation_angst: float | None
    astigmatism_mean_angst: float | None
    astigmatism_deviation_angst: float | None
    resolution_mean_angst: float | None
    resolution_deviation_angst: float | None


class SessionStatistics(Aggregate[Params, CtfSums]):
    """Follow mean and spread of defocus, astigmatism and fit resolution.

    What is withdrawn or replaced is taken out again.
    """

    name: ClassVar = "session_statistics"
    inputs: ClassVar = {"ctf": Input(kind=Ctf)}
    outputs: ClassVar = {"statistics": CtfStatistics}

    def start(self) -> CtfSums:
        """Return empty sums."""
        return CtfSums()

    def update(
        self,
        _context: Context,
        state: CtfSums,
        added: Sequence[Ctf],
        withdrawn: Sequence[Ctf],
    ) -> CtfSums:
        """Return the sums with some fits added and others taken out."""
        for one in added:
            state = _add(state, one, sign=1)
        for one in withdrawn:
            state = _add(state, one, sign=-1)
        return state

    def snapshot(self, state: CtfSums) -> CtfStatistics:
        """Return means and standard deviations."""
        defocus = _moments(state.count, state.defocus_angst, state.defocus_squared)
        astigmatism = _moments(
            state.count, state.astigmatism_angst, state.astigmatism_squared
        )
        resolution = _moments(
            state.resolution_count, state.resolution_angst, state.resolution_squared
        )
        return CtfStatistics(
            count=state.count,
            defocus_mean_angst=defocus[0],
            defocus_deviation_angst=defocus[1],
            astigmatism_mean_angst=astigmatism[0],
            astigmatism_deviation_angst=astigmatism[1],
            resolution_mean_angst=resolution[0],
            resolution_deviation_angst=resolution[1],
        )


def _add(state: CtfSums, ctf: Ctf, *, sign: int) -> CtfSums:
    resolution = ctf.resolution_angst
    return CtfSums(
        count=state.count + sign,
        defocus_angst=state.defocus_angst + sign * ctf.defocus_angst,
        defocus_squared=state.defocus_squared + sign * ctf.defocus_angst**2,
        astigmatism_angst=state.astigmatism_angst + sign * ctf.astigmatism_angst,
        astigmatism_squared=state.astigmatism_squared + sign * ctf.astigmatism_angst**2,
        resolution_count=state.resolution_count + sign * (resolution is not None),
        resolution_angst=state.resolution_angst + sign * (resolution or 0.0),
        resolution_squared=state.resolution_squared + sign * (resolution or 0.0) ** 2,
    )


def _moments(
    count: int, total: float, squared: float
) -> tuple[float | None, float | None]:
    if count <= 0:
        return None, None
    mean = total / count
    return mean, math.sqrt(max(0.0, squared / count - mean**2))
