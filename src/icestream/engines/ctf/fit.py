"""Estimation of the contrast transfer function from an image or a spectrum."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from icestream.domain.errors import BadSettings, CtfNotFound
from icestream.engines.ctf.band import (
    Optics,
    log_amplitude,
    power_in_band,
    select_band,
)
from icestream.engines.ctf.contrast import ring_contrast
from icestream.engines.ctf.directions import directional_fit
from icestream.engines.ctf.profile import equiphase_profile, fit_resolution_angst
from icestream.engines.ctf.refine import RingModel, refine
from icestream.engines.ctf.result import as_ctf, as_rings, with_tilt
from icestream.engines.ctf.sampling import aliasing_angst
from icestream.engines.ctf.search import search_defocus
from icestream.engines.ctf.spectrum import (
    BlockSpectra,
    half_spectrum,
    power_spectra,
)
from icestream.engines.ctf.tilt import StageTilt, fit_tilt, region_values
from icestream.engines.ctf.uncertainty import covariance_of

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.domain.ctf import Ctf, CtfRings
    from icestream.engines.ctf.refine import Fit
    from icestream.engines.ctf.tilt import TiltFit

__all__ = [
    "CtfFit",
    "CtfSearch",
    "estimate_ctf",
    "estimate_ctf_of_blocks",
    "estimate_ctf_of_spectrum",
]

_OUTLIER_SIGMA = 4.0
_MIN_TILT_BLOCKS = 9
_COARSEST_ANGST = 60.0
_LONGER, _WORTH = 1.5, 1.1  # tiles: two pixels a ring are possible, three are good
_MIN_SIGNIFICANCE = 8.0  # 250 images of white noise: 4.7 +- 0.9, at most 7.3


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfSearch:
    """Where to look for the contrast transfer function.

    Parameters
    ----------
    low_resolution_angst, high_resolution_angst
        Limits of the fit, Å. The high one defaults to 4 Å, or to 2.2 pixels where
        those are coarser. Ice rings (3.5 to 4.1 Å) are left out in any case.
    defocus_min_angst, defocus_max_angst
        Limits of the mean defocus, Å.
    astigmatism_max_angst
        Largest U - V, Å.
    phase_shift_deg
        Extra phase shift, degrees; ``None`` where it is to be found, of all there are.
    stage_tilt_deg
        Tilt of the stage, where it is known: the specimen's is not far from it.

    Raises
    ------
    BadSettings
        A range that is empty or that no microscope has.
    """

    low_resolution_angst: float = 30.0
    high_resolution_angst: float | None = None
    defocus_min_angst: float = 3000.0
    defocus_max_angst: float = 50000.0
    astigmatism_max_angst: float = 2000.0
    phase_shift_deg: float | None = 0.0
    stage_tilt_deg: float | None = None

    def __post_init__(self) -> None:
        high = self.high_resolution_angst
        if high is not None and not 0 < high < self.low_resolution_angst:
            raise BadSettings(
                f"The CTF is to be fitted from {self.low_resolution_angst:g} to "
                f"{high:g} Å.",
                hint="The first limit must be the larger one.",
            )
        if not 0 < self.defocus_min_angst < self.defocus_max_angst:
            raise BadSettings(
                f"The defocus is searched from {self.defocus_min_angst:g} to "
                f"{self.defocus_max_angst:g} Å.",
                hint="Both must be positive (underfocus) and the first the smaller.",
            )
        if not 0 <= self.astigmatism_max_angst < 2 * self.defocus_min_angst:
            raise BadSettings(
                f"Astigmatism is searched up to {self.astigmatism_max_angst:g} Å.",
                hint="It must be less than twice the lowest defocus.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfFit:
    """A fitted contrast transfer function with the curves that show how good it is."""

    ctf: Ctf
    rings: CtfRings


def estimate_ctf(
    image: Tensor,
    *,
    pixel_size_angst: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    search: CtfSearch | None = None,
    box_px: int = 512,
) -> CtfFit:
    """Fit defocus and astigmatism to the Thon rings of a micrograph.

    Parameters
    ----------
    image
        ``(h, w)``, any real or integer type, any scale and offset, at least 64 px.
    pixel_size_angst
        Pixel size of this image (after binning), Å/px.
    voltage_kv
        Acceleration voltage, kV.
    spherical_aberration_mm
        Spherical aberration Cs, mm.
    amplitude_contrast
        Fraction of amplitude contrast, 0 to 1.
    search
        Ranges of resolution, defocus, astigmatism and phase shift.
    box_px
        Side of the averaged power spectrum, as `power_spectra` has it. It grows with
        the image where the defocus is too high for it.

    Returns
    -------
    CtfFit
        With standard errors, see `estimate_ctf_of_blocks`.

    Raises
    ------
    UnusableImage
        Not a number somewhere, one constant value, or too small.
    CtfNotFound
        No ring stands above the noise.
    BadSettings
        Pixels too coarse for the limits of resolution.

    Notes
    -----
    After Rohou & Grigorieff, J. Struct. Biol. 192 (2015) 216, but for: a logarithmic
    spectrum of tapered tiles; a dictionary over sectors of azimuth for the search; a
    joint least squares of background, envelope and defocus for the refinement.
    """
    fit_blocks = partial(
        estimate_ctf_of_blocks,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        search=search,
    )
    cut = partial(
        power_spectra, image, pixel_size_angst=pixel_size_angst, box_px=box_px
    )
    spectra = cut()
    fit = fit_blocks(spectra)
    limit = fit.ctf.aliasing_angst
    wanted = _high_resolution_angst(spectra, search or CtfSearch())
    if limit is None:
        return fit
    longest = min(image.shape) * pixel_size_angst
    extent = min(spectra.extent_angst * _LONGER * limit / wanted, longest)
    if extent < spectra.extent_angst * _WORTH:
        return fit
    return fit_blocks(cut(extent_angst=extent))


def estimate_ctf_of_blocks(
    spectra: BlockSpectra,
    *,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    search: CtfSearch | None = None,
) -> CtfFit:
    """Fit defocus and astigmatism to the power spectra of regions of a micrograph.

    Parameters
    ----------
    spectra
        Of its regions, wherever they come from; one is enough.
    voltage_kv, spherical_aberration_mm, amplitude_contrast, search
        As for `estimate_ctf`, and so are the errors that are raised.

    Returns
    -------
    CtfFit
        Nothing is fitted beyond ``aliasing_angst``. Standard errors: see
        `icestream.engines.ctf.uncertainty`.
    """
    search = search or CtfSearch()
    optics = Optics(
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
    )
    high = _high_resolution_angst(spectra, search)
    power = spectra.mean
    refined = partial(
        _refined, power=power, spectra=spectra, optics=optics, search=search
    )
    model, fit = refined(high)
    limit = aliasing_angst(fit.parameters, optics=optics, spectra=spectra)
    if limit is not None and limit > high:
        model, fit = refined(min(limit, search.low_resolution_angst / 2))
        limit = aliasing_angst(fit.parameters, optics=optics, spectra=spectra)
    _require_rings(model, fit, search=search)
    whole = select_band(
        power.shape[-2],
        pixel_size_angst=spectra.pixel_size_angst,
        resolution_angst=(search.low_resolution_angst, 2.0 * spectra.pixel_size_angst),
        skip_ice=False,
        device=power.device,
    )
    curves = equiphase_profile(
        log_amplitude(power_in_band(power, whole)),
        band=whole,
        optics=optics,
        parameters=fit.parameters,
    )
    tilt = _tilt(spectra, model, fit, search)
    ctf = as_ctf(
        fit.parameters,
        covariance=covariance_of(
            fit,
            band=model.band,
            blocks=power_in_band(spectra.power, model.band),
            weight=spectra.tile_count,
            offset_angst=None if tilt is None else tilt.offset_angst,
        ),
        score=model.score(fit),
        resolution_angst=fit_resolution_angst(curves),
        aliasing_angst=limit,
    )
    ctf = replace(
        with_tilt(ctf, tilt), **_shape_of_rings(power, spectra, fit, optics=optics)
    )
    return CtfFit(ctf=ctf, rings=as_rings(curves))


def _shape_of_rings(
    power: Tensor, spectra: BlockSpectra, fit: Fit, *, optics: Optics
) -> dict[str, Any]:
    """Tell what rings lack along one axis, and how high they stand far out."""
    band = select_band(
        power.shape[-2],
        pixel_size_angst=spectra.pixel_size_angst,
        resolution_angst=(_COARSEST_ANGST, 2.0 * spectra.pixel_size_angst),
        skip_ice=False,
        device=power.device,
    )
    known: dict[str, Any] = {
        "data": log_amplitude(power_in_band(power, band)),
        "band": band,
        "optics": optics,
        "parameters": fit.parameters,
    }
    return {**asdict(directional_fit(**known)), "ring_contrast": ring_contrast(**known)}


def _tilt(
    spectra: BlockSpectra, model: RingModel, fit: Fit, search: CtfSearch
) -> TiltFit | None:
    """Fit a plane to the defocus of regions, where there are enough of them."""
    if len(spectra.power) < _MIN_TILT_BLOCKS:
        return None
    stage = search.stage_tilt_deg
    return fit_tilt(
        region_values(spectra.power, band=model.band, model=fit.model),
        spectra.place_angst.double(),
        band=model.band,
        optics=model.optics,
        parameters=fit.parameters,
        envelope=fit.envelope,
        stage=None if stage is None else StageTilt(tilt_deg=stage),
    )


def estimate_ctf_of_spectrum(
    spectrum: Tensor,
    *,
    pixel_size_angst: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    search: CtfSearch | None = None,
) -> CtfFit:
    """Fit defocus and astigmatism to a ready power or amplitude spectrum.

    Parameters
    ----------
    spectrum
        ``(n, n)``, centred: zero frequency at ``[n // 2, n // 2]``. Power and amplitude
        are both right, since the fit sees the logarithm.
    pixel_size_angst
        Pixel size that belongs to the spectrum: its width spans 1 / pixel size.
    voltage_kv, spherical_aberration_mm, amplitude_contrast, search
        As for ``estimate_ctf``.

    Returns
    -------
    CtfFit
        As `estimate_ctf_of_blocks` gives it for one block.

    Raises
    ------
    UnusableImage
        Not square, not a number somewhere, negative, constant, or too small.
    CtfNotFound
        No ring stands above the noise.
    BadSettings
        Pixels too coarse for the limits of resolution.
    """
    power = half_spectrum(spectrum)
    return estimate_ctf_of_blocks(
        BlockSpectra(
            power=power[None],
            tile_count=power.new_ones(1),
            pixel_size_angst=pixel_size_angst,
            place_angst=power.new_zeros(1, 2),
        ),
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        search=search,
    )


def _high_resolution_angst(spectra: BlockSpectra, search: CtfSearch) -> float:
    """Choose the end of the fit, or say that nothing would be left."""
    pixel = spectra.pixel_size_angst
    high = search.high_resolution_angst or max(4.0, 2.2 * pixel)
    high = max(high, 2.05 * pixel)
    low = search.low_resolution_angst
    if high > low / 2:
        raise BadSettings(
            f"The spectrum has pixels of {pixel:.2f} Å, the fit would run from {low:g} "
            f"to {high:.1f} Å.",
            hint="A CTF needs finer pixels; use the unbinned image.",
        )
    return high


def _refined(
    high_resolution_angst: float,
    *,
    power: Tensor,
    spectra: BlockSpectra,
    optics: Optics,
    search: CtfSearch,
) -> tuple[RingModel, Fit]:
    """Search the grid, refine, clip outliers, refine."""
    band = select_band(
        power.shape[-2],
        pixel_size_angst=spectra.pixel_size_angst,
        resolution_angst=(search.low_resolution_angst, high_resolution_angst),
        skip_ice=True,
        device=power.device,
    ).gathered()
    values = power_in_band(power, band)
    starts = search_defocus(
        log_amplitude(band.at_points(values)),
        band=band,
        optics=optics,
        defocus_angst=(search.defocus_min_angst, search.defocus_max_angst),
        astigmatism_angst=search.astigmatism_max_angst,
        phase_shift_deg=search.phase_shift_deg,
    )
    make = partial(
        RingModel.make,
        band=band,
        optics=optics,
        fits_phase=search.phase_shift_deg is None,
    )
    first = refine(make(values), starts)
    model = band.at_pixels(first.model)
    residual = log_amplitude(values) - model
    limit = _OUTLIER_SIGMA * float(residual.square().mean().sqrt())
    clipped = make(values.minimum(torch.exp(2 * (model + limit))))
    return clipped, refine(clipped, [first.parameters])


def _require_rings(model: RingModel, fit: Fit, *, search: CtfSearch) -> None:
    """Raise where the rings could be noise."""
    p = fit.parameters
    significance = model.significance(fit)
    if significance < _MIN_SIGNIFICANCE:
        raise CtfNotFound(
            f"The best defocus ({p.mean_angst:.0f} Å) correlates with the spectrum at "
            f"{significance:.1f} times the level of chance.",
            hint=f"{_MIN_SIGNIFICANCE:g} is needed: is there ice, and enough dose?",
        )
    astigmatism = 2 * math.hypot(p.along_angst, p.across_angst)
    inside = (
        search.defocus_min_angst / 2 < p.mean_angst < search.defocus_max_angst * 1.1
    )
    if astigmatism > 1.5 * search.astigmatism_max_angst + 100 or not inside:
        raise CtfNotFound(
            f"The fit left the search range: mean defocus {p.mean_angst:.0f} Å, "
            f"astigmatism {astigmatism:.0f} Å.",
            hint="Widen the range if such values are expected.",
        )
