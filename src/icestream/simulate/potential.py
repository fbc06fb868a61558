"""The electrostatic potential of atoms in ice, on a grid, in volts.

Atoms scatter as free ones (`icestream.simulate.scattering`); each carries the hydrogens
that its element has in proteins, spread over the sphere of their bonds: models have
none, or only some, and their own are left out by `icestream.simulate.atoms`.

What a particle adds to the image is its potential less that of the ice whose place it
takes, and that ice is the same free atoms at the same density as the ice around. Every
atom displaces the volume that its mass has in a protein (0.73 cm3/g), as a Gaussian
wide enough that gaps too small for water are not filled with ice.

Atoms with equal profiles (element and B factor) share a transform; a few orthogonal
profiles stand for all of them (singular value decomposition), so that the number of
transforms depends neither on the elements nor on the B factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import quick_even_side
from icestream.simulate.atoms import heavy_atom_mass_da
from icestream.simulate.ice import ICE_POTENTIAL_VOLT
from icestream.simulate.scattering import (
    HYDROGEN_BOND_ANGST,
    VOLT_ANGST2,
    atom_volt_angst3,
    riding_hydrogens,
    scattering_factors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.simulate.atoms import Atoms

__all__ = ["atomic_potential", "potential_volume", "projected_potential"]

_PARTIAL_VOLUME_ANGST3_PER_DA = 0.73 * 1.66054
# With this width the ice that the atoms of a protein displace has the power of an even
# body of their outline, from 60 to 6 Å; less would carve each atom's shape into it.
_DISPLACED_SIGMA_ANGST = 2.5
_OVERSAMPLING = 2
_SPLINE_SUPPORT = 4
_PROFILE_ERROR, _LEAST_PROFILE = 1e-3, 1e-5
_COARSE_NODES, _NODES = 1 << 9, 1 << 14
# Blocks that stay in the processor's memory.
_PLANES_AT_ONCE, _COLUMNS_AT_ONCE = 8, 8


def atomic_potential(
    element: int,
    frequency_per_angst: NDArray[np.float64],
    *,
    b_factor_angst2: float = 0.0,
    ice_potential_volt: float = ICE_POTENTIAL_VOLT,
) -> NDArray[np.float64]:
    """Compute the transform of the potential of one atom of a model, less its ice's.

    Parameters
    ----------
    element
        Atomic number; the mean number of hydrogens that it has in proteins come along.
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
    Atoms are spread by a cubic B-spline on a grid of half the pixel size or less; the
    transform of the spline is divided out. What is left of the copies that sampling
    makes is below 0.2 % at 2/3 of the Nyquist frequency. A side of small factors, as
    `icestream.engines.fourier.quick_even_side` has them, is made soonest.
    """
    _check_box(atoms, box_px, pixel_size_angst)
    fine_px = quick_even_side(_OVERSAMPLING * box_px)
    place = torch.as_tensor(atoms.xyz_angst, device=device, dtype=torch.float32)
    place = place.flip(1) * (fine_px / (box_px * pixel_size_angst))
    corner = torch.floor(place.amin(dim=0)) - 1
    extent = torch.floor(place.amax(dim=0)) + _SPLINE_SUPPORT - 1 - corner
    shape = torch.Size(min(int(one), fine_px) for one in extent)
    cells, shares = _spread(place - corner, shape)
    nyquist_per_angst = 0.5 / pixel_size_angst
    weights, profiles = _few_profiles(
        atoms, 3 * nyquist_per_angst**2, b_extra_angst2, ice_potential_volt
    )
    density = torch.zeros(shape.numel(), device=device)
    rows = []
    for weight in weights.T:
        amount = torch.as_tensor(weight, dtype=torch.float32, device=device)
        density.zero_()
        density.index_add_(0, cells.reshape(-1), (shares * amount[:, None]).reshape(-1))
        rows.append(_low_rows(density.reshape(shape), fine_px, box_px))
    factors = [_axis_factor(box_px, fine_px, one, device) for one in corner.tolist()]
    tables = torch.as_tensor(profiles, dtype=torch.float32, device=device)
    spectrum = _spectrum(rows, tables, factors, fine_px)
    volume: Tensor = torch.fft.irfftn(spectrum, s=(box_px,) * 3)
    return volume / pixel_size_angst**3


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
    _check_box(atoms, box_px, pixel_size_angst, dimensions=2)
    fine_px, half = quick_even_side(_OVERSAMPLING * box_px), box_px // 2
    place = torch.as_tensor(atoms.xyz_angst[:, :2], device=device, dtype=torch.float32)
    place = place.flip(1) * (fine_px / (box_px * pixel_size_angst))
    shape = torch.Size((fine_px, fine_px))
    cells, shares = _spread(place, shape)
    nyquist_per_angst = 0.5 / pixel_size_angst
    weights, profiles = _few_profiles(
        atoms, 2 * nyquist_per_angst**2, 0.0, ICE_POTENTIAL_VOLT
    )
    number = torch.fft.fftfreq(box_px, 1 / box_px, device=device)
    # The corner of the grid of frequencies is the last node.
    step = (profiles.shape[1] - 1) / (2**0.5 * half)
    radius = torch.hypot(number[:half, None], number)
    node = (radius * step).round_().int().reshape(-1)
    tables = torch.as_tensor(profiles, dtype=torch.float32, device=device)
    total = torch.zeros(radius.shape, dtype=torch.complex64, device=device)
    for weight, profile in zip(weights.T, tables, strict=True):
        amount = torch.as_tensor(weight, dtype=torch.float32, device=device)
        density = torch.zeros(shape.numel(), device=device)
        density.index_add_(0, cells.reshape(-1), (shares * amount[:, None]).reshape(-1))
        (rows,) = _low_rows(density.reshape(1, *shape), fine_px, box_px)
        along_y = _low_frequencies(rows.T, fine_px, box_px)
        total += along_y * profile.index_select(0, node).view(radius.shape)
    factor = _axis_factor(box_px, fine_px, 0.0, device)
    spectrum = total.new_zeros(box_px, half + 1)
    spectrum[:, :half] = (total * factor * factor[:half, None]).T
    image: Tensor = torch.fft.irfft2(spectrum, s=(box_px, box_px))
    return image / pixel_size_angst**3


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
    amplitudes, widths = scattering_factors()
    exponents = (widths[element] + b_factor_angst2[:, None]) / 4
    profiles = np.zeros((len(element), len(g2)))
    for gaussian in range(amplitudes.shape[1]):
        decays = np.exp(-exponents[:, gaussian, None] * g2)
        profiles += VOLT_ANGST2 * amplitudes[element, gaussian, None] * decays
    trembling = np.exp(-b_factor_angst2[:, None] / 4 * g2)
    profiles += riding_hydrogens()[element, None] * _hydrogen(g2) * trembling
    volume = _PARTIAL_VOLUME_ANGST3_PER_DA * heavy_atom_mass_da()[element]
    sigma2 = _DISPLACED_SIGMA_ANGST**2 + b_factor_angst2 / (8 * np.pi**2)
    displaced = np.exp(-2 * np.pi**2 * sigma2[:, None] * g2)
    profiles -= ice_potential_volt * volume[:, None] * displaced
    return profiles


def _hydrogen(g2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the transform of a hydrogen anywhere about its atom, V Å3."""
    g = np.sqrt(g2)
    free = atom_volt_angst3(1, torch.as_tensor(g)).numpy()
    spread: NDArray[np.float64] = free * np.sinc(2 * HYDROGEN_BOND_ANGST * g)
    return spread


def _few_profiles(
    atoms: Atoms, g2_max: float, b_extra_angst2: float, ice_potential_volt: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(n, r)`` weights of atoms, ``(r, nodes)`` profiles, evenly from g = 0.

    As many profiles as leave a thousandth of the atoms' root mean square at any g.
    """
    kind = np.stack([atoms.element, np.round(atoms.b_factor_angst2, 1)], axis=1)
    kinds, index, count = np.unique(
        kind, axis=0, return_inverse=True, return_counts=True
    )
    g = np.linspace(0, np.sqrt(g2_max), _COARSE_NODES)
    profiles = _profiles(
        kinds[:, 0].astype(np.uint8),
        kinds[:, 1] + b_extra_angst2,
        g**2,
        ice_potential_volt,
    )
    share = np.sqrt(count / count.sum())[:, None]
    usual = np.sqrt(((share * profiles) ** 2).sum(axis=0))
    usual = np.maximum(usual, _LEAST_PROFILE * usual.max())
    left, values, right = np.linalg.svd(share * profiles / usual, full_matrices=False)
    # What the profiles from the r-th on hold at each frequency.
    rest = np.cumsum(((values[:, None] * right) ** 2)[::-1], axis=0)[::-1]
    kept = rest.max(axis=1) > _PROFILE_ERROR**2
    weights = (left * values / share)[index.reshape(-1)][:, kept]
    fine = np.linspace(0, g[-1], _NODES)
    return weights, np.stack([np.interp(fine, g, one) for one in right[kept] * usual])


def _spread(place: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return flat cells and shares, ``(n, 4**d)``, of points on a periodic grid."""
    corner = torch.floor(place)
    steps = torch.arange(-1, _SPLINE_SUPPORT - 1, device=place.device)
    share = _cubic_spline((place - corner)[..., None] - steps)
    cell = corner.long()[..., None] + steps
    cells, shares = cell[:, 0] % shape[0], share[:, 0]
    for axis in range(1, len(shape)):
        along = (len(place), *(1,) * axis, -1)
        wrapped = (cell[:, axis] % shape[axis]).reshape(along)
        cells = cells[..., None] * shape[axis] + wrapped
        shares = shares[..., None] * share[:, axis].reshape(along)
    return cells.flatten(1), shares.flatten(1)


def _cubic_spline(distance: Tensor) -> Tensor:
    r = distance.abs()
    near = 2 / 3 - r.square() * (1 - r / 2)
    far = (2 - r).clamp(min=0) ** 3 / 6
    return torch.where(r < 1, near, far)


def _axis_factor(
    box_px: int, fine_px: int, start: float, device: torch.device | str | None
) -> Tensor:
    """Return what an axis needs: the spline divided out, the origin in the middle."""
    number = torch.fft.fftfreq(box_px, 1 / box_px, device=device, dtype=torch.float64)
    way = start / fine_px + 0.5
    turn = torch.exp(-2j * torch.pi * way * number)
    factor: Tensor = turn * torch.sinc(number / fine_px) ** -_SPLINE_SUPPORT
    return factor.to(torch.complex64)


def _low_rows(density: Tensor, fine_px: int, box_px: int) -> Tensor:
    """Return the rfft along x without what a smaller even grid lacks, nor its edge."""
    half = box_px // 2
    rows = torch.empty(
        *density.shape[:2], half, dtype=torch.complex64, device=density.device
    )
    for start in range(0, len(rows), _PLANES_AT_ONCE):
        block = slice(start, start + _PLANES_AT_ONCE)
        rows[block] = torch.fft.rfft(density[block], n=fine_px)[..., :half]
    return rows


def _spectrum(
    rows: list[Tensor], profiles: Tensor, factors: list[Tensor], fine_px: int
) -> Tensor:
    """Transform along y and z, and put profiles and factors on: an rfftn of the box.

    Axis by axis, so that no axis is transformed for what another one drops.
    """
    box_px, half = len(factors[0]), rows[0].shape[2]
    device = profiles.device
    spectrum = torch.zeros(
        box_px, box_px, half + 1, dtype=torch.complex64, device=device
    )
    number = torch.fft.fftfreq(box_px, 1 / box_px, device=device)
    # The corner of the grid of frequencies is the last node.
    step = (profiles.shape[1] - 1) / (3**0.5 * half)
    for start in range(0, half, _COLUMNS_AT_ONCE):
        columns = slice(start, min(start + _COLUMNS_AT_ONCE, half))
        x = number[columns, None, None]
        radius = (x.square() + number[:, None].square() + number.square()).sqrt()
        node = (radius * step).round_().int().reshape(-1)
        total = torch.zeros(radius.shape, dtype=torch.complex64, device=device)
        for row, profile in zip(rows, profiles, strict=True):
            along_y = _low_frequencies(
                row[:, :, columns].permute(2, 0, 1), fine_px, box_px
            )
            along_z = _low_frequencies(along_y.transpose(1, 2), fine_px, box_px)
            total += along_z * profile.index_select(0, node).view(radius.shape)
        total *= factors[1][:, None] * factors[0]
        spectrum[:, :, columns] = total.permute(2, 1, 0) * factors[2][columns]
    return spectrum


def _low_frequencies(values: Tensor, fine_px: int, box_px: int) -> Tensor:
    """Transform the last axis and keep what a smaller even grid has, less its edge."""
    half = box_px // 2
    whole = torch.fft.fft(values, n=fine_px)
    edge = whole.new_zeros(*whole.shape[:-1], 1)  # it has no partner of the other sign
    return torch.cat([whole[..., :half], edge, whole[..., 1 - half :]], dim=-1)
