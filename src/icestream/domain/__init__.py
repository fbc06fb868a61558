"""The words of the field: frozen values that refuse nonsense. Knows no framework."""

from icestream.domain.acquisition import AcquisitionSetup, OpticsGroup
from icestream.domain.consensus import CtfAgreement
from icestream.domain.ctf import Ctf, CtfRings
from icestream.domain.exposure import ExposureMetadata
from icestream.domain.image import Micrograph, Movie, RawFile
from icestream.domain.motion import MotionField, MovieMotion
from icestream.domain.particles import Column, Coordinates, Particles
from icestream.domain.quality import MaskClass, MicrographMask, Quality
from icestream.domain.verdict import Verdict

__all__ = [
    "AcquisitionSetup",
    "Column",
    "Coordinates",
    "Ctf",
    "CtfAgreement",
    "CtfRings",
    "ExposureMetadata",
    "MaskClass",
    "Micrograph",
    "MicrographMask",
    "MotionField",
    "Movie",
    "MovieMotion",
    "OpticsGroup",
    "Particles",
    "Quality",
    "RawFile",
    "Verdict",
]
