"""The equiphase average of a spectrum, and how far its rings follow the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.band import band_position
from icestream.engines.ctf.linear import smooth_weights, spline_basis

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics
    from icestream.engines.ctf.refine import RingParameters

__all__ = ["RingProfile", "equiphase_profile", "fit_resolution_angst"]

_BACKGROUND_SPLINES = 12
_ENVELOPE_SPLINES = 8
_STIFFNESS = 1.0  # e.g. noise of 0.3 in a pixel, bends of 0.3 from knot to knot
_MIN_HALF_WINDOW = 4
_RINGS_PER_WIDENING = 8
_GOOD, _LOST, _MIN_GOOD_BINS = 0.66, 0.5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RingProfile:
    """Curves along spatial frequency, at the mean defocus.

    Parameters
    ----------
    frequency_per_angst
        ``(bin,)``, 1/Å.
    profile
        ``(bin,)``, equiphase average of the log amplitude, without its background, in
        units of the rings' envelope (of twice the noise where there are none).
    model
        ``(bin,)``, fitted rings in the same unit: 0 at the zeros, 1 at the maxima.
    agreement
        ``(bin,)``, correlation of both in a window of some rings, -1 to 1.
    """

    frequency_per_angst: Tensor
    profile: Tensor
    model: Tensor
    agreement: Tensor


def equiphase_profile(
    data: Tensor, *, band: Band, optics: Optics, parameters: RingParameters
) -> RingProfile:
    """Average pixels of equal phase and compare with the model, ring by ring.

    Parameters
    ----------
    data
        ``(pixel,)``, log amplitude.
    band, optics
        Where the pixels lie, and the microscope.
    parameters
        The fitted defocus.

    Notes
    -----
    A pixel goes to the frequency at which the mean defocus has the phase that the
    pixel has (Rohou & Grigorieff, J. Struct. Biol. 192 (2015) 216), solved exactly.
    """
    g2 = _frequency_of_equal_phase(band, optics=optics, parameters=parameters)
    bins = ((g2.sqrt() - band.g_low) / band.g_step).long()
    size = int((band.g_high - band.g_low) / band.g_step)
    inside = (bins >= 0) & (bins < size)
    bins = bins[inside]
    count = torch.bincount(bins, minlength=size)
    total = torch.bincount(bins, weights=data[inside], minlength=size)
    used = count > 0
    mean = total[used] / count[used]
    centre = torch.arange(size, device=data.device).double() + 0.5
    g = (band.g_low + centre * band.g_step)[used]
    chi = optics.slope * parameters.mean_angst * g.square() + optics.fixed_phase_rad(
        g.square(), phase_shift_deg=parameters.phase_shift_deg
    )
    rings = torch.sin(chi).square()
    profile, model = _in_units_of_envelope(
        mean,
        rings=rings,
        position=band_position(g.square(), band=band),
        count=count[used],
    )
    return RingProfile(
        frequency_per_angst=g,
        profile=profile,
        model=model,
        agreement=_windowed_correlation(profile, rings=rings, chi=chi),
    )


def fit_resolution_angst(profile: RingProfile) -> float | None:
    """Find the resolution to which rings are fitted.

    Returns
    -------
    float or None
        The last bin before the agreement drops below 0.5 for the first time after
        more than 3 bins above 0.66, Å; ``None`` if there are no such bins.

    Notes
    -----
    The rule of CTFFIND 4, on our own equiphase average.
    """
    agreement = profile.agreement
    seen = torch.cumsum(agreement > _GOOD, dim=0)
    if int(seen[-1]) <= _MIN_GOOD_BINS:
        return None
    lost = ((agreement < _LOST) & (seen > _MIN_GOOD_BINS)).nonzero()
    last = int(lost[0]) - 1 if len(lost) else len(agreement) - 1
    return 1 / float(profile.frequency_per_angst[last])


def _frequency_of_equal_phase(
    band: Band, *, optics: Optics, parameters: RingParameters
) -> Tensor:
    """Solve ``mean t - c/2 t^2 = defocus(phi) g^2 - c/2 g^4`` for ``t = g^2``."""
    half_c = optics.lens_defocus_angst3 / 2
    tilted = parameters.along_angst * band.along + parameters.across_angst * band.across
    mean = parameters.mean_angst
    path = mean * band.g2 + tilted - half_c * band.g2.square()
    root = (mean**2 - 4 * half_c * path).clamp_min(0).sqrt()
    # of the two roots the one that tends to g^2 without astigmatism
    side = torch.where(mean - 2 * half_c * band.g2 < 0, -root, root)
    denominator = mean + side
    safe = denominator.abs() > 1e-6 * abs(mean) + 1e-9
    solved = 2 * path / torch.where(safe, denominator, 1)
    return torch.where(safe & (solved > 0), solved, band.g2)


def _in_units_of_envelope(
    mean: Tensor, *, rings: Tensor, position: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Take out the background and divide by the envelope: profile and model."""
    smooth = spline_basis(position, count=_BACKGROUND_SPLINES)
    shapes = spline_basis(position, count=_ENVELOPE_SPLINES)
    background, height = smooth_weights(
        [smooth, shapes * rings], mean, weight=count.to(mean), stiffness=_STIFFNESS
    )
    envelope = (height @ shapes).clamp_min(0)
    profile = mean - background @ smooth
    residual = profile - envelope * rings
    noise = residual.abs() * count.sqrt()
    floor = 2 * 1.4826 * noise.median() / count.sqrt()
    scale = torch.maximum(envelope, floor.clamp_min(1e-12))
    return profile / scale, envelope * rings / scale


def _windowed_correlation(profile: Tensor, *, rings: Tensor, chi: Tensor) -> Tensor:
    """Correlate profile and rings around each bin, over some rings.

    The half window is the local ring period, at least 4 bins, and grows with the
    number of rings passed, since far out there are many rings with little signal each.
    """
    period = math.pi / torch.gradient(chi)[0].abs().clamp_min(1e-3)
    passed = (chi - chi[0]).abs() / math.pi
    half = period * (1 + passed / _RINGS_PER_WIDENING)
    half = half.round().clamp(_MIN_HALF_WINDOW, len(chi) // 4).long()
    position = torch.arange(len(chi), device=chi.device)
    start = (position - half).clamp_min(0)
    stop = (position + half + 1).clamp_max(len(chi))

    def summed(values: Tensor) -> Tensor:
        running = torch.cat((values.new_zeros(1), values.cumsum(0)))
        return running[stop] - running[start]

    number = (stop - start).to(chi)
    x = profile - profile.mean()
    y = rings - rings.mean()
    sum_x, sum_y = summed(x), summed(y)
    variance_x = summed(x * x) - sum_x.square() / number
    variance_y = summed(y * y) - sum_y.square() / number
    covariance = summed(x * y) - sum_x * sum_y / number
    norm = (variance_x.clamp_min(0) * variance_y.clamp_min(0)).sqrt()
    return torch.where(norm > 1e-12, covariance / norm.clamp_min(1e-12), 0.0)
