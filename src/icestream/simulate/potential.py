"""The electrostatic potential of atoms in ice, on a grid, in volts.

The electron scattering factors are those of free atoms, five Gaussians each, of Peng,
Ren, Dudarev & Whelan, Acta Cryst. A52 (1996) 257 (International Tables C, 4.3.2.2). By
the Mott-Bethe relation a scattering factor in Å is a transform of the potential in
V Å3 once multiplied by h2 / (2 pi m e) = 47.878 V Å2.

What a particle adds to the image is its potential less that of the ice whose place it
takes. Every atom displaces the volume that its mass has in a protein (0.73 cm3/g), as a
Gaussian wide enough that gaps too small for water are not filled with ice.

Atoms with equal profiles (element and B factor) share a transform; a few orthogonal
profiles stand for all of them (singular value decomposition), so that the number of
transforms depends neither on the elements nor on the B factors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import gemmi
import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.atoms import heavy_atom_mass_da

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.simulate.atoms import Atoms

__all__ = [
    "ICE_POTENTIAL_VOLT",
    "VOLT_ANGST2",
    "atomic_potential",
    "potential_volume",
    "projected_potential",
]

VOLT_ANGST2 = 47.877645
"""h2 / (2 pi m e): V Å3 of integrated potential per Å of scattering factor."""

ICE_POTENTIAL_VOLT = 3.6
"""Mean inner potential of vitreous ice, V.

Measured by holography: 3.5 +- 1.2 (Grimm, Typke & Baumeister, J. Microsc. 190 (1998)
339); free atoms at 0.94 g/cm3 would give 4.6. The atoms of a protein without hydrogens
give 6.5 in its own volume, so that the contrast is 2.9.
"""

_PARTIAL_VOLUME_ANGST3_PER_DA = 0.73 * 1.66054
_DISPLACED_SIGMA_ANGST = 2.0
_OVERSAMPLING = 2
_SPLINE_SUPPORT = 4
_PROFILE_ERROR = 2e-4


def atomic_potential(
    element: int,
    frequency_per_angst: NDArray[np.float64],
    *,
    b_factor_angst2: float = 0.0,
    ice_potential_volt: float = ICE_POTENTIAL_VOLT,
) -> NDArray[np.float64]:
    """Compute the transform of one atom's potential less that of its ice.

    Parameters
    ----------
    element
        Atomic number.
    frequency_per_angst
        Any shape, 1/Å.
    b_factor_angst2
        Isotropic B factor, Å2: a factor exp(-B g2 / 4).
    ice_potential_volt
        Mean inner potential of the medium, V; 0 for an atom in vacuum.

    Returns
    -------
    ndarray
        V Å3, same shape; at 0 it is the integral of the potential.
    """
    return _profiles(
        np.array([element], dtype=np.uint8),
        np.array([b_factor_angst2]),
        np.square(frequency_per_angst).reshape(-1),
        ice_potential_volt,
    ).reshape(np.shape(frequency_per_angst))


def potential_volume(
    atoms: Atoms,
    *,
    box_px: int,
    pixel_size_angst: float,
    b_extra_angst2: float = 0.0,
    ice_potential_volt: float = ICE_POTENTIAL_VOLT,
    device: torch.device | str | None = None,
) -> Tensor:
    """Compute the potential of atoms in ice on a grid.

    Parameters
    ----------
    atoms
        Within the box; the origin comes to lie on voxel ``box_px // 2`` of each axis.
    box_px
        Side of the volume, px; even.
    pixel_size_angst
        Å/px.
    b_extra_angst2
        Added to every atom's B factor, Å2.
    ice_potential_volt
        Mean inner potential of the medium, V; 0 for vacuum.
    device
        Where it is computed and stays.

    Returns
    -------
    Tensor
        ``(z, y, x)`` float32 potential over that of ice, V, band-limited to the grid:
        its sum times the volume of a voxel is the integral over all atoms.

    Raises
    ------
    BadSettings
        An odd box, or an atom outside.

    Notes
    -----
    Atoms are spread by a cubic B-spline on a grid of half the pixel size; the transform
    of the spline is divided out. What is left of the copies that sampling makes is
    below 0.2 % at 2/3 of the Nyquist frequency.
    """
    _check_box(atoms, box_px, pixel_size_angst)
    place = torch.as_tensor(atoms.xyz_angst, device=device, dtype=torch.float32)
    return _on_grid(
        atoms,
        place.flip(1),
        box_px,
        pixel_size_angst,
        b_extra_angst2,
        ice_potential_volt,
    )


def projected_potential(
    atoms: Atoms,
    *,
    box_px: int,
    pixel_size_angst: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Compute the potential of atoms in ice, summed along z.

    Parameters
    ----------
    atoms, box_px, pixel_size_angst, device
        As `potential_volume` has them; along z atoms may lie anywhere.

    Returns
    -------
    Tensor
        ``(y, x)`` float32, V: what `potential_volume` gives, summed along z, at a small
        part of the cost.

    Raises
    ------
    BadSettings
        An odd box, or an atom outside.
    """
    flat = atoms.xyz_angst[:, :2]
    _check_box(atoms, box_px, pixel_size_angst, dimensions=2)
    place = torch.as_tensor(flat, device=device, dtype=torch.float32)
    in_volt_angst = _on_grid(
        atoms, place.flip(1), box_px, pixel_size_angst, 0.0, ICE_POTENTIAL_VOLT
    )
    return in_volt_angst / pixel_size_angst


def _on_grid(
    atoms: Atoms,
    place_angst: Tensor,
    box_px: int,
    pixel_size_angst: float,
    b_extra_angst2: float,
    ice_potential_volt: float,
) -> Tensor:
    """Return the potential of atoms at ``(n, d)`` places, on a grid of d dimensions."""
    device, dimensions = place_angst.device, place_angst.shape[1]
    fine_px = _OVERSAMPLING * box_px
    cells, shares = _spread(place_angst * (_OVERSAMPLING / pixel_size_angst), fine_px)
    whole = torch.fft.fftfreq(box_px, pixel_size_angst, device=device).square()
    half = torch.fft.rfftfreq(box_px, pixel_size_angst, device=device).square()
    g2 = whole
    for axis in range(1, dimensions):
        g2 = g2[..., None] + (half if axis == dimensions - 1 else whole)
    weights, g2_nodes, shapes = _few_profiles(
        atoms, float(g2.max()), b_extra_angst2, ice_potential_volt
    )
    spectrum = torch.zeros(g2.shape, dtype=torch.complex64, device=device)
    for weight, shape in zip(weights.T, shapes, strict=True):
        density = torch.zeros(fine_px**dimensions, device=device)
        amount = torch.as_tensor(weight, dtype=torch.float32, device=device)
        density.index_add_(0, cells.reshape(-1), (shares * amount[:, None]).reshape(-1))
        fine = torch.fft.rfftn(density.reshape((fine_px,) * dimensions))
        spectrum += _cropped(fine, box_px) * _looked_up(shape, g2_nodes, g2)
    spectrum *= _spline_correction(box_px, dimensions, device)
    volume = torch.fft.irfftn(spectrum, s=(box_px,) * dimensions)
    centred: Tensor = torch.fft.fftshift(volume) / pixel_size_angst**dimensions
    return centred


def _check_box(
    atoms: Atoms, box_px: int, pixel_size_angst: float, *, dimensions: int = 3
) -> None:
    reach_angst = float(np.abs(atoms.xyz_angst[:, :dimensions]).max())
    if box_px < 2 or box_px % 2 or pixel_size_angst * (box_px / 2 - 1) < reach_angst:
        raise BadSettings(
            f"Atoms that reach {reach_angst:.0f} Å from the origin need an even box of"
            f" {2 * reach_angst / pixel_size_angst + 2:.0f} px or more at"
            f" {pixel_size_angst:g} Å/px, not {box_px}.",
            hint="Choose a larger box or a larger pixel.",
        )


def _profiles(
    element: NDArray[np.uint8],
    b_factor_angst2: NDArray[np.floating],
    g2: NDArray[np.float64],
    ice_potential_volt: float,
) -> NDArray[np.float64]:
    """Return ``(n, g2)`` transforms of atoms in ice, V Å3."""
    amplitudes, widths = _scattering_factors()
    exponents = (widths[element] + b_factor_angst2[:, None]) / 4
    profiles = np.zeros((len(element), len(g2)))
    for gaussian in range(amplitudes.shape[1]):
        decays = np.exp(-exponents[:, gaussian, None] * g2)
        profiles += VOLT_ANGST2 * amplitudes[element, gaussian, None] * decays
    volume = _PARTIAL_VOLUME_ANGST3_PER_DA * heavy_atom_mass_da()[element]
    sigma2 = _DISPLACED_SIGMA_ANGST**2 + b_factor_angst2 / (8 * np.pi**2)
    displaced = np.exp(-2 * np.pi**2 * sigma2[:, None] * g2)
    profiles -= ice_potential_volt * volume[:, None] * displaced
    return profiles


@functools.cache
def _scattering_factors() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return amplitudes (Å) and widths (Å2), ``(99, 5)``, by atomic number."""
    amplitudes, widths = np.zeros((2, 99, 5))
    for number in range(1, 99):
        factor = gemmi.Element(number).c4322
        amplitudes[number], widths[number] = factor.a, factor.b
    return amplitudes, widths


def _few_profiles(
    atoms: Atoms, g2_max: float, b_extra_angst2: float, ice_potential_volt: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(n, r)`` weights of atoms, ``(g2,)`` nodes, ``(r, g2)`` profiles."""
    kind = np.stack([atoms.element, np.round(atoms.b_factor_angst2, 1)], axis=1)
    kinds, index = np.unique(kind, axis=0, return_inverse=True)
    nodes = np.linspace(0, np.sqrt(g2_max), 512) ** 2
    profiles = _profiles(
        kinds[:, 0].astype(np.uint8),
        kinds[:, 1] + b_extra_angst2,
        nodes,
        ice_potential_volt,
    )
    left, values, right = np.linalg.svd(profiles, full_matrices=False)
    kept = values > _PROFILE_ERROR * values[0]
    return (left * values)[index.reshape(-1)][:, kept], nodes, right[kept]


def _spread(place: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
    """Return flat cells and shares, ``(n, 4**d)``, of points on a periodic grid."""
    corner = torch.floor(place)
    steps = torch.arange(-1, _SPLINE_SUPPORT - 1, device=place.device)
    share = _cubic_spline((place - corner)[..., None] - steps)
    cell = (corner.long()[..., None] + steps) % side_px
    cells, shares = cell[:, 0], share[:, 0]
    for axis in range(1, place.shape[1]):
        along = (len(place), *(1,) * axis, -1)
        cells = cells[..., None] * side_px + cell[:, axis].reshape(along)
        shares = shares[..., None] * share[:, axis].reshape(along)
    return cells.flatten(1), shares.flatten(1)


def _cubic_spline(distance: Tensor) -> Tensor:
    r = distance.abs()
    near = 2 / 3 - r.square() * (1 - r / 2)
    far = (2 - r).clamp(min=0) ** 3 / 6
    return torch.where(r < 1, near, far)


def _spline_correction(box_px: int, dimensions: int, device: torch.device) -> Tensor:
    fine_px = _OVERSAMPLING * box_px
    whole = torch.sinc(torch.fft.fftfreq(box_px, device=device) * (box_px / fine_px))
    half = torch.sinc(torch.fft.rfftfreq(box_px, device=device) * (box_px / fine_px))
    product = whole
    for axis in range(1, dimensions):
        product = product[..., None] * (half if axis == dimensions - 1 else whole)
    return product ** (-_SPLINE_SUPPORT)


def _cropped(spectrum: Tensor, side_px: int) -> Tensor:
    """Drop the frequencies beyond those of a smaller even grid, and its edge's."""
    half = side_px // 2
    for axis in range(spectrum.ndim - 1):
        low = spectrum.narrow(axis, 0, half)
        high = spectrum.narrow(axis, spectrum.shape[axis] - half, half).clone()
        high.select(axis, 0).zero_()  # the edge has no partner of the other sign
        spectrum = torch.cat([low, high], dim=axis)
    kept = spectrum[..., : half + 1].clone()
    kept[..., half] = 0
    return kept


def _looked_up(
    shape: NDArray[np.float64], g2_nodes: NDArray[np.float64], g2: Tensor
) -> Tensor:
    """Interpolate a profile, tabulated evenly in frequency, at squared frequencies."""
    table = torch.as_tensor(shape, dtype=torch.float32, device=g2.device)
    at = g2.sqrt() * ((len(table) - 1) / float(np.sqrt(g2_nodes[-1])))
    below = at.long().clamp(max=len(table) - 2)
    share = at - below
    return table[below] * (1 - share) + table[below + 1] * share
