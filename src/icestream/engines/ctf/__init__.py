"""Contrast transfer: its model and its estimation from an image or a spectrum."""

from icestream.engines.ctf.fit import (
    CtfFit,
    CtfSearch,
    estimate_ctf,
    estimate_ctf_of_spectrum,
)
from icestream.engines.ctf.model import contrast_transfer

__all__ = [
    "CtfFit",
    "CtfSearch",
    "contrast_transfer",
    "estimate_ctf",
    "estimate_ctf_of_spectrum",
]
