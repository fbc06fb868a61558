"""Least squares for defocus, astigmatism and phase shift from the pixels of a band.

The log amplitude is modelled as ``background(g) + envelope(g) sin^2 chi``. Background
and envelope are splines and enter linearly; they are solved for at each step, and the
few non-linear parameters follow by Levenberg-Marquardt on what is left (variable
projection after Kaufman, BIT 15 (1975) 49).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from icestream.engines.ctf.band import band_position, log_amplitude
from icestream.engines.ctf.linear import solve_normal, spline_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from icestream.engines.ctf.band import Band, Optics

__all__ = ["Fit", "RingModel", "RingParameters", "refine"]

_BACKGROUND_SPLINES = 12  # 8 leave twice the error of the mean at 4096 px
_ENVELOPE_SPLINES = 5
_MAX_STEPS = 25
_FIRST_STEPS, _DEEP = 4, 2
_CONVERGED_ANGST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RingParameters:
    """Mean defocus, half the astigmatism as (cos, sin) of twice its angle, phase."""

    mean_angst: float
    along_angst: float
    across_angst: float
    phase_shift_deg: float = 0.0

    def moved(self, step: Tensor) -> RingParameters:
        """Add a step in (Å, Å, Å) or (Å, Å, Å, rad)."""
        values = step.tolist()
        phase = math.degrees(values[3]) if len(values) > 3 else 0.0
        return RingParameters(
            mean_angst=self.mean_angst + values[0],
            along_angst=self.along_angst + values[1],
            across_angst=self.across_angst + values[2],
            phase_shift_deg=self.phase_shift_deg + phase,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The model of a band at some parameters.

    Parameters
    ----------
    parameters
        The point.
    model
        ``(point,)``, log amplitude.
    residual
        ``(point,)``, data minus model, times the root of the weight; as all that
        follows.
    linear
        ``(spline, point)``, the rows of background and envelope.
    normal
        ``(spline, spline)``, their products.
    slopes
        ``(parameter, point)``, derivative of the model by the parameters.
    cost
        Sum of squared residuals.
    rings
        ``(point,)``, the part of the model that oscillates, negative envelope cut off.
    envelope
        ``(point,)``, height of the rings in the log amplitude, not times the root.
    """

    parameters: RingParameters
    model: Tensor
    residual: Tensor
    linear: Tensor
    normal: Tensor
    slopes: Tensor
    cost: float
    rings: Tensor
    envelope: Tensor

    def information(self) -> Tensor:
        """``(parameter, parameter)``, normal matrix with the splines projected out."""
        return self.slopes @ self.projected_slopes().T

    def projected_slopes(self) -> Tensor:
        """``(parameter, point)``, what of the slopes no spline can explain."""
        mixed = self.linear @ self.slopes.T
        return self.slopes - solve_normal(self.normal, mixed).T @ self.linear

    def step(self, residual: Tensor, *, damping: float = 0.0) -> Tensor:
        """Move the parameters so as to explain residuals, to first order.

        Parameters
        ----------
        residual
            ``(point, batch)``, times the root of the weight.
        damping
            Levenberg and Marquardt's, relative to the diagonal.

        Returns
        -------
        Tensor
            ``(parameter, batch)``, Å and radians.
        """
        free = self.projected_slopes()
        information = self.slopes @ free.T
        damped = information + damping * torch.diag(information.diagonal())
        return solve_normal(damped, free @ residual)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingModel:
    """The data of a band with all that does not change during its fit.

    Parameters
    ----------
    data
        ``(point,)``, log amplitude, times the root of the weight.
    root
        ``(point,)``, that root.
    band, optics
        Where the points lie, and the microscope.
    smooth, shapes
        ``(spline, point)``, bases of background and envelope, times the root.
    fits_phase
        Whether the phase shift is free.
    scatter
        Sum of the squares of what the pixels of a point differ from their mean.
    """

    data: Tensor
    root: Tensor
    band: Band
    optics: Optics
    smooth: Tensor
    shapes: Tensor
    fits_phase: bool
    scatter: float

    @classmethod
    def make(
        cls, power: Tensor, *, band: Band, optics: Optics, fits_phase: bool = False
    ) -> RingModel:
        """Prepare the bases of a band for the power of its pixels.

        Neighbours are averaged before the logarithm: that of few tiles has long tails.
        """
        data = log_amplitude(band.at_points(power))
        values = log_amplitude(power)
        spread = values - band.at_pixels(band.at_points(values))
        scatter = float(spread.square().sum())
        position = band_position(band.g2, band=band)
        root = band.weight.sqrt()
        return cls(
            data=data * root,
            root=root,
            band=band,
            optics=optics,
            smooth=spline_basis(position, count=_BACKGROUND_SPLINES) * root,
            shapes=spline_basis(position, count=_ENVELOPE_SPLINES) * root,
            fits_phase=fits_phase,
            scatter=scatter,
        )

    def at(self, parameters: RingParameters) -> Fit:
        """Solve for background and envelope at given parameters."""
        chi = self._chi(parameters)
        wave = 0.5 - 0.5 * torch.cos(2 * chi)
        linear = torch.cat((self.smooth, self.shapes * wave))
        normal = linear @ linear.T
        weight = solve_normal(normal, (linear @ self.data)[:, None])[:, 0]
        model = weight @ linear
        residual = self.data - model
        envelope = weight[_BACKGROUND_SPLINES:] @ self.shapes
        rise = envelope * torch.sin(2 * chi)
        band = self.band
        slopes = [
            rise * (self.optics.slope * term)
            for term in (band.g2, band.along, band.across)
        ]
        return Fit(
            parameters=parameters,
            model=model / self.root,
            residual=residual,
            linear=linear,
            normal=normal,
            slopes=torch.stack([*slopes, rise] if self.fits_phase else slopes),
            cost=float(residual @ residual),
            rings=envelope.clamp_min(0) * wave,
            envelope=envelope / self.root,
        )

    def _chi(self, p: RingParameters) -> Tensor:
        defocus_g2 = (
            p.mean_angst * self.band.g2
            + p.along_angst * self.band.along
            + p.across_angst * self.band.across
        )
        fixed = self.optics.fixed_phase_rad(
            self.band.g2, phase_shift_deg=p.phase_shift_deg
        )
        return self.optics.slope * defocus_g2 + fixed

    def score(self, fit: Fit) -> float:
        """Correlate rings with pixels, the background taken out of both, -1 to 1."""
        return self._correlation(fit, further=self.scatter)

    def significance(self, fit: Fit) -> float:
        """Tell how many times more rings there are than noise has by chance."""
        score = self._correlation(fit, further=0.0)
        return score * math.sqrt(len(self.data) / max(1 - score**2, 1e-9))

    def _correlation(self, fit: Fit, *, further: float) -> float:
        """Correlate rings and data, which vary by ``further`` more than seen here."""
        pair = torch.stack((self.data, fit.rings))
        mixed = pair @ self.smooth.T
        product = pair @ pair.T - mixed @ solve_normal(
            self.smooth @ self.smooth.T, mixed.T
        )
        all_data = product[0, 0] + further
        norm = (all_data * product[1, 1]).clamp_min(0).sqrt()
        return float(product[0, 1] / norm) if float(norm) > 0 else 0.0


def refine(
    model: RingModel, starts: Sequence[RingParameters], *, max_steps: int = _MAX_STEPS
) -> Fit:
    """Descend from each of some starts; the deepest minimum counts.

    Parameters
    ----------
    model
        The data and its bases.
    starts
        Where to begin: between them and the answer lie other minima, a ring apart.
    max_steps
        Of each descent.
    """
    first = [_descend(model, one, max_steps=_FIRST_STEPS) for one in starts]
    first.sort(key=lambda one: one.cost)
    deep = [
        _descend(model, one.parameters, max_steps=max_steps) for one in first[:_DEEP]
    ]
    best = min(deep, key=lambda one: one.cost)
    if not model.fits_phase:
        return best
    # a quarter of a turn puts maxima in place of zeros and changes nothing else
    other = best.parameters.phase_shift_deg + 90
    turned = model.at(replace(best.parameters, phase_shift_deg=other))
    return max(best, turned, key=model.score)


def _descend(model: RingModel, start: RingParameters, *, max_steps: int) -> Fit:
    """Descend from a start to the minimum that is next to it."""
    fit = model.at(start)
    damping = 1e-3
    for _ in range(max_steps):
        step = fit.step(fit.residual[:, None], damping=damping)[:, 0]
        trial = model.at(fit.parameters.moved(step))
        if trial.cost <= fit.cost:
            fit, damping = trial, damping / 10
        else:
            damping *= 10
        if float(step[:3].abs().max()) < _CONVERGED_ANGST or damping > 1e6:
            break
    return fit
