"""The step that finds particles in a micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from icestream.domain import Coordinates, Micrograph, MicrographMask
from icestream.engines.picking import pick_particles, without_masked
from icestream.io import read_mask
from icestream.protocols.images import load_image
from icestream.streaming.protocol import Context, Input, Missing, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PickParticles", "PickParticlesParams"]


class PickParticlesParams(Params):
    """What particles look like."""

    diameter_angst: tuple[float, float] = Field(
        default=(100.0, 180.0),
        description="Smallest and largest particle diameter, Å.",
    )
    threshold: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Lowest score, a correlation from 0 to 1. What noise reaches in "
        "the image itself is refused in any case.",
    )
    contrast: Literal["dark", "bright"] = Field(
        default="dark", description="Particles as stored: darker or brighter than ice."
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        low, high = self.diameter_angst
        if not 0 < low <= high:
            raise ValueError(
                "diameter_angst must be two positive numbers, smaller first"
            )
        return self


class PickParticles(PerItem[PickParticlesParams]):
    """Find round particles of a range of diameters by rings and discs.

    The templates are normalised locally, so that the score has a fixed scale.
    """

    name: ClassVar = "pick_particles"
    Params: ClassVar = PickParticlesParams
    inputs: ClassVar = {
        "micrograph": Input(kind=Micrograph),
        "mask": Input(kind=MicrographMask, required=False),
    }
    outputs: ClassVar = {"coordinates": Coordinates}
    citation: ClassVar = (
        "Roseman AM (2003). Particle finding in electron micrographs using a fast "
        "local correlation algorithm. Ultramicroscopy 94, 225-236 (the score). "
        "Padfield D (2012). Masked object registration in the Fourier domain. IEEE "
        "Trans. Image Process. 21, 2706-2718 (its border). "
        "Barber RF, Candès EJ (2015). Controlling the false discovery rate via "
        "knockoffs. Ann. Statist. 43, 2055-2085 (the limit against noise)."
    )

    def process(
        self,
        context: Context,
        /,
        *,
        micrograph: Micrograph,
        mask: MicrographMask | Missing,
    ) -> Mapping[str, Coordinates]:
        """Return the picks, best first; there may be none, and none where masked."""
        picks = pick_particles(
            load_image(context, micrograph),
            pixel_size_angst=micrograph.pixel_size_angst,
            diameter_angst=self.params.diameter_angst,
            threshold=self.params.threshold,
            contrast=self.params.contrast,
        )
        if not isinstance(mask, Missing):
            picks = without_masked(
                picks,
                read_mask(context.locate(mask.path)),
                shape_px=(micrograph.height_px, micrograph.width_px),
                pixel_size_angst=micrograph.pixel_size_angst,
            )
        return {"coordinates": picks}
