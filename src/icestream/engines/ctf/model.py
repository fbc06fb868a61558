"""The contrast transfer function of a thin specimen, and its phase.

::

    chi(g) = pi L g^2 df(phi) - pi/2 Cs L^3 g^4 + phase_shift + asin(A)
    df(phi) = (U + V) / 2 + (U - V) / 2 cos 2(phi - angle)
    CTF = -sin chi

``g`` is spatial frequency in 1/Å, ``L`` the wavelength, ``phi`` is counted from +x
(increasing column) towards increasing row index. Underfocus is positive, so that
scattering atoms look dark.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from icestream.domain.units import angst_from_mm, electron_wavelength_angst

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "aberration_phase_rad",
    "constant_phase_rad",
    "contrast_transfer",
    "defocus_slope",
    "lens_phase_rad",
]


def contrast_transfer(
    shape: tuple[int, int],
    *,
    defocus_u_angst: float,
    defocus_v_angst: float,
    defocus_angle_deg: float,
    phase_shift_deg: float = 0.0,
    pixel_size_angst: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Evaluate the contrast transfer function on the grid of ``rfft2``.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image in real space; odd and even sizes.
    defocus_u_angst, defocus_v_angst
        Defocus along and across the axis of U, Å; > 0 is underfocus.
    defocus_angle_deg
        From +x towards increasing row index to the axis of U, degrees.
    phase_shift_deg
        Extra phase shift (phase plate), degrees.
    pixel_size_angst
        Pixel size of the image, Å/px.
    voltage_kv
        Acceleration voltage, kV.
    spherical_aberration_mm
        Spherical aberration Cs, mm.
    amplitude_contrast
        Fraction of amplitude contrast, 0 to 1.
    device, dtype
        Where and as what the result is made; computed in float64 inside.

    Returns
    -------
    Tensor
        ``(h, w // 2 + 1)``, between -1 and 1, zero frequency at ``[0, 0]``.
    """
    chi = aberration_phase_rad(
        shape,
        defocus_u_angst=defocus_u_angst,
        defocus_v_angst=defocus_v_angst,
        defocus_angle_deg=defocus_angle_deg,
        pixel_size_angst=pixel_size_angst,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        device=device,
    )
    chi += constant_phase_rad(
        phase_shift_deg=phase_shift_deg, amplitude_contrast=amplitude_contrast
    )
    return -torch.sin(chi).to(dtype)


def aberration_phase_rad(
    shape: tuple[int, int],
    *,
    defocus_u_angst: float,
    defocus_v_angst: float,
    defocus_angle_deg: float,
    pixel_size_angst: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Evaluate the phase of defocus and spherical aberration on the grid of ``rfft2``.

    Parameters
    ----------
    shape, defocus_u_angst, defocus_v_angst, defocus_angle_deg, pixel_size_angst
        As `contrast_transfer` has them.
    voltage_kv, spherical_aberration_mm, device
        Likewise.

    Returns
    -------
    Tensor
        ``(h, w // 2 + 1)`` float64, rad: chi without `constant_phase_rad`.
    """
    h, w = shape
    wide = torch.float64
    gy = torch.fft.fftfreq(h, d=pixel_size_angst, device=device, dtype=wide)[:, None]
    gx = torch.fft.rfftfreq(w, d=pixel_size_angst, device=device, dtype=wide)
    g2 = gy.square() + gx.square()
    mean = (defocus_u_angst + defocus_v_angst) / 2
    half = (defocus_u_angst - defocus_v_angst) / 2
    twice = math.radians(2 * defocus_angle_deg)
    # g^2 cos 2(phi - angle), without the division that fails at g = 0
    slanted = math.cos(twice) * (gx.square() - gy.square())
    slanted = slanted + math.sin(twice) * (2 * gx * gy)
    lens = lens_phase_rad(
        g2, voltage_kv=voltage_kv, spherical_aberration_mm=spherical_aberration_mm
    )
    phase: Tensor = defocus_slope(voltage_kv) * (mean * g2 + half * slanted) + lens
    return phase


def defocus_slope(voltage_kv: float) -> float:
    """Return pi times the wavelength: phase per g^2 (1/Å^2) and per Å of defocus."""
    return math.pi * electron_wavelength_angst(voltage_kv)


def lens_phase_rad(
    frequency_squared: Tensor, *, voltage_kv: float, spherical_aberration_mm: float
) -> Tensor:
    """Compute the phase of spherical aberration at ``g^2`` in 1/Å^2, radians."""
    cs_angst = angst_from_mm(spherical_aberration_mm)
    wavelength = electron_wavelength_angst(voltage_kv)
    return (-math.pi / 2 * cs_angst * wavelength**3) * frequency_squared.square()


def constant_phase_rad(*, phase_shift_deg: float, amplitude_contrast: float) -> float:
    """Add phase shift and amplitude contrast: the phase at zero frequency, radians."""
    return math.radians(phase_shift_deg) + math.asin(amplitude_contrast)
