"""Quality numbers and masks: images in, numbers out."""

from icestream.engines.quality.drift import DriftRates, drift_rates
from icestream.engines.quality.ice import IceOrder, ice_order, ice_path_angst
from icestream.engines.quality.intensity import Intensity, measure_intensity
from icestream.engines.quality.mask import Mask, mask_micrograph
from icestream.engines.quality.trend import Trend, trend

__all__ = [
    "DriftRates",
    "IceOrder",
    "Intensity",
    "Mask",
    "Trend",
    "drift_rates",
    "ice_order",
    "ice_path_angst",
    "mask_micrograph",
    "measure_intensity",
    "trend",
]
