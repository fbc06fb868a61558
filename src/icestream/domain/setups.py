"""When an exposure belongs to another acquisition setup than the one before it.

A change of shape, pixel size, voltage or mode of the camera opens a new one. What is
not known, because metadata are late or missing, is no change. The new one is a copy of
the one that its source declares, but for what is known to differ.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from icestream.domain.exposure import ExposureMetadata

__all__ = ["KnownSetup", "SetupChange", "SetupKey", "assign_setup", "setup_key"]

# The same value told with other digits; the least step of a magnification is 15 %.
_SAME = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupKey:
    """What makes two exposures comparable.

    Parameters
    ----------
    frame_shape
        Rows and columns of the stored frames.
    pixel_size_angst
        Of the stored frames, Å/px.
    voltage_kv, detector, super_resolution_factor, is_counting, is_cds
        As `ExposureMetadata` has them.
    """

    frame_shape: tuple[int, int]
    pixel_size_angst: float | None = None
    voltage_kv: float | None = None
    detector: str | None = None
    super_resolution_factor: int | None = None
    is_counting: bool | None = None
    is_cds: bool | None = None

    @property
    def name(self) -> str:
        """Name in letters that suit a file and a STAR, from what is known."""
        rows, columns = self.frame_shape
        parts = [
            self.detector and re.sub(r"[^a-z0-9]+", "-", self.detector.lower()),
            f"{columns}x{rows}",
            self.pixel_size_angst and f"{self.pixel_size_angst:.4g}A",
            self.voltage_kv and f"{self.voltage_kv:g}kV",
            "linear" if self.is_counting is False else None,
            "cds" if self.is_cds else None,
        ]
        return "_".join(part for part in parts if part)

    def agrees_with(self, other: SetupKey) -> bool:
        """Whether nothing that both know differs."""
        return not self.differences(other)

    def differences(self, other: SetupKey) -> tuple[str, ...]:
        """Say what of this is known to differ from another."""
        pairs = {
            one.name: (getattr(self, one.name), getattr(other, one.name))
            for one in fields(self)
        }
        return tuple(
            f"{name} is {_shown(ours)}, not {_shown(theirs)}"
            for name, (ours, theirs) in pairs.items()
            if not (ours is None or theirs is None or _is_alike(ours, theirs))
        )

    def filled_by(self, other: SetupKey) -> SetupKey:
        """Return the same with what is unknown here taken from ``other``."""
        unknown = [one.name for one in fields(self) if getattr(self, one.name) is None]
        return replace(self, **{name: getattr(other, name) for name in unknown})


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupChange:
    """How a setup that was opened differs from the declared one it is a copy of.

    Parameters
    ----------
    declared
        Name of that one.
    pixel_factor
        Its pixel size over the declared one.
    pixel_size_angst
        Its pixel size in place of that, where only metadata tell it, Å/px.
    voltage_kv
        kV; ``None`` for that of the declared one.
    keeps_gain, keeps_defects, keeps_dose
        Whether what was declared of these holds here too.

    Notes
    -----
    The pixel follows the ratio of what the metadata say of both: what a user knows
    better than they do (where the camera stands, what was binned) holds for both. A
    gain holds for frames of the same, twice or half the sides on the same detector, a
    list of defects for the same frames, a dose for the same pixel and voltage.
    """

    declared: str
    pixel_factor: float = 1.0
    pixel_size_angst: float | None = None
    voltage_kv: float | None = None
    keeps_gain: bool = True
    keeps_defects: bool = True
    keeps_dose: bool = True

    @classmethod
    def between(cls, declared: KnownSetup, key: SetupKey) -> SetupChange:
        """Compare a new setup's key with what is known of the declared one."""
        old = declared.key
        factor, pixel_angst = 1.0, None
        if old.pixel_size_angst is None:
            pixel_angst = key.pixel_size_angst
        elif key.pixel_size_angst is not None:
            factor = key.pixel_size_angst / old.pixel_size_angst
        is_other_camera = None not in (old.detector, key.detector) and (
            old.detector != key.detector
        )
        is_same_frame = old.frame_shape == key.frame_shape and not is_other_camera
        is_same_voltage = _is_alike(old.voltage_kv, key.voltage_kv)
        voltage_kv = None if is_same_voltage else key.voltage_kv
        is_same_pixel = pixel_angst is None and _is_alike(factor, 1.0)
        return cls(
            declared=declared.name,
            pixel_factor=1.0 if is_same_pixel else factor,
            pixel_size_angst=pixel_angst,
            voltage_kv=voltage_kv,
            keeps_gain=not is_other_camera
            and _is_scaled(old.frame_shape, key.frame_shape),
            keeps_defects=is_same_frame,
            keeps_dose=is_same_pixel and voltage_kv is None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSetup:
    """A setup of the session: a name that stays, and what is known of it by now.

    ``change`` says what it is a copy of; ``None`` where it is declared itself.
    """

    name: str
    key: SetupKey
    change: SetupChange | None = None


def setup_key(
    frame_shape: tuple[int, int],
    *,
    pixel_size_angst: float | None,
    metadata: ExposureMetadata | None = None,
) -> SetupKey:
    """Return what identifies the setup of one exposure.

    Parameters
    ----------
    frame_shape
        Rows and columns of a decoded frame.
    pixel_size_angst
        Of the stored frames, as `settle_pixel_size` returns it, Å/px.
    metadata
        Of the exposure, where there are any.
    """
    key = SetupKey(frame_shape=frame_shape, pixel_size_angst=pixel_size_angst)
    if metadata is None:
        return key
    return replace(
        key,
        voltage_kv=metadata.voltage_kv,
        detector=metadata.detector,
        super_resolution_factor=metadata.super_resolution_factor,
        is_counting=metadata.is_counting,
        is_cds=metadata.is_cds,
    )


def assign_setup(
    known: tuple[KnownSetup, ...],
    key: SetupKey,
    *,
    now: str | None = None,
    taken: Collection[str] = (),
) -> tuple[tuple[KnownSetup, ...], KnownSetup]:
    """Find the setup of an exposure, or open a new one.

    Parameters
    ----------
    known
        Setups so far, in the order they were opened; the first is the declared one.
    key
        Of the exposure.
    now
        Name of the setup that it has by now, where it has one: it stays there if it
        can.
    taken
        Names that no new setup may have.

    Returns
    -------
    tuple
        The setups with this one, and this one. Where several agree because little is
        known of the exposure, it is the last of them. A setup learns what it did not
        know; its name stays.
    """
    fitting = [at for at, one in enumerate(known) if one.key.agrees_with(key)]
    if fitting:
        at = next((at for at in fitting if known[at].name == now), fitting[-1])
        found = replace(known[at], key=known[at].key.filled_by(key))
        return (*known[:at], found, *known[at + 1 :]), found
    names = {one.name for one in known}.union(taken)
    name, count = key.name, 1
    while name in names:
        count += 1
        name = f"{key.name}_{count}"
    change = SetupChange.between(known[0], key) if known else None
    opened = KnownSetup(name=name, key=key, change=change)
    return (*known, opened), opened


def _is_alike(one: object, other: object) -> bool:
    """Whether two values are the same, but for digits of what was measured."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME)
    return one == other


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_scaled(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether frames have the same sides, or twice or half of them."""
    return any(
        (up * one[0], up * one[1]) == (down * other[0], down * other[1])
        for up, down in ((1, 1), (1, 2), (2, 1))
    )
