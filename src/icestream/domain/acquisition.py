"""How images were taken: what belongs to the microscope and not to a run."""

from __future__ import annotations

from dataclasses import dataclass

from icestream.domain.errors import BadSettings

__all__ = ["GAIN_SUFFIXES", "AcquisitionSetup", "OpticsGroup", "is_one_gain"]

GAIN_SUFFIXES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".dm3", ".dm4", ".gain")
"""How names of gain references end, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionSetup:
    """One way of taking images that stays the same from exposure to exposure.

    Parameters
    ----------
    name
        Name within the session, e.g. ``k2``.
    pixel_size_angst
        Pixel size of the stored image, Å/px.
    voltage_kv
        Acceleration voltage, kV.
    spherical_aberration_mm
        Spherical aberration Cs, mm.
    amplitude_contrast
        Fraction of amplitude contrast, 0 to 1.
    phase_plate
        A phase plate is in the beam: the phase shift is to be found with the defocus.
    dose_e_per_angst2
        Of a whole exposure, e/Å2; ``None`` where it is not known.
    vacuum_e_per_px
        What a pixel of a stored image has where there is no specimen, of a whole
        exposure and in the image's unit; ``None`` where it is not known.
    dose_before_e_per_angst2
        That the specimen has had before, e/Å2.
    gain
        Absolute path of the gain reference of its movies, of a folder of several, or a
        pattern with ``*``; none where they are corrected already.
    gain_mirror, gain_turn_deg, gain_divides
        What to do to the gain first: reverse its columns, then turn it by 0, 90, 180 or
        270 degrees; and whether counts are to be divided by it. The movies say if that
        is wrong.
    defects
        Absolute path of a list of the camera's defects.

    Raises
    ------
    BadSettings
        A value lies outside what an electron microscope can have.
    """

    name: str
    pixel_size_angst: float
    voltage_kv: float
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    phase_plate: bool = False
    dose_e_per_angst2: float | None = None
    vacuum_e_per_px: float | None = None
    dose_before_e_per_angst2: float = 0.0
    gain: str | None = None
    gain_mirror: bool = False
    gain_turn_deg: int = 0
    gain_divides: bool = False
    defects: str | None = None

    def __post_init__(self) -> None:
        for field, low, high, unit in (
            ("pixel_size_angst", 0.05, 100.0, "Å/px"),
            ("voltage_kv", 20.0, 1500.0, "kV"),
            ("spherical_aberration_mm", 0.0, 20.0, "mm"),
            ("amplitude_contrast", 0.0, 1.0, "a fraction"),
            ("dose_e_per_angst2", 0.01, 1000.0, "e/Å2; leave it out if not known"),
            ("vacuum_e_per_px", 1e-3, 1e9, "leave it out if not known"),
            ("dose_before_e_per_angst2", 0.0, 1000.0, "e/Å2"),
        ):
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise BadSettings(
                    f"Setup {self.name!r}: {field} is {value}.",
                    hint=f"It must lie between {low:g} and {high:g} ({unit}).",
                )
        for field in ("gain", "defects"):
            path = getattr(self, field)
            if path is not None and not path.startswith("/"):
                raise BadSettings(
                    f"Setup {self.name!r}: {field} is {path!r}.",
                    hint="Give an absolute path: a relative one would change its "
                    "meaning with the folder where the service is started.",
                )
        if self.gain_turn_deg not in (0, 90, 180, 270):
            raise BadSettings(
                f"Setup {self.name!r}: gain_turn_deg is {self.gain_turn_deg}.",
                hint="It must be 0, 90, 180 or 270.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticsGroup:
    """Exposures that share their optics, numbered from 1 as RELION wants it.

    ``is_of_beam`` says that it is one of several of its setup, for a place in the
    template of a hole or a beam shift.
    """

    number: int
    setup: AcquisitionSetup
    is_of_beam: bool = False

    @property
    def name(self) -> str:
        """The name that stands in a STAR file."""
        beam = f"_beam{self.number}" if self.is_of_beam else ""
        return f"{self.setup.name}{beam}"


def is_one_gain(where: str) -> bool:
    """Whether a setup's gain is one file: no folder, no pattern with ``*``."""
    return "*" not in where and where.lower().endswith(GAIN_SUFFIXES)
