"""From what is true of an exposure to a scene: contrast on a canvas, before it moves.

Particles are put on the canvas by their own defocus: those of one slab of 50 Å share
a transfer function, and all slabs share one inverse transform. A slab's transfer
function is that of the image's middle turned by the phase of the further defocus, with
the same envelope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.units import (
    electron_wavelength_angst,
    interaction_rad_per_volt_angst,
)
from icestream.simulate.film import (
    Layer,
    carbon_film,
    combine_layers,
    contaminant,
)
from icestream.simulate.gold import gold_foil
from icestream.simulate.ice import (
    crystalline_ice_phase,
    ice_thickness_map,
    ice_transmission,
)
from icestream.simulate.imaging import Imaging
from icestream.simulate.optics import defocus_at_angst
from icestream.simulate.orientations import rotation_matrices
from icestream.simulate.projection import Projector, shifted
from icestream.simulate.protein_layer import PROTEIN_OVER_ICE_VOLT
from icestream.simulate.render import Scene, canvas_shape, least_margin_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from icestream.simulate.exposure import Exposure, FieldParticles, Recipe
    from icestream.simulate.optics import Transfer

__all__ = ["ComposedScene", "compose_scene"]

_SLAB_ANGST = 50.0
_BATCH = 32
_ROWS = 32
# What the margin is wide enough for: delocalisation of this spacing.
_FINEST_ANGST = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedScene:
    """A scene, and where in its image something other than ice is.

    Parameters
    ----------
    scene
        For `icestream.simulate.render.render_frames`.
    mask
        ``(h, w)`` bool: film or contaminants, in frame 0.
    """

    scene: Scene
    mask: Tensor


def compose_scene(
    exposure: Exposure,
    recipe: Recipe,
    projectors: Sequence[Projector],
    *,
    generator: Generator,
) -> ComposedScene:
    """Compose an exposure's scene.

    Parameters
    ----------
    exposure, recipe
        What is true.
    projectors
        One for each species of the recipe, at its pixel size.
    generator
        The source of what has no truth but itself (texture of film and dirt); its
        device is where the scene lies.

    Returns
    -------
    ComposedScene
        The canvas has a margin for motion and for what the transfer function spreads.

    Notes
    -----
    Film and dirt are strong: their whole wave goes through the lens, once. Their mean
    loses what their transmission says, and their texture has amplitude contrast.
    """
    margin_px = _margin_px(exposure, recipe)
    canvas = canvas_shape(recipe.shape, margin_px)
    imaging = Imaging(exposure, recipe, canvas, margin_px, generator.device)
    thickness = _thickness(exposure, recipe, canvas, margin_px, generator.device)
    along_beam = thickness / math.cos(math.radians(exposure.optics.tilt_deg))
    through = ice_transmission(along_beam, voltage_kv=recipe.microscope.voltage_kv)
    fading, displaced = _particle_contrast(
        exposure, recipe, projectors, imaging.transfer, margin_px
    )
    ice_share = (thickness / exposure.thickness_angst).clamp_(min=0)
    ice_share -= displaced / exposure.thickness_angst
    scale = ice_share.clamp_(min=0).sqrt_() * through
    lasting = through - 1
    rows, columns = (slice(margin_px, margin_px + side_px) for side_px in recipe.shape)
    mask = torch.zeros(recipe.shape, dtype=torch.bool, device=generator.device)
    layers = _layers(exposure, recipe, canvas, margin_px, generator)
    if layers:
        layer = combine_layers(layers)
        lasting = through * imaging.intensity_of(layer) - 1
        through = through * layer.transmission
        scale *= layer.transmission
        mask = layer.mask[rows, columns]
    return ComposedScene(
        scene=Scene(
            pixel_size_angst=recipe.pixel_size_angst,
            margin_px=margin_px,
            fading=fading * through,
            lasting=lasting,
            ice=imaging.ice(scale),
        ),
        mask=mask,
    )


def _margin_px(exposure: Exposure, recipe: Recipe) -> int:
    """Room for the motion, and for what lies outside and is spread inside."""
    wavelength_angst = electron_wavelength_angst(recipe.microscope.voltage_kv)
    far_angst = abs(exposure.optics.defocus_angst)
    spread_angst = wavelength_angst * far_angst / _FINEST_ANGST
    spread_px = math.ceil(spread_angst / recipe.pixel_size_angst)
    return max(least_margin_px(exposure.motion), spread_px)


def _particle_contrast(
    exposure: Exposure,
    recipe: Recipe,
    projectors: Sequence[Projector],
    whole: Transfer,
    margin_px: int,
) -> tuple[Tensor, Tensor]:
    """Return their contrast, and the thickness (Å) of the ice whose place they take."""
    half, particles = whole.contrast, exposure.particles
    canvas = len(half), 2 * (half.shape[1] - 1)
    displaced = torch.zeros(canvas, device=half.device)
    if not len(particles):
        return torch.zeros_like(displaced), displaced
    further_angst = _further_defocus_angst(exposure, recipe)
    slabs = np.round(further_angst / _SLAB_ANGST).astype(int)
    spectrum = torch.zeros_like(half, dtype=torch.complex64)
    for slab in np.unique(slabs):
        phase = torch.zeros_like(displaced)
        for index, projector in enumerate(projectors):
            chosen = np.flatnonzero((slabs == slab) & (particles.species == index))
            for start in range(0, len(chosen), _BATCH):
                some = chosen[start : start + _BATCH]
                _add_stamps(phase, projector, particles, some, margin_px)
        displaced += phase
        part = torch.fft.rfft2(phase)
        turns = _defocus_turns(canvas, recipe, slab * _SLAB_ANGST, half.device)
        for start in range(0, canvas[0], _ROWS):
            rows = slice(start, start + _ROWS)
            along_y, along_x = turns[0][rows, None], turns[1]
            slab_transfer = half[rows] * (along_y * along_x).real
            slab_transfer += whole.aside[rows] * (along_y * along_x).imag
            spectrum[rows].addcmul_(part[rows], slab_transfer)
    sigma = interaction_rad_per_volt_angst(recipe.microscope.voltage_kv)
    contrast: Tensor = torch.fft.irfft2(spectrum, s=canvas)
    return contrast.mul_(sigma), displaced.div_(PROTEIN_OVER_ICE_VOLT).clamp_(min=0)


def _defocus_turns(
    canvas: tuple[int, int],
    recipe: Recipe,
    further_angst: float,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return exp(i pi L d g^2) of a further defocus d as factors along y and x."""
    wavelength = electron_wavelength_angst(recipe.microscope.voltage_kv)
    factors = []
    for frequency in (
        torch.fft.fftfreq(canvas[0], recipe.pixel_size_angst, dtype=torch.float64),
        torch.fft.rfftfreq(canvas[1], recipe.pixel_size_angst, dtype=torch.float64),
    ):
        turn = math.pi * wavelength * further_angst * frequency.square()
        turned = torch.polar(torch.ones_like(turn), turn)
        factors.append(turned.to(device=device, dtype=torch.complex64))
    return factors[0], factors[1]


def _further_defocus_angst(exposure: Exposure, recipe: Recipe) -> np.ndarray:
    particles = exposure.particles
    height, width = recipe.shape
    x_angst, y_angst = (
        torch.as_tensor((place - (side - 1) / 2) * recipe.pixel_size_angst)
        for place, side in ((particles.x_px, width), (particles.y_px, height))
    )
    return defocus_at_angst(
        exposure.optics,
        x_angst=x_angst,
        y_angst=y_angst,
        z_angst=torch.as_tensor(particles.z_angst),
    ).numpy()


def _add_stamps(
    phase: Tensor,
    projector: Projector,
    particles: FieldParticles,
    rows: np.ndarray,
    margin_px: int,
) -> None:
    """Add projections (V Å) of some particles, moved by parts of a pixel."""
    angles = np.stack([particles.rot_deg, particles.tilt_deg, particles.psi_deg], 1)
    rotations = torch.as_tensor(rotation_matrices(angles[rows]), dtype=torch.float32)
    places = np.stack([particles.x_px[rows], particles.y_px[rows]], 1) + margin_px
    whole = np.floor(places + 0.5)
    parts = torch.as_tensor(places - whole, dtype=torch.float32, device=phase.device)
    side = projector.box_px
    spectra = shifted(projector.slices(rotations.to(phase.device)), parts)
    stamps = torch.fft.fftshift(torch.fft.irfft2(spectra, s=(side, side)), dim=(-2, -1))
    stamps *= projector.pixel_size_angst
    for stamp, (x_px, y_px) in zip(stamps, whole.astype(int), strict=True):
        _add_at(phase, stamp, y_px - side // 2, x_px - side // 2)


def _add_at(phase: Tensor, stamp: Tensor, top: int, left: int) -> None:
    """Add what of a stamp lies on the canvas."""
    side = stamp.shape[0]
    height, width = phase.shape
    first_row, first_column = max(0, -top), max(0, -left)
    last_row, last_column = min(side, height - top), min(side, width - left)
    if first_row < last_row and first_column < last_column:
        phase[
            top + first_row : top + last_row, left + first_column : left + last_column
        ] += stamp[first_row:last_row, first_column:last_column]


def _thickness(
    exposure: Exposure,
    recipe: Recipe,
    canvas: tuple[int, int],
    margin_px: int,
    device: torch.device,
) -> Tensor:
    """Thickness on the canvas; its middle is not the image's, which is put right."""
    pixel_angst = recipe.pixel_size_angst
    off_angst = tuple(
        (margin_px + side_px / 2 - whole_px / 2) * pixel_angst
        for side_px, whole_px in zip(recipe.shape, canvas, strict=True)
    )
    wedge_angst = tuple(
        change * whole_px / side_px
        for change, whole_px, side_px in zip(
            exposure.wedge_angst, canvas, recipe.shape, strict=True
        )
    )
    return ice_thickness_map(
        canvas,
        pixel_size_angst=pixel_angst,
        thickness_angst=exposure.thickness_angst,
        wedge_angst=(wedge_angst[0], wedge_angst[1]),
        meniscus_angst=exposure.meniscus_angst,
        hole_centre_angst=(off_angst[0], off_angst[1]),
        device=device,
    )


def _layers(
    exposure: Exposure,
    recipe: Recipe,
    canvas: tuple[int, int],
    margin_px: int,
    generator: Generator,
) -> list[Layer]:
    pixel_angst, edge = recipe.pixel_size_angst, exposure.film_edge
    common = {
        "pixel_size_angst": pixel_angst,
        "voltage_kv": recipe.microscope.voltage_kv,
    }
    found = []
    if edge is not None and exposure.film == "gold":
        foil = gold_foil(
            canvas, edge, pixel_size_angst=pixel_angst, generator=generator
        )
        found.append(foil)
    elif edge is not None:
        found.append(carbon_film(canvas, edge, **common, generator=generator))
    found += [
        contaminant(
            one.kind,
            canvas,
            centre_px=(one.y_px + margin_px, one.x_px + margin_px),
            diameter_angst=one.diameter_angst,
            **common,
            generator=generator,
        )
        for one in exposure.contaminants
    ]
    if exposure.crystal_count:
        phase = crystalline_ice_phase(
            canvas,
            **common,
            domain_count=exposure.crystal_count,
            generator=generator,
        )
        found.append(
            Layer(
                phase_rad=phase,
                texture_rad=phase,
                transmission=torch.ones_like(phase),
                mask=torch.zeros_like(phase, dtype=torch.bool),
            )
        )
    return found
