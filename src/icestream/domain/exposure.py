"""What an instrument tells of one exposure, beside its movie."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from icestream.domain.errors import BadSettings

__all__ = ["ExposureMetadata"]

_POSITIVE = (
    "pixel_size_angst",
    "super_resolution_factor",
    "magnification",
    "voltage_kv",
    "dose_e_per_angst2",
    "frame_count",
    "exposure_s",
    "energy_slit_ev",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureMetadata:
    """What EPU or SerialEM wrote of one exposure; ``None`` where nothing is known.

    Parameters
    ----------
    pixel_size_angst
        Nominal size of a pixel of the camera's sensor, Å/px, without binning and
        without super-resolution.
    camera_shape
        Rows and columns of the sensor, or of the part that was read out, in those
        pixels.
    super_resolution_factor
        1, or 2 where the camera counted on a grid twice as fine. Whether the stored
        frames still have that grid, only their shape tells.
    magnification
        Nominal.
    voltage_kv
        kV.
    dose_e_per_angst2
        Of the whole exposure.
    frame_count
        Frames of the movie; EPU does not tell it for EER.
    exposure_s
        s.
    target_defocus_angst, applied_defocus_angst
        What was asked for, and what the lens was set to, > 0 is underfocus. EPU tells
        one value for both.
    stage_x_um, stage_y_um, stage_z_um, stage_alpha_deg
        Place and tilt of the stage.
    beam_shift_x, beam_shift_y
        As EPU counts them, without a unit: about 0.03 for 1 µm on the specimen.
    image_shift_x, image_shift_y
        As the file has them: µm from SerialEM; EPU leaves them at 0.
    grid_square, foil_hole
        EPU's numbers. For SerialEM the hole is the label of the navigator's point, and
        `position` tells the hole around it.
    position
        Place in the template of a hole: EPU's ``Data_<id>``; SerialEM's hole and
        position of a multishot, which begin anew with each multishot: there are as
        many as its pattern has places.
    detector
        As the program names it; for SerialEM its number: ``camera 1``.
    is_counting, is_cds
        Mode of the camera: electrons counted; correlated double sampling.
    is_phase_plate_used
        A phase plate was in the beam.
    energy_slit_ev
        Width of the filter's slit, where one was in.
    gain_reference
        File name, where the frames are not corrected and the program names it.
    movie_name
        File name that the movie had where it was written.
    acquired_at
        ISO 8601, with the offset from UTC where the file tells it: EPU does, SerialEM
        does not.

    Raises
    ------
    BadSettings
        A value that cannot be: no finite number, or not above zero where it must be.
    """

    pixel_size_angst: float | None = None
    camera_shape: tuple[int, int] | None = None
    super_resolution_factor: int | None = None
    magnification: int | None = None
    voltage_kv: float | None = None
    dose_e_per_angst2: float | None = None
    frame_count: int | None = None
    exposure_s: float | None = None
    target_defocus_angst: float | None = None
    applied_defocus_angst: float | None = None
    stage_x_um: float | None = None
    stage_y_um: float | None = None
    stage_z_um: float | None = None
    stage_alpha_deg: float | None = None
    beam_shift_x: float | None = None
    beam_shift_y: float | None = None
    image_shift_x: float | None = None
    image_shift_y: float | None = None
    grid_square: str | None = None
    foil_hole: str | None = None
    position: str | None = None
    detector: str | None = None
    is_counting: bool | None = None
    is_cds: bool | None = None
    is_phase_plate_used: bool | None = None
    energy_slit_ev: float | None = None
    gain_reference: str | None = None
    movie_name: str | None = None
    acquired_at: str | None = None

    def __post_init__(self) -> None:
        wrong = [
            name
            for name in _POSITIVE
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        wrong += [
            one.name
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), float)
            and not math.isfinite(value)
        ]
        if self.camera_shape is not None and min(self.camera_shape) < 1:
            wrong.append("camera_shape")
        if wrong:
            said = ", ".join(f"{name} is {getattr(self, name)}" for name in wrong)
            raise BadSettings(
                f"Metadata of an exposure cannot be: {said}.",
                hint="Leave out what is not known.",
            )

    def filled_by(self, other: ExposureMetadata) -> ExposureMetadata:
        """Return the same with what is unknown here taken from ``other``."""
        unknown = [one.name for one in fields(self) if getattr(self, one.name) is None]
        return replace(self, **{name: getattr(other, name) for name in unknown})
