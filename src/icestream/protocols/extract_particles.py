"""The step that cuts particles out of a micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from icestream.domain import Coordinates, Ctf, Micrograph, Particles
from icestream.engines.extraction import extract_particles
from icestream.io import write_mrc
from icestream.protocols.images import load_image
from icestream.streaming.protocol import Context, Input, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ExtractParticles", "ExtractParticlesParams"]


class ExtractParticlesParams(Params):
    """How large the boxes are, and how they are stored."""

    box_angst: float = Field(
        default=256.0,
        gt=10,
        description="Side of the box, Å: about 1.5 to 2 particle diameters.",
    )
    pixel_size_angst: float | None = Field(
        default=4.0,
        gt=0,
        description="Pixel size of the stored images, Å/px, reached by Fourier crop; "
        "that of the micrograph, where this is finer or not given.",
    )
    background_fraction: float = Field(
        default=0.75,
        gt=0.1,
        lt=1.4,
        description="Diameter outside of which a box is background, in box sides.",
    )
    invert: bool = Field(default=True, description="Store particles bright on dark.")
    number_format: Literal["float16", "float32"] = Field(
        default="float16",
        description="How pixels are stored: float16 (MRC mode 12) for RELION 4 and "
        "later and cryoSPARC, float32 for older programs.",
    )

    @model_validator(mode="after")
    def _has_pixels(self) -> Self:
        if self.pixel_size_angst and self.box_angst / self.pixel_size_angst < 16:
            raise ValueError("the stored box would have fewer than 16 pixels")
        return self


class ExtractParticles(PerItem[ExtractParticlesParams]):
    """Cut particles out, normalise them, invert their contrast, and crop in Fourier.

    One stack (``.mrcs``) a micrograph, and one row of columns a particle.
    """

    name: ClassVar = "extract_particles"
    Params: ClassVar = ExtractParticlesParams
    inputs: ClassVar = {
        "micrograph": Input(kind=Micrograph),
        "ctf": Input(kind=Ctf),
        "coordinates": Input(kind=Coordinates),
    }
    outputs: ClassVar = {"particles": Particles}
    citation: ClassVar = (
        "Scheres SHW (2010). Classification of structural heterogeneity by "
        "maximum-likelihood methods. Methods Enzymol. 482, 295-320 (the "
        "normalisation: a plane through the background, its deviation, outliers)."
    )

    def process(
        self,
        context: Context,
        /,
        *,
        micrograph: Micrograph,
        ctf: Ctf,
        coordinates: Coordinates,
    ) -> Mapping[str, Particles]:
        """Return the particles whose boxes lie within the image; perhaps none."""
        pixel = micrograph.pixel_size_angst
        box_px, stored_px = self._boxes(pixel)
        stack, kept = extract_particles(
            load_image(context, micrograph),
            x_px=torch.from_numpy(coordinates.x_px.copy()),
            y_px=torch.from_numpy(coordinates.y_px.copy()),
            box_px=box_px,
            crop_to_px=stored_px,
            invert=self.params.invert,
            background_radius_px=self.params.background_fraction * box_px / 2,
        )
        stored_pixel = pixel * box_px / stored_px
        path = None
        if len(stack):
            product = context.product(".mrcs")
            path = product.path
            write_mrc(
                product.temporary,
                stack.numpy(),
                pixel_size_angst=stored_pixel,
                dtype=self.params.number_format,
                is_stack=True,
            )
        rows = kept.numpy()
        same = np.ones(int(rows.sum()), np.float32)
        return {
            "particles": Particles(
                path=path,
                micrograph=micrograph.path,
                box_px=stored_px,
                pixel_size_angst=stored_pixel,
                setup=micrograph.setup,
                x_px=coordinates.x_px[rows],
                y_px=coordinates.y_px[rows],
                score=coordinates.score[rows],
                defocus_u_angst=same * np.float32(ctf.defocus_u_angst),
                defocus_v_angst=same * np.float32(ctf.defocus_v_angst),
                defocus_angle_deg=same * np.float32(ctf.defocus_angle_deg),
                phase_shift_deg=same * np.float32(ctf.phase_shift_deg),
            )
        }

    def _boxes(self, pixel_size_angst: float) -> tuple[int, int]:
        """Return the sides in pixels, both even: as cut and as stored."""
        box_px = _even(self.params.box_angst / pixel_size_angst)
        wanted = self.params.pixel_size_angst
        if wanted is None or wanted <= pixel_size_angst:
            return box_px, box_px
        return box_px, min(box_px, _even(self.params.box_angst / wanted))


def _even(value: float) -> int:
    return 2 * round(value / 2)
