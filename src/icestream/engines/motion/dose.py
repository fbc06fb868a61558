"""How much each frame's signal is worth after the dose that came before it.

Grant & Grigorieff, eLife 4 (2015) e06980: at spatial frequency g the signal falls to
1/e of its power after Ne(g) = 0.24499 g^-1.6649 + 2.8141 e/Å2 at 300 kV, less at lower
voltages; frames are weighted by what is left, and the noise power is restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["critical_dose_e_per_angst2", "dose_weights"]

_FACTOR, _EXPONENT, _LEAST = 0.24499, -1.6649, 2.8141
# Of the critical dose, against 300 kV.
_VOLTAGES_KV, _SHARES = (120.0, 200.0, 300.0), (0.45, 0.8, 1.0)


def critical_dose_e_per_angst2(
    frequency_per_angst: NDArray[np.float64], *, voltage_kv: float
) -> NDArray[np.float64]:
    """Return the dose after which the power of the signal has fallen to 1/e.

    Parameters
    ----------
    frequency_per_angst
        Any shape, 1/Å, >= 0.
    voltage_kv
        Acceleration voltage; between and beyond 120, 200 and 300 kV on lines.

    Returns
    -------
    ndarray
        The same shape, e/Å2; infinite at frequency 0.
    """
    low, middle, high = _VOLTAGES_KV
    side = (low, middle) if voltage_kv < middle else (middle, high)
    shares = _SHARES[:2] if voltage_kv < middle else _SHARES[1:]
    slope = (shares[1] - shares[0]) / (side[1] - side[0])
    share = max(shares[0] + slope * (voltage_kv - side[0]), 0.1)
    with np.errstate(divide="ignore"):
        power = np.asarray(frequency_per_angst, np.float64) ** _EXPONENT
    found: NDArray[np.float64] = share * (_FACTOR * power + _LEAST)
    return found


def dose_weights(
    frequency_per_angst: NDArray[np.float64],
    *,
    frame_count: int,
    dose_e_per_angst2: float,
    voltage_kv: float,
    before_e_per_angst2: float = 0.0,
) -> NDArray[np.float64]:
    """Return the weight of each frame at each frequency.

    Parameters
    ----------
    frequency_per_angst
        ``(n,)`` 1/Å.
    frame_count
        Number of frames.
    dose_e_per_angst2
        Of each frame, e/Å2.
    voltage_kv
        Acceleration voltage.
    before_e_per_angst2
        Dose before the first frame.

    Returns
    -------
    ndarray
        ``(frames, n)``: what is left in the middle of a frame, times what brings the
        noise power of the weighted sum to that of the plain sum.

    Raises
    ------
    BadSettings
        A dose or a voltage that cannot be.
    """
    if not (dose_e_per_angst2 > 0 and before_e_per_angst2 >= 0 and voltage_kv > 0):
        raise BadSettings(
            f"A dose of {dose_e_per_angst2} e/Å2 a frame after {before_e_per_angst2} "
            f"e/Å2, at {voltage_kv} kV.",
            hint="Give the dose of a frame above 0, or leave out dose weighting.",
        )
    gone = before_e_per_angst2 + dose_e_per_angst2 * (np.arange(frame_count) + 0.5)
    critical = critical_dose_e_per_angst2(frequency_per_angst, voltage_kv=voltage_kv)
    left = np.exp(-gone[:, None] / (2 * critical))
    weights: NDArray[np.float64] = left * np.sqrt(frame_count / (left**2).sum(0))
    return weights
