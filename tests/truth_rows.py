"""Rows of truth that are made by hand, for the tests of the truth and of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.simulate.exposure import FieldParticles
from icestream.simulate.truth import ExposureTruth, Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

ABOUT = {
    "shape": [400, 600],
    "species": [
        {"name": "large", "diameter_angst": 100.0, "state": 0},
        {"name": "small", "diameter_angst": 20.0, "state": 0},
    ],
    "seed": 7,
}
PIXEL_ANGST = 2.0


def field_particles(
    places_yx_px: ArrayLike,
    *,
    species: Sequence[int] | None = None,
    overlaps: Sequence[bool] | None = None,
) -> FieldParticles:
    """Make particles at places (y, x), of the first species unless given."""
    places = np.array(places_yx_px, dtype=np.float64).reshape(-1, 2)
    count = len(places)
    angles = np.linspace(0, 90, count)
    return FieldParticles(
        species=np.array(species or [0] * count, dtype=np.int16),
        x_px=places[:, 1],
        y_px=places[:, 0],
        z_angst=angles - 40,
        rot_deg=angles,
        tilt_deg=angles * 2,
        psi_deg=angles * 4,
        overlaps=np.array(overlaps or [False] * count, dtype=np.bool_),
    )


def row(number: int = 1, **changes: Any) -> ExposureTruth:
    """Make a good exposure in ``FoilHole_0001.mrc`` and so on, without particles."""
    values: dict[str, Any] = {
        "number": number,
        "file": f"FoilHole_{number:04d}.mrc",
        "taken_at_s": 9.0 * (number - 1),
        "grid": 1,
        "square": 1,
        "hole": number,
        "area": 1,
        "beam_group": 1,
        "defect": None,
        "faults": (),
        "pixel_size_angst": PIXEL_ANGST,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.07,
        "frame_count": 3,
        "dose_e_per_angst2": 40.0,
        "target_defocus_angst": 10_000.0,
        "defocus_u_angst": 10_100.0 + 100 * number,
        "defocus_v_angst": 9_900.0 + 100 * number,
        "defocus_angle_deg": 30.0,
        "phase_shift_deg": 0.0,
        "tilt_deg": 0.0,
        "tilt_axis_deg": 0.0,
        "beam_tilt_x_mrad": 0.0,
        "beam_tilt_y_mrad": 0.0,
        "thickness_angst": np.full((5, 5), 300, np.float32),
        "motion_angst": np.zeros((3, 4, 4, 2), np.float32),
        "masked": np.zeros((4, 4), np.float32),
        "particles": field_particles([]),
    }
    return ExposureTruth(**(values | changes))


def truth(*rows: ExposureTruth, **about: Any) -> Truth:
    """Make the truth of an acquisition."""
    return Truth(about=ABOUT | about, exposures=rows)
