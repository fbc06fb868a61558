"""Write a small simulated acquisition: images as a camera leaves them, and truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes, replacing, write_mrc
from icestream.simulate.micrograph import SimulatedMicrograph, simulate_micrograph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import DTypeLike

__all__ = ["TRUTH_NAME", "simulate_acquisition"]

TRUTH_NAME = "truth.json"

_ASTIGMATISM_ANGST = (50.0, 400.0)
_LEAST_SHARE_OF_PARTICLES = 0.5


def simulate_acquisition(
    folder: Path,
    *,
    count: int,
    shape: tuple[int, int] = (1024, 1024),
    pixel_size_angst: float = 1.5,
    voltage_kv: float = 300.0,
    spherical_aberration_mm: float = 2.7,
    amplitude_contrast: float = 0.1,
    defocus_range_angst: tuple[float, float] = (8_000.0, 22_000.0),
    particle_count: int = 60,
    particle_diameter_angst: float = 125.0,
    dose_e_per_angst2: float = 40.0,
    blank_every: int | None = 10,
    dtype: DTypeLike = np.uint16,
    seed: int = 0,
    on_written: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write ``FoilHole_0001.mrc`` and so on, and ``truth.json`` beside them.

    Parameters
    ----------
    folder
        Where to; made if absent. Images of the same names are replaced.
    count
        How many images.
    shape, pixel_size_angst, dose_e_per_angst2, particle_diameter_angst
        As `simulate_micrograph` has them.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Of the microscope: kV, mm, fraction.
    defocus_range_angst
        Lowest and highest mean defocus, Å; drawn for each image.
    particle_count
        The most in one image; between half of that and that is drawn for each.
    blank_every
        Every so many-th image is ice only, a thing to be rejected or passed over;
        ``None`` for no such image.
    dtype
        uint16 (counts, as cameras write) or float16.
    seed
        The same seed and values write the same images.
    on_written
        Called with each path once it is complete.

    Returns
    -------
    list of Path
        The images, in order.

    Raises
    ------
    BadSettings
        A value that cannot be simulated.
    DiskFull, FolderUnavailable
        The folder could not be written.
    """
    if count < 1 or (blank_every is not None and blank_every < 1):
        raise BadSettings(
            f"{count} images with every {blank_every}th blank cannot be written.",
            hint="Both numbers are 1 or more.",
        )
    optics = {
        "pixel_size_angst": pixel_size_angst,
        "voltage_kv": voltage_kv,
        "spherical_aberration_mm": spherical_aberration_mm,
        "amplitude_contrast": amplitude_contrast,
    }
    with guarding_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    exposures: dict[str, Any] = {}
    for number in range(1, count + 1):
        is_blank = blank_every is not None and number % blank_every == 0
        # One generator an image: image 7 is the same in a run of 10 and of 1000.
        generator = np.random.default_rng([seed, number])
        micrograph = simulate_micrograph(
            shape=shape,
            **optics,
            **_draw_defocus(generator, defocus_range_angst),
            particle_count=0 if is_blank else _draw_count(generator, particle_count),
            particle_diameter_angst=particle_diameter_angst,
            dose_e_per_angst2=dose_e_per_angst2,
            seed=int(generator.integers(2**32)),
        )
        path = folder / f"FoilHole_{number:04d}.mrc"
        write_mrc(
            path, micrograph.image, pixel_size_angst=pixel_size_angst, dtype=dtype
        )
        exposures[path.name] = _truth(micrograph)
        paths.append(path)
        if on_written is not None:
            on_written(path)
    _write_truth(
        folder / TRUTH_NAME,
        optics | {"particle_diameter_angst": particle_diameter_angst},
        exposures,
    )
    return paths


def _draw_defocus(
    generator: np.random.Generator, range_angst: tuple[float, float]
) -> dict[str, float]:
    mean_angst = generator.uniform(*range_angst)
    astigmatism_angst = generator.uniform(*_ASTIGMATISM_ANGST)
    return {
        "defocus_u_angst": mean_angst + astigmatism_angst / 2,
        "defocus_v_angst": mean_angst - astigmatism_angst / 2,
        "defocus_angle_deg": generator.uniform(0, 180),
    }


def _draw_count(generator: np.random.Generator, most: int) -> int:
    return int(generator.integers(round(_LEAST_SHARE_OF_PARTICLES * most), most + 1))


def _truth(micrograph: SimulatedMicrograph) -> dict[str, Any]:
    ctf, coordinates = micrograph.ctf, micrograph.coordinates
    return {
        "defocus_u_angst": round(ctf.defocus_u_angst, 2),
        "defocus_v_angst": round(ctf.defocus_v_angst, 2),
        "defocus_angle_deg": round(ctf.defocus_angle_deg, 3),
        "phase_shift_deg": ctf.phase_shift_deg,
        "x_px": [round(float(x_px), 2) for x_px in coordinates.x_px],
        "y_px": [round(float(y_px), 2) for y_px in coordinates.y_px],
    }


def _write_truth(
    path: Path, common: dict[str, float], exposures: dict[str, Any]
) -> None:
    text = json.dumps({**common, "exposures": exposures}, indent=1)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
