"""Find particles in a micrograph, and score picks against known centres."""

from icestream.engines.picking.masked import without_masked
from icestream.engines.picking.pick import pick_particles
from icestream.engines.picking.score import Matches, match_coordinates

__all__ = ["Matches", "match_coordinates", "pick_particles", "without_masked"]
