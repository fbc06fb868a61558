"""Read the XML that EPU writes beside each exposure, and its names."""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import PurePath, PureWindowsPath
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.io.markup import parse_xml

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from pathlib import Path

__all__ = ["exposure_stem", "read_epu_name", "read_epu_xml"]

_NAME = re.compile(r"FoilHole_(\d+)_Data_(\d+)_(?:\d+_)?\d{8}_\d{6}")
_SQUARE = re.compile(r"GridSquare_(\d+)")
_PAIR, _DEEPEST = "KeyValueOfstringanyType", 32
_CAMERA = "microscopeData/acquisition/camera"
_OPTICS = "microscopeData/optics"
_STAGE = "microscopeData/stage/Position"
_FRACTIONATION = f"{_CAMERA}/CameraSpecificInput/FractionationSettings"
_ANGST_PER_M, _UM_PER_M, _PER_ANGST2 = 1e10, 1e6, 1e-20


def exposure_stem(name: str) -> str:
    """Return the name of an exposure from that of one of its files.

    Parameters
    ----------
    name
        ``FoilHole_1_Data_2_3_20200101_121212_fractions.tiff``, ``..._EER.eer``,
        ``....xml``; a name of another kind loses its ending only.
    """
    found = _NAME.match(name)
    return found[0] if found else PurePath(name).stem


def read_epu_name(path: PurePath) -> ExposureMetadata:
    """Return what the names of an EPU exposure and of its folders tell.

    Parameters
    ----------
    path
        Of the movie or the XML; it need not exist.

    Returns
    -------
    ExposureMetadata
        Grid square, foil hole and position; empty for names of another kind.
    """
    found = _NAME.match(path.name)
    if found is None:
        return ExposureMetadata()
    squares = [one for part in path.parts if (one := _SQUARE.fullmatch(part))]
    return ExposureMetadata(
        grid_square=squares[-1][1] if squares else None,
        foil_hole=found[1],
        position=found[2],
    )


def read_epu_xml(path: Path) -> ExposureMetadata:
    """Read the XML of an exposure.

    Parameters
    ----------
    path
        ``FoilHole_..._<date>_<time>.xml``, or its sister ``..._Fractions.xml``, which
        tells no optics but the frames that were recorded and how long they took.

    Returns
    -------
    ExposureMetadata
        In RELION's units; what the file does not tell is ``None``.

    Raises
    ------
    UnreadableFile
        It is damaged, hostile, of another kind, or holds what cannot be.
    IncompleteFile
        It is empty or ends too early.

    Notes
    -----
    Pixel size and read-out area are those of the picture that EPU keeps, which may be
    binned; divided and multiplied by that binning they are the camera's. ``Defocus``
    of the optics counts from an arbitrary zero and is not read. The dose is that of
    the exposure as the camera counted it.
    """
    root = parse_xml(path)
    kind = root.tag.rpartition("}")[2]
    try:
        if kind == "MicroscopeImage":
            return _of_image(_Rows(root)).filled_by(read_epu_name(path))
        if kind == "Acquisition":
            return _of_fractions(_Rows(root)).filled_by(read_epu_name(path))
    except (ValueError, OverflowError, BadSettings) as error:
        raise UnreadableFile(
            f"{path} holds what cannot be: {error}",
            hint="Transfer it again, or look at it; it is not used.",
        ) from error
    raise UnreadableFile(
        f"{path} is no XML of an EPU exposure: it holds {kind[:50]!r}.",
        hint="Those of EPU hold 'MicroscopeImage', or 'Acquisition' for fractions.",
    )


class _Rows:
    """The texts of a document by the path of local names, whatever the namespaces.

    Lists of keys and values count as elements with those names.
    """

    def __init__(self, root: ET.Element) -> None:
        self._texts: dict[str, list[str]] = {}
        self._add(root, "", 0)

    def _add(self, element: ET.Element, folder: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"elements are nested more than {_DEEPEST} deep.")
        for child in element:
            name, value = child.tag.rpartition("}")[2], child
            if name == _PAIR and len(child) == 2:
                name, value = child[0].text or "", child[1]
            path = folder + name
            if len(value):
                self._add(value, f"{path}/", depth + 1)
            elif value.text:
                self._texts.setdefault(path, []).append(value.text)

    def texts(self, path: str) -> list[str]:
        """Return all texts of a path, in their order."""
        return self._texts.get(path, [])

    def text(self, path: str) -> str | None:
        """Return the first; ``None`` where it is nil, empty or absent."""
        texts = self._texts.get(path)
        return texts[0].strip() or None if texts else None

    def number(self, path: str, factor: float = 1.0) -> float | None:
        """Return a number; ``None`` also where it is not finite."""
        text = self.text(path)
        value = math.nan if text is None else float(text) * factor
        return value if math.isfinite(value) else None

    def known(self, path: str, factor: float = 1.0) -> float | None:
        """Return a number for which zero means unknown."""
        return self.number(path, factor) or None

    def count(self, path: str) -> int | None:
        """Return a whole number for which zero means unknown."""
        text = self.text(path)
        return None if text is None else round(float(text)) or None

    def is_true(self, path: str) -> bool | None:
        """Return what is said, if anything."""
        text = self.text(path)
        return None if text is None else text.lower() == "true"


def _of_image(rows: _Rows) -> ExposureMetadata:
    defocus_angst = rows.number("CustomData/AppliedDefocus", -_ANGST_PER_M)
    is_slit_in = rows.is_true(f"{_OPTICS}/EnergyFilter/EnergySelectionSlitInserted")
    slit_ev = rows.known(f"{_OPTICS}/EnergyFilter/EnergySelectionSlitWidth")
    optics = ExposureMetadata(
        magnification=rows.count(f"{_OPTICS}/TemMagnification/NominalMagnification"),
        voltage_kv=rows.known("microscopeData/gun/AccelerationVoltage", 1e-3),
        dose_e_per_angst2=rows.known("CustomData/Dose", _PER_ANGST2),
        target_defocus_angst=defocus_angst,
        applied_defocus_angst=defocus_angst,
        stage_x_um=rows.number(f"{_STAGE}/X", _UM_PER_M),
        stage_y_um=rows.number(f"{_STAGE}/Y", _UM_PER_M),
        stage_z_um=rows.number(f"{_STAGE}/Z", _UM_PER_M),
        stage_alpha_deg=rows.number(f"{_STAGE}/A", math.degrees(1)),
        beam_shift_x=rows.number(f"{_OPTICS}/BeamShift/_x"),
        beam_shift_y=rows.number(f"{_OPTICS}/BeamShift/_y"),
        image_shift_x=rows.number(f"{_OPTICS}/ImageShift/_x"),
        image_shift_y=rows.number(f"{_OPTICS}/ImageShift/_y"),
        is_phase_plate_used=rows.is_true("CustomData/PhasePlateUsed"),
        energy_slit_ev=slit_ev if is_slit_in else None,
    )
    return optics.filled_by(_of_camera(rows))


def _of_camera(rows: _Rows) -> ExposureMetadata:
    settings, name = f"{_CAMERA}/CameraSpecificInput", rows.text(f"{_CAMERA}/Name")
    binning = rows.count(f"{_CAMERA}/Binning/x") or 1
    gain = rows.text(f"CustomData/Detectors[{name}].EerGainReference")
    pixel = "SpatialScale/pixelSize/x/numericValue"
    return ExposureMetadata(
        pixel_size_angst=rows.known(pixel, _ANGST_PER_M / binning),
        camera_shape=_camera_shape(rows, binning),
        super_resolution_factor=rows.count(f"{settings}/SuperResolutionFactor"),
        frame_count=_fraction_count(rows),
        # EER tells how long its raw frames took, else there is what was asked for.
        exposure_s=rows.known(f"CustomData/Detectors[{name}].ExposureTime")
        or rows.known(f"{_CAMERA}/ExposureTime"),
        detector=rows.text("CustomData/DetectorCommercialName") or name,
        is_counting=rows.is_true(f"{settings}/ElectronCountingEnabled"),
        gain_reference=PureWindowsPath(gain).name if gain else None,
        acquired_at=_time(rows.text("microscopeData/acquisition/acquisitionDateTime")),
    )


def _camera_shape(rows: _Rows, binning: int) -> tuple[int, int] | None:
    height_px = rows.count(f"{_CAMERA}/ReadoutArea/height")
    width_px = rows.count(f"{_CAMERA}/ReadoutArea/width")
    if height_px is None or width_px is None:
        return None
    return height_px * binning, width_px * binning


def _fraction_count(rows: _Rows) -> int | None:
    """Return the fractions that were asked for: a number, or a list of them."""
    listed = rows.texts(f"{_FRACTIONATION}/DoseFractions/anyType/StartFrameNumber")
    return rows.count(f"{_FRACTIONATION}/NumberOffractions") or len(listed) or None


def _time(text: str | None) -> str | None:
    return None if text is None else datetime.fromisoformat(text).isoformat()


def _of_fractions(rows: _Rows) -> ExposureMetadata:
    times_s = [float(text) for text in rows.texts("Fractions/Fraction/ExposureTime")]
    return ExposureMetadata(
        frame_count=rows.count("Info/RecordedNumberOfFractions"),
        exposure_s=sum(times_s) or None,
    )
