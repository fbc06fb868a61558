"""What a session has found, against the truth of the acquisition that it processed."""

from icestream.simulate.score.ctf import CtfScore
from icestream.simulate.score.items import ItemScore
from icestream.simulate.score.matching import match_files
from icestream.simulate.score.motion import MotionScore, motion_rmsd_angst
from icestream.simulate.score.picking import BlankScore, PickScore
from icestream.simulate.score.values import Found, FoundMotion, Spread
from icestream.simulate.score.verdicts import VerdictScore
from icestream.simulate.score.whole import Score, score_acquisition

__all__ = [
    "BlankScore",
    "CtfScore",
    "Found",
    "FoundMotion",
    "ItemScore",
    "MotionScore",
    "PickScore",
    "Score",
    "Spread",
    "VerdictScore",
    "match_files",
    "motion_rmsd_angst",
    "score_acquisition",
]
