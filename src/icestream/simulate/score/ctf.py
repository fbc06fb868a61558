"""Errors of the fitted contrast transfer functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from icestream.simulate.score.values import Spread, rms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain import Ctf
    from icestream.simulate.score.values import Pair
    from icestream.simulate.truth import ExposureTruth

__all__ = ["CtfScore", "score_ctf"]

_ANGLE_FROM_ANGST = 150.0
_CLOSE_PERCENT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfScore:
    """Fit less truth, over some exposures.

    Parameters
    ----------
    exposures, fits
        How many there are, and how many have a fit.
    bias_percent
        Median error of the mean defocus with its sign, %.
    defocus_percent, defocus_angst
        Errors of the mean of U and V, % and Å.
    worst_key
        Where it is worst, in %.
    within_1_percent
        Share of the fits whose mean defocus is right to 1 %.
    astigmatism_angst
        Errors of U - V, Å.
    angle_deg
        Errors of the angle modulo 180°, where the true astigmatism is above 150 Å;
        ``None`` where it never is.
    phase_shift_deg
        Errors of the phase shift modulo 180°, where there was a phase plate; ``None``
        where there never was.
    defocus_pull_rms, angle_pull_rms
        RMS of error / standard error, of U and V and of the angle: 1 where the standard
        errors are honest, more where they are too small; ``None`` without them.

    Notes
    -----
    Of a tilted specimen the truth is that of the image's middle, as is a fit to the
    whole image.
    """

    exposures: int
    fits: int
    bias_percent: float
    defocus_percent: Spread
    defocus_angst: Spread
    worst_key: str
    within_1_percent: float
    astigmatism_angst: Spread
    angle_deg: Spread | None
    phase_shift_deg: Spread | None
    defocus_pull_rms: float | None
    angle_pull_rms: float | None


def score_ctf(pairs: Sequence[Pair]) -> CtfScore | None:
    """Compare fits with the truth; ``None`` where there is no fit."""
    keys = [one.found.key for one in pairs if one.found.ctf is not None]
    errors = [
        _errors(one.truth, one.found.ctf) for one in pairs if one.found.ctf is not None
    ]
    percents = np.array([one.defocus_percent for one in errors])
    angst = Spread.of([one.defocus_angst for one in errors])
    percent = Spread.of(percents)
    astigmatism = Spread.of([one.astigmatism_angst for one in errors])
    if angst is None or percent is None or astigmatism is None:
        return None
    return CtfScore(
        exposures=len(pairs),
        fits=len(errors),
        bias_percent=float(np.median(percents)),
        defocus_percent=percent,
        defocus_angst=angst,
        worst_key=keys[int(np.abs(percents).argmax())],
        within_1_percent=float(np.mean(np.abs(percents) <= _CLOSE_PERCENT)),
        astigmatism_angst=astigmatism,
        angle_deg=Spread.of([n for one in errors for n in one.angle_deg]),
        phase_shift_deg=Spread.of([n for one in errors for n in one.phase_shift_deg]),
        defocus_pull_rms=rms([n for one in errors for n in one.defocus_pulls]),
        angle_pull_rms=rms([n for one in errors for n in one.angle_pulls]),
    )


class _Errors(NamedTuple):
    """Fit less truth of one exposure; no angle or phase where there is none."""

    defocus_percent: float
    defocus_angst: float
    astigmatism_angst: float
    angle_deg: tuple[float, ...]
    phase_shift_deg: tuple[float, ...]
    defocus_pulls: tuple[float, ...]
    angle_pulls: tuple[float, ...]


def _errors(truth: ExposureTruth, ctf: Ctf) -> _Errors:
    true_angst = (truth.defocus_u_angst + truth.defocus_v_angst) / 2
    true_astigmatism_angst = truth.defocus_u_angst - truth.defocus_v_angst
    error_angst = ctf.defocus_angst - true_angst
    turned_deg = _turned_deg(ctf.defocus_angle_deg, truth.defocus_angle_deg)
    shifted_deg = _turned_deg(ctf.phase_shift_deg, truth.phase_shift_deg)
    has_angle = true_astigmatism_angst > _ANGLE_FROM_ANGST
    return _Errors(
        defocus_percent=100 * error_angst / true_angst,
        defocus_angst=error_angst,
        astigmatism_angst=ctf.astigmatism_angst - true_astigmatism_angst,
        angle_deg=(turned_deg,) if has_angle else (),
        phase_shift_deg=(shifted_deg,) if truth.phase_shift_deg else (),
        defocus_pulls=(
            *_pull(
                ctf.defocus_u_angst - truth.defocus_u_angst, ctf.defocus_u_error_angst
            ),
            *_pull(
                ctf.defocus_v_angst - truth.defocus_v_angst, ctf.defocus_v_error_angst
            ),
        ),
        angle_pulls=_pull(
            turned_deg, ctf.defocus_angle_error_deg if has_angle else None
        ),
    )


def _turned_deg(angle_deg: float, true_deg: float) -> float:
    """Return the difference of what goes round at 180 degrees."""
    return (angle_deg - true_deg + 90) % 180 - 90


def _pull(error: float, standard_error: float | None) -> tuple[float, ...]:
    return (error / standard_error,) if standard_error else ()
