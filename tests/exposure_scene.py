"""Small exposures of each kind, good and bad by what the simulator knows of them.

``good``
    Protein in 250-450 Å of amorphous ice, 0.8-2.2 µm of defocus, a drift of 6 Å at most
    over 24 frames, nothing else but a small contaminant now and then.
``blank``
    Counts of an even beam, or of one that falls off by up to a tenth: no specimen.
``bare_ice``
    Such ice as good ones have, but no protein in it.
``carbon``
    A carbon film everywhere.
``crystalline``
    Ice of small crystals all over.
``smeared``
    A good one that drifts by 20-60 Å within what is summed: rings are gone along the
    drift beyond as many Å, the first zero of sinc(drift times frequency).
``smeared_less``
    The same by 10-20 Å: rings are gone before 10 Å.
``thick_ice``
    Ice of 1500-2500 Å.

768 px of 1.5 Å are the least that is fair: 1150 Å hold a dozen particles and 3 x 3
tiles of a spectrum that resolves the rings of 2.2 µm to 4 Å; with half of the field
good images are lost as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
import torch

from icestream.engines.ctf import estimate_ctf
from icestream.engines.ctf.band import Optics
from icestream.simulate.camera import Camera, take_micrograph
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse, draw_poisson, recorded
from icestream.simulate.exposure import Defect, Exposure, Recipe, draw_exposure
from icestream.simulate.film import FilmEdge
from icestream.simulate.mixture import make_mixture
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.streams import Purpose, torch_stream

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.domain import Ctf
    from icestream.simulate.optics import Optics as TrueOptics

Kind: TypeAlias = Literal[
    "good",
    "blank",
    "bare_ice",
    "carbon",
    "crystalline",
    "smeared",
    "smeared_less",
    "thick_ice",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SIDE_PX, PIXEL_SIZE_ANGST = 768, 1.5
DOSE_E_PER_ANGST2 = 40.0
OPTICS = Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1)

_SPECIMEN, _BOX_PX = "cage", 192
_DEFECTS: dict[Kind, Defect] = {
    "bare_ice": "blank",
    "crystalline": "crystalline",
    "thick_ice": "thick_ice",
}
_SMEARS_ANGST: dict[Kind, tuple[float, float]] = {
    "smeared": (20.0, 60.0),
    "smeared_less": (10.0, 20.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenExposure:
    """An image, ``(h, w)`` electrons per pixel, and its optics unless it is blank."""

    image: Tensor
    optics: TrueOptics | None


class Population:
    """Takes exposures of all kinds, each by its number alone."""

    def __init__(self, *, seed: int = 7) -> None:
        mixture = make_mixture((_SPECIMEN,))
        shape = (SIDE_PX, SIDE_PX)
        self.seed = seed
        self.recipe = Recipe(
            shape=shape,
            pixel_size_angst=PIXEL_SIZE_ANGST,
            dose_e_per_angst2=DOSE_E_PER_ANGST2,
            species=mixture.species,
            particle_count=mixture.dense_count(shape, PIXEL_SIZE_ANGST),
        )
        self._projectors = [
            Projector(
                potential_volume(
                    atoms, box_px=_BOX_PX, pixel_size_angst=PIXEL_SIZE_ANGST
                ),
                pixel_size_angst=PIXEL_SIZE_ANGST,
            )
            for atoms in mixture.atoms
        ]

    def take(self, kind: Kind, number: int) -> TakenExposure:
        """Take one; kinds of one number share optics and ice where they have them."""
        if kind == "blank":
            return TakenExposure(image=self._blank(number), optics=None)
        exposure = self.draw(kind, number)
        generator = torch_stream(exposure.seed, Purpose.IMAGE)
        composed = compose_scene(
            exposure, self.recipe, self._projectors, generator=generator
        )
        image = take_micrograph(
            composed,
            exposure,
            self.recipe,
            Camera(response=CountingResponse(), sensor=None),
            generator=generator,
        )
        return TakenExposure(image=image, optics=exposure.optics)

    def draw(self, kind: Kind, number: int) -> Exposure:
        """Draw what is true of one that is not blank."""
        exposure = draw_exposure(
            self.recipe, number=number, seed=self.seed, defect=_DEFECTS.get(kind)
        )
        if kind == "carbon":
            return _covered(exposure)
        if kind in _SMEARS_ANGST:
            return _smeared(exposure, number, _SMEARS_ANGST[kind])
        return exposure

    def _blank(self, number: int) -> Tensor:
        chance = np.random.default_rng((self.seed, number))
        fall, turn = chance.uniform(0, 0.1), chance.uniform(0, 2 * math.pi)
        place = torch.linspace(-0.5, 0.5, SIDE_PX)
        beam = 1 + fall * (
            math.sin(turn) * place[:, None] + math.cos(turn) * place[None, :]
        )
        expected = recorded(
            beam,
            electrons_per_px=DOSE_E_PER_ANGST2 * PIXEL_SIZE_ANGST**2,
            response=CountingResponse(),
        )
        generator = torch.Generator().manual_seed(int(chance.integers(2**62)))
        return draw_poisson(expected, generator=generator)


def _covered(exposure: Exposure) -> Exposure:
    """Put a film of carbon over all of it."""
    far_angst = 10 * SIDE_PX * PIXEL_SIZE_ANGST
    edge = FilmEdge(angle_deg=0.0, distance_angst=-far_angst)
    return replace(exposure, film="carbon", film_edge=edge, defect="carbon")


def _smeared(
    exposure: Exposure, number: int, range_angst: tuple[float, float]
) -> Exposure:
    """Let it drift all the way within each frame."""
    chance = np.random.default_rng((exposure.seed, number))
    way_angst, turn = chance.uniform(*range_angst), chance.uniform(0, 2 * math.pi)
    way = way_angst * np.array([math.sin(turn), math.cos(turn)])
    blur = np.broadcast_to(way, exposure.motion.blur_angst.shape)
    motion = replace(exposure.motion, blur_angst=blur)
    return replace(exposure, motion=motion, defect="drifted")


def fitted(image: Tensor) -> Ctf:
    """Fit the CTF of such an image; raises `CtfNotFound`."""
    return estimate_ctf(
        image,
        pixel_size_angst=PIXEL_SIZE_ANGST,
        voltage_kv=OPTICS.voltage_kv,
        spherical_aberration_mm=OPTICS.spherical_aberration_mm,
        amplitude_contrast=OPTICS.amplitude_contrast,
    ).ctf
