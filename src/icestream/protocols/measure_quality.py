"""The step that puts the quality of an exposure into numbers."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from icestream.domain import Ctf, Micrograph, MicrographMask, MovieMotion, Quality
from icestream.engines.quality import (
    DriftRates,
    drift_rates,
    ice_order,
    ice_path_angst,
    measure_intensity,
)
from icestream.io import read_mask
from icestream.protocols.images import load_image
from icestream.streaming.protocol import Context, Input, Missing, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.engines.quality import Intensity
    from icestream.streaming.protocol import AcquisitionView

__all__ = ["MeasureQuality"]

_T = TypeVar("_T")
_FRACTIONS = (
    "masked_fraction",
    "carbon_fraction",
    "contamination_fraction",
    "empty_fraction",
)


class MeasureQuality(PerItem[Params]):
    """Measure ice, light and drift of an exposure, and whether it is as asked for.

    What a number means stands with `Quality`. What is not known is left out.
    """

    name: ClassVar = "measure_quality"
    inputs: ClassVar = {
        "micrograph": Input(kind=Micrograph),
        "ctf": Input(kind=Ctf, required=False),
        "motion": Input(kind=MovieMotion, required=False),
        "mask": Input(kind=MicrographMask, required=False),
    }
    outputs: ClassVar = {"quality": Quality}
    reads: ClassVar = (
        "voltage_kv",
        "dose_e_per_angst2",
        "dose_before_e_per_angst2",
        "vacuum_e_per_px",
        "metadata",
        "optics_group",
    )
    citation: ClassVar = (
        "Rice WJ, Cheng A, Noble AJ, et al. (2018). Routine determination of ice "
        "thickness for cryo-EM grids. J. Struct. Biol. 204, 38-44 (thickness)."
    )

    def process(
        self,
        context: Context,
        /,
        *,
        micrograph: Micrograph,
        ctf: Ctf | Missing,
        motion: MovieMotion | Missing,
        mask: MicrographMask | Missing,
    ) -> Mapping[str, Quality]:
        """Return the numbers of one exposure."""
        image = load_image(context, micrograph)
        known, masked = context.acquisition, _present(mask)
        told = known.metadata or {}
        pixel_size_angst = micrograph.pixel_size_angst
        classes = None if masked is None else read_mask(context.locate(masked.path))
        light = measure_intensity(
            image, pixel_size_angst=pixel_size_angst, classes=classes
        )
        order = ice_order(image, pixel_size_angst=pixel_size_angst, classes=classes)
        return {
            "quality": Quality(
                mean_intensity=light.mean,
                intensity_gradient=light.gradient,
                intensity_gradient_deg=light.gradient_deg,
                ice_ring_ratio=None if order is None else order.ring_ratio,
                crystal_ratio=None if order is None else order.crystal_ratio,
                defocus_minus_target_angst=_difference(
                    _present(ctf), told.get("target_defocus_angst")
                ),
                beam_shift_group=_beam_shift_group(known.optics_group),
                **_thickness(light, known, pixel_size_angst),
                **_fractions(masked),
                **_drift(_present(motion), known),
            )
        }


def _present(value: _T | Missing) -> _T | None:
    return None if isinstance(value, Missing) else value


def _fractions(mask: MicrographMask | None) -> dict[str, Any]:
    return {} if mask is None else {one: getattr(mask, one) for one in _FRACTIONS}


def _difference(ctf: Ctf | None, target_angst: float | None) -> float | None:
    if ctf is None or target_angst is None:
        return None
    return ctf.defocus_angst - target_angst


def _beam_shift_group(group: Mapping[str, Any] | None) -> int | None:
    if group is None or (group["position"] is None and group["beam_shift"] is None):
        return None
    return int(group["number"])


def _thickness(
    light: Intensity, known: AcquisitionView, pixel_size_angst: float
) -> dict[str, Any]:
    """Return what the missing light tells, against the best reference there is."""
    dose = known.dose_e_per_angst2
    references = {
        "vacuum": known.vacuum_e_per_px,
        "empty": light.empty,
        "dose": dose and dose * pixel_size_angst**2,
    }
    origin = next((name for name, value in references.items() if value), "")
    if not origin or not light.mean > 0:
        return {}
    relative = math.log(references[origin] / light.mean)
    found = {"ice_thickness_relative": relative, "ice_reference": origin}
    is_filtered = (known.metadata or {}).get("energy_slit_ev") is not None
    if is_filtered and origin != "dose":
        path_angst = ice_path_angst(known.voltage_kv)
        return found | {"ice_thickness_angst": max(relative, 0.0) * path_angst}
    return found


def _drift(motion: MovieMotion | None, known: AcquisitionView) -> dict[str, Any]:
    before = known.dose_before_e_per_angst2 or 0.0
    rates = DriftRates()
    if motion is not None:
        rates = drift_rates(motion, before_e_per_angst2=before)
    return {f"{name}_angst_per_dose": one for name, one in asdict(rates).items()}
