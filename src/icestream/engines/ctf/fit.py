"""Estimation of the contrast transfer function from an image or a spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from icestream.domain.ctf import Ctf
from icestream.domain.errors import BadSettings, CtfNotFound
from icestream.domain.units import within_half_turn_deg
from icestream.engines.ctf.band import Optics, log_amplitude, select_band
from icestream.engines.ctf.profile import equiphase_profile, fit_resolution_angst
from icestream.engines.ctf.refine import RingModel, refine
from icestream.engines.ctf.search import search_defocus
from icestream.engines.ctf.spectrum import half_spectrum, power_spectra
from icestream.engines.ctf.uncertainty import jackknife_covariance, sector_covariance

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band
    from icestream.engines.ctf.refine import Fit
    from icestream.engines.ctf.spectrum import BlockSpectra

__all__ = [
    "CtfFit",
    "CtfSearch",
    "estimate_ctf",
    "estimate_ctf_of_blocks",
    "estimate_ctf_of_spectrum",
]

_MIN_BLOCKS = 4
_OUTLIER_SIGMA = 4.0
_MIN_SIGNIFICANCE = 9.0  # 200 images of white noise: 4.5 +- 1.0, at most 7.1
_MAX_ANGLE_ERROR_DEG = 180 / math.sqrt(12)  # that of a random angle


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
        Extra phase shift, degrees; the start of its range where it is fitted.
    phase_shift_max_deg
        End of the range to be searched; ``None`` keeps the phase shift fixed.

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
    phase_shift_deg: float = 0.0
    phase_shift_max_deg: float | None = None

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
        end = self.phase_shift_max_deg
        if end is not None and end <= self.phase_shift_deg:
            raise BadSettings(
                f"The phase shift is searched from {self.phase_shift_deg:g} to "
                f"{end:g} degrees.",
                hint="The first must be the smaller; leave out the second to fix it.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfFit:
    """A fitted contrast transfer function with the curves that show how good it is.

    Parameters
    ----------
    ctf
        The result.
    frequency_per_angst
        ``(bin,)``, spatial frequency at the mean defocus, 1/Å.
    profile
        ``(bin,)``, equiphase average of the spectrum without background, scaled to the
        envelope of the rings.
    model
        ``(bin,)``, fitted rings in the same unit, 0 to 1.
    agreement
        ``(bin,)``, local correlation of profile and model, -1 to 1.
    """

    ctf: Ctf
    frequency_per_angst: Tensor
    profile: Tensor
    model: Tensor
    agreement: Tensor


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
        Side of the averaged power spectrum, at a pixel of 1.4 Å or coarser.

    Returns
    -------
    CtfFit
        Standard errors by jackknife over up to 16 regions of the image, or from the
        scatter of the residual over sectors of azimuth where that is larger.

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
    return estimate_ctf_of_blocks(
        power_spectra(image, pixel_size_angst=pixel_size_angst, box_px=box_px),
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        search=search,
    )


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
        Of its regions, wherever they come from.
    voltage_kv, spherical_aberration_mm, amplitude_contrast, search
        As for `estimate_ctf`, and so are result and errors.
    """
    optics = Optics(
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
    )
    enough = len(spectra.tile_count) >= _MIN_BLOCKS
    return _fit(
        spectra.mean,
        pixel_size_angst=spectra.pixel_size_angst,
        optics=optics,
        search=search or CtfSearch(),
        without_each=spectra.without_each if enough else None,
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
        Standard errors from the scatter of the residual over sectors of azimuth.

    Raises
    ------
    UnusableImage
        Not square, not a number somewhere, negative, constant, or too small.
    CtfNotFound
        No ring stands above the noise.
    BadSettings
        Pixels too coarse for the limits of resolution.
    """
    optics = Optics(
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
    )
    return _fit(
        half_spectrum(spectrum),
        pixel_size_angst=pixel_size_angst,
        optics=optics,
        search=search or CtfSearch(),
        without_each=None,
    )


def _fit(
    power: Tensor,
    *,
    pixel_size_angst: float,
    optics: Optics,
    search: CtfSearch,
    without_each: Tensor | None,
) -> CtfFit:
    """Search, refine, judge and describe."""
    band = _fit_band(power, pixel_size_angst=pixel_size_angst, search=search)
    model, fit = _refined(
        log_amplitude(power, band), band=band, optics=optics, search=search
    )
    score = model.score(fit)
    _require_rings(fit, score=score, count=len(band.index), search=search)
    covariance = sector_covariance(fit, band=band)
    if without_each is not None:
        by_region = jackknife_covariance(
            fit,
            without_each.flatten(-2)[:, band.index],
            band=band,
            power=power.flatten()[band.index],
        )
        covariance = max(covariance, by_region, key=lambda c: float(c[:3, :3].trace()))
    whole = select_band(
        power.shape[-2],
        pixel_size_angst=pixel_size_angst,
        resolution_angst=(search.low_resolution_angst, 2.0 * pixel_size_angst),
        skip_ice=False,
        device=power.device,
    )
    curves = equiphase_profile(
        log_amplitude(power, whole),
        band=whole,
        optics=optics,
        parameters=fit.parameters,
    )
    return CtfFit(
        ctf=_as_ctf(
            fit,
            covariance=covariance,
            score=score,
            resolution_angst=fit_resolution_angst(curves),
        ),
        frequency_per_angst=curves.frequency_per_angst.to(power.dtype),
        profile=curves.profile.to(power.dtype),
        model=curves.model.to(power.dtype),
        agreement=curves.agreement.to(power.dtype),
    )


def _fit_band(power: Tensor, *, pixel_size_angst: float, search: CtfSearch) -> Band:
    """Select the pixels of the fit, or say that there are too few."""
    high = search.high_resolution_angst or max(4.0, 2.2 * pixel_size_angst)
    high = max(high, 2.05 * pixel_size_angst)
    low = search.low_resolution_angst
    if high > low / 2:
        raise BadSettings(
            f"The spectrum has pixels of {pixel_size_angst:.2f} Å, the fit would run "
            f"from {low:g} to {high:.1f} Å.",
            hint="A CTF needs finer pixels; use the unbinned image.",
        )
    return select_band(
        power.shape[-2],
        pixel_size_angst=pixel_size_angst,
        resolution_angst=(low, high),
        skip_ice=True,
        device=power.device,
    ).gathered()


def _refined(
    values: Tensor, *, band: Band, optics: Optics, search: CtfSearch
) -> tuple[RingModel, Fit]:
    """Search the grid, refine, clip outliers among ``(pixel,)`` values, refine."""
    phase, end = search.phase_shift_deg, search.phase_shift_max_deg
    starts = search_defocus(
        band.at_points(values),
        band=band,
        optics=optics,
        defocus_angst=(search.defocus_min_angst, search.defocus_max_angst),
        astigmatism_angst=search.astigmatism_max_angst,
        phase_shift_deg=(phase, phase if end is None else end),
    )
    make = partial(RingModel.make, band=band, optics=optics, fits_phase=end is not None)
    first = refine(make(values), starts)
    model = band.at_pixels(first.model)
    residual = values - model
    limit = _OUTLIER_SIGMA * float(residual.square().mean().sqrt())
    clipped = make(model + residual.clamp(-limit, limit))
    return clipped, refine(clipped, [first.parameters])


def _require_rings(fit: Fit, *, score: float, count: float, search: CtfSearch) -> None:
    """Raise where the rings could be noise."""
    p = fit.parameters
    significance = score * math.sqrt(count)
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


def _as_ctf(
    fit: Fit, *, covariance: Tensor, score: float, resolution_angst: float | None
) -> Ctf:
    """Turn mean and components into U, V and angle, with first-order errors."""
    p = fit.parameters
    half = math.hypot(p.along_angst, p.across_angst)
    twice = math.atan2(p.across_angst, p.along_angst)
    c, s = math.cos(twice), math.sin(twice)
    turn = math.degrees(1 / (2 * max(half, 1e-3)))
    slopes = covariance.new_tensor(
        [[1.0, c, s], [1.0, -c, -s], [0.0, -s * turn, c * turn]]
    )
    variance = (slopes @ covariance[:3, :3] @ slopes.T).diagonal().clamp_min(0)
    u_error, v_error, angle_error = variance.sqrt().tolist()
    return Ctf(
        defocus_u_angst=p.mean_angst + half,
        defocus_v_angst=p.mean_angst - half,
        defocus_angle_deg=within_half_turn_deg(math.degrees(twice) / 2),
        phase_shift_deg=p.phase_shift_deg,
        score=score,
        resolution_angst=resolution_angst,
        defocus_u_error_angst=u_error,
        defocus_v_error_angst=v_error,
        defocus_angle_error_deg=min(angle_error, _MAX_ANGLE_ERROR_DEG),
    )
