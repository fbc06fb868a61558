"""Which of several values for pixel size and dose holds, and where it comes from.

Pixel size: calibration table of the site, then the user, then the metadata. Dose: the
user, then the metadata, then the counts of the movie, which is an estimate. Zero means
unknown, and unknown stays so: no value is made up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.domain.exposure import ExposureMetadata

__all__ = [
    "CalibratedPixel",
    "Origin",
    "Settled",
    "settle_dose",
    "settle_pixel_size",
]

Origin: TypeAlias = Literal["calibration", "user", "metadata", "counts", "unknown"]

# A nominal pixel is some percent off; one of another magnification 15 % at least.
_PIXEL_DIFFERS, _DOSE_DIFFERS = 0.1, 0.2
_LARGEST_SCALE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedPixel:
    """One row of a site's calibration table.

    Parameters
    ----------
    magnification
        Nominal, as the microscope tells it.
    pixel_size_angst
        Of the camera's sensor, without binning and super-resolution, Å/px.
    detector
        As the metadata name it; ``None`` for any.

    Raises
    ------
    BadSettings
        A number that is not above zero.
    """

    magnification: int
    pixel_size_angst: float
    detector: str | None = None

    def __post_init__(self) -> None:
        if not (self.magnification > 0 and 0 < self.pixel_size_angst < math.inf):
            raise BadSettings(
                f"Calibration of {self.magnification} times as "
                f"{self.pixel_size_angst} Å/px cannot be.",
                hint="Give a magnification and a pixel size above zero.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A value, where it comes from, and what people should know about it.

    Parameters
    ----------
    value
        ``None`` where nothing is known.
    origin
        Which source it was taken from; ``counts`` is an estimate.
    notice
        Plain words; empty where there is nothing to say.
    """

    value: float | None
    origin: Origin
    notice: str = ""


def settle_pixel_size(
    frame_shape: tuple[int, int],
    *,
    metadata: ExposureMetadata | None = None,
    user_angst: float | None = None,
    calibration: Sequence[CalibratedPixel] = (),
) -> Settled:
    """Return the size of a pixel of the frames as they are stored, Å/px.

    Parameters
    ----------
    frame_shape
        Rows and columns of a decoded frame. Frames of twice the camera's shape have
        half its pixel.
    metadata
        Of the exposure; without them neither table nor metadata can speak.
    user_angst
        Of the frames as they are stored, as RELION is told it.
    calibration
        The site's table; the first row of that magnification and detector holds.

    Returns
    -------
    Settled
        In Å/px, with a notice where sources disagree or the shape fits no camera.
    """
    scale, notice = _frame_scale(frame_shape, metadata)
    nominal = _scaled(metadata.pixel_size_angst if metadata else None, scale)
    calibrated = _scaled(_calibrated(calibration, metadata), scale)
    values: list[tuple[Origin, float | None]] = [
        ("calibration", calibrated),
        ("user", user_angst or None),
        ("metadata", nominal),
    ]
    settled = _first(values, notice="The pixel size is unknown: give it by hand.")
    if settled.origin == "unknown":
        return settled
    said = [notice] if settled.origin != "user" and notice else []
    said += _disagreements(values, within=_PIXEL_DIFFERS, unit="Å/px")
    return Settled(value=settled.value, origin=settled.origin, notice=" ".join(said))


def settle_dose(
    *,
    metadata: ExposureMetadata | None = None,
    user_e_per_angst2: float | None = None,
    counted_e_per_px: float | None = None,
    pixel_size_angst: float | None = None,
) -> Settled:
    """Return the dose of a whole exposure, e/Å².

    Parameters
    ----------
    metadata
        Of the exposure.
    user_e_per_angst2
        Of the whole exposure.
    counted_e_per_px
        Mean of the sum of all frames, in electrons a pixel of the stored frames.
    pixel_size_angst
        Of the stored frames; without it counts tell nothing.

    Returns
    -------
    Settled
        In e/Å². From counts it is an estimate, and too low: electrons that ice stops
        or that the camera misses were in the dose. ``None`` where nothing is known:
        frames must not be weighted by dose then.
    """
    counted = None
    if counted_e_per_px and pixel_size_angst:
        counted = counted_e_per_px / pixel_size_angst**2
    values: list[tuple[Origin, float | None]] = [
        ("user", user_e_per_angst2 or None),
        ("metadata", metadata.dose_e_per_angst2 if metadata else None),
        ("counts", counted),
    ]
    unknown = "The dose is unknown: frames are not weighted by dose. Give it by hand."
    settled = _first(values, notice=unknown)
    said = [settled.notice] if settled.notice else []
    if settled.origin == "counts":
        said.append(
            f"The dose, {settled.value:.3g} e/Å², is an estimate from the counts of "
            "the movie, and rather too low."
        )
    said += _disagreements(values[:2], within=_DOSE_DIFFERS, unit="e/Å²")
    return Settled(value=settled.value, origin=settled.origin, notice=" ".join(said))


def _first(values: list[tuple[Origin, float | None]], *, notice: str) -> Settled:
    for origin, value in values:
        if value is None:
            continue
        if not 0 < value < math.inf:
            raise BadSettings(
                f"A value of {value} by the {origin} cannot be.",
                hint="It must be above zero; 0 means that it is not known.",
            )
        return Settled(value=value, origin=origin)
    return Settled(value=None, origin="unknown", notice=notice)


def _disagreements(
    values: list[tuple[Origin, float | None]], *, within: float, unit: str
) -> list[str]:
    """Say where the value that holds is far from the others."""
    known = [(origin, value) for origin, value in values if value]
    return [
        f"The {known[0][0]} says {known[0][1]:.4g} {unit}, the {origin} {value:.4g}."
        for origin, value in known[1:]
        if not math.isclose(known[0][1], value, rel_tol=within)
    ]


def _scaled(pixel_size_angst: float | None, scale: float) -> float | None:
    return pixel_size_angst / scale if pixel_size_angst else None


def _calibrated(
    calibration: Sequence[CalibratedPixel], metadata: ExposureMetadata | None
) -> float | None:
    if metadata is None or metadata.magnification is None:
        return None
    for row in calibration:
        is_detector = row.detector in (None, metadata.detector)
        if is_detector and row.magnification == metadata.magnification:
            return row.pixel_size_angst
    return None


def _frame_scale(
    frame_shape: tuple[int, int], metadata: ExposureMetadata | None
) -> tuple[float, str]:
    """Return pixels of the frame for one of the camera, and what is odd about it."""
    if metadata is None:
        return 1.0, ""
    if metadata.camera_shape is None:
        factor = metadata.super_resolution_factor or 1
        if factor == 1:
            return 1.0, ""
        return factor, (
            f"Frames of {frame_shape} px are taken to be in super-resolution, as the "
            "metadata say; they do not tell the camera's shape to check it by."
        )
    for shape in (metadata.camera_shape, metadata.camera_shape[::-1]):
        scale = _whole_scale(frame_shape, shape)
        if scale is not None:
            return scale, ""
    return 1.0, (
        f"Frames of {frame_shape} px are no whole multiple or part of the camera's "
        f"{metadata.camera_shape}: check the pixel size."
    )


def _whole_scale(frame: tuple[int, int], camera: tuple[int, int]) -> float | None:
    """Return by how much a frame is finer (2) or coarser (1/2) than the camera."""
    for factor in range(1, _LARGEST_SCALE + 1):
        if frame == (factor * camera[0], factor * camera[1]):
            return float(factor)
        if frame == (camera[0] // factor, camera[1] // factor):
            return 1 / factor
    return None
