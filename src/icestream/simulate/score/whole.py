"""The whole score of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.simulate.score.corrected import as_in_image
from icestream.simulate.score.ctf import CtfScore, score_ctf
from icestream.simulate.score.identity import count_by_name, find_unlike
from icestream.simulate.score.items import ItemScore, pair_up
from icestream.simulate.score.motion import MotionScore, score_motion
from icestream.simulate.score.picking import (
    BlankScore,
    PickScore,
    View,
    score_blanks,
    score_picking,
)
from icestream.simulate.score.verdicts import VerdictScore, score_verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.simulate.score.values import Found
    from icestream.simulate.truth import Truth

__all__ = ["Score", "score_acquisition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a session compares with the truth; a part is ``None`` where nothing is found.

    Parameters
    ----------
    known, planned
        Exposures that the truth tells of, and how many there are in the end: more while
        the acquisition goes on, or where the truth was cut. ``None`` where it does not
        say.
    by_name
        Files outside the acquisition's folder that were found by their base names
        alone, which other acquisitions may have too.
    unlike
        Exposures whose pixel size, shape or voltage the session takes for another.
    items
        Whether every exposure is there, once.
    motion
        Of all movies with a sound file.
    ctf_good, ctf_all
        Fits of the exposures without a defect, and of all with a sound file.
    picking_good, picking_all
        The same for picks.
    blanks
        Picks where there is no particle.
    verdicts
        Defects against decisions.
    """

    known: int
    planned: int | None
    by_name: int
    unlike: tuple[str, ...]
    items: ItemScore
    motion: MotionScore | None
    ctf_good: CtfScore | None
    ctf_all: CtfScore | None
    picking_good: PickScore | None
    picking_all: PickScore | None
    blanks: BlankScore | None
    verdicts: VerdictScore


def score_acquisition(
    truth: Truth,
    found: Sequence[Found],
    *,
    root: str | None = None,
    goes_on: bool = False,
) -> Score:
    """Compare what a session has found with the truth.

    Parameters
    ----------
    truth
        Of the acquisition that it processed, complete or not yet.
    found
        Everything in the session, in order of arrival.
    root
        Folder of the acquisition; see `match_files`.
    goes_on
        Whether the session runs: what was taken after all that it has seen is no loss.

    Returns
    -------
    Score
        Spoilt files count among the items only.

    Raises
    ------
    BadSettings
        The truth does not say how large images and particles are, or is of another
        acquisition: pixel sizes, shapes or voltages differ throughout.
    """
    view = View.of(truth.about)
    items, pairs = pair_up(truth.exposures, found, root=root, goes_on=goes_on)
    pairs = [as_in_image(one, view.shape) for one in pairs]
    good = [one for one in pairs if one.truth.defect is None]
    return Score(
        known=len(truth.exposures),
        planned=truth.planned_count,
        by_name=count_by_name(pairs, root=root),
        unlike=find_unlike(pairs, view.shape),
        items=items,
        motion=score_motion(pairs),
        ctf_good=score_ctf(good),
        ctf_all=score_ctf(pairs),
        picking_good=score_picking(good, view),
        picking_all=score_picking(pairs, view),
        blanks=score_blanks(pairs),
        verdicts=score_verdicts(pairs),
    )
