"""What is true of one exposure: optics, particles, ice, film, dirt and motion.

Everything that a scene is made of, drawn from a `Recipe` before any image exists, so
that the truth is written down and not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.simulate.crowd import FieldParticles, Species, draw_particles
from icestream.simulate.film import ContaminantKind, FilmEdge
from icestream.simulate.motion import MotionField, simulate_motion
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.streams import Purpose, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MOST_DOSE_E_PER_ANGST2",
    "MOST_TILT_DEG",
    "Contaminant",
    "Defect",
    "Exposure",
    "FieldParticles",
    "Recipe",
    "Species",
    "draw_exposure",
]

Defect = Literal[
    "blank", "carbon", "gold", "thick_ice", "crystalline", "dirty", "drifted", "dim"
]
"""What makes an exposure one to reject."""

MOST_TILT_DEG, MOST_DOSE_E_PER_ANGST2 = 70.0, 10_000.0
"""What a stage goes to, and a specimen is given; beyond, nothing here holds."""

# Particles over those that would cover the image, and what does no harm anywhere.
_MOST_CROWDED, _FEW_PARTICLES = 20, 1_000
_LARGEST_DIRT_ANGST = 1_500.0
_DOME_ANGST = 4_000.0
_CHANCE_OF_DIRT, _SMALL_DIRT_ANGST = 0.2, 400.0
_SHARE_DIRTY = 0.35  # of the image, where dirt is the defect
_ASTIGMATISM_SCATTER_ANGST = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contaminant:
    """A thing that should not be there: kind, centre (px), diameter (Å)."""

    kind: ContaminantKind
    y_px: float
    x_px: float
    diameter_angst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What exposures of one acquisition have in common, and how they vary.

    Parameters
    ----------
    shape, pixel_size_angst
        ``(h, w)`` of the camera, px; Å/px.
    microscope
        Voltage, aberrations, coherence.
    dose_e_per_angst2, frame_count
        Electrons per Å2 in the whole exposure, and its frames.
    species
        The mixture of particles; empty for ice alone.
    particle_count
        Inside a well-filled image; exposures have half of that or more.
    defocus_range_angst
        Targets of the mean defocus, Å; even.
    astigmatism_range_angst
        U - V, Å: evenly that of an acquisition, from which each exposure's differs a
        little, within this range.
    ice_range_angst
        Thickness in the middle of a hole, Å.
    touching_share
        Share of particles that may lie as near as they like to others.
    tilt_deg, tilt_axis_deg
        Of the stage, and the direction of its axis: from +x towards increasing row
        index.
    phase_shift_range_deg
        Of a phase plate at a fresh place, and when it is moved on; (0, 0) for none.
    """

    shape: tuple[int, int]
    pixel_size_angst: float
    microscope: Microscope = field(default_factory=Microscope)
    dose_e_per_angst2: float = 40.0
    frame_count: int = 24
    species: tuple[Species, ...] = ()
    particle_count: int = 100
    defocus_range_angst: tuple[float, float] = (8_000.0, 22_000.0)
    astigmatism_range_angst: tuple[float, float] = (50.0, 400.0)
    ice_range_angst: tuple[float, float] = (250.0, 450.0)
    touching_share: float = 0.05
    tilt_deg: float = 0.0
    tilt_axis_deg: float = 85.0
    phase_shift_range_deg: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        fine = (
            min(self.shape) >= 64
            and 0 < self.pixel_size_angst < math.inf
            and 0 < self.dose_e_per_angst2 <= MOST_DOSE_E_PER_ANGST2
            and self.frame_count >= 1
            and self.particle_count >= 0
        )
        if not fine:
            raise BadSettings(
                f"Exposures of {self.shape[1]} x {self.shape[0]} px with "
                f"{self.frame_count} frames of {self.dose_e_per_angst2:g} e/Å2 in all "
                f"and {self.particle_count} particles cannot be simulated.",
                hint="Both sides are 64 px or more; pixel, dose and frames above 0, "
                f"the dose {MOST_DOSE_E_PER_ANGST2:g} e/Å2 at most.",
            )
        if not abs(self.tilt_deg) <= MOST_TILT_DEG:
            raise BadSettings(
                f"A stage cannot be tilted by {self.tilt_deg:g} degrees.",
                hint=f"It goes from {-MOST_TILT_DEG:g} to {MOST_TILT_DEG:g}.",
            )
        room = self._room()
        if self.particle_count > max(_MOST_CROWDED * room, _FEW_PARTICLES):
            raise BadSettings(
                f"{self.particle_count:,} particles cannot lie in an image of "
                f"{self.shape[1]} x {self.shape[0]} px: {room:,.0f} would cover it.",
                hint="Leave the number out for as many as lie densely.",
            )

    def _room(self) -> float:
        """Return how many particles have the area of the image."""
        shares = sum(one.share for one in self.species)
        areas_angst2 = [
            one.share * math.pi / 4 * one.diameter_angst**2 for one in self.species
        ]
        image_angst2 = math.prod(self.shape) * self.pixel_size_angst**2
        return image_angst2 * shares / sum(areas_angst2) if self.species else 0.0

    @property
    def frame_dose_e_per_angst2(self) -> float:
        """Electrons per Å2 in one frame."""
        return self.dose_e_per_angst2 / self.frame_count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """One exposure, before it is taken.

    Parameters
    ----------
    number, seed
        From 1; of all that is random in the image.
    optics
        Lenses and stage.
    particles
        Those in the ice.
    thickness_angst, wedge_angst, meniscus_angst
        Of the ice: in the middle, change along y and x, at the edge; Å.
    film, film_edge
        ``"carbon"`` or ``"gold"`` and where it ends, or ``None``.
    contaminants, crystal_count
        Things on the ice; small crystals of ice in it.
    motion
        Of everything but the camera.
    dose_share
        Of the electrons that should have come, 1 where nothing is wrong.
    defect
        Why it should be rejected; ``None`` for a good one.
    """

    number: int
    seed: int
    optics: Optics
    particles: FieldParticles
    thickness_angst: float
    wedge_angst: tuple[float, float]
    meniscus_angst: float
    film: Literal["carbon", "gold"] | None
    film_edge: FilmEdge | None
    contaminants: tuple[Contaminant, ...]
    crystal_count: int
    motion: MotionField
    dose_share: float
    defect: Defect | None


def draw_exposure(
    recipe: Recipe,
    *,
    number: int,
    seed: int,
    defect: Defect | None = None,
    filling: float = 1.0,
    defocus_angst: float | None = None,
    phase_shift_deg: float | None = None,
) -> Exposure:
    """Draw one exposure.

    Parameters
    ----------
    recipe
        What is common.
    number
        From 1; with the seed, it decides everything: exposure 7 is the same in a run of
        10 and of 1000.
    seed
        Of the acquisition.
    defect
        What is wrong with it.
    filling
        Density of the particles against a well-filled image, 0 to 1; from half of that
        to that is drawn.
    defocus_angst, phase_shift_deg
        Mean defocus and phase of the plate; ``None`` for anything in the recipe's
        range.

    Returns
    -------
    Exposure
        Complete; `icestream.simulate.compose` makes the scene.
    """
    generator = stream(seed, Purpose.EXPOSURE, number)
    optics = _draw_optics(
        generator,
        recipe,
        defocus_angst,
        phase_shift_deg,
        stigmator=stream(seed, Purpose.STIGMATOR),
    )
    thickness_angst = generator.uniform(*recipe.ice_range_angst)
    if defect == "thick_ice":
        thickness_angst = generator.uniform(1_500, 2_500)
    wedge_angst = tuple(generator.normal(0, 0.1 * thickness_angst, 2).tolist())
    film, film_edge = _draw_film(generator, recipe, defect)
    count = round(recipe.particle_count * filling * generator.uniform(0.5, 1))
    if defect == "blank" or not recipe.species:
        count = 0
    return Exposure(
        number=number,
        seed=int(generator.integers(2**62)),
        optics=optics,
        particles=draw_particles(
            generator,
            recipe,
            count=count,
            thickness_angst=thickness_angst,
            optics=optics,
        ),
        thickness_angst=thickness_angst,
        wedge_angst=(wedge_angst[0], wedge_angst[1]),
        meniscus_angst=abs(generator.normal(0, 0.3 * thickness_angst)),
        film=film,
        film_edge=film_edge,
        contaminants=_draw_dirt(generator, recipe, defect),
        crystal_count=_crystals(generator, recipe, defect),
        motion=_draw_motion(generator, recipe, defect),
        dose_share=generator.uniform(0.05, 0.4) if defect == "dim" else 1.0,
        defect=defect,
    )


def _draw_optics(
    generator: np.random.Generator,
    recipe: Recipe,
    defocus_angst: float | None,
    phase_shift_deg: float | None,
    *,
    stigmator: np.random.Generator,
) -> Optics:
    any_angst = generator.uniform(*recipe.defocus_range_angst)
    mean_angst = any_angst if defocus_angst is None else defocus_angst
    astigmatism_angst, angle_deg = _draw_astigmatism(generator, recipe, stigmator)
    any_deg = generator.uniform(*recipe.phase_shift_range_deg)
    return Optics(
        defocus_u_angst=mean_angst + astigmatism_angst / 2,
        defocus_v_angst=mean_angst - astigmatism_angst / 2,
        defocus_angle_deg=angle_deg,
        phase_shift_deg=any_deg if phase_shift_deg is None else phase_shift_deg,
        tilt_deg=recipe.tilt_deg,
        tilt_axis_deg=recipe.tilt_axis_deg if recipe.tilt_deg else 0.0,
    )


def _draw_astigmatism(
    generator: np.random.Generator, recipe: Recipe, stigmator: np.random.Generator
) -> tuple[float, float]:
    """Return U - V, Å, and its angle: as the stigmator is set, with some scatter."""
    least, most = recipe.astigmatism_range_angst
    twice_angle = stigmator.uniform(0, 2 * math.pi)
    mean: NDArray[np.float64] = stigmator.uniform(least, most) * np.array(
        [math.cos(twice_angle), math.sin(twice_angle)]
    )
    x, y = (mean + generator.normal(0, _ASTIGMATISM_SCATTER_ANGST, 2)).tolist()
    angle_deg = math.degrees(math.atan2(y, x)) / 2 % 180
    return min(max(math.hypot(x, y), least), most), angle_deg


def _draw_film(
    generator: np.random.Generator, recipe: Recipe, defect: Defect | None
) -> tuple[Literal["carbon", "gold"] | None, FilmEdge | None]:
    """Film over a third of the image or more, where it is the defect."""
    if defect not in {"carbon", "gold"}:
        return None, None
    side_angst = min(recipe.shape) * recipe.pixel_size_angst
    edge = FilmEdge(
        angle_deg=generator.uniform(0, 360),
        distance_angst=generator.uniform(-0.4, 0.05) * side_angst,
        hole_radius_angst=6_000.0,
    )
    return ("carbon" if defect == "carbon" else "gold"), edge


def _draw_dirt(
    generator: np.random.Generator, recipe: Recipe, defect: Defect | None
) -> tuple[Contaminant, ...]:
    """One small thing now and then; over a third of a dirty exposure's area."""
    area_angst2 = math.prod(recipe.shape) * recipe.pixel_size_angst**2
    largest_angst = min(_LARGEST_DIRT_ANGST, math.sqrt(area_angst2) / 3)
    left_angst2 = _SHARE_DIRTY * area_angst2 if defect == "dirty" else 0.0
    if defect is None and generator.random() < _CHANCE_OF_DIRT:
        # Any size uses that up.
        left_angst2, largest_angst = 1.0, min(_SMALL_DIRT_ANGST, largest_angst)
    kinds: tuple[ContaminantKind, ...] = (
        "hexagonal_ice",
        "cubic_ice",
        "ethane",
        "aggregate",
    )
    found: list[Contaminant] = []
    while left_angst2 > 0:
        diameter_angst = generator.uniform(largest_angst / 4, largest_angst)
        y_px, x_px = generator.uniform(0, recipe.shape)
        kind = kinds[int(generator.integers(len(kinds)))]
        found.append(
            Contaminant(kind=kind, y_px=y_px, x_px=x_px, diameter_angst=diameter_angst)
        )
        left_angst2 -= math.pi / 4 * diameter_angst**2
    return tuple(found)


def _crystals(
    generator: np.random.Generator, recipe: Recipe, defect: Defect | None
) -> int:
    if defect != "crystalline":
        return 0
    area_angst2 = math.prod(recipe.shape) * recipe.pixel_size_angst**2
    return max(12, round(area_angst2 / 400_000 * generator.uniform(1, 2)))


def _draw_motion(
    generator: np.random.Generator, recipe: Recipe, defect: Defect | None
) -> MotionField:
    drifted = defect == "drifted"
    side_angst = max(recipe.shape) * recipe.pixel_size_angst
    # The dome spans the hole: a smaller image sees less of it.
    share = min(side_angst / _DOME_ANGST, 1.0)
    return simulate_motion(
        generator,
        shape=recipe.shape,
        pixel_size_angst=recipe.pixel_size_angst,
        frame_count=recipe.frame_count,
        dose_e_per_angst2=recipe.frame_dose_e_per_angst2,
        jump_angst=generator.uniform(4, 15),
        drift_angst=generator.uniform(80, 160) if drifted else generator.uniform(1, 6),
        doming_angst=share * generator.uniform(1, 4),
    )
