"""Particles in and around an image: which, where, how high and how turned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from icestream.domain.errors import BadSettings
from icestream.simulate.bounds import check_number
from icestream.simulate.orientations import draw_orientations, on_tilted_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from icestream.simulate.exposure import Recipe
    from icestream.simulate.optics import Optics
    from icestream.simulate.orientations import ViewPreference

__all__ = ["FieldParticles", "Species", "draw_particles"]

_MOST_TRIES = 64
_AT_INTERFACE_ANGST = 15.0  # standard deviation of the distance of those that stick


@dataclass(frozen=True, slots=True, kw_only=True)
class Species:
    """One kind of particle in the ice.

    Parameters
    ----------
    name
        Without white space.
    diameter_angst
        Å; neighbours keep about that distance.
    state
        Number of the conformation.
    share
        Relative number.
    preference
        Of view directions; ``None`` for uniform ones.
    sheet_angst
        Thickness of what lies flat at a surface of the ice (denatured protein), Å: it
        is seen along its z axis, from above or below. ``None`` for a particle.

    Raises
    ------
    BadSettings
        A value that cannot be.
    """

    name: str
    diameter_angst: float
    state: int = 0
    share: float = 1.0
    preference: ViewPreference | None = None
    sheet_angst: float | None = None

    def __post_init__(self) -> None:
        if self.name.split() != [self.name]:
            raise BadSettings(
                f"A species called {self.name!r} cannot be.",
                hint="Give it a name without white space.",
            )
        check_number("diameter_angst", self.diameter_angst, above=0)
        check_number("state", self.state, least=0)
        check_number("share", self.share, least=0)
        if self.sheet_angst is not None:
            check_number("sheet_angst", self.sheet_angst, above=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldParticles:
    """Every particle in and around an image, as columns of one length.

    Parameters
    ----------
    species
        Index into the species of the recipe.
    x_px, y_px
        Centres in frame 0, px; the first pixel's centre is (0, 0). Some lie outside
        the image and reach into it.
    z_angst
        Height above the middle of the ice along the beam, towards the source, Å.
    rot_deg, tilt_deg, psi_deg
        Euler angles as `icestream.simulate.orientations` has them.
    overlaps
        Whether another centre lies nearer than the mean of both diameters.
    """

    species: NDArray[np.int16]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    z_angst: NDArray[np.float64]
    rot_deg: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    psi_deg: NDArray[np.float64]
    overlaps: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.species)


def draw_particles(
    generator: np.random.Generator,
    recipe: Recipe,
    *,
    count: int,
    thickness_angst: float,
    optics: Optics,
) -> FieldParticles:
    """Scatter particles in the ice of an image and around it.

    Parameters
    ----------
    generator
        The source of randomness.
    recipe
        Species, shape, pixel size.
    count
        How many centres lie inside the image, as far as there is room.
    thickness_angst
        Of the ice: two thirds stick to one of its surfaces, Å.
    optics
        Its tilt of the stage: particles turn with the ice, whose path along the beam is
        longer then. A sheet stays flat.

    Returns
    -------
    FieldParticles
        As dense in a margin of a diameter around the image as inside it.
    """
    species = _draw_species(generator, recipe.species, count, recipe)
    diameters_angst = np.array([one.diameter_angst for one in recipe.species], float)
    places = _scatter(generator, recipe, species, diameters_angst)
    species = species[: len(places)]
    angles = np.zeros((len(species), 3))
    for index, one in enumerate(recipe.species):
        chosen = species == index
        drawn = draw_orientations(
            generator, int(chosen.sum()), preference=one.preference
        )
        angles[chosen] = on_tilted_stage(
            drawn, tilt_deg=optics.tilt_deg, tilt_axis_deg=optics.tilt_axis_deg
        )
        if one.sheet_angst is not None:
            angles[chosen, 1] = np.where(angles[chosen, 1] < 90, 0.0, 180.0)
    heights_angst = _heights(generator, recipe.species, species, thickness_angst)
    return FieldParticles(
        species=species.astype(np.int16),
        x_px=places[:, 1],
        y_px=places[:, 0],
        z_angst=heights_angst / math.cos(math.radians(optics.tilt_deg)),
        rot_deg=angles[:, 0],
        tilt_deg=angles[:, 1],
        psi_deg=angles[:, 2],
        overlaps=_overlap(places, diameters_angst[species] / recipe.pixel_size_angst),
    )


def _draw_species(
    generator: np.random.Generator,
    species: Sequence[Species],
    count: int,
    recipe: Recipe,
) -> NDArray[np.int64]:
    """Of those inside and of those in the margin; the largest margin holds them all."""
    if not count:
        return np.empty(0, dtype=np.int64)
    shares = np.array([one.share for one in species])
    image = np.array(recipe.shape, dtype=float)
    margin_px = max(s.diameter_angst for s in species) / recipe.pixel_size_angst
    total = round(count * float(((image + 2 * margin_px) / image).prod()))
    return generator.choice(len(species), size=total, p=shares / shares.sum())


def _scatter(
    generator: np.random.Generator,
    recipe: Recipe,
    species: NDArray[np.int64],
    diameters_angst: NDArray[np.float64],
) -> NDArray[np.float64]:
    """``(n, 2)`` y and x; the first that finds no room ends it."""
    if not len(species):
        return np.empty((0, 2))
    image = np.array(recipe.shape, dtype=float)
    margin_px = diameters_angst.max() / recipe.pixel_size_angst
    diameters_px = diameters_angst[species] / recipe.pixel_size_angst
    places = np.empty((0, 2))
    for index, diameter_px in enumerate(diameters_px):
        tries = generator.uniform(
            -margin_px - 0.5, image + margin_px - 0.5, size=(_MOST_TRIES, 2)
        )
        if generator.random() >= recipe.touching_share:
            least_px = 0.525 * (diameter_px + diameters_px[:index])
            squares = ((tries[:, None] - places[None]) ** 2).sum(axis=2)
            tries = tries[(squares >= least_px**2).all(axis=1)]
        if not len(tries):
            break
        places = np.concatenate([places, tries[:1]])
    return places


def _heights(
    generator: np.random.Generator,
    kinds: Sequence[Species],
    species: NDArray[np.int64],
    thickness_angst: float,
) -> NDArray[np.float64]:
    """Two thirds at the surfaces, the others anywhere between; all within the ice.

    Sheets lie at a surface, all of them.
    """
    heights_angst = [one.sheet_angst or one.diameter_angst for one in kinds]
    is_sheet = np.array([one.sheet_angst is not None for one in kinds], bool)[species]
    half_angst = np.array(heights_angst, float)[species] / 2
    room = np.maximum(thickness_angst / 2 - half_angst, 0)
    sticks = generator.random(len(species)) < 2 / 3
    side = generator.choice([-1.0, 1.0], size=len(species))
    off = np.abs(generator.normal(0, _AT_INTERFACE_ANGST, len(species)))
    off[is_sheet] = 0
    inside = generator.uniform(-1, 1, len(species)) * room
    heights: NDArray[np.float64] = np.where(
        sticks | is_sheet, side * np.maximum(room - off, 0), inside
    )
    return heights


def _overlap(
    places: NDArray[np.float64], diameters_px: NDArray[np.float64]
) -> NDArray[np.bool_]:
    if len(places) < 2:
        return np.zeros(len(places), dtype=bool)
    tree = KDTree(places)
    pairs = tree.query_pairs(float(diameters_px.max()), output_type="ndarray")
    distance_px = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    is_near = distance_px < diameters_px[pairs].mean(axis=1)
    overlaps = np.zeros(len(places), dtype=bool)
    overlaps[pairs[is_near].ravel()] = True
    return overlaps
