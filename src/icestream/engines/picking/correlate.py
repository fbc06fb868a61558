"""Locally normalised correlation of an image with a bank of templates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len

from icestream.domain.errors import InternalError
from icestream.engines.picking.template import diameters_angst, make_templates

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.engines.picking.reduce import ReducedImage
    from icestream.engines.picking.template import Template

__all__ = ["ResponseMaps", "correlate_bank"]

_LEAST_VARIANCE = 1e-4  # of the median neighbourhood: a blank corner is no particle
_PADDING_DIAMETERS = 0.75  # the window and its soft edge


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseMaps:
    """How well some template fits at each pixel.

    Parameters
    ----------
    score
        ``(h, w)`` largest correlation coefficient over the bank, -1 to 1.
    contrast
        ``(h, w)`` amplitude of the best template, unit of the image.
    diameter_angst
        ``(h, w)`` diameter of the best template, Å.
    """

    score: Tensor
    contrast: Tensor
    diameter_angst: Tensor


def correlate_bank(
    image: ReducedImage, *, limits_angst: tuple[float, float]
) -> tuple[ResponseMaps, ResponseMaps]:
    """Correlate an image with discs and rings over a range of diameters.

    Parameters
    ----------
    image
        Particles > 0.
    limits_angst
        Least and greatest diameter, Å.

    Returns
    -------
    particles, decoys
        Responses to the templates, and to the same templates with their sign reversed.
        Noise answers both alike, particles the first only.

    Notes
    -----
    The coefficient is the weighted one of the window around each pixel, over the pixels
    inside the image: ``sum(q (I - m)) / s`` with local mean m, local standard
    deviation s and ``sum(q ** 2 / w) = 1``. At the border it is at most the root
    of the part of the window that is inside, so noise scores no higher there.
    After Roseman, Ultramicroscopy 94 (2003), and Padfield, IEEE TIP 21 (2012).
    """
    values = image.values
    reach_px = _PADDING_DIAMETERS * limits_angst[1] / image.pixel_size_angst
    height, width = values.shape
    shape = (_fast_side(height + reach_px), _fast_side(width + reach_px))
    stack = torch.stack([torch.ones_like(values), values, values.square()])
    spectra = torch.fft.rfft2(stack, s=shape)
    particles: ResponseMaps | None = None
    decoys: ResponseMaps | None = None
    for diameter_angst in diameters_angst(limits_angst):
        template = make_templates(
            shape,
            diameter_px=diameter_angst / image.pixel_size_angst,
            diameter_angst=diameter_angst,
            like=values,
        )
        score, sigma = _correlate(spectra, template, shape=shape)
        score, sigma = score[:, :height, :width], sigma[:height, :width]
        particles = _better(particles, score, sigma, diameter_angst)
        decoys = _better(decoys, -score, sigma, diameter_angst)
    if particles is None or decoys is None:
        raise InternalError(f"No diameter lies within {limits_angst} Å.")
    return particles, decoys


def _correlate(
    spectra: Tensor, template: Template, *, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """``(kind, h, w)`` coefficients and ``(h, w)`` local standard deviations."""
    window = torch.fft.rfft2(template.window).real  # symmetric: real
    shapes = torch.fft.rfft2(template.shapes).real
    weight, total, squares = torch.fft.irfft2(spectra * window, s=shape)
    weight = weight.clamp_min(torch.finfo(weight.dtype).eps)
    mean = total / weight
    variance = squares / weight - mean.square()
    least = _LEAST_VARIANCE * variance.median()
    sigma = variance.clamp_min(least.clamp_min(torch.finfo(least.dtype).tiny)).sqrt()
    inside, product = torch.fft.irfft2(spectra[:2, None] * shapes, s=shape)
    return (product - mean * inside) / sigma, sigma


def _better(
    best: ResponseMaps | None, score: Tensor, sigma: Tensor, diameter_angst: float
) -> ResponseMaps:
    top = score.amax(dim=0)
    found = ResponseMaps(
        score=top,
        contrast=top * sigma,
        diameter_angst=torch.full_like(top, diameter_angst),
    )
    if best is None:
        return found
    is_better = found.score > best.score
    return ResponseMaps(
        score=torch.where(is_better, found.score, best.score),
        contrast=torch.where(is_better, found.contrast, best.contrast),
        diameter_angst=torch.where(
            is_better, found.diameter_angst, best.diameter_angst
        ),
    )


def _fast_side(side_px: float) -> int:
    return int(next_fast_len(math.ceil(side_px), real=True))
