"""When an exposure belongs to another acquisition setup than the one before it.

A change of shape, pixel size, voltage or mode of the camera opens a new one. What is
not known, because metadata are late or missing, is no change.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icestream.domain.exposure import ExposureMetadata

__all__ = ["KnownSetup", "SetupKey", "assign_setup", "setup_key"]

# The same pixel told with other digits; the least step of a magnification is 15 %.
_SAME_PIXEL = 1e-3


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
        for one in fields(self):
            ours, theirs = getattr(self, one.name), getattr(other, one.name)
            if ours is None or theirs is None or ours == theirs:
                continue
            is_pixel = one.name == "pixel_size_angst"
            if not (is_pixel and math.isclose(ours, theirs, rel_tol=_SAME_PIXEL)):
                return False
        return True

    def filled_by(self, other: SetupKey) -> SetupKey:
        """Return the same with what is unknown here taken from ``other``."""
        unknown = [one.name for one in fields(self) if getattr(self, one.name) is None]
        return replace(self, **{name: getattr(other, name) for name in unknown})


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSetup:
    """A setup of the session: a name that stays, and what is known of it by now."""

    name: str
    key: SetupKey


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
    known: tuple[KnownSetup, ...], key: SetupKey
) -> tuple[tuple[KnownSetup, ...], KnownSetup]:
    """Find the setup of an exposure, or open a new one.

    Parameters
    ----------
    known
        Setups so far, in the order they were opened.
    key
        Of the exposure.

    Returns
    -------
    tuple
        The setups with this one, and this one. Where several agree because little is
        known of the exposure, it is the last of them. A setup learns what it did not
        know; its name stays.
    """
    for at in reversed(range(len(known))):
        if known[at].key.agrees_with(key):
            found = replace(known[at], key=known[at].key.filled_by(key))
            return (*known[:at], found, *known[at + 1 :]), found
    names, name, count = {one.name for one in known}, key.name, 1
    while name in names:
        count += 1
        name = f"{key.name}_{count}"
    opened = KnownSetup(name=name, key=key)
    return (*known, opened), opened
