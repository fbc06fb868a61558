"""From which frequency on a spectrum is too coarse for its rings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from icestream.engines.ctf.band import Optics
    from icestream.engines.ctf.refine import RingParameters
    from icestream.engines.ctf.spectrum import BlockSpectra

__all__ = ["aliasing_angst"]

_STEPS = 2048


def aliasing_angst(
    parameters: RingParameters, *, optics: Optics, spectra: BlockSpectra
) -> float | None:
    """Find where a ring becomes narrower than two pixels of a spectrum.

    Parameters
    ----------
    parameters
        The defocus.
    optics, spectra
        The microscope, and what was sampled.

    Returns
    -------
    float or None
        Å, at the azimuth where the rings are narrowest; ``None`` where that is beyond
        the Nyquist frequency.

    Notes
    -----
    ``sin^2 chi`` has the period ``pi / |dchi/dg|`` along ``g``, or about ``1 / (2 L df
    g)`` with the wavelength ``L``. A pixel is 1 / extent of the tiles wide: beyond the
    limit the rings come from pairs of places half a tile apart, of which a tapered tile
    has few.
    """
    nyquist = 1 / (2 * spectra.pixel_size_angst)
    g = torch.linspace(0, nyquist, _STEPS, dtype=torch.float64)[1:]
    half = math.hypot(parameters.along_angst, parameters.across_angst)
    lens = 2 * optics.slope * optics.lens_defocus_angst3 * g**3
    steepest = torch.stack(
        [
            (2 * optics.slope * (parameters.mean_angst + side) * g - lens).abs()
            for side in (-half, half)
        ]
    ).amax(dim=0)
    beyond = (steepest > math.pi * spectra.extent_angst / 2).nonzero()
    return 1 / float(g[beyond[0, 0]]) if len(beyond) else None
