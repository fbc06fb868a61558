"""Conversions, for views and for formulas that need SI-like units."""

from __future__ import annotations

import math

__all__ = [
    "ELECTRON_REST_KEV",
    "angst_from_mm",
    "electron_wavelength_angst",
    "interaction_rad_per_volt_angst",
    "micrometre_from_angst",
    "within_half_turn_deg",
]

ELECTRON_REST_KEV = 510.99895
"""Energy of an electron at rest, keV."""


def electron_wavelength_angst(voltage_kv: float) -> float:
    """Return the relativistic wavelength of an electron, Å.

    Parameters
    ----------
    voltage_kv
        Acceleration voltage, kV.

    Notes
    -----
    lambda = h / sqrt(2 m e V (1 + e V / (2 m c^2))), CODATA constants.
    """
    volt = voltage_kv * 1e3
    return 12.2642597 / math.sqrt(volt * (1 + 0.978475598e-6 * volt))


def interaction_rad_per_volt_angst(voltage_kv: float) -> float:
    """Return the phase of an electron per volt and Å, 6.53e-4 rad/(V Å) at 300 kV.

    Parameters
    ----------
    voltage_kv
        Acceleration voltage, kV.
    """
    relativistic = (ELECTRON_REST_KEV + voltage_kv) / (
        2 * ELECTRON_REST_KEV + voltage_kv
    )
    wavelength_angst = electron_wavelength_angst(voltage_kv)
    return 2 * math.pi / (wavelength_angst * voltage_kv * 1e3) * relativistic


def micrometre_from_angst(angst: float) -> float:
    """Convert Å to µm, the unit in which people read defocus."""
    return angst * 1e-4


def angst_from_mm(millimetre: float) -> float:
    """Convert mm to Å, for the spherical aberration."""
    return millimetre * 1e7


def within_half_turn_deg(angle_deg: float) -> float:
    """Return the angle of an axis in [0, 180), where -1e-15 % 180 would be 180."""
    return angle_deg % 180.0 % 180.0
