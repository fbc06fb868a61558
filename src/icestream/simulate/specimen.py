"""What the beam goes through: hollow round particles in amorphous ice, as phases.

Everything here is a projected phase in rad. Numbers that are not measured are marked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from icestream.domain.errors import BadSettings
from icestream.domain.units import electron_wavelength_angst

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Specimen",
    "interaction_rad_per_volt_angst",
    "place_particles",
    "project_specimen",
    "shell_thickness_angst",
]

_ELECTRON_REST_KEV = 510.99895
# Mean inner potential of protein over that of vitreous ice, V (assumed; 1.5 to 2.5).
_PROTEIN_OVER_ICE_VOLT = 2.0
# Integral of the potential of one water molecule and of one carbon atom, V Å^3, from
# the scattering factors at zero angle; molecules and atoms a cubic Å.
_WATER_VOLT_ANGST3, _WATER_PER_ANGST3 = 143.0, 0.0314
_ATOM_VOLT_ANGST3, _ATOM_PER_ANGST3 = 120.0, 0.057
# Atoms of a protein are less disordered than random ones around 10 Å: the share of the
# power of random atoms that gives the rings of real apoferritin (EMPIAR-10146).
_PROTEIN_STRUCTURE_FACTOR = 0.35
# Water moves under the beam, so little of its spectrum survives an exposure: the share
# that gives the ring excess of a real 50 e/Å2 micrograph of 300 kV (0.0025 Å2 at 12 Å).
_STANDING_ICE = 0.1
_MOST_TRIES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """Hollow round particles, all alike, in one layer of ice.

    Parameters
    ----------
    particle_count
        Centres inside the image; 0 is ice only.
    particle_diameter_angst
        Outer diameter, Å.
    wall_thickness_angst
        Thickness of the wall, Å; half the diameter or more is a full ball.
    ice_thickness_angst
        Å.

    Raises
    ------
    BadSettings
        A size is 0 or less, or a count is negative.
    """

    particle_count: int
    particle_diameter_angst: float
    wall_thickness_angst: float
    ice_thickness_angst: float

    def __post_init__(self) -> None:
        sizes = (
            self.particle_diameter_angst,
            self.wall_thickness_angst,
            self.ice_thickness_angst,
        )
        if self.particle_count < 0 or not all(size > 0 for size in sizes):
            raise BadSettings(
                f"{self} cannot be.", hint="Sizes are above 0, counts 0 or more."
            )


def interaction_rad_per_volt_angst(voltage_kv: float) -> float:
    """Return the phase per volt and Å; 6.53e-4 rad/(V Å) at 300 kV."""
    wavelength_angst = electron_wavelength_angst(voltage_kv)
    relativistic = (_ELECTRON_REST_KEV + voltage_kv) / (
        2 * _ELECTRON_REST_KEV + voltage_kv
    )
    return 2 * math.pi / (wavelength_angst * voltage_kv * 1e3) * relativistic


def place_particles(
    generator: np.random.Generator,
    *,
    shape: tuple[int, int],
    count: int,
    distance_px: float,
    margin_px: int,
) -> NDArray[np.float64]:
    """Scatter centres that keep their distance, in an image and around it.

    Parameters
    ----------
    generator
        The source of randomness.
    shape
        ``(h, w)`` of the image, px.
    count
        How many lie inside the image.
    distance_px
        Least distance between two centres, px.
    margin_px
        Width of the frame around the image in which centres are as dense, px.

    Returns
    -------
    ndarray
        ``(n, 2)`` centres as y, x, px; the first ``count`` lie inside.

    Raises
    ------
    BadSettings
        There is no room for so many.
    """
    image = np.array(shape, dtype=float)
    canvas = image + 2 * margin_px
    outside_count = round(count * (canvas.prod() / image.prod() - 1))
    centres = np.empty((0, 2))
    for index in range(count + outside_count):
        is_inside = index < count
        low, high = (0, image) if is_inside else (-margin_px, image + margin_px)
        tries = generator.uniform(low, high, size=(_MOST_TRIES, 2)) - 0.5
        if not is_inside:
            beyond = (tries < -0.5) | (tries >= image - 0.5)
            tries = tries[beyond.any(axis=1)]
        squares = ((tries[:, None] - centres[None]) ** 2).sum(axis=2)
        free = tries[(squares >= distance_px**2).all(axis=1)]
        centres = np.concatenate([centres, free[:1]])
        if is_inside and not len(free):
            raise BadSettings(
                f"There is room for about {index} particles {distance_px:.0f} px apart"
                f" in {shape[1]} x {shape[0]} px, not for {count}.",
                hint="Ask for fewer or smaller particles, or a larger image.",
            )
    return centres


def shell_thickness_angst(
    radius_angst: NDArray[np.float64], specimen: Specimen
) -> NDArray[np.float64]:
    """Return how much protein a ray meets in a hollow ball.

    Parameters
    ----------
    radius_angst
        Distance of the ray from the centre, Å, any shape.
    specimen
        Says diameter and wall.

    Returns
    -------
    ndarray
        Length inside the wall, Å, same shape.
    """
    outer_angst = specimen.particle_diameter_angst / 2
    inner_angst = max(outer_angst - specimen.wall_thickness_angst, 0.0)
    outer, inner = (
        2 * np.sqrt(np.clip(edge_angst**2 - radius_angst**2, 0, None))
        for edge_angst in (outer_angst, inner_angst)
    )
    thickness: NDArray[np.float64] = outer - inner
    return thickness


def project_specimen(
    generator: np.random.Generator,
    specimen: Specimen,
    centres_px: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    pixel_size_angst: float,
    voltage_kv: float,
) -> NDArray[np.complex64]:
    """Return the transform of the phase that the specimen gives the wave.

    Parameters
    ----------
    generator
        The source of randomness.
    specimen
        Particles and ice.
    centres_px
        ``(n, 2)`` centres as y, x, px; they may lie outside.
    shape
        ``(h, w)``, px.
    pixel_size_angst
        Å/px.
    voltage_kv
        kV.

    Returns
    -------
    ndarray
        ``(h, w // 2 + 1)`` rfft2 of the phase in rad, less that of mean ice: > 0 where
        protein is.

    Notes
    -----
    Smooth balls alone would give no Thon rings beyond 20 Å as real protein does. So
    every particle has a texture of its own, of the power that as many randomly placed
    carbon atoms have. It is no structure: it averages out in a 2D class.
    """
    sigma = interaction_rad_per_volt_angst(voltage_kv)
    frequency = _frequency_per_angst(shape, pixel_size_angst)
    fall_off = 1 / (1 + (frequency / 0.47) ** 2)
    ice_power_rad2_angst2 = (
        _STANDING_ICE
        * _WATER_PER_ANGST3
        * specimen.ice_thickness_angst
        * (sigma * _WATER_VOLT_ANGST3 * fall_off) ** 2
        * _ice_structure_factor(frequency)
    )
    spectrum = _random_spectrum(
        generator, shape, np.sqrt(ice_power_rad2_angst2) / pixel_size_angst
    )
    if not len(centres_px):
        return spectrum
    thickness_angst = _protein_thickness_angst(
        specimen, centres_px, shape=shape, pixel_size_angst=pixel_size_angst
    )
    atoms_per_angst3 = _PROTEIN_STRUCTURE_FACTOR * _ATOM_PER_ANGST3
    per_atom = sigma * _ATOM_VOLT_ANGST3 * math.sqrt(atoms_per_angst3)
    texture = scipy.fft.irfft2(
        _random_spectrum(generator, shape, per_atom * fall_off / pixel_size_angst),
        s=shape,
    )
    phase = np.sqrt(thickness_angst) * texture
    phase += np.float32(sigma * _PROTEIN_OVER_ICE_VOLT) * thickness_angst
    spectrum += scipy.fft.rfft2(phase)
    return spectrum


def _protein_thickness_angst(
    specimen: Specimen,
    centres_px: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    pixel_size_angst: float,
) -> NDArray[np.float32]:
    thickness_angst = np.zeros(shape, dtype=np.float32)
    reach_px = specimen.particle_diameter_angst / 2 / pixel_size_angst + 1
    for y_px, x_px in centres_px:
        rows = _window(y_px, reach_px, shape[0])
        columns = _window(x_px, reach_px, shape[1])
        radius_px = np.hypot(
            np.arange(rows.start, rows.stop)[:, None] - y_px,
            np.arange(columns.start, columns.stop)[None, :] - x_px,
        )
        thickness_angst[rows, columns] += shell_thickness_angst(
            radius_px * pixel_size_angst, specimen
        )
    return thickness_angst


def _ice_structure_factor(
    frequency_per_angst: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return a rough one of vitreous ice: weak below 5 Å, peaks at 3.7 and 2.1 Å."""
    g = frequency_per_angst
    ramp = 0.9 / (1 + np.exp((0.22 - g) / 0.02))
    first = 1.5 * np.exp(-(((g - 1 / 3.7) / 0.02) ** 2) / 2)
    second = 0.5 * np.exp(-(((g - 1 / 2.1) / 0.03) ** 2) / 2)
    factor: NDArray[np.float32] = 0.1 + ramp + first + second
    return factor


def _window(centre_px: float, reach_px: float, side_px: int) -> slice:
    start, stop = math.floor(centre_px - reach_px), math.ceil(centre_px + reach_px) + 1
    return slice(*(min(max(edge, 0), side_px) for edge in (start, stop)))


def _frequency_per_angst(
    shape: tuple[int, int], pixel_size_angst: float
) -> NDArray[np.float32]:
    y = np.fft.fftfreq(shape[0], pixel_size_angst).astype(np.float32)[:, None]
    x = np.fft.rfftfreq(shape[1], pixel_size_angst).astype(np.float32)[None, :]
    frequency: NDArray[np.float32] = np.hypot(y, x)
    return frequency


def _random_spectrum(
    generator: np.random.Generator,
    shape: tuple[int, int],
    amplitude: NDArray[np.floating[Any]],
) -> NDArray[np.complex64]:
    """Return the rfft2 of white noise of variance 1 a pixel, times an amplitude."""
    spectrum: NDArray[np.complex64] = scipy.fft.rfft2(
        generator.standard_normal(shape, dtype=np.float32)
    )
    spectrum *= amplitude.astype(np.float32)
    return spectrum
