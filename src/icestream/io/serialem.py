"""Read the ``.mdoc`` file that SerialEM writes beside each movie."""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings, IncompleteFile, UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.io.access import read_at, reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["read_mdoc"]

_LARGEST_BYTES = 4 << 20
_SECTION = re.compile(r"\[(\w+)\s*=\s*(.*?)\s*\]")
_DATE = re.compile(r"(\d{1,2})-([A-Z][a-z]{2})-(\d{4}|\d{2})\s+(\d\d:\d\d:\d\d)")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
# Gatan's cameras: SerialEM may bin the image without the frames.
_GATAN_SHAPES, _GATAN_BINNINGS = ((3710, 3838), (4092, 5760)), (0.5, 1, 2, 4, 8)
_ANGST_PER_UM = 1e4


def read_mdoc(path: Path) -> ExposureMetadata:
    """Read the mdoc of one movie of single particles.

    Parameters
    ----------
    path
        ``<movie>.mdoc``, with one ``[FrameSet = 0]``.

    Returns
    -------
    ExposureMetadata
        In RELION's units; what the file does not tell is ``None``.

    Raises
    ------
    UnreadableFile
        It is no mdoc, damaged, that of a tilt series, a montage or of several movies,
        or holds what cannot be.
    IncompleteFile
        It is empty or ends within a line.

    Notes
    -----
    ``PixelSpacing`` is that of ``Binning``, which is 0.5 in super-resolution: divided
    by it, it is the camera's pixel, and unknown without it. ``ExposureDose`` comes from
    the calibration of the beam; where it is 0, the sum over ``FrameDosesAndNumber`` is
    taken, and 0 there too means unknown.
    """
    rows = _frame_set(path, _lines(path))
    try:
        return _metadata(rows)
    except (ValueError, OverflowError, BadSettings) as error:
        raise UnreadableFile(
            f"{path} holds what cannot be: {error}",
            hint="Transfer it again, or look at it; it is not used.",
        ) from error


def _lines(path: Path) -> Sequence[str]:
    with reading(path) as file:
        content = read_at(file, 0, _LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise UnreadableFile(
            f"{path} is larger than {_LARGEST_BYTES >> 20} MiB: no mdoc of one movie.",
            hint="SerialEM can write one for each movie.",
        )
    if not content.endswith(b"\n"):
        raise IncompleteFile(
            f"{path} ends within a line.",
            hint="Wait until it is written, or transfer it again.",
        )
    return content.decode("latin-1").splitlines()


def _frame_set(path: Path, lines: Sequence[str]) -> Mapping[str, str]:
    """Return keys and values before the first section and in the only frame set."""
    rows: dict[str, str] = {}
    sections = []
    for line in lines:
        section = _SECTION.match(line)
        if section is None:
            key, is_pair, value = line.partition("=")
            if is_pair:
                rows[key.strip()] = value.strip()
        elif section[1] != "T":
            sections.append(section[1])
    if sections == ["FrameSet"]:
        return rows
    raise UnreadableFile(
        f"{path} is {_other_kind(sections, rows)}.",
        hint="The mdoc of a movie has one [FrameSet = 0]; let SerialEM save one for "
        "each frame stack.",
    )


def _other_kind(sections: Sequence[str], rows: Mapping[str, str]) -> str:
    if "FrameSet" in sections:
        return f"an mdoc of {len(sections)} movies, not of one"
    if "PieceCoordinates" in rows or rows.get("Montage") == "1":
        return "the mdoc of a montage, not of a movie of single particles"
    if "ZValue" in sections:
        return "the mdoc of an image stack or tilt series, not of a movie"
    return "no mdoc of SerialEM: it has no section for a movie"


def _numbers(rows: Mapping[str, str], key: str) -> tuple[float, ...]:
    values = tuple(float(word) for word in rows.get(key, "").split())
    if not all(math.isfinite(one) for one in values):
        raise ValueError(f"{key} is {rows[key]!r}.")
    return values


def _number(
    rows: Mapping[str, str], key: str, factor: float = 1.0, *, at: int = 0
) -> float | None:
    values = _numbers(rows, key)
    return values[at] * factor if at < len(values) else None


def _known(rows: Mapping[str, str], key: str, factor: float = 1.0) -> float | None:
    """Return a number for which zero means unknown."""
    return _number(rows, key, factor) or None


def _count(rows: Mapping[str, str], key: str) -> int | None:
    return round(float(rows[key])) if rows.get(key) else None


def _metadata(rows: Mapping[str, str]) -> ExposureMetadata:
    binning = _known(rows, "Binning")
    if binning is not None and binning < 0:
        raise ValueError(f"Binning is {binning:g}.")
    camera, uses_cds = rows.get("CameraIndex"), rows.get("UsingCDS")
    position = rows.get("MultishotHoleAndPosition", "")
    return ExposureMetadata(
        pixel_size_angst=_known(rows, "PixelSpacing", 1 / binning) if binning else None,
        camera_shape=_camera_shape(rows, binning) if binning else None,
        super_resolution_factor=max(1, round(1 / binning)) if binning else None,
        magnification=_count(rows, "Magnification") or None,
        voltage_kv=_known(rows, "Voltage"),
        dose_e_per_angst2=_known(rows, "ExposureDose") or _frame_doses(rows),
        frame_count=_count(rows, "NumSubFrames") or None,
        exposure_s=_known(rows, "ExposureTime"),
        target_defocus_angst=_number(rows, "TargetDefocus", -_ANGST_PER_UM),
        applied_defocus_angst=_number(rows, "Defocus", -_ANGST_PER_UM),
        stage_x_um=_number(rows, "StagePosition"),
        stage_y_um=_number(rows, "StagePosition", at=1),
        stage_z_um=_number(rows, "StageZ"),
        stage_alpha_deg=_number(rows, "TiltAngle"),
        image_shift_x=_number(rows, "ImageShift"),
        image_shift_y=_number(rows, "ImageShift", at=1),
        foil_hole=rows.get("NavigatorLabel") or None,
        position=" ".join(position.split()) or None,
        detector=f"camera {camera}" if camera else None,
        is_cds=uses_cds == "1" if uses_cds else None,
        energy_slit_ev=_known(rows, "FilterSlitAndLoss"),
        gain_reference=_file_name(rows, "GainReference"),
        movie_name=_file_name(rows, "SubFramePath"),
        acquired_at=_time(rows.get("DateTime")),
    )


def _file_name(rows: Mapping[str, str], key: str) -> str | None:
    return PureWindowsPath(rows.get(key, "")).name or None


def _frame_doses(rows: Mapping[str, str]) -> float | None:
    """Return the sum over pairs of a dose a frame and a number of frames."""
    values = _numbers(rows, "FrameDosesAndNumber")
    return sum(a * b for a, b in zip(values[::2], values[1::2], strict=False)) or None


def _camera_shape(rows: Mapping[str, str], binning: float) -> tuple[int, int] | None:
    """Return the sensor's shape, where the size of the image tells it."""
    size = _numbers(rows, "UncroppedSize")
    if len(size) != 2 or not all(size):
        return None
    width, height = (abs(side) for side in size)
    for shape in _GATAN_SHAPES:
        if any((height * times, width * times) == shape for times in _GATAN_BINNINGS):
            return shape
    if binning < 1:
        return None
    return round(height * binning), round(width * binning)


def _time(text: str | None) -> str | None:
    if not text:
        return None
    found = _DATE.fullmatch(text)
    month = _MONTHS.find(found[2]) if found else -1
    if found is None or month % 3:
        raise ValueError(f"DateTime is {text!r}.")
    year = found[3] if len(found[3]) == 4 else f"20{found[3]}"
    iso = f"{year}-{month // 3 + 1:02d}-{int(found[1]):02d}T{found[4]}"
    return datetime.fromisoformat(iso).isoformat()
