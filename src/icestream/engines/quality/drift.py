"""How far a movie moves for each electron."""

from __future__ import annotations

from dataclasses import dataclass

from icestream.domain.motion import EARLY_E_PER_ANGST2, MovieMotion

__all__ = ["DriftRates", "drift_rates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRates:
    """Å for each e/Å2; ``None`` where no dose is known, or none lies there.

    Parameters
    ----------
    largest_step, path
        From one frame to the next at most; of all frames.
    early, late
        Up to 4 e/Å2; from there on.
    """

    largest_step: float | None = None
    path: float | None = None
    early: float | None = None
    late: float | None = None


def drift_rates(motion: MovieMotion, *, before_e_per_angst2: float = 0.0) -> DriftRates:
    """Divide what a movie moves by its dose.

    Parameters
    ----------
    motion
        Of the movie; its path goes from the middle of the first frame to that of the
        last.
    before_e_per_angst2
        Dose before the first frame, e/Å2.
    """
    dose = motion.dose_e_per_angst2
    if dose is None or not dose > 0:
        return DriftRates()
    first = before_e_per_angst2 + dose / 2
    last = first + dose * (motion.frame_count - 1)
    until = min(max(EARLY_E_PER_ANGST2, first), last)
    return DriftRates(
        largest_step=motion.largest_step_angst / dose,
        path=_rate(motion.total_angst, last - first),
        early=_rate(motion.early_angst, until - first),
        late=_rate(motion.late_angst, last - until),
    )


def _rate(angst: float | None, e_per_angst2: float) -> float | None:
    return None if angst is None or not e_per_angst2 > 0 else angst / e_per_angst2
