"""Quality numbers and masks: images in, numbers out."""

from icestream.engines.quality.mask import Mask, mask_micrograph

__all__ = ["Mask", "mask_micrograph"]
