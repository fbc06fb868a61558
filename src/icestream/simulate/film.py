"""What else lies on a grid: carbon, ice balls, ethane, clumps of protein.

Each is a `Layer`: a projected phase in rad against what it lies on, the share of
electrons that it leaves, and where it is. Layers add; thick ones are no weak phase
objects, so image them with the whole wave, not in the linear approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from icestream.domain.errors import BadSettings
from icestream.domain.units import interaction_rad_per_volt_angst
from icestream.simulate.ice import (
    ICE_PATH_AT_300KV_ANGST,
    axis_window,
    radial_frequency,
    radial_values,
    transmission,
)
from icestream.simulate.protein_layer import PROTEIN_OVER_ICE_VOLT, protein_phase_power
from icestream.simulate.scattering import atom_volt_angst3

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = [
    "ContaminantKind",
    "FilmEdge",
    "Layer",
    "carbon_film",
    "combine_layers",
    "contaminant",
    "edge_distance_angst",
]

ContaminantKind = Literal["hexagonal_ice", "cubic_ice", "ethane", "aggregate"]

# Evaporated carbon: atoms a cubic Å at 1.75 g/cm3, and the mean inner potential, V,
# measured at that density (Wanner et al., Ultramicroscopy 106 (2006) 341).
_CARBON_PER_ANGST3, _CARBON_VOLT = 0.0877, 9.09
# Structure factor of amorphous carbon: few long waves, peaks at 2.1 and 1.2 Å.
_CARBON_LIMIT, _CARBON_PEAKS = 0.25, ((1 / 2.1, 0.05, 0.6), (1 / 1.2, 0.06, 0.3))
_CARBON_RISE_PER_ANGST, _CARBON_RISE_WIDTH_PER_ANGST = 0.35, 0.05
# Mean free paths at 300 kV against all scattering that leaves the image, Å; crystals
# lose Bragg beams to the aperture besides.
_CARBON_PATH_ANGST, _CRYSTAL_PATH_ANGST, _ETHANE_PATH_ANGST = 1_800.0, 900.0, 4_000.0
_PROTEIN_PATH_ANGST = 2_500.0
# A clump is packed as balls are at random; the rest of it is ice.
_PROTEIN_IN_CLUMP = 0.64
# Crystals and drops lie on the ice and add their mean inner potential: the free atoms
# of ice at 0.92 g/cm3 and of ethane at 0.65. Clumps lie within it and add the
# difference, V.
_VOLT = {
    "hexagonal_ice": 4.46,
    "cubic_ice": 4.46,
    "ethane": 5.1,
    "aggregate": _PROTEIN_IN_CLUMP * PROTEIN_OVER_ICE_VOLT,
}
_PATH = {
    "hexagonal_ice": _CRYSTAL_PATH_ANGST,
    "cubic_ice": _CRYSTAL_PATH_ANGST,
    "ethane": _ETHANE_PATH_ANGST,
    # What protein takes and the ice in its place would not have.
    "aggregate": 1
    / (_PROTEIN_IN_CLUMP * (1 / _PROTEIN_PATH_ANGST - 1 / ICE_PATH_AT_300KV_ANGST)),
}
_CORNERS = {"hexagonal_ice": 6, "cubic_ice": 4}
_BLOBS_IN_AGGREGATE = 14
_NODES = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Something on the grid, and the truth about it.

    Parameters
    ----------
    phase_rad
        ``(h, w)`` float32 projected phase, rad.
    texture_rad
        ``(h, w)`` float32: what of that phase is structure within the layer. It has
        amplitude contrast; that of the outline is its transmission.
    transmission
        ``(h, w)`` float32 share of electrons left, 0 to 1.
    mask
        ``(h, w)`` bool: where it is.
    """

    phase_rad: Tensor
    texture_rad: Tensor
    transmission: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEdge:
    """Where a film ends.

    Parameters
    ----------
    angle_deg
        Direction from the image's middle to the film, degrees from +x towards +y.
    distance_angst
        From the image's middle to the edge along it, Å; negative covers the middle.
    hole_radius_angst
        Radius of the hole that the film surrounds, Å; ``None`` for a straight edge.
    roughness_angst
        Standard deviation of the edge about its line, Å, over some 300 Å.

    Raises
    ------
    BadSettings
        A radius of 0 or less, or a roughness below 0.
    """

    angle_deg: float
    distance_angst: float
    hole_radius_angst: float | None = None
    roughness_angst: float = 10.0

    def __post_init__(self) -> None:
        if (self.hole_radius_angst or 1.0) <= 0 or self.roughness_angst < 0:
            raise BadSettings(
                f"{self} cannot be.",
                hint="Radii are above 0, roughness is not below 0.",
            )


def edge_distance_angst(
    shape: tuple[int, int],
    edge: FilmEdge,
    *,
    pixel_size_angst: float,
    generator: Generator,
) -> Tensor:
    """Return how deep each pixel lies in a film.

    Parameters
    ----------
    shape
        ``(h, w)``, px.
    edge
        Where the film ends.
    pixel_size_angst
        Å/px.
    generator
        The source of the roughness; its device is where the result lies.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, Å: above 0 in the film, below 0 outside.
    """
    device = generator.device
    y, x = (
        (torch.arange(side, device=device) - (side - 1) / 2) * pixel_size_angst
        for side in shape
    )
    sine, cosine = (f(math.radians(edge.angle_deg)) for f in (math.sin, math.cos))
    if edge.hole_radius_angst is None:
        depth = (sine * y)[:, None] + cosine * x - edge.distance_angst
    else:
        back_angst = edge.distance_angst - edge.hole_radius_angst
        depth = torch.hypot((y - sine * back_angst)[:, None], x - cosine * back_angst)
        depth -= edge.hole_radius_angst
    cells = [max(round(side * pixel_size_angst / 300), 2) for side in shape]
    coarse = torch.randn(1, 1, *cells, generator=generator, device=device)
    rough = torch.nn.functional.interpolate(
        coarse, size=shape, mode="bicubic", align_corners=True
    )
    return depth + edge.roughness_angst * rough.reshape(shape)


def carbon_film(
    shape: tuple[int, int],
    edge: FilmEdge,
    *,
    pixel_size_angst: float,
    voltage_kv: float,
    thickness_angst: float = 150.0,
    generator: Generator,
) -> Layer:
    """Return amorphous carbon up to an edge: strong Thon rings.

    Parameters
    ----------
    shape
        ``(h, w)``, px.
    edge
        Where it ends; it thins out over some 20 Å there.
    pixel_size_angst, voltage_kv
        Å/px; kV.
    thickness_angst
        Å, usually 100-200.
    generator
        The source of randomness; its device is where the result lies.

    Returns
    -------
    Layer
        Phase with the mean of the film; transmission 0.92 at 150 Å and 300 kV.
    """
    depth = edge_distance_angst(
        shape, edge, pixel_size_angst=pixel_size_angst, generator=generator
    )
    cover = torch.sigmoid(depth / 5.0)
    sigma = interaction_rad_per_volt_angst(voltage_kv)
    g = radial_frequency(shape, pixel_size_angst, device=generator.device)
    rise = torch.sigmoid((g - _CARBON_RISE_PER_ANGST) / _CARBON_RISE_WIDTH_PER_ANGST)
    order = _CARBON_LIMIT + (1 - _CARBON_LIMIT) * rise
    for centre, width, height in _CARBON_PEAKS:
        order += height * torch.exp(-(((g - centre) / width) ** 2) / 2)
    atoms_per_angst2 = _CARBON_PER_ANGST3 * thickness_angst
    volt_angst3 = radial_values(g, lambda f: atom_volt_angst3(6, f), nodes=_NODES)
    amplitude = sigma * volt_angst3 * (atoms_per_angst2 * order).sqrt()
    texture = _random_field(shape, amplitude / pixel_size_angst, generator)
    texture *= cover.sqrt()
    mean_phase = sigma * _CARBON_VOLT * thickness_angst
    return Layer(
        phase_rad=texture + mean_phase * cover,
        texture_rad=texture,
        transmission=transmission(
            cover * thickness_angst,
            path_at_300kv_angst=_CARBON_PATH_ANGST,
            voltage_kv=voltage_kv,
        ),
        mask=depth > 0,
    )


def contaminant(
    kind: ContaminantKind,
    shape: tuple[int, int],
    *,
    centre_px: tuple[float, float],
    diameter_angst: float,
    pixel_size_angst: float,
    voltage_kv: float,
    generator: Generator,
) -> Layer:
    """Return one thing that should not be there.

    Parameters
    ----------
    kind
        Crystals of hexagonal ice (six corners) or cubic ice (four), 200-2000 Å, dark,
        or a round drop of ethane, paler, which lie on the ice; a clump of protein,
        which lies in it: its phase and loss are what it has more than that ice.
    shape
        ``(h, w)``, px.
    centre_px
        y and x, px; may lie outside.
    diameter_angst
        Å, above 0.
    pixel_size_angst, voltage_kv
        Å/px; kV.
    generator
        The source of randomness; its device is where the result lies.

    Returns
    -------
    Layer
        0, 1 and false outside of it.

    Raises
    ------
    BadSettings
        A diameter of 0 or less.
    """
    if not diameter_angst > 0:
        raise BadSettings(
            f"A contaminant of {diameter_angst} Å.", hint="Give a size above 0."
        )
    device = generator.device
    phase, texture = (torch.zeros(shape, device=device) for _ in range(2))
    through = torch.ones(shape, device=device)
    reach_px = 0.75 * diameter_angst / pixel_size_angst
    rows, y_px = axis_window(shape[0], centre_px[0], reach_px, device)
    columns, x_px = axis_window(shape[1], centre_px[1], reach_px, device)
    y, x = y_px[:, None] * pixel_size_angst, x_px[None, :] * pixel_size_angst
    if kind == "aggregate":
        thickness = _clump(y, x, diameter_angst, generator)
    else:
        thickness = _crystal(y, x, diameter_angst, _CORNERS.get(kind), generator)
    if thickness.numel():
        sigma = interaction_rad_per_volt_angst(voltage_kv)
        phase[rows, columns] = sigma * _VOLT[kind] * thickness
        if kind == "aggregate":
            texture[rows, columns] = _protein_texture(
                thickness, voltage_kv, pixel_size_angst, generator
            )
            phase += texture
        through[rows, columns] = transmission(
            thickness, path_at_300kv_angst=_PATH[kind], voltage_kv=voltage_kv
        )
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[rows, columns] = thickness > 0.02 * diameter_angst
    return Layer(phase_rad=phase, texture_rad=texture, transmission=through, mask=mask)


def combine_layers(layers: list[Layer]) -> Layer:
    """Return layers on top of each other.

    Parameters
    ----------
    layers
        One or more of the same shape.

    Returns
    -------
    Layer
        Phases add, transmissions multiply, masks join.

    Raises
    ------
    BadSettings
        No layer.
    """
    if not layers:
        raise BadSettings("No layer to combine.", hint="Give at least one.")
    first = layers[0]
    phase, texture = first.phase_rad.clone(), first.texture_rad.clone()
    through, mask = first.transmission.clone(), first.mask.clone()
    for layer in layers[1:]:
        phase += layer.phase_rad
        texture += layer.texture_rad
        through *= layer.transmission
        mask |= layer.mask
    return Layer(phase_rad=phase, texture_rad=texture, transmission=through, mask=mask)


def _random_field(
    shape: tuple[int, int], amplitude: Tensor, generator: Generator
) -> Tensor:
    """Return Gaussian noise with that root of its power spectrum, in pixels."""
    noise = torch.randn(shape, generator=generator, device=generator.device)
    spectrum = torch.fft.rfft2(noise)
    spectrum *= amplitude
    spectrum[0, 0] = 0
    field: Tensor = torch.fft.irfft2(spectrum, s=shape)
    return field


def _crystal(
    y: Tensor,
    x: Tensor,
    diameter_angst: float,
    corners: int | None,
    generator: Generator,
) -> Tensor:
    """Return the thickness of a rounded lump with so many corners, or of a drop, Å."""
    turn, flatness = torch.rand(
        2, generator=generator, device=generator.device
    ).tolist()
    radius = torch.hypot(y, x)
    if corners is not None:
        # A regular polygon: distance to the nearest side, in units of the apothem.
        sector = 2 * math.pi / corners
        angle = torch.remainder(torch.atan2(y, x) + turn * sector, sector) - sector / 2
        radius = radius * torch.cos(angle) / math.cos(sector / 2)
    share = (1 - (2 * radius / diameter_angst) ** 2).clamp(min=0)
    # A drop is a lens; a crystal has steep sides and a flatter top.
    steepness = 0.5 if corners is None else 0.3
    height = (0.35 + 0.3 * flatness) * diameter_angst
    thickness: Tensor = height * share**steepness
    return thickness


def _clump(y: Tensor, x: Tensor, diameter_angst: float, generator: Generator) -> Tensor:
    """Return the thickness of overlapping balls, Å."""
    draw = torch.randn(
        3, _BLOBS_IN_AGGREGATE, generator=generator, device=generator.device
    )
    thickness = torch.zeros_like(y + x)
    for across, down, size in draw.T.tolist():
        radius_angst = diameter_angst * max(0.16 + 0.04 * size, 0.06)
        away = torch.hypot(
            y - 0.17 * diameter_angst * down, x - 0.17 * diameter_angst * across
        )
        square = (radius_angst**2 - away**2).clamp(min=0)
        thickness = torch.maximum(thickness, 2 * square.sqrt())
    return thickness


def _protein_texture(
    thickness: Tensor, voltage_kv: float, pixel_size_angst: float, generator: Generator
) -> Tensor:
    shape = (thickness.shape[0], thickness.shape[1])
    g = radial_frequency(shape, pixel_size_angst, device=generator.device)
    power = radial_values(
        g,
        lambda f: protein_phase_power(
            f,
            thickness_angst=_PROTEIN_IN_CLUMP,
            packing=_PROTEIN_IN_CLUMP,
            voltage_kv=voltage_kv,
        ),
        nodes=_NODES,
    )
    field = _random_field(shape, power.sqrt() / pixel_size_angst, generator)
    return field * thickness.sqrt()
