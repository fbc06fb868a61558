"""A microscope with known truth: images, whole acquisitions, and files that arrive."""

from icestream.simulate.acquisition import Acquisition, simulate_acquisition
from icestream.simulate.exposure import Exposure, Recipe, Species, draw_exposure
from icestream.simulate.micrograph import SimulatedMicrograph, simulate_micrograph
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.particles import Component, Imaging, simulate_particles
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.proteins import SPECIMENS, make_specimen
from icestream.simulate.replay import ARRIVAL_MODES, Arrival, ArrivalMode, replay
from icestream.simulate.timetable import FAULTS, FaultRates, Timing
from icestream.simulate.truth import TRUTH_NAME, Truth, read_truth
from icestream.simulate.usual import usual_acquisition

__all__ = [
    "ARRIVAL_MODES",
    "FAULTS",
    "SPECIMENS",
    "TRUTH_NAME",
    "Acquisition",
    "Arrival",
    "ArrivalMode",
    "Component",
    "Exposure",
    "FaultRates",
    "Imaging",
    "Microscope",
    "Optics",
    "Projector",
    "Recipe",
    "SimulatedMicrograph",
    "Species",
    "Timing",
    "Truth",
    "draw_exposure",
    "make_specimen",
    "potential_volume",
    "read_truth",
    "replay",
    "simulate_acquisition",
    "simulate_micrograph",
    "simulate_particles",
    "usual_acquisition",
]
