"""The step that finds film, contamination and empty parts of a micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from icestream.domain import MaskClass, Micrograph, MicrographMask
from icestream.engines.quality import mask_micrograph
from icestream.io import MASK_SUFFIX, write_mask
from icestream.protocols.images import load_image
from icestream.streaming.protocol import Context, Input, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MaskMicrograph"]


class MaskMicrograph(PerItem[Params]):
    """Find what is not ice with protein: film, contamination, empty parts.

    Film and crystals are darker than ice and end in a step; clumps have more structure;
    empty parts are brighter and show noise alone.
    """

    name: ClassVar = "mask_micrograph"
    inputs: ClassVar = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar = {"mask": MicrographMask}

    def process(
        self, context: Context, /, *, micrograph: Micrograph
    ) -> Mapping[str, MicrographMask]:
        """Return the mask, which is a picture of some 32 Å per pixel."""
        found = mask_micrograph(
            load_image(context, micrograph),
            pixel_size_angst=micrograph.pixel_size_angst,
        )
        product = context.product(MASK_SUFFIX)
        write_mask(found.classes, product.temporary)
        height, width = found.classes.shape
        return {
            "mask": MicrographMask(
                path=product.path,
                height_cells=height,
                width_cells=width,
                masked_fraction=1 - found.fraction(MaskClass.GOOD),
                carbon_fraction=found.fraction(MaskClass.CARBON),
                contamination_fraction=found.fraction(MaskClass.CONTAMINATION),
                empty_fraction=found.fraction(MaskClass.EMPTY),
            )
        }
