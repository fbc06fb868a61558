"""Files and images as they flow: what arrives and what it holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Micrograph", "RawFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """A complete file in an acquisition folder.

    Parameters
    ----------
    path
        Absolute path.
    size_bytes, mtime_ns
        As seen when it was taken.
    fingerprint
        Hash of path, size, mtime and the first and last MiB.
    setup
        Name of the acquisition setup that its source declares.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    fingerprint: str
    setup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Micrograph:
    """A decoded and checked image of one exposure.

    Parameters
    ----------
    path
        The image: absolute in an acquisition folder, or relative to the session.
    height_px, width_px
        Rows and columns.
    pixel_size_angst
        Å/px.
    setup
        Name of its acquisition setup.
    mean, standard_deviation
        Of all pixels, in the file's unit.
    thumbnail
        A small picture, relative to the session.
    """

    path: str
    height_px: int
    width_px: int
    pixel_size_angst: float
    setup: str
    mean: float
    standard_deviation: float
    thumbnail: str
