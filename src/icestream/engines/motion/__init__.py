"""Motion between the frames of a movie: its estimation."""

from icestream.engines.motion.field import Motion, estimate_motion
from icestream.engines.motion.surface import field_on_grid

__all__ = ["Motion", "estimate_motion", "field_on_grid"]
