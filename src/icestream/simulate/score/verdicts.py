"""Whether bad exposures were rejected, and good ones kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from icestream.simulate.exposure import Defect
from icestream.simulate.score.values import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.simulate.score.values import Pair

__all__ = ["GOOD", "VerdictScore", "score_verdicts"]

GOOD = "good"
"""What the table calls an exposure without a defect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictScore:
    """What is wrong with exposures, against what the session has decided.

    Parameters
    ----------
    counts
        ``good`` or the defect, to outcome, to how many; defects that occur only.
    rejected_good
        Share of the good ones that were decided on and rejected; ``None`` without such.
    accepted_bad
        Share of the bad ones that were decided on and accepted.
    """

    counts: Mapping[str, Mapping[Outcome, int]]
    rejected_good: float | None
    accepted_bad: float | None


def score_verdicts(pairs: Sequence[Pair]) -> VerdictScore:
    """Count verdicts by what is true."""
    counted = Counter((one.truth.defect or GOOD, one.found.outcome) for one in pairs)
    occurring = {kind for kind, _ in counted}
    known = [GOOD, *get_args(Defect)]
    kinds = [one for one in known if one in occurring]
    kinds += sorted(occurring.difference(known))
    counts: dict[str, dict[Outcome, int]] = {
        kind: {outcome: counted[kind, outcome] for outcome in get_args(Outcome)}
        for kind in kinds
    }
    bad = [counts[kind] for kind in kinds if kind != GOOD]
    return VerdictScore(
        counts=counts,
        rejected_good=_share([counts[GOOD]] if GOOD in counts else [], "rejected"),
        accepted_bad=_share(bad, "accepted"),
    )


def _share(rows: Sequence[Mapping[Outcome, int]], outcome: Outcome) -> float | None:
    decided = sum(row["accepted"] + row["rejected"] for row in rows)
    return sum(row[outcome] for row in rows) / decided if decided else None
