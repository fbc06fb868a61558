"""What several estimators of one exposure's contrast transfer function agree on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CtfAgreement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfAgreement:
    """Agreement of the estimators of one exposure.

    Parameters
    ----------
    agreement_angst
        Resolution to which more than half of all estimators agree, Å: the coarsest of
        the pairs among those that agree best; the phases differ by 90 degrees there.
        ``None`` where too few have a result.
    estimator_count, failed_count
        How many there are, and how many have no result.
    agreeing_count
        How many agree with the one that is passed on, as far as is asked for.
    outliers, failed
        Names of those that do not agree, and of those without a result, with reasons.
    defocus_difference_angst, astigmatism_difference_angst
        Largest difference of mean defocus and of U - V from what is passed on, Å, over
        all estimators.
    angle_difference_deg, phase_shift_difference_deg
        Likewise, 0 to 90.
    """

    agreement_angst: float | None
    estimator_count: int
    failed_count: int
    agreeing_count: int
    outliers: str
    failed: str
    defocus_difference_angst: float | None = None
    astigmatism_difference_angst: float | None = None
    angle_difference_deg: float | None = None
    phase_shift_difference_deg: float | None = None
