"""Motion between the frames of a movie: found, and taken back."""

from icestream.engines.motion.correct import (
    Correction,
    CorrectionRecipe,
    correct_movie,
)
from icestream.engines.motion.field import Motion, estimate_motion
from icestream.engines.motion.surface import field_on_grid

__all__ = [
    "Correction",
    "CorrectionRecipe",
    "Motion",
    "correct_movie",
    "estimate_motion",
    "field_on_grid",
]
