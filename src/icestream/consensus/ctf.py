"""How far two contrast transfer functions agree, and what several have in common."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.units import electron_wavelength_angst, within_half_turn_deg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from icestream.domain import Ctf

__all__ = ["agreement_angst", "average_ctf", "closest_group"]

_AZIMUTHS = 36
_FREQUENCIES = 512
_COARSEST_ANGST = 1_000.0
_AT_ONCE = 2_000


def agreement_angst(
    first: Sequence[Ctf],
    second: Sequence[Ctf],
    *,
    voltage_kv: float,
    finest_angst: float,
) -> NDArray[np.float64]:
    """Find the resolution to which pairs of contrast transfer functions agree.

    Parameters
    ----------
    first, second
        The pairs.
    voltage_kv
        Acceleration voltage, kV.
    finest_angst
        What is returned where they agree beyond it, e.g. twice the pixel size, Å.

    Returns
    -------
    NDArray
        ``(pair,)``, the resolution where the phases differ by 90 degrees on the mean
        over azimuth, Å; at most 1,000.

    Notes
    -----
    There the product of the two is as often negative as positive: finer detail would
    be added up wrongly. The spherical aberration is the same in both and drops out.
    Phase shifts are compared modulo 180 degrees, as power spectra show them.
    """
    found = [
        _agreement(first[i : i + _AT_ONCE], second[i : i + _AT_ONCE], voltage_kv)
        for i in range(0, len(first), _AT_ONCE)
    ]
    limits = np.concatenate(found) if found else np.empty(0)
    return np.clip(limits, finest_angst, _COARSEST_ANGST)


def _agreement(
    first: Sequence[Ctf], second: Sequence[Ctf], voltage_kv: float
) -> NDArray[np.float64]:
    difference = _components(first) - _components(second)
    azimuth = np.arange(_AZIMUTHS) * (2 * np.pi / _AZIMUTHS)
    circle = np.stack((np.ones(_AZIMUTHS), np.cos(azimuth), np.sin(azimuth)))
    defocus = difference[:, :3] @ circle
    shift = (difference[:, 3] + 90.0) % 180.0 - 90.0
    slope = math.pi * electron_wavelength_angst(voltage_kv)
    # Beyond this even a constant difference of defocus has passed 90 degrees.
    most = np.abs(defocus).mean(axis=1)
    highest_g2 = (np.pi / 2 + np.abs(np.radians(shift))) / (slope * most.clip(1e-9))
    steps = np.arange(_FREQUENCIES + 1) / _FREQUENCIES
    g2 = highest_g2[:, None] * steps
    phase = np.radians(shift)[:, None, None] + slope * (
        g2[:, :, None] * defocus[:, None, :]
    )
    mean = np.abs(phase).mean(axis=2)
    beyond = mean >= np.pi / 2 - 1e-12
    after = np.where(beyond.any(axis=1), beyond.argmax(axis=1), _FREQUENCIES)
    before = np.maximum(after - 1, 0)
    row = np.arange(len(mean))
    low, high = mean[row, before], mean[row, after]
    share = np.where(high > low, (np.pi / 2 - low) / (high - low).clip(1e-12), 1.0)
    place = g2[row, before] + share.clip(0, 1) * (g2[row, after] - g2[row, before])
    found: NDArray[np.float64] = 1 / np.sqrt(place.clip(1e-12))
    return found


def _components(ctfs: Sequence[Ctf]) -> NDArray[np.float64]:
    """Return ``(ctf, 4)``: mean, half astigmatism as cos and sin, phase in degrees."""
    rows = [
        (
            one.defocus_angst,
            one.astigmatism_angst
            / 2
            * math.cos(math.radians(2 * one.defocus_angle_deg)),
            one.astigmatism_angst
            / 2
            * math.sin(math.radians(2 * one.defocus_angle_deg)),
            one.phase_shift_deg,
        )
        for one in ctfs
    ]
    return np.array(rows, np.float64).reshape(-1, 4)


def closest_group(
    agreement: NDArray[np.float64], *, size: int
) -> tuple[tuple[int, ...], float]:
    """Find the estimators that agree best among each other.

    Parameters
    ----------
    agreement
        ``(estimator, estimator)``, the resolution to which each pair agrees, Å.
    size
        How many are wanted.

    Returns
    -------
    tuple
        Their numbers, in order, and the coarsest agreement among them, Å.
    """

    def coarsest(group: tuple[int, ...]) -> float:
        pairs = [agreement[one, other] for one, other in combinations(group, 2)]
        return float(max(pairs, default=0.0))

    groups = combinations(range(len(agreement)), size)
    best = min(groups, key=coarsest)
    return best, coarsest(best)


def average_ctf(ctfs: Sequence[Ctf]) -> Ctf:
    """Average contrast transfer functions that agree.

    Parameters
    ----------
    ctfs
        At least one; the first counts as the primary one.

    Returns
    -------
    Ctf
        Mean defocus, astigmatism averaged as a vector at twice its angle, and phase
        shift likewise. Resolution is the coarsest, errors are the largest: all have
        seen the same image. All else is the first one's.
    """
    mean, along, across, _ = _components(ctfs).mean(axis=0).tolist()
    half = math.hypot(along, across)
    twice = [math.radians(2 * one.phase_shift_deg) for one in ctfs]
    turn = math.atan2(
        sum(math.sin(one) for one in twice), sum(math.cos(one) for one in twice)
    )
    same_phase = len({one.phase_shift_deg for one in ctfs}) == 1
    return replace(
        ctfs[0],
        defocus_u_angst=mean + half,
        defocus_v_angst=mean - half,
        defocus_angle_deg=within_half_turn_deg(
            math.degrees(math.atan2(across, along)) / 2
        ),
        phase_shift_deg=ctfs[0].phase_shift_deg
        if same_phase
        else within_half_turn_deg(math.degrees(turn) / 2),
        resolution_angst=_largest([one.resolution_angst for one in ctfs]),
        defocus_u_error_angst=_largest([one.defocus_u_error_angst for one in ctfs]),
        defocus_v_error_angst=_largest([one.defocus_v_error_angst for one in ctfs]),
        defocus_angle_error_deg=_largest([one.defocus_angle_error_deg for one in ctfs]),
    )


def _largest(values: Sequence[float | None]) -> float | None:
    """Return the largest; ``None`` where one is not known."""
    known = [one for one in values if one is not None]
    return max(known) if len(known) == len(values) else None
