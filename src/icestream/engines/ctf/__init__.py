"""Contrast transfer: its model and its estimation from an image or a spectrum."""

from icestream.engines.ctf.fit import (
    CtfFit,
    CtfSearch,
    estimate_ctf,
    estimate_ctf_of_blocks,
    estimate_ctf_of_spectrum,
)
from icestream.engines.ctf.model import (
    aberration_phase_rad,
    constant_phase_rad,
    contrast_transfer,
    defocus_slope,
)
from icestream.engines.ctf.spectrum import BlockSpectra, power_spectra
from icestream.engines.ctf.unfolding import unfold_phase_shift_deg

__all__ = [
    "BlockSpectra",
    "CtfFit",
    "CtfSearch",
    "aberration_phase_rad",
    "constant_phase_rad",
    "contrast_transfer",
    "defocus_slope",
    "estimate_ctf",
    "estimate_ctf_of_blocks",
    "estimate_ctf_of_spectrum",
    "power_spectra",
    "unfold_phase_shift_deg",
]
