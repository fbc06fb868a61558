"""Orientations of particles: RELION's Euler angles, uniform or preferred.

A particle is turned by ``A = Rz(psi) Ry(tilt) Rz(rot)``, passive rotations as in RELION
and XMIPP (Heymann, Chagoyen & Belnap, J. Struct. Biol. 151 (2005) 196)::

    Rz(a) = [[cos a, sin a, 0], [-sin a, cos a, 0], [0, 0, 1]]
    Ry(a) = [[cos a, 0, -sin a], [0, 1, 0], [sin a, 0, cos a]]

A point ``r`` of the reference lies at ``A r`` of the view, whose image is the sum along
z. The third row of ``A`` is the view direction in the reference, with the longitude rot
and the distance tilt from +z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ViewPreference",
    "draw_orientations",
    "on_tilted_stage",
    "rotation_matrices",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPreference:
    """View directions that particles in ice prefer: clouds around a few of them.

    Parameters
    ----------
    share
        Share of the particles that prefer one, 0 to 1; the others lie anyhow.
    concentration
        Kappa of von Mises and Fisher: 0 is uniform, 10 a cloud of 18 degrees (the root
        mean square angle along one axis is about ``57 / sqrt(kappa)`` degrees).
    rot_tilt_deg
        ``((rot, tilt), ...)`` of the preferred views, equally often.

    Raises
    ------
    BadSettings
        A share outside 0 to 1, a concentration below 0, or no direction.
    """

    share: float
    concentration: float = 20.0
    rot_tilt_deg: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.0, 180.0))

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.concentration >= 0 and self.rot_tilt_deg):
            raise BadSettings(
                f"{self} is no preference.",
                hint="Share 0 to 1, concentration 0 or more, one direction or more.",
            )


def draw_orientations(
    generator: np.random.Generator,
    count: int,
    *,
    preference: ViewPreference | None = None,
) -> NDArray[np.float64]:
    """Draw orientations.

    Parameters
    ----------
    generator
        The source of randomness.
    count
        How many.
    preference
        Of view directions; ``None`` for uniform ones. In the plane of the image
        particles have any angle.

    Returns
    -------
    ndarray
        ``(count, 3)`` as rot, tilt, psi in degrees; rot and psi from -180 to 180, tilt
        from 0 to 180.
    """
    direction = _uniform_directions(generator, count)
    if preference is not None:
        prefers = generator.random(count) < preference.share
        drawn = _preferred_directions(generator, count, preference)
        direction = np.where(prefers[:, None], drawn, direction)
    rot = np.arctan2(direction[:, 1], direction[:, 0])
    tilt = np.arccos(np.clip(direction[:, 2], -1, 1))
    psi = generator.uniform(-np.pi, np.pi, count)
    angles_deg: NDArray[np.float64] = np.degrees(np.stack([rot, tilt, psi], axis=1))
    return angles_deg


def rotation_matrices(angles_deg: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the matrices of Euler angles, in the convention of this module.

    Parameters
    ----------
    angles_deg
        ``(*batch, 3)`` as rot, tilt, psi, degrees.

    Returns
    -------
    ndarray
        ``(*batch, 3, 3)``: take x, y, z of the reference to x, y, z of the view.
    """
    rot, tilt, psi = np.moveaxis(np.radians(angles_deg, dtype=np.float64), -1, 0)
    turns: NDArray[np.float64] = _about_z(psi) @ _about_y(tilt) @ _about_z(rot)
    return turns


def on_tilted_stage(
    angles_deg: NDArray[np.float64], *, tilt_deg: float, tilt_axis_deg: float
) -> NDArray[np.float64]:
    """Turn particles with the ice that they lie in.

    Parameters
    ----------
    angles_deg
        ``(n, 3)`` rot, tilt, psi against level ice.
    tilt_deg, tilt_axis_deg
        Of the stage, as `icestream.simulate.optics.Optics` has them.

    Returns
    -------
    NDArray
        ``(n, 3)`` rot, tilt, psi against the beam. A point at ``axis + 90`` degrees of
        a particle moves up along z, towards the source, for positive tilt.
    """
    if not tilt_deg or not len(angles_deg):
        return angles_deg
    axis = np.radians(tilt_axis_deg)
    turn = Rotation.from_rotvec(
        np.radians(tilt_deg) * np.array([np.cos(axis), np.sin(axis), 0.0])
    ).as_matrix()
    views = turn @ rotation_matrices(angles_deg)
    # The transpose is Rz(rot) Ry(tilt) Rz(psi) of active rotations.
    back = Rotation.from_matrix(views.transpose(0, 2, 1))
    angles: NDArray[np.float64] = back.as_euler("ZYZ", degrees=True)
    return angles


def _about_z(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    c, s, zero, one = _entries(angle)
    return _stacked([[c, s, zero], [-s, c, zero], [zero, zero, one]])


def _about_y(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    c, s, zero, one = _entries(angle)
    return _stacked([[c, zero, -s], [zero, one, zero], [s, zero, c]])


def _entries(angle: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)]


def _stacked(rows: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _uniform_directions(
    generator: np.random.Generator, count: int
) -> NDArray[np.float64]:
    direction = generator.standard_normal((count, 3))
    unit: NDArray[np.float64] = direction / np.linalg.norm(
        direction, axis=1, keepdims=True
    )
    return unit


def _preferred_directions(
    generator: np.random.Generator, count: int, preference: ViewPreference
) -> NDArray[np.float64]:
    """Draw from von Mises-Fisher clouds: on a sphere their cosine inverts exactly."""
    kappa = max(preference.concentration, 1e-6)
    share = generator.random(count)
    cosine = 1 + np.log(share + (1 - share) * np.exp(-2 * kappa)) / kappa
    sine = np.sqrt(np.clip(1 - cosine**2, 0, None))
    around = generator.uniform(-np.pi, np.pi, count)
    cloud = np.stack([sine * np.cos(around), sine * np.sin(around), cosine], axis=1)
    centre = np.array(preference.rot_tilt_deg, dtype=np.float64)
    angles_deg = np.concatenate([centre, np.zeros((len(centre), 1))], axis=1)
    chosen = generator.integers(len(centre), size=count)
    # The transpose takes +z to the direction with this rot and tilt.
    turned = np.einsum("nji,nj->ni", rotation_matrices(angles_deg)[chosen], cloud)
    return np.asarray(turned, dtype=np.float64)
