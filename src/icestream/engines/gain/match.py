"""Which of several gains belongs to a movie: by camera mode, then by time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings
from icestream.engines.gain.shape import has_fitting_shape

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CameraMode", "KnownGain", "match_gain"]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMode:
    """What a gain depends on; ``None`` where it is not known, which fits anything.

    Parameters
    ----------
    shape
        Rows and columns of a frame, or of a gain.
    voltage_kv
        kV.
    is_cds
        Whether the camera reads by correlated double sampling.
    """

    shape: tuple[int, int]
    voltage_kv: float | None = None
    is_cds: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGain:
    """A gain that a session has.

    Parameters
    ----------
    name
        Path, or what it is called by.
    mode
        Of the camera when it was taken.
    taken_at
        When, with its offset from UTC; ``None`` where it is not known, which is before
        all others.

    Raises
    ------
    BadSettings
        A time without its offset.
    """

    name: str
    mode: CameraMode
    taken_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.taken_at is not None and self.taken_at.utcoffset() is None:
            raise BadSettings(
                f"The gain {self.name} has a time without a zone: {self.taken_at}.",
                hint="Give its offset from UTC.",
            )


def match_gain(
    gains: Iterable[KnownGain], mode: CameraMode, *, acquired_at: datetime | None
) -> KnownGain | None:
    """Choose the gain of a movie.

    Parameters
    ----------
    gains
        All that the session has.
    mode
        Of the movie.
    acquired_at
        When the movie was taken, with its offset from UTC; ``None`` takes the last
        gain.

    Returns
    -------
    KnownGain or None
        Of those whose mode fits: the one that fits most closely (the same shape before
        twice or half of it, known kV and CDS before unknown), of these the last that
        was taken before the movie, or else the first after it. ``None`` where no mode
        fits.
    """
    fitting = [one for one in gains if _fits(one.mode, mode)]
    if not fitting:
        return None
    closest = max(_closeness(one.mode, mode) for one in fitting)
    alike = sorted(
        (one for one in fitting if _closeness(one.mode, mode) == closest), key=_when
    )
    if acquired_at is None:
        return alike[-1]
    before = [one for one in alike if _when(one) <= acquired_at]
    return before[-1] if before else alike[0]


def _when(gain: KnownGain) -> datetime:
    return gain.taken_at or _LONG_AGO


def _fits(gain: CameraMode, movie: CameraMode) -> bool:
    if not any(
        has_fitting_shape(shape, frame_shape=movie.shape)
        for shape in (gain.shape, gain.shape[::-1])
    ):
        return False
    return all(
        known is None or wanted is None or known == wanted
        for known, wanted in (
            (gain.voltage_kv, movie.voltage_kv),
            (gain.is_cds, movie.is_cds),
        )
    )


def _closeness(gain: CameraMode, movie: CameraMode) -> tuple[bool, ...]:
    return (
        gain.shape == movie.shape,
        gain.shape[::-1] == movie.shape,
        gain.voltage_kv is not None and movie.voltage_kv is not None,
        gain.is_cds is not None and movie.is_cds is not None,
    )
