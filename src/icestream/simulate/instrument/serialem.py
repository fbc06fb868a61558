"""Write the ``.mdoc`` files that SerialEM puts beside its movies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = ["SerialemExposure", "frame_set_name", "mdoc_text", "write_mdoc"]

_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialemExposure:
    """One frame set.

    Parameters
    ----------
    movie_path
        Windows path on the camera's PC.
    taken_at
        In the time zone of that PC.
    frame_count
        Frames in the movie.
    dose_e_per_angst2, dose_rate_e_per_px_s
        Of the whole exposure, from the calibration of the beam without a specimen; what
        the camera counted behind the specimen. In a real mdoc of a thick lamella the
        second is a tenth of the first.
    exposure_s
        s.
    pixel_size_angst
        Å/px of the stored frames: in super-resolution half of the physical pixel.
    binning
        1, or 0.5 for super-resolution.
    shape
        Rows and columns of the stored frames, px.
    gain_reference
        File name; empty where the frames are corrected.
    defocus_um, target_defocus_um
        Of the lens, and wanted; < 0 is underfocus, as SerialEM writes it.
    stage_um, tilt_deg
        x, y, z; alpha.
    image_shift_um
        x and y.
    slit_ev
        ``None`` without a filter.
    magnification, rotation_deg, spot_index, intensity, camera_index
        Of the microscope.
    navigator_label, hole_and_position
        Of the map point, and of multiple records there (``hole-position``); empty
        without.
    """

    movie_path: str
    taken_at: datetime
    frame_count: int
    dose_e_per_angst2: float
    exposure_s: float
    pixel_size_angst: float
    shape: tuple[int, int]
    binning: float = 1.0
    dose_rate_e_per_px_s: float = 10.0
    gain_reference: str = ""
    defocus_um: float = -1.5
    target_defocus_um: float = -1.5
    stage_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt_deg: float = 0.0
    image_shift_um: tuple[float, float] = (0.0, 0.0)
    slit_ev: float | None = 20.0
    magnification: int = 105_000
    rotation_deg: float = 178.4
    spot_index: int = 5
    intensity: float = 0.114
    camera_index: int = 1
    navigator_label: str = ""
    hole_and_position: str = ""


def frame_set_name(root: str, number: int, *, taken_at: datetime) -> str:
    """Return a movie's name as SerialEM numbers them: ``root_00042_Oct08_07.39.05``."""
    month = _MONTHS[taken_at.month - 1]
    return f"{root}_{number:05d}_{month}{taken_at:%d_%H.%M.%S}"


def mdoc_text(
    exposures: Sequence[SerialemExposure],
    *,
    microscope: str = "Simulated Krios",
    voltage_kv: float = 300.0,
) -> str:
    """Return the text of an mdoc file.

    Parameters
    ----------
    exposures
        One where each movie has its own file; all where a session has one.
    microscope
        As its title line says.
    voltage_kv
        kV.

    Raises
    ------
    BadSettings
        No exposure.
    """
    if not exposures:
        raise BadSettings("An mdoc without an exposure.", hint="Give one at least.")
    opened_at = exposures[0].taken_at
    blocks = [
        f"T = SerialEM: {microscope:<45} {_date(opened_at)}  {opened_at:%H:%M:%S}    ",
        f"Voltage = {voltage_kv:g}",
        "",
    ]
    for number, exposure in enumerate(exposures):
        blocks.append(f"[FrameSet = {number}]")
        rows = {**_column(exposure), **_movie(exposure)}
        blocks += [f"{key} = {value}" for key, value in rows.items()]
        blocks.append("")
    return "\r\n".join(blocks)


def write_mdoc(
    path: Path,
    exposures: Sequence[SerialemExposure],
    *,
    microscope: str = "Simulated Krios",
    voltage_kv: float = 300.0,
) -> None:
    """Write an mdoc file, as `mdoc_text` has it.

    Parameters
    ----------
    path
        ``<movie>.mdoc``, with the ending of the movie kept; its folder is made.
    exposures, microscope, voltage_kv
        As `mdoc_text` has them.

    Raises
    ------
    BadSettings
        No exposure.
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    content = mdoc_text(exposures, microscope=microscope, voltage_kv=voltage_kv)
    with guarding_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("ascii", "replace"))


def _date(time: datetime) -> str:
    # strftime follows the locale; SerialEM is always English.
    return f"{time:%d}-{_MONTHS[time.month - 1]}-{time:%y}"


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _column(exposure: SerialemExposure) -> dict[str, str]:
    """Return what concerns the microscope, in SerialEM's order."""
    gain = {"GainReference": exposure.gain_reference} if exposure.gain_reference else {}
    x_um, y_um, z_um = exposure.stage_um
    return gain | {
        "TiltAngle": _numbers(exposure.tilt_deg),
        "StagePosition": _numbers(x_um, y_um),
        "StageZ": _numbers(z_um),
        "Magnification": str(exposure.magnification),
        "Intensity": _numbers(exposure.intensity),
        "ExposureDose": _numbers(exposure.dose_e_per_angst2),
        "DoseRate": _numbers(exposure.dose_rate_e_per_px_s),
        "PixelSpacing": _numbers(exposure.pixel_size_angst),
        "SpotSize": str(exposure.spot_index),
        "Defocus": _numbers(exposure.defocus_um),
        "ImageShift": _numbers(*exposure.image_shift_um),
        "RotationAngle": _numbers(exposure.rotation_deg),
        "ExposureTime": _numbers(exposure.exposure_s),
        "Binning": _numbers(exposure.binning),
        "CameraIndex": str(exposure.camera_index),
        "DividedBy2": "0",
        "OperatingMode": "1",
        "UsingCDS": "0",
        "MagIndex": "26",
        "LowDoseConSet": "4",
        "CountsPerElectron": "1",
        "TargetDefocus": _numbers(exposure.target_defocus_um),
    }


def _movie(exposure: SerialemExposure) -> dict[str, str]:
    """Return what concerns the movie."""
    frame_dose = exposure.dose_e_per_angst2 / exposure.frame_count
    rows = {
        "SubFramePath": exposure.movie_path,
        "NumSubFrames": str(exposure.frame_count),
        "FrameDosesAndNumber": f"{_numbers(frame_dose)} {exposure.frame_count}",
        "DateTime": f"{_date(exposure.taken_at)}  {exposure.taken_at:%H:%M:%S}",
    }
    if exposure.navigator_label:
        rows["NavigatorLabel"] = exposure.navigator_label
    if exposure.hole_and_position:
        rows["MultishotHoleAndPosition"] = exposure.hole_and_position
    if exposure.slit_ev is not None:
        rows["FilterSlitAndLoss"] = f"{_numbers(exposure.slit_ev)} 0"
    # A K3 in super-resolution says a quarter of the sides of its frames.
    height_px, width_px = (round(side * exposure.binning**2) for side in exposure.shape)
    return rows | {"UncroppedSize": f"{-width_px} {-height_px}"}
