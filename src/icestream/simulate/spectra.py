"""Power spectra with Thon rings in milliseconds, without an image (tier T1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.detector import CountingResponse, transfer_function
from icestream.simulate.ice import (
    ice_phase_power,
    ice_transmission,
    radial_frequency,
    radial_values,
)
from icestream.simulate.ice_contrast import power_of_thick, ring_strength
from icestream.simulate.ice_motion import frame_correlation
from icestream.simulate.motion import damage_filter
from icestream.simulate.optics import transfer
from icestream.simulate.protein_layer import protein_phase_power

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from icestream.simulate.optics import Microscope, Optics

__all__ = ["simulate_spectrum"]

_NODES = 1 << 12
# Background of no use: what scatters inelastically near the axis, and uneven ice; as
# high as the noise of the counts at 0 and half of it at this frequency.
_BACKGROUND, _BACKGROUND_HALF_PER_ANGST = 1.0, 0.03


def simulate_spectrum(
    optics: Optics,
    *,
    microscope: Microscope,
    pixel_size_angst: float,
    box_px: int = 512,
    dose_e_per_angst2: float = 40.0,
    thickness_angst: float = 300.0,
    protein_angst: float = 15.0,
    response: CountingResponse | None = None,
    tile_count: int = 100,
    generator: Generator,
) -> Tensor:
    """Simulate the mean power spectrum of the tiles of a micrograph.

    Parameters
    ----------
    optics, microscope
        Tilt of the stage is left out.
    pixel_size_angst
        Å/px.
    box_px
        Side of the tiles, px; even.
    dose_e_per_angst2
        e/Å2 in the whole exposure.
    thickness_angst, protein_angst
        Ice, and protein in it as an even layer, Å.
    response
        Of the camera; ``None`` for the usual one.
    tile_count
        Independent tiles that are averaged.
    generator
        The source of the noise; its device is where the result lies.

    Returns
    -------
    Tensor
        ``(n, n)`` float32, centred, as ``estimate_ctf_of_spectrum`` takes it. The noise
        of the counts is 1.

    Raises
    ------
    BadSettings
        An odd or small box, no tile, or no dose.

    Notes
    -----
    Ice and protein are random phases: their powers add, go through the transfer
    function, damage, the walk of water and the MTF; the camera's noise is white. The
    mean of n tiles has the gamma distribution of n, here by Wilson & Hilferty (1931).
    """
    if box_px < 16 or box_px % 2 or tile_count < 1 or not dose_e_per_angst2 > 0:
        raise BadSettings(
            f"A spectrum of {box_px} px of {tile_count} tiles at {dose_e_per_angst2:g} "
            "e/Å2 cannot be.",
            hint="The box is even and 16 px or more, tiles and dose are above 0.",
        )
    shape, device = (box_px, box_px), generator.device
    response = response or CountingResponse()
    g = radial_frequency(shape, pixel_size_angst, device=device)

    def specimen(g: Tensor) -> Tensor:
        kv, dose = microscope.voltage_kv, dose_e_per_angst2
        water = ice_phase_power(g, thickness_angst=thickness_angst, voltage_kv=kv)
        protein = protein_phase_power(g, thickness_angst=protein_angst, voltage_kv=kv)
        left = damage_filter(
            g, start_e_per_angst2=0, stop_e_per_angst2=dose, voltage_kv=kv
        )
        return water * frame_correlation(g, dose, lag=0) + protein * left.square()

    lens = transfer(
        shape,
        microscope=microscope,
        optics=optics,
        pixel_size_angst=pixel_size_angst,
        device=device,
    )
    along_y, along_x = transfer_function(shape, response, device=device)
    rings = ring_strength(
        g, thickness_angst=thickness_angst, voltage_kv=microscope.voltage_kv
    )
    seen = power_of_thick(lens, rings) * (along_y[:, None] * along_x).square()
    through = float(
        ice_transmission(
            torch.tensor(thickness_angst), voltage_kv=microscope.voltage_kv
        )
    )
    counted_per_angst2 = dose_e_per_angst2 * through * response.detective_efficiency
    power = 1 + counted_per_angst2 * seen * radial_values(g, specimen, nodes=_NODES)
    power += _BACKGROUND / (1 + (g / _BACKGROUND_HALF_PER_ANGST).square())
    normal = torch.randn(power.shape, generator=generator, device=device)
    third = normal / (3 * tile_count**0.5) + (1 - 1 / (9 * tile_count))
    noisy: Tensor = power.mul_(third.clamp_(min=0).pow(3))
    return _centred(noisy)


def _centred(half: Tensor) -> Tensor:
    """Make the whole, centred spectrum of a real image of one half, ``(n, n)``."""
    side = half.shape[0]
    mirror = (-torch.arange(side, device=half.device)) % side
    upper = torch.arange(side, device=half.device) > side // 2
    for column in (0, -1):
        half[upper, column] = half[mirror, column][upper]
    whole = torch.cat([half, half[mirror, 1:-1].flip(1)], dim=1)
    shifted: Tensor = torch.fft.fftshift(whole)
    return shifted
