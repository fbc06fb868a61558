"""The step that fits the contrast transfer function of a micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from icestream.domain import Ctf, CtfRings, Micrograph
from icestream.domain.errors import BadSettings
from icestream.engines.ctf import CtfSearch, estimate_ctf, estimate_ctf_of_blocks
from icestream.protocols.images import load_blocks, load_image
from icestream.streaming.protocol import Context, Input, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EstimateCtf", "EstimateCtfParams"]


class EstimateCtfParams(Params):
    """Where to look for Thon rings."""

    low_resolution_angst: float = Field(
        default=30.0, gt=0, description="Start of the fit, Å."
    )
    high_resolution_angst: float | None = Field(
        default=None,
        gt=0,
        description="End of the fit, Å; 4 Å or 2.2 pixels where those are coarser.",
    )
    defocus_min_angst: float = Field(
        default=3000.0, gt=0, description="Lowest mean defocus, Å; > 0 is underfocus."
    )
    defocus_max_angst: float = Field(
        default=50000.0, gt=0, description="Highest mean defocus, Å."
    )
    astigmatism_max_angst: float = Field(
        default=2000.0, ge=0, description="Largest U - V, Å."
    )
    box_px: int = Field(
        default=512, ge=128, le=2048, description="Side of the power spectrum, px."
    )

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        try:
            self.search()
        except BadSettings as error:
            raise ValueError(str(error)) from error
        return self

    def search(
        self, *, phase_plate: bool = False, stage_tilt_deg: float | None = None
    ) -> CtfSearch:
        """Return the engine's ranges: of a phase plate, the phase shift is searched."""
        return CtfSearch(
            **self.model_dump(exclude={"box_px"}),
            phase_shift_deg=None if phase_plate else 0.0,
            stage_tilt_deg=stage_tilt_deg,
        )


class EstimateCtf(PerItem[EstimateCtfParams]):
    """Fit defocus and astigmatism to the Thon rings of a micrograph.

    The phase shift too, where a phase plate is declared.
    """

    name: ClassVar = "estimate_ctf"
    Params: ClassVar = EstimateCtfParams
    inputs: ClassVar = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar = {"ctf": Ctf, "rings": CtfRings}
    reads: ClassVar = (
        "voltage_kv",
        "spherical_aberration_mm",
        "amplitude_contrast",
        "phase_plate",
        "stage_tilt_deg",
    )
    revision: ClassVar = 3
    citation: ClassVar = (
        "Rohou A, Grigorieff N (2015). CTFFIND4: fast and accurate defocus estimation "
        "from electron micrographs. J. Struct. Biol. 192, 216-221 (the method that is "
        "followed; search and refinement differ)."
    )

    def process(
        self, context: Context, /, *, micrograph: Micrograph
    ) -> Mapping[str, Ctf | CtfRings]:
        """Return the fit; raises ``CtfNotFound`` where no ring is seen."""
        optics = {
            "voltage_kv": context.acquisition.voltage_kv,
            "spherical_aberration_mm": context.acquisition.spherical_aberration_mm,
            "amplitude_contrast": context.acquisition.amplitude_contrast,
            "search": self.params.search(
                phase_plate=context.acquisition.phase_plate,
                stage_tilt_deg=context.acquisition.stage_tilt_deg,
            ),
        }
        spectra = load_blocks(context, micrograph)
        if spectra is not None:
            fit = estimate_ctf_of_blocks(spectra, **optics)
        else:
            fit = estimate_ctf(
                load_image(context, micrograph),
                pixel_size_angst=micrograph.pixel_size_angst,
                box_px=self.params.box_px,
                **optics,
            )
        return {"ctf": fit.ctf, "rings": fit.rings}
