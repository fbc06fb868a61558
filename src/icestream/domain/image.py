"""Files and images as they flow: what arrives and what it holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Micrograph", "Movie", "RawFile"]


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
    gain, gain_fingerprint
        Absolute path of the gain reference that its source has found for it, and a hash
        of its size and its first and last MiB; none where there is no gain.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    fingerprint: str
    setup: str
    gain: str | None = None
    gain_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movie:
    """A movie whose header was read, and what is known of how it was taken.

    Parameters
    ----------
    path
        Absolute path.
    height_px, width_px
        Rows and columns of a stored frame.
    frame_count
        Stored frames; raw ones of an EER movie.
    pixel_size_angst
        Of a stored frame, Å/px.
    dose_e_per_angst2
        Of the whole movie, e/Å2; ``None`` where neither user nor metadata know it.
    dose_origin
        Who knows it: ``user`` or ``metadata``; ``unknown`` where nobody does.
    may_count_dose
        Whether the counts may tell it, where nobody else does.
    setup
        Name of its acquisition setup.
    gain, gain_fingerprint
        Absolute path of its gain reference, and a hash of what is in it (empty where
        its source has not looked); none where it is corrected already.
    gain_mirror, gain_turn_deg, gain_divides
        What to do to the gain first, as in `AcquisitionSetup`.
    """

    path: str
    height_px: int
    width_px: int
    frame_count: int
    pixel_size_angst: float
    dose_e_per_angst2: float | None
    dose_origin: str
    may_count_dose: bool
    setup: str
    gain: str | None = None
    gain_fingerprint: str = ""
    gain_mirror: bool = False
    gain_turn_deg: int = 0
    gain_divides: bool = False


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
    spectrum, spectrum_pixel_size_angst
        Amplitude spectra of regions of the sum of all frames, without dose weights, for
        the CTF, relative to the session: a stack of ``(region, n, n // 2 + 1)``, zero
        frequency at ``[0, 0]``; and the pixel size that belongs to it. ``None`` where
        the image itself serves.
    spectrum_tile_count, spectrum_y_angst, spectrum_x_angst
        Tiles that each region's spectrum is the mean of, and where they lie on average,
        Å from the middle of the image.
    """

    path: str
    height_px: int
    width_px: int
    pixel_size_angst: float
    setup: str
    mean: float
    standard_deviation: float
    thumbnail: str
    spectrum: str | None = None
    spectrum_pixel_size_angst: float | None = None
    spectrum_tile_count: tuple[int, ...] = ()
    spectrum_y_angst: tuple[float, ...] = ()
    spectrum_x_angst: tuple[float, ...] = ()
