"""Ice: how much it scatters, how thick it is, and its crystals.

A projected phase in rad, as a Gaussian random field. The absolute scale is physics, not
taste: number of molecules, their potential, their structure factor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from icestream.domain.units import interaction_rad_per_volt_angst
from icestream.simulate.scattering import atom_volt_angst3, velocity_squared

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

__all__ = [
    "ICE_PATH_AT_300KV_ANGST",
    "ICE_POTENTIAL_VOLT",
    "WATER_PER_ANGST3",
    "axis_window",
    "crystalline_ice_phase",
    "ice_phase_power",
    "ice_thickness_map",
    "ice_transmission",
    "radial_frequency",
    "radial_values",
    "transmission",
    "water_structure_factor",
    "water_volt_angst3",
]

ICE_PATH_AT_300KV_ANGST = 3_500.0
"""Inelastic mean free path of amorphous ice, Å (Rice et al. 2018: 3000-4000)."""

WATER_PER_ANGST3 = 0.0314
"""Molecules a cubic Å at 0.94 g/cm3."""

ICE_POTENTIAL_VOLT = WATER_PER_ANGST3 * float(
    atom_volt_angst3(8, torch.zeros(())) + 2 * atom_volt_angst3(1, torch.zeros(()))
)
"""Mean inner potential of vitreous ice, V: 4.57, of free atoms, as all matter here is.

Less is measured: 3.5 +- 1.2 V by holography (Harscher & Lichte, ICEM-14, Cancun (1998)
553), and Shang & Sigworth, J. Struct. Biol. 180 (2012) 10, compute 3.6 V of bonded
molecules. Protein comes out as much too high as ice; their contrast stays.
"""

_OXYGEN_HYDROGEN_ANGST, _HYDROGEN_HYDROGEN_ANGST = 0.96, 1.51
# Structure factor of low-density amorphous ice, after neutron and X-ray work of Finney
# et al. (2002) and the rings at 3.7 and 2.1 Å of Dubochet et al. (1988); the limit at
# small angles is n k T kappa of a glass arrested near 136 K with some excess.
_LIMIT_AT_SMALL_ANGLES = 0.03
_RISE_PER_ANGST, _RISE_WIDTH_PER_ANGST = 0.235, 0.014
# Peaks and the troughs after them, as (frequency, width, height); the last closes the
# sum rule: the integral of S - 1 over all of space is less the density.
_PEAKS = (
    (1 / 3.72, 0.018, 1.25),
    (1 / 2.75, 0.032, -0.5),
    (1 / 2.10, 0.040, 0.55),
    (1 / 1.60, 0.060, -0.16),
)
# What a crystal shows along its axis, and from aside two ways: spacing in Å, amplitude
# of the potential in V (of ideal Ih, as `water_volt_angst3` has its molecules), and
# where its planes stand, degrees.
_CRYSTAL_VIEWS = (
    ((3.90, 1.69, (0, 60, 120)), (2.25, 2.17, (30, 90, 150))),
    ((3.66, 2.29, (0,)),),
    ((3.44, 1.05, (0,)),),
)
_NODES = 1 << 17


def radial_frequency(
    shape: tuple[int, int],
    pixel_size_angst: float,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the frequency of each coefficient of an rfft2.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image, px.
    pixel_size_angst
        Å/px.
    device
        Where the result lies.

    Returns
    -------
    Tensor
        ``(h, w // 2 + 1)`` float32, 1/Å.
    """
    y = torch.fft.fftfreq(shape[0], pixel_size_angst, device=device)
    x = torch.fft.rfftfreq(shape[1], pixel_size_angst, device=device)
    return torch.hypot(y[:, None], x[None, :])


def radial_values(
    frequency_per_angst: Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    nodes: int = _NODES,
) -> Tensor:
    """Evaluate a smooth function of frequency on a whole grid, through a table.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    function
        Takes ``(n,)`` float64 frequencies and gives ``(n,)`` values.
    nodes
        At how many frequencies it is evaluated.

    Returns
    -------
    Tensor
        Same shape as the frequencies, float32; the value at the nearest node.
    """
    highest = max(float(frequency_per_angst.max()), 1e-9)
    table = torch.linspace(
        0, highest, nodes + 1, dtype=torch.float64, device=frequency_per_angst.device
    )
    values = function(table).float()
    nearest = (frequency_per_angst * (nodes / highest)).round_().to(torch.int32)
    return values.index_select(0, nearest.view(-1)).view(nearest.shape)


def water_volt_angst3(frequency_per_angst: Tensor) -> Tensor:
    """Return the potential of one water molecule, averaged over its orientations.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.

    Returns
    -------
    Tensor
        Same shape, V Å3: the root of the mean square; 146 at 0.

    Notes
    -----
    Free atoms at 0.96 and 1.51 Å, the mean square after Debye.
    """
    oxygen, hydrogen = (
        atom_volt_angst3(element, frequency_per_angst) for element in (8, 1)
    )
    across = torch.sinc(2 * frequency_per_angst * _OXYGEN_HYDROGEN_ANGST)
    beside = torch.sinc(2 * frequency_per_angst * _HYDROGEN_HYDROGEN_ANGST)
    square = oxygen**2 + 4 * oxygen * hydrogen * across + 2 * hydrogen**2 * (1 + beside)
    return square.clamp(min=0).sqrt()


def water_structure_factor(frequency_per_angst: Tensor) -> Tensor:
    """Return the structure factor of amorphous ice, molecule by molecule.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.

    Returns
    -------
    Tensor
        Same shape: 0.03 at 0, peaks at 3.7 and 2.1 Å, 1 far out.

    Notes
    -----
    A curve with the published positions and heights, not a table of a measurement. No
    two molecules are in one place: the integral of S - 1 is less the density.
    """
    g = frequency_per_angst
    rise = torch.sigmoid((g - _RISE_PER_ANGST) / _RISE_WIDTH_PER_ANGST)
    factor = _LIMIT_AT_SMALL_ANGLES + (1 - _LIMIT_AT_SMALL_ANGLES) * rise
    for centre, width, height in _PEAKS:
        factor = factor + height * torch.exp(-(((g - centre) / width) ** 2) / 2)
    return factor


def ice_phase_power(
    frequency_per_angst: Tensor, *, thickness_angst: float, voltage_kv: float
) -> Tensor:
    """Return the power spectrum of the phase that amorphous ice gives the wave.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    thickness_angst
        Å; the power is in proportion to it, the field to its root.
    voltage_kv
        kV.

    Returns
    -------
    Tensor
        Same shape, rad2 Å2: its integral over the plane is the variance of the phase.

    Notes
    -----
    n t (sigma_e V(g))^2 S(g), with n molecules a cubic Å.
    """
    phase = interaction_rad_per_volt_angst(voltage_kv) * water_volt_angst3(
        frequency_per_angst
    )
    molecules_per_angst2 = WATER_PER_ANGST3 * thickness_angst
    return molecules_per_angst2 * phase**2 * water_structure_factor(frequency_per_angst)


def ice_thickness_map(
    shape: tuple[int, int],
    *,
    pixel_size_angst: float,
    thickness_angst: float,
    wedge_angst: tuple[float, float] = (0.0, 0.0),
    meniscus_angst: float = 0.0,
    hole_radius_angst: float = 6_000.0,
    hole_centre_angst: tuple[float, float] = (0.0, 0.0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return how thick the ice is in a hole: thinnest inside, thicker to the edge.

    Parameters
    ----------
    shape
        ``(h, w)``, px.
    pixel_size_angst
        Å/px.
    thickness_angst
        In the middle of the hole, Å.
    wedge_angst
        Change from one border of the image to the other along y and x, Å.
    meniscus_angst
        How much thicker the ice is at the edge of the hole, Å.
    hole_radius_angst
        Å.
    hole_centre_angst
        y and x of the hole's centre from the image's centre, Å.
    device
        Where the result lies.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, Å, nowhere below 0; beyond the edge as at the edge.
    """
    y, x = (
        (torch.arange(side, device=device) - (side - 1) / 2) * pixel_size_angst
        for side in shape
    )
    square = (y - hole_centre_angst[0])[:, None] ** 2 + (x - hole_centre_angst[1]) ** 2
    share = (square / hole_radius_angst**2).clamp(max=1)
    slope_y, slope_x = (
        change / (side * pixel_size_angst)
        for change, side in zip(wedge_angst, shape, strict=True)
    )
    # Curved little in the middle, steeply at the edge: the fourth power of the radius.
    thickness = thickness_angst + meniscus_angst * share**2
    thickness += (slope_y * y)[:, None] + slope_x * x
    return thickness.clamp_(min=0).float()


def ice_transmission(thickness_angst: Tensor, *, voltage_kv: float) -> Tensor:
    """Return the share of electrons that ice leaves in the image.

    Parameters
    ----------
    thickness_angst
        Å, any shape.
    voltage_kv
        kV.

    Returns
    -------
    Tensor
        Same shape: exp(-t / Lambda), Lambda = 3500 Å at 300 kV.

    Notes
    -----
    An energy filter removes what scattered inelastically (Rice et al. 2018).
    """
    return transmission(
        thickness_angst,
        path_at_300kv_angst=ICE_PATH_AT_300KV_ANGST,
        voltage_kv=voltage_kv,
    )


def transmission(
    thickness_angst: Tensor, *, path_at_300kv_angst: float, voltage_kv: float
) -> Tensor:
    """Return the share of electrons that matter leaves in the image.

    Parameters
    ----------
    thickness_angst
        Å, any shape.
    path_at_300kv_angst
        Mean free path at 300 kV, Å; it goes with the square of the velocity.
    voltage_kv
        kV.

    Returns
    -------
    Tensor
        Same shape, 0 to 1.
    """
    faster = velocity_squared(300.0) / velocity_squared(voltage_kv)
    return torch.exp(-thickness_angst * (faster / path_at_300kv_angst))


def crystalline_ice_phase(
    shape: tuple[int, int],
    *,
    pixel_size_angst: float,
    voltage_kv: float,
    domain_count: int,
    domain_radius_angst: float = 400.0,
    crystal_thickness_angst: float = 50.0,
    generator: Generator,
) -> Tensor:
    """Return the phase of small crystals of hexagonal ice: 3.90, 3.66, 3.44, 2.25 Å.

    Parameters
    ----------
    shape
        ``(h, w)``, px.
    pixel_size_angst
        Å/px.
    voltage_kv
        kV.
    domain_count
        How many crystals, anywhere in the image, turned at random.
    domain_radius_angst
        Standard deviation of a crystal's outline, Å.
    crystal_thickness_angst
        Å; the phase is in proportion.
    generator
        The source of randomness; its device is where the result lies.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, rad. Spacings below two pixels are left out.

    Notes
    -----
    Each crystal is seen along its axis, with three planes of 3.90 Å, 60° apart, and
    three of 2.25 Å half-way between them; or from aside, with those of 3.66 or 3.44 Å.
    """
    device = generator.device
    phase = torch.zeros(shape, device=device)
    scale = 2 * interaction_rad_per_volt_angst(voltage_kv) * crystal_thickness_angst
    reach_px = 3 * domain_radius_angst / pixel_size_angst
    for _ in range(domain_count):
        draw = torch.rand(5, generator=generator, device=device).tolist()
        view = _CRYSTAL_VIEWS[int(draw[0] * len(_CRYSTAL_VIEWS))]
        rows, y_px = axis_window(shape[0], draw[1] * shape[0], reach_px, device)
        columns, x_px = axis_window(shape[1], draw[2] * shape[1], reach_px, device)
        y, x = y_px[:, None] * pixel_size_angst, x_px[None, :] * pixel_size_angst
        waves = torch.zeros_like(y + x)
        for spacing_angst, volt, places_deg in view:
            if spacing_angst < 2 * pixel_size_angst:
                continue
            for place_deg in places_deg:
                angle = math.pi * draw[3] + math.radians(place_deg)
                along = (math.sin(angle) * y + math.cos(angle) * x) / spacing_angst
                waves += volt * torch.cos(2 * math.pi * (along + draw[4]))
        outline = torch.exp(-(y**2 + x**2) / (2 * domain_radius_angst**2))
        phase[rows, columns] += scale * outline * waves
    return phase


def axis_window(
    side_px: int, centre_px: float, reach_px: float, device: torch.device | str
) -> tuple[slice, Tensor]:
    """Return the part of an axis that lies around a point, and its offsets.

    Parameters
    ----------
    side_px, centre_px, reach_px
        Length of the axis, the point (may lie outside), how far to both sides; px.
    device
        Where the offsets lie.

    Returns
    -------
    slice, Tensor
        The indices, perhaps none, and ``(n,)`` float32 offsets from the point, px.
    """
    start = min(max(math.floor(centre_px - reach_px), 0), side_px)
    stop = min(max(math.ceil(centre_px + reach_px) + 1, start), side_px)
    offsets_px = torch.arange(start, stop, device=device) - centre_px
    return slice(start, stop), offsets_px.float()
