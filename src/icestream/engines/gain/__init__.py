"""Gain references and defects of a camera, told from its movies."""

from icestream.engines.gain.check import (
    GainCandidate,
    GainCheck,
    GainVerdict,
    check_gain,
)
from icestream.engines.gain.defects import DefectTally, find_defects, sum_frames
from icestream.engines.gain.estimate import (
    GainEstimate,
    ResidualGain,
    estimate_gain,
    residual_gain,
)
from icestream.engines.gain.match import CameraMode, KnownGain, match_gain
from icestream.engines.gain.orientation import ORIENTATIONS, Orientation
from icestream.engines.gain.pattern import CountSums
from icestream.engines.gain.repair import repair_frames, repaired_gain
from icestream.engines.gain.shape import fit_defects, fit_shape

__all__ = [
    "ORIENTATIONS",
    "CameraMode",
    "CountSums",
    "DefectTally",
    "GainCandidate",
    "GainCheck",
    "GainEstimate",
    "GainVerdict",
    "KnownGain",
    "Orientation",
    "ResidualGain",
    "check_gain",
    "estimate_gain",
    "find_defects",
    "fit_defects",
    "fit_shape",
    "match_gain",
    "repair_frames",
    "repaired_gain",
    "residual_gain",
    "sum_frames",
]
