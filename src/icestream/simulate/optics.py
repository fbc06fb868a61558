"""How the microscope turns the phase of the specimen into contrast.

A weak phase ``p(x)`` becomes the relative intensity ``1 + c(x)`` with
``C(g) = 2 CTF(g) E(g) T(g) P(g)``: contrast transfer function, envelopes of a beam that
has a spread of energies and angles, and the odd phase error of a tilted beam. The
transfer function is the engines' own, so the sign and the angle are theirs
(docs/explanation/conventions.md); an engine needs a value from elsewhere besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings
from icestream.domain.units import (
    ELECTRON_REST_KEV,
    angst_from_mm,
    electron_wavelength_angst,
)
from icestream.engines.ctf import aberration_phase_rad, constant_phase_rad
from icestream.simulate.bounds import check_number

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Microscope", "Optics", "Transfer", "defocus_at_angst", "transfer"]

_RAD_PER_MRAD = 1e-3
_KV_PER_V = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Microscope:
    """What stays the same from exposure to exposure.

    Parameters
    ----------
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        kV, mm, fraction.
    chromatic_aberration_mm, energy_spread_ev
        mm; standard deviation of the electrons' energy, eV.
    illumination_mrad
        Standard deviation of the angle of illumination, mrad; a field emission gun in
        parallel illumination has a few hundredths at most.
    b_factor_angst2
        Of all that is not modelled (stage, magnetic noise): amplitudes fall with
        exp(-B g² / 4), Å2.

    Raises
    ------
    BadSettings
        A value that cannot be.
    """

    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    chromatic_aberration_mm: float = 2.7
    energy_spread_ev: float = 0.35
    illumination_mrad: float = 0.01
    b_factor_angst2: float = 30.0

    def __post_init__(self) -> None:
        check_number("voltage_kv", self.voltage_kv, above=0)
        check_number("spherical_aberration_mm", self.spherical_aberration_mm)
        check_number("amplitude_contrast", self.amplitude_contrast, least=0, most=1)
        for name in (
            "chromatic_aberration_mm",
            "energy_spread_ev",
            "illumination_mrad",
            "b_factor_angst2",
        ):
            check_number(name, getattr(self, name), least=0)

    @property
    def focal_spread_angst(self) -> float:
        """Standard deviation of the defocus over the electrons, Å; 39 at 300 kV.

        A spread of energy changes the focal length by its relative size, times
        ``(1 + E / E0) / (1 + E / 2 E0)`` of relativity.
        """
        relative = self.voltage_kv / ELECTRON_REST_KEV
        spread = self.energy_spread_ev * _KV_PER_V / self.voltage_kv
        relativity = (1 + relative) / (1 + relative / 2)
        return angst_from_mm(self.chromatic_aberration_mm) * spread * relativity


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """The state of the lenses and the stage in one exposure.

    Parameters
    ----------
    defocus_u_angst, defocus_v_angst, defocus_angle_deg
        At the middle of the image and of the ice; > 0 is underfocus. U is the larger
        one; the angle counts from +x towards increasing row index.
    phase_shift_deg
        Of a phase plate, degrees.
    tilt_deg, tilt_axis_deg
        Stage tilt and the direction of its axis, from +x towards increasing row index.
    beam_tilt_x_mrad, beam_tilt_y_mrad
        Tilt of the beam against the axis of the lens, mrad, as RELION writes it.
    """

    defocus_u_angst: float
    defocus_v_angst: float
    defocus_angle_deg: float = 0.0
    phase_shift_deg: float = 0.0
    tilt_deg: float = 0.0
    tilt_axis_deg: float = 0.0
    beam_tilt_x_mrad: float = 0.0
    beam_tilt_y_mrad: float = 0.0

    def __post_init__(self) -> None:
        if self.defocus_u_angst < self.defocus_v_angst:
            raise BadSettings(
                f"Defocus U, {self.defocus_u_angst:g} Å, is smaller than V, "
                f"{self.defocus_v_angst:g} Å.",
                hint="Give the larger one as U and turn the angle by 90 degrees.",
            )

    @property
    def defocus_angst(self) -> float:
        """Mean of U and V, Å."""
        return (self.defocus_u_angst + self.defocus_v_angst) / 2


def defocus_at_angst(
    optics: Optics, *, x_angst: Tensor, y_angst: Tensor, z_angst: Tensor
) -> Tensor:
    """Return how much more underfocus than the image's middle there is at places.

    Parameters
    ----------
    optics
        Its tilt.
    x_angst, y_angst, z_angst
        ``(n,)`` places in the image from its middle, along rows and columns, and the
        height above the middle of the ice along the beam, towards the source, Å.

    Returns
    -------
    Tensor
        ``(n,)`` Å. What lies nearer to the source is less underfocused: the objective
        lens below it is focused on a plane farther up.

    Notes
    -----
    The axis stays in focus; the side at ``axis + 90`` degrees moves up the column for
    positive tilt.
    """
    axis = math.radians(optics.tilt_axis_deg)
    across = math.cos(axis) * y_angst - math.sin(axis) * x_angst
    return -(z_angst + math.tan(math.radians(optics.tilt_deg)) * across)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transfer:
    """What becomes of a weak phase, and of the whole wave.

    Parameters
    ----------
    contrast
        ``(h, w // 2 + 1)`` float32, or complex64 where the beam is tilted: contrast per
        phase, ``2 CTF E T P``.
    aside
        The same with the phase of the CTF a quarter of a turn on: sines are cosines.
    amplitude_contrast
        What is in both.
    """

    contrast: Tensor
    aside: Tensor
    amplitude_contrast: float

    def envelope_squared(self) -> Tensor:
        """Return the square of the largest contrast there can be, ``4 (E T)^2``."""
        return self.contrast.abs().square() + self.aside.abs().square()

    def of_wave(self) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary filter of a wave: without amplitude contrast.

        Both are the transforms of real kernels. A wave ``a + i b`` becomes
        ``(R a - I b) + i (R b + I a)``.
        """
        turn = math.asin(self.amplitude_contrast)
        sine, cosine = math.sin(turn) / 2, math.cos(turn) / 2
        return (
            -(cosine * self.aside + sine * self.contrast),
            sine * self.aside - cosine * self.contrast,
        )


def transfer(
    shape: tuple[int, int],
    *,
    microscope: Microscope,
    optics: Optics,
    pixel_size_angst: float,
    further_defocus_angst: float = 0.0,
    device: torch.device | str | None = None,
) -> Transfer:
    """Evaluate contrast per phase on the grid of ``rfft2``.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image.
    microscope, optics
        Tilt of the stage is not in it: see ``defocus_at_angst``.
    pixel_size_angst
        Å/px.
    further_defocus_angst
        Underfocus in addition to that of ``optics``, Å.
    device
        Where the result is made.

    Returns
    -------
    Transfer
        It includes the factor 2 of a weak phase object.
    """
    phase = aberration_phase_rad(
        shape,
        defocus_u_angst=optics.defocus_u_angst + further_defocus_angst,
        defocus_v_angst=optics.defocus_v_angst + further_defocus_angst,
        defocus_angle_deg=optics.defocus_angle_deg,
        pixel_size_angst=pixel_size_angst,
        voltage_kv=microscope.voltage_kv,
        spherical_aberration_mm=microscope.spherical_aberration_mm,
        device=device,
    )
    phase += constant_phase_rad(
        phase_shift_deg=optics.phase_shift_deg,
        amplitude_contrast=microscope.amplitude_contrast,
    )
    # In float32 from here on, but of less than a turn.
    narrow = phase.remainder_(2 * math.pi).float()
    gy = torch.fft.fftfreq(shape[0], pixel_size_angst, device=device)[:, None]
    gx = torch.fft.rfftfreq(shape[1], pixel_size_angst, device=device)
    g2 = gy.square() + gx.square()
    defocus_angst = optics.defocus_angst + further_defocus_angst
    amplitude = -2 * _envelope(g2, microscope, defocus_angst)
    if optics.beam_tilt_x_mrad or optics.beam_tilt_y_mrad:
        amplitude = amplitude * _beam_tilt(gy, gx, g2, microscope, optics)
    return Transfer(
        contrast=torch.sin(narrow) * amplitude,
        aside=torch.cos(narrow) * amplitude,
        amplitude_contrast=microscope.amplitude_contrast,
    )


def _envelope(g2: Tensor, microscope: Microscope, defocus_angst: float) -> Tensor:
    """Fall of the amplitudes by spread of energy, of angle, and by the rest.

    Each spread is a Gaussian of phases. Defocus d adds ``pi L d g^2``; a tilt by a adds
    ``2 pi a g (d - Cs L^2 g^2)``, the shift of that frequency's part of the image.
    After Frank, Optik 38 (1973), and Wade & Frank, Optik 49 (1977).
    """
    wavelength = electron_wavelength_angst(microscope.voltage_kv)
    cs_angst = angst_from_mm(microscope.spherical_aberration_mm)
    in_focus = math.pi * wavelength * microscope.focal_spread_angst * g2
    angle = _RAD_PER_MRAD * microscope.illumination_mrad
    shift_angst = defocus_angst - cs_angst * wavelength**2 * g2
    in_angle_squared = (2 * math.pi * angle * shift_angst).square() * g2
    rest = microscope.b_factor_angst2 / 4 * g2
    return torch.exp(-(in_focus.square() + in_angle_squared) / 2 - rest)


def _beam_tilt(
    gy: Tensor, gx: Tensor, g2: Tensor, microscope: Microscope, optics: Optics
) -> Tensor:
    """Phase error of axial coma, ``-2 pi Cs L^2 g^2 (tilt . g)``: RELION's sign."""
    wavelength = electron_wavelength_angst(microscope.voltage_kv)
    cs_angst = angst_from_mm(microscope.spherical_aberration_mm)
    along = optics.beam_tilt_x_mrad * gx + optics.beam_tilt_y_mrad * gy
    phase = -2 * math.pi * cs_angst * wavelength**2 * _RAD_PER_MRAD * g2 * along
    return torch.polar(torch.ones_like(phase), phase)
