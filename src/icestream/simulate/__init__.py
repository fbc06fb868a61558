"""A microscope with known truth: images, whole acquisitions, and files that arrive."""

from icestream.simulate.acquisition import TRUTH_NAME, simulate_acquisition
from icestream.simulate.micrograph import SimulatedMicrograph, simulate_micrograph
from icestream.simulate.replay import ARRIVAL_MODES, Arrival, ArrivalMode, replay

__all__ = [
    "ARRIVAL_MODES",
    "TRUTH_NAME",
    "Arrival",
    "ArrivalMode",
    "SimulatedMicrograph",
    "replay",
    "simulate_acquisition",
    "simulate_micrograph",
]
