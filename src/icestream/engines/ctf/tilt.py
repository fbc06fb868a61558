"""The tilt of a specimen, from the defocus of regions of its image.

In each region the rings are those of the whole image at another defocus. A plane of
defocus is sought over all regions together: a region that shows next to nothing by
itself still votes for one plane against another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from icestream.domain.units import within_half_turn_deg
from icestream.engines.ctf.band import band_position
from icestream.engines.ctf.linear import solve_normal, spline_basis

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics
    from icestream.engines.ctf.refine import RingParameters

__all__ = ["StageTilt", "TiltFit", "fit_tilt", "region_values"]

_BACKGROUND_SPLINES = 6
_STEP_ANGST = 50.0  # of the defocus of a region
_MEAN_STEPS = 4  # of the mean defocus, to each side
_CORNER_STEP_ANGST = 80.0  # by which a corner moves from plane to plane
_LEAST_DEFOCUS_ANGST = 1_000.0
_STEPS = 20
_CONVERGED_ANGST = 0.5
_CHANCE_GAIN = 12.0
_MOST_SPECKLE = 8.0  # of a pixel's mean; 1 of 3,000 has more


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTilt:
    """What the microscope says of the tilt: its size, and how much that is worth."""

    tilt_deg: float
    error_deg: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TiltFit:
    """A plane of defocus.

    Parameters
    ----------
    tilt_deg, axis_deg
        Signed tilt and the direction of its axis, 0 to 180, from +x towards increasing
        row index; of positive tilt the side at axis + 90° is less underfocused.
    tilt_error_deg, axis_error_deg
        Standard errors.
    mean_shift_angst
        By which the mean defocus differs from that of the fit without a tilt, Å.
    offset_angst
        ``(block,)``, defocus of each region less the mean, Å.
    gain
        Logarithm of the likelihood over that of a flat specimen.
    """

    tilt_deg: float
    axis_deg: float
    tilt_error_deg: float
    axis_error_deg: float
    mean_shift_angst: float
    offset_angst: Tensor
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Regions:
    """Rings of regions: data without background, and what makes their model.

    ``data`` is ``(region, point)``, ``place`` ``(region, 2)`` y and x in Å.
    """

    data: Tensor
    place: Tensor
    smooth: Tensor
    height: Tensor
    phase: Tensor
    slope: Tensor

    @classmethod
    def make(
        cls,
        values: Tensor,
        place: Tensor,
        *,
        band: Band,
        optics: Optics,
        parameters: RingParameters,
        envelope: Tensor,
    ) -> _Regions:
        """Prepare the ``(region, point)`` log amplitude of regions."""
        root = band.weight.sqrt()
        position = band_position(band.g2, band=band)
        smooth = spline_basis(position, count=_BACKGROUND_SPLINES) * root
        orthonormal = torch.linalg.qr(smooth.T).Q.T
        slope = optics.slope * band.g2
        defocus_g2 = (
            parameters.mean_angst * band.g2
            + parameters.along_angst * band.along
            + parameters.across_angst * band.across
        )
        fixed = optics.fixed_phase_rad(
            band.g2, phase_shift_deg=parameters.phase_shift_deg
        )
        return cls(
            data=_without(values * root, orthonormal),
            place=place,
            smooth=orthonormal,
            height=envelope.clamp_min(0) * root,
            phase=optics.slope * defocus_g2 + fixed,
            slope=slope,
        )

    def rings(self, offset_angst: Tensor) -> Tensor:
        """Make rings at some offsets of defocus, ``(offset, point)``."""
        chi = self.phase + offset_angst[:, None] * self.slope
        return _without(self.height * torch.sin(chi).square(), self.smooth)

    def rise(self, offset_angst: Tensor) -> Tensor:
        """Differentiate `rings` by their offset."""
        chi = self.phase + offset_angst[:, None] * self.slope
        return _without(self.height * torch.sin(2 * chi) * self.slope, self.smooth)


def region_values(power: Tensor, *, band: Band, model: Tensor) -> Tensor:
    """Bring the spectra of regions to the log amplitude of the mean, to first order.

    Parameters
    ----------
    power
        ``(region, n, n // 2 + 1)``, e.g. of single tiles.
    band
        Where the points lie.
    model
        ``(point,)``, the log amplitude that was fitted to their mean.

    Returns
    -------
    Tensor
        ``(region, point)``.

    Notes
    -----
    The logarithm of a single tile's speckle tells 0.61 of what the speckle itself does,
    and is 0.58 too low. What differs from the model is small, so it stays linear.
    """
    expected = band.at_pixels((2 * model).exp())
    ratio = power.flatten(-2)[:, band.index].double() / expected
    return model + (band.at_points(ratio.clamp_max(_MOST_SPECKLE)) - 1) / 2


def fit_tilt(
    values: Tensor,
    place_angst: Tensor,
    *,
    band: Band,
    optics: Optics,
    parameters: RingParameters,
    envelope: Tensor,
    most_deg: float = 60.0,
    stage: StageTilt | None = None,
) -> TiltFit:
    """Fit a plane of defocus to the rings of regions.

    Parameters
    ----------
    values
        ``(region, point)``, as `region_values` gives them.
    place_angst
        ``(region, 2)``, y and x of their centres, Å, from the middle of the image.
    band, optics
        Where the points lie, and the microscope.
    parameters, envelope
        The fit to the whole image, and the ``(point,)`` height of its rings.
    most_deg
        Largest tilt that is tried.
    stage
        What is known beforehand.
    """
    regions = _Regions.make(
        values,
        place_angst,
        band=band,
        optics=optics,
        parameters=parameters,
        envelope=envelope,
    )
    noise = float(regions.data.square().sum(dim=1).mean()) / regions.data.shape[1]
    start = _search(
        regions,
        most=math.tan(math.radians(most_deg)),
        room_angst=parameters.mean_angst - _LEAST_DEFOCUS_ANGST,
        noise=noise,
        stage=stage,
    )
    flat = _refined(regions, torch.zeros_like(start), noise=noise, stage=stage)
    tilted = _refined(regions, start, noise=noise, stage=stage)
    # Among so many planes chance finds one that is this much better.
    return tilted if tilted.gain > flat.gain + _CHANCE_GAIN else flat


def _search(
    regions: _Regions,
    *,
    most: float,
    room_angst: float,
    noise: float,
    stage: StageTilt | None,
) -> Tensor:
    """Try planes on a grid: the best ``(mean shift, slope in y, slope in x)``."""
    reach = float(regions.place.norm(dim=1).max())
    most = min(most, room_angst / max(reach, 1.0))
    limit = math.ceil((most * reach) / _STEP_ANGST) + _MEAN_STEPS + 1
    offsets = torch.arange(-limit, limit + 1).to(regions.data) * _STEP_ANGST
    rings = regions.rings(offsets)
    match = regions.data @ rings.T
    power = rings.square().sum(dim=1)
    spacing = _CORNER_STEP_ANGST / max(reach, 1.0)
    number = math.ceil(most / spacing)
    line = torch.arange(-number, number + 1).to(regions.data) * spacing
    slope_y, slope_x = (
        one.flatten() for one in torch.meshgrid(line, line, indexing="ij")
    )
    inside = slope_y.square() + slope_x.square() <= most**2 + 1e-12
    slopes = torch.stack((slope_y[inside], slope_x[inside]))
    places = (regions.place @ slopes) / _STEP_ANGST
    best, found = -math.inf, regions.data.new_zeros(3)
    prior = _prior(slopes, stage)
    row = torch.arange(len(regions.place))[:, None] * len(offsets)
    for step in range(-_MEAN_STEPS, _MEAN_STEPS + 1):
        index = (places + step).round().long() + limit
        total = match.flatten()[row + index].sum(dim=0).clamp_min(0)
        gain = total.square() / (2 * noise * power[index].sum(dim=0)) - prior
        top = int(gain.argmax())
        if float(gain[top]) > best:
            best = float(gain[top])
            shift = slopes.new_tensor([step * _STEP_ANGST])
            found = torch.cat((shift, slopes[:, top]))
    return found


def _prior(slopes: Tensor, stage: StageTilt | None) -> Tensor:
    """Return half the squared distance to what is known, in standard errors."""
    if stage is None:
        return slopes.new_zeros(slopes.shape[1])
    tilt = torch.rad2deg(torch.atan(slopes.norm(dim=0)))
    return ((tilt - abs(stage.tilt_deg)) / stage.error_deg).square() / 2


def _refined(
    regions: _Regions, start: Tensor, *, noise: float, stage: StageTilt | None
) -> TiltFit:
    """Descend from a start to the minimum, and say how sure it is."""
    design = torch.cat((torch.ones_like(regions.place[:, :1]), regions.place), dim=1)
    plane, damping = start, 1e-3
    cost, scale = _cost(regions, design, plane)
    for _ in range(_STEPS):
        normal, pulls = _equations(regions, design, plane, scale)
        half, force = _prior_terms(plane, stage, noise)
        held = normal + half + damping * torch.diag(normal.diagonal())
        step = solve_normal(held, pulls.sum(dim=1, keepdim=True) + force)[:3, 0]
        trial_cost, trial_scale = _cost(regions, design, plane + step)
        if trial_cost + _held(plane + step, stage, noise) <= cost + _held(
            plane, stage, noise
        ):
            plane, cost, scale = plane + step, trial_cost, trial_scale
            damping /= 10
        else:
            damping *= 10
        if float((design @ step).abs().max()) < _CONVERGED_ANGST or damping > 1e6:
            break
    normal, pulls = _equations(regions, design, plane, scale)
    half, _ = _prior_terms(plane, stage, noise)
    covariance = _covariance(normal + half, pulls, noise=noise)
    flat, _ = _cost(regions, design, plane * plane.new_tensor([1.0, 0.0, 0.0]))
    return replace(
        _as_tilt(plane, covariance, design=design), gain=(flat - cost) / (2 * noise)
    )


def _covariance(normal: Tensor, pulls: Tensor, *, noise: float) -> Tensor:
    """Take regions as independent samples, or points where those scatter more."""
    influence = solve_normal(normal, pulls)
    count = pulls.shape[1]
    of_regions = influence @ influence.T * (count / max(1, count - len(normal)))
    identity = torch.eye(len(normal)).to(normal)
    of_points = noise * solve_normal(normal, identity)
    return max(of_regions, of_points, key=lambda one: float(one[1:3, 1:3].trace()))


def _held(plane: Tensor, stage: StageTilt | None, noise: float) -> float:
    """Return what a known tilt adds to the cost."""
    return 2 * noise * float(_prior(plane[1:, None], stage))


def _equations(
    regions: _Regions, design: Tensor, plane: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return normal matrix and ``(parameter, region)`` pulls, of plane and scale."""
    offset = design @ plane
    rings, rise = regions.rings(offset), regions.rise(offset) * scale
    residual = regions.data - scale * rings
    pull = (residual * rise).sum(dim=1)
    pulls = torch.cat((design.T * pull, (residual * rings).sum(dim=1)[None]))
    own, mixed = rise.square().sum(dim=1), (rise * rings).sum(dim=1)
    corner = (design * mixed[:, None]).sum(dim=0)
    normal = design.new_zeros(4, 4)
    normal[:3, :3] = (design * own[:, None]).T @ design
    normal[:3, 3] = normal[3, :3] = corner
    normal[3, 3] = rings.square().sum()
    return normal, pulls


def _prior_terms(
    plane: Tensor, stage: StageTilt | None, noise: float
) -> tuple[Tensor, Tensor]:
    """Return what a known tilt adds to the normal matrix and to the pulls."""
    half, force = plane.new_zeros(4, 4), plane.new_zeros(4, 1)
    steep = float(plane[1:].norm())
    if stage is not None and steep > 0:
        along = plane[1:] / steep
        tilt = math.degrees(math.atan(steep))
        per_slope = math.degrees(1 / (1 + steep**2)) / stage.error_deg
        half[1:3, 1:3] = noise * per_slope**2 * along[:, None] * along
        miss = (abs(stage.tilt_deg) - tilt) / stage.error_deg
        force[1:3, 0] = noise * per_slope * miss * along
    return half, force


def _cost(regions: _Regions, design: Tensor, plane: Tensor) -> tuple[float, float]:
    """Return the sum of squares that is left at the best scale of the rings; that."""
    rings = regions.rings(design @ plane)
    match = float((regions.data * rings).sum().clamp_min(0))
    power = float(rings.square().sum())
    return float(regions.data.square().sum()) - match**2 / power, match / power


def _as_tilt(plane: Tensor, covariance: Tensor, *, design: Tensor) -> TiltFit:
    """Turn a plane into tilt and axis, with first-order errors."""
    shift, slope_y, slope_x = plane.tolist()
    steep = math.hypot(slope_y, slope_x)
    tilt, axis = (
        math.degrees(math.atan(steep)),
        math.degrees(math.atan2(slope_x, -slope_y)),
    )
    if not 0 <= axis < 180:
        tilt, axis = -tilt, within_half_turn_deg(axis)
    along = plane.new_tensor([slope_y, slope_x]) / max(steep, 1e-12)
    across = plane.new_tensor([-slope_x, slope_y]) / max(steep, 1e-12)
    spread = covariance[1:3, 1:3]
    error_along = math.sqrt(max(0.0, float(along @ spread @ along)))
    error_across = math.sqrt(max(0.0, float(across @ spread @ across)))
    offset = design[:, 1:] @ plane[1:]
    return TiltFit(
        tilt_deg=tilt,
        axis_deg=axis,
        tilt_error_deg=math.degrees(error_along / (1 + steep**2)),
        axis_error_deg=min(
            math.degrees(error_across / max(steep, 1e-9)), 180 / math.sqrt(12)
        ),
        mean_shift_angst=shift,
        offset_angst=offset,
        gain=0.0,
    )


def _without(rows: Tensor, smooth: Tensor) -> Tensor:
    """Remove from each row what the orthonormal rows of ``smooth`` can explain."""
    return rows - (rows @ smooth.T) @ smooth
