"""The XML that EPU writes beside each picture and each exposure."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from icestream.simulate.instrument.markup import NIL, element, text

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["FALCON_4I", "K3", "EpuCamera", "EpuImage", "EpuOutput", "image_xml"]

EpuOutput: TypeAlias = Literal["tiff", "eer"]

_SHARED = "http://schemas.datacontract.org/2004/07/Fei.SharedObjects"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_ARRAYS = {"xmlns:a": "http://schemas.microsoft.com/2003/10/Serialization/Arrays"}
_DRAWING = {"xmlns:a": "http://schemas.datacontract.org/2004/07/System.Drawing"}
_MEDIA = {"xmlns:a": "http://schemas.datacontract.org/2004/07/System.Windows.Media"}
_UNITS = {"xmlns:a": "http://schemas.datacontract.org/2004/07/Fei.Common.Types"}
_TYPES = {"xmlns:a": "http://schemas.datacontract.org/2004/07/Fei.Types"}
_SCHEMA = {"xmlns:b": "http://www.w3.org/2001/XMLSchema"}
_INTERFACE = {
    "xmlns:b": (
        "http://schemas.datacontract.org/2004/07/Fei.Applications.Common.Omp.Interface"
    )
}
_KINDS = {bool: "boolean", int: "long", float: "double", str: "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpuCamera:
    """A camera as EPU names it.

    Parameters
    ----------
    name
        ``EF-CCD`` (Gatan behind a filter), ``EF-Falcon`` or ``BM-Falcon``.
    commercial_name
        Such as ``BioQuantum K3`` or ``Falcon 4i``.
    location
        ``EnergyFilter`` or ``BottomMounted``.
    shape
        Rows and columns of the sensor, px.
    output
        Kind of movie: ``tiff`` with fractions, or ``eer``.
    binning
        Of the picture that EPU keeps beside the movie. The pixel size and the read-out
        area in its XML are those of this picture, not of the movie.
    super_resolution_factor
        1, or 2 for a camera that counts on a grid twice as fine.
    frame_rate_hz
        Raw frames a second; told for EER only.
    """

    name: str
    commercial_name: str
    location: str
    shape: tuple[int, int]
    output: EpuOutput
    binning: int = 1
    super_resolution_factor: int = 1
    frame_rate_hz: float


K3 = EpuCamera(
    name="EF-CCD",
    commercial_name="BioQuantum K3",
    location="EnergyFilter",
    shape=(4092, 5760),
    output="tiff",
    binning=2,
    super_resolution_factor=2,
    frame_rate_hz=1500.0,
)
FALCON_4I = EpuCamera(
    name="EF-Falcon",
    commercial_name="Falcon 4i",
    location="EnergyFilter",
    shape=(4096, 4096),
    output="eer",
    frame_rate_hz=317.76,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpuImage:
    """What the XML beside one picture says.

    Parameters
    ----------
    camera
        That took it.
    taken_at
        With its offset from UTC.
    pixel_size_angst
        Å/px of the camera's physical pixels.
    exposure_s
        Of the whole exposure, s.
    dose_e_per_angst2
        Of the whole exposure, as the camera counted it.
    fraction_count
        Frames of the movie; ``None`` for pictures without one, and for EER.
    applied_defocus_angst
        > 0 is underfocus; EPU writes it in metres with the other sign.
    stage_um
        x, y and z.
    stage_tilt_deg
        Alpha and beta.
    beam_shift, beam_tilt, image_shift
        x and y as the microscope counts them, no unit.
    voltage_kv, magnification, spot_index
        Of the column.
    slit_ev
        Width of the filter's slit; ``None`` where it is not inserted.
    rotation_deg
        From the stage's x axis to the camera's.
    is_phase_plate_used, is_gain_applied
        A phase plate is in the beam; the movie is multiplied by the gain reference.
    gain_reference
        Of an EER movie: path of the ``.gain`` file.
    instrument_id, software_version
        As the instrument says them.

    Notes
    -----
    EPU's XML has no spherical aberration: it belongs to the microscope's profile. In
    files of EPU 2.6 to 3.9, ``Dose`` differs by a percent between the shots of one
    hole: it is measured. ``DoseOnCamera`` is that of a pixel of the picture, and
    ``DoseRate`` that of the smallest pixel that the camera counts on.
    """

    camera: EpuCamera
    taken_at: datetime
    pixel_size_angst: float
    exposure_s: float
    dose_e_per_angst2: float
    fraction_count: int | None = None
    applied_defocus_angst: float = 0.0
    stage_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stage_tilt_deg: tuple[float, float] = (0.0, 0.0)
    beam_shift: tuple[float, float] = (0.0, 0.0)
    beam_tilt: tuple[float, float] = (0.0, 0.0)
    image_shift: tuple[float, float] = (0.0, 0.0)
    voltage_kv: float = 300.0
    magnification: int = 165_000
    spot_index: int = 5
    slit_ev: float | None = 20.0
    rotation_deg: float = 0.0
    is_phase_plate_used: bool = False
    is_gain_applied: bool = False
    gain_reference: str = ""
    instrument_id: str = "3632"
    software_version: str = "3.9.1.8206"

    @property
    def readout_shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        height_px, width_px = self.camera.shape
        return height_px // self.camera.binning, width_px // self.camera.binning

    @property
    def dose_on_camera_e_per_px(self) -> float:
        """Electrons in a pixel of the picture."""
        picture_pixel_angst = self.pixel_size_angst * self.camera.binning
        return self.dose_e_per_angst2 * picture_pixel_angst**2


def image_xml(image: EpuImage, *, name: str) -> bytes:
    """Return the XML of one picture.

    Parameters
    ----------
    image
        What it says.
    name
        Of the picture, without ending: with the time, it gives its identity.

    Returns
    -------
    bytes
        One line without declaration, in the order of EPU 3.9.
    """
    root = element(
        "MicroscopeImage",
        element("name", "Empty"),
        element("uniqueID", str(_identity(image, "image", name))),
        _custom_data(image),
        element("IntensityScale", attributes=NIL),
        _reference_transformation(image),
        _spatial_scale(image),
        element(
            "microscopeData",
            _acquisition(image),
            _core(image, name),
            _gun(image),
            _instrument(image),
            _optics(image),
            element("sample", _nil("Description"), _nil("ID")),
            _stage(image),
            element("vacuum", element("VacuumMode", "Ready")),
        ),
        attributes={"xmlns": _SHARED, "xmlns:i": _INSTANCE},
    )
    return root.encode()


def _identity(image: EpuImage, purpose: str, name: str) -> uuid.UUID:
    """Return the same number for the same picture, so that files can be compared."""
    what = f"{purpose} {name} {image.taken_at.isoformat()}"
    return uuid.uuid5(uuid.NAMESPACE_OID, what)


def _is_eer(image: EpuImage) -> bool:
    """Whether a movie of electrons belongs to it."""
    return image.camera.output == "eer" and bool(image.gain_reference)


def _nil(tag: str) -> str:
    return element(tag, attributes=NIL)


def _value(tag: str, value: str | float | bool) -> str:
    return element(tag, text(value))


def _pair(key: str, value: str | float | bool) -> str:
    attributes = {"i:type": f"b:{_KINDS[type(value)]}"} | _SCHEMA
    return element(
        "a:KeyValueOfstringanyType",
        element("a:Key", text(key)),
        element("a:Value", text(value), attributes=attributes),
    )


def _custom_data(image: EpuImage) -> str:
    camera = image.camera
    prefix = f"Detectors[{camera.name}]"
    finest = camera.binning * camera.super_resolution_factor
    rate = image.dose_on_camera_e_per_px / finest**2 / image.exposure_s
    rows: dict[str, str | float | bool] = {
        "DoseOnCamera": float(image.dose_on_camera_e_per_px),
        "Aperture[C2].Name": "50",
        "Aperture[OBJ].Name": "100",
        "StemMagnification": False,
        f"{prefix}.CommercialName": camera.commercial_name,
        f"{prefix}.ElectronCounted": True,
        "DoseRate": float(rate),
    }
    if _is_eer(image):
        rows |= {
            f"{prefix}.EerGainReference": image.gain_reference,
            f"{prefix}.ExposureTime": float(image.exposure_s),
            f"{prefix}.FrameRate": float(camera.frame_rate_hz),
            f"{prefix}.TotalDose": float(image.dose_on_camera_e_per_px),
        }
    rows |= {
        "IlluminationIntensity": 0.0,
        "Dose": float(image.dose_e_per_angst2 * 1e20),
        "PhasePlateUsed": image.is_phase_plate_used,
        "BinaryResult.Detector": camera.name,
        "DetectorCommercialName": camera.commercial_name,
        "AppliedDefocus": float(-image.applied_defocus_angst / 1e10),
    }
    pairs = (_pair(key, value) for key, value in rows.items())
    return element("CustomData", *pairs, attributes=_ARRAYS)


def _unit() -> str:
    backing = "a:_x003C_{}_x003E_k__BackingField"
    return element(
        "unit",
        _value(backing.format("PrefixExponent"), 1),
        _value(backing.format("Symbol"), "m"),
        attributes=_UNITS,
    )


def _picture_pixel_size_m(image: EpuImage) -> float:
    return image.pixel_size_angst * image.camera.binning * 1e-10


def _reference_transformation(image: EpuImage) -> str:
    size_m, angle = _picture_pixel_size_m(image), math.radians(image.rotation_deg)
    along, across = size_m * math.cos(angle), size_m * math.sin(angle)
    matrix = {"11": along, "12": across, "21": across, "22": -along}
    return element(
        "ReferenceTransformation",
        element(
            "matrix",
            *(_value(f"a:_m{place}", value) for place, value in matrix.items()),
            *(_value(f"a:_{name}", 0) for name in ("offsetX", "offsetY", "padding")),
            _value("a:_type", "TRANSFORM_IS_UNKNOWN"),
            attributes=_MEDIA,
        ),
        _unit(),
    )


def _spatial_scale(image: EpuImage) -> str:
    def both(tag: str, value: float) -> str:
        length = _value("numericValue", value) + _unit()
        return element(tag, element("x", length), element("y", length))

    size_m = _picture_pixel_size_m(image)
    return element("SpatialScale", both("offset", 0), both("pixelSize", size_m))


def _vector(tag: str, values: tuple[float, float]) -> str:
    content = (_value(f"a:_{axis}", v) for axis, v in zip("xy", values, strict=True))
    return element(tag, *content, attributes=_TYPES)


def _acquisition(image: EpuImage) -> str:
    camera = image.camera
    height_px, width_px = image.readout_shape
    area = {"height": height_px, "width": width_px, "x": 0, "y": 0}
    return element(
        "acquisition",
        _value("acquisitionDateTime", image.taken_at.isoformat()),
        element("analyticalDetectors"),
        element(
            "camera",
            element(
                "Binning",
                *(_value(f"a:{axis}", camera.binning) for axis in "xy"),
                attributes=_DRAWING,
            ),
            _value("CameraLocation", camera.location),
            _camera_input(image),
            _value(
                "DarkGainCorrection", "DarkGain" if image.is_gain_applied else "None"
            ),
            # What was asked for; the movie is as long as its raw frames.
            _value("ExposureTime", round(image.exposure_s, 2)),
            _value("FixedReadoutArea", "Full"),
            _value("Inserted", value=True),
            _value("Name", camera.name),
            *(_value(tag, 0) for tag in ("PreExposurePauseTime", "PreExposureTime")),
            element(
                "ReadoutArea",
                *(_value(f"a:{name}", side) for name, side in area.items()),
                attributes=_DRAWING,
            ),
            _value("Shutter", "PreSpecimen"),
        ),
    )


def _camera_input(image: EpuImage) -> str:
    return element(
        "CameraSpecificInput",
        _pair("AlignIntegratedImageEnabled", value=False),
        _pair("SuperResolutionFactor", image.camera.super_resolution_factor),
        element(
            "a:KeyValueOfstringanyType",
            element("a:Key", "FractionationSettings"),
            _fractionation(image),
        ),
        _pair("ElectronCountingEnabled", value=True),
        _pair("FixedReadoutArea", "Full"),
        attributes=_ARRAYS,
    )


def _fractionation(image: EpuImage) -> str:
    if image.fraction_count is not None:
        return element(
            "a:Value",
            _value("b:NumberOffractions", image.fraction_count),
            attributes={"i:type": "b:EquidistantFractionation"} | _INTERFACE,
        )
    if _is_eer(image):
        attributes = {"i:type": "b:EerFractionation"} | _INTERFACE
        return element("a:Value", attributes=attributes)
    return element("a:Value", attributes=NIL)


def _core(image: EpuImage, name: str) -> str:
    return element(
        "core",
        _value("ApplicationSoftware", "EPU"),
        _value("ApplicationSoftwareVersion", image.software_version),
        _value("Guid", str(_identity(image, "core", name))),
    )


def _gun(image: EpuImage) -> str:
    return element(
        "gun",
        _value("AccelerationVoltage", round(image.voltage_kv * 1000)),
        _value("ExtractorVoltage", 4250),
        _nil("Filament"),
        _value("GunLens", 4),
        _value("Sourcetype", "FieldEmission"),
    )


def _instrument(image: EpuImage) -> str:
    model = f"SIMULATED-{image.instrument_id}"
    return element(
        "instrument",
        _value("ComputerName", model),
        _value("InstrumentID", image.instrument_id),
        _value("InstrumentModel", model),
    )


def _optics(image: EpuImage) -> str:
    return element(
        "optics",
        _nil("Apertures"),
        _value("BeamDiameter", 8.3e-07),
        _vector("BeamShift", image.beam_shift),
        _vector("BeamTilt", image.beam_tilt),
        _value("ColumnOperatingMode", "TEM"),
        _value("ColumnOperatingTemSubMode", "BrightField"),
        _value("Defocus", -image.applied_defocus_angst / 1e10),
        _value("EFTEMOn", image.slit_ev is not None),
        _energy_filter(image),
        _value("IlluminationMode", "Parallel"),
        _vector("ImageShift", image.image_shift),
        _value("ObjectiveLensMode", "HM"),
        _value("ProbeMode", "NanoProbe"),
        _value("ProjectorMode", "Imaging"),
        _value("SpotIndex", image.spot_index),
        element(
            "TemMagnification", _value("NominalMagnification", image.magnification)
        ),
    )


def _energy_filter(image: EpuImage) -> str:
    if image.slit_ev is None:
        return _nil("EnergyFilter")
    return element(
        "EnergyFilter",
        _value("EnergySelectionSlitInserted", value=True),
        _value("EnergySelectionSlitWidth", image.slit_ev),
    )


def _stage(image: EpuImage) -> str:
    alpha, beta = (math.radians(angle) for angle in image.stage_tilt_deg)
    metres = (value * 1e-6 for value in image.stage_um)
    places = zip("ABXYZ", (alpha, beta, *metres), strict=True)
    return element(
        "stage",
        _value("Holder", "Unspecified"),
        element("Position", *(_value(axis, value) for axis, value in places)),
        _value("SampleLoader", "None"),
    )
