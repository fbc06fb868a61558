"""Move atoms until the density that they make has the spectrum of protein.

Chains that are laid out one by one, however well their atoms keep apart, leave more
density waves of 9 to 5 Å than protein has, where side chains fill each gap, and fewer
of 30 to 14 Å. A wave of the density rho, with the transform F at the wave vector q,
grows by the share a if atoms move by the gradient of psi with the transform
a F / (rho q2): all waves together move atoms by a fraction of an Å. In the same way
atoms are moved from where there are too many.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["PROTEIN_ORDER", "Packing"]

PROTEIN_ORDER = (
    (31.0, 30.0),
    (25.0, 11.0),
    (21.0, 6.2),
    (18.0, 4.3),
    (16.0, 3.6),
    (14.0, 3.1),
    (12.0, 2.75),
    (10.6, 2.5),
    (10.0, 2.25),
    (9.2, 1.75),
    (8.5, 1.5),
    (8.0, 1.2),
    (7.5, 1.1),
    (7.0, 1.02),
    (6.3, 0.9),
    (6.0, 0.97),
    (5.6, 1.1),
    (5.2, 1.4),
)
"""Structure factor of the atoms of protein, hydrogens aside: wave length in Å and power
over that of as many atoms anywhere. The mean of apoferritin, GroEL, Hsp90, RuBisCO and
the 20S proteasome, which differ from it by a tenth to a fifth."""

_ATOM_PER_ANGST3 = 0.058
# Smoothed by this, protein is nowhere denser than on average but by some per cent.
_SMOOTH_ANGST = 3.5
_SPACING_ANGST, _MARGIN_ANGST = 1.6, 8.0
_SHELL_PER_ANGST = 0.006
_MOST_CHANGE = 0.5


class Packing:
    """Tells how the atoms of a particle should move to be packed as protein is.

    Parameters
    ----------
    xyz_angst
        ``(n, 3)`` atoms of an asymmetric unit, Å.
    rotations
        ``(order, 3, 3)`` of the point group.
    """

    def __init__(
        self, xyz_angst: NDArray[np.float64], rotations: NDArray[np.float64]
    ) -> None:
        self._rotations = rotations
        self._grid = _DensityGrid(self._whole(xyz_angst))

    def moves(self, xyz_angst: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(n, 3)`` moves that would give each wave its height, Å.

        Waves change by half at most at once; what is denser than protein is thinned.
        """
        whole, grid = self._whole(xyz_angst), self._grid
        spectrum = grid.spectrum(whole)
        found = grid.shell_means(np.abs(spectrum) ** 2) / len(whole)
        change = np.sqrt(_wanted(grid.shell_per_angst) / np.maximum(found, 1e-6)) - 1
        change = np.clip(change, -_MOST_CHANGE, _MOST_CHANGE)
        is_known = np.isfinite(change) & (found > 0)
        wanted = spectrum * grid.of_shells(np.where(is_known, change, 0))
        wanted -= grid.excess(spectrum, _ATOM_PER_ANGST3)
        q2 = (2 * np.pi * np.maximum(grid.frequency, 1e-3)) ** 2
        return grid.gradient(wanted / (_ATOM_PER_ANGST3 * q2), xyz_angst)

    def _whole(self, xyz_angst: NDArray[np.float64]) -> NDArray[np.float64]:
        whole: NDArray[np.float64]
        whole = np.einsum("gij,nj->gni", self._rotations, xyz_angst)
        return whole.reshape(-1, 3)


class _DensityGrid:
    """Density on a grid about a particle, and the shells of its transform."""

    def __init__(self, xyz_angst: NDArray[np.float64]) -> None:
        self._low = xyz_angst.min(axis=0) - _MARGIN_ANGST
        extent = np.ptp(xyz_angst, axis=0) + 2 * _MARGIN_ANGST
        self._shape = [
            scipy.fft.next_fast_len(int(np.ceil(one / _SPACING_ANGST)), real=True)
            for one in extent
        ]
        axes = [np.fft.fftfreq(side, _SPACING_ANGST) for side in self._shape]
        axes[2] = np.fft.rfftfreq(self._shape[2], _SPACING_ANGST)
        x, y, z = (
            one.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
            for axis, one in enumerate(axes)
        )
        self.frequency = np.sqrt(x**2 + y**2 + z**2)
        # What linear interpolation takes from waves.
        kept = np.sinc(x * _SPACING_ANGST) * np.sinc(y * _SPACING_ANGST)
        self._kept = (kept * np.sinc(z * _SPACING_ANGST)) ** 2
        shell = (self.frequency / _SHELL_PER_ANGST).astype(np.int64)
        self._shell = shell.reshape(-1)
        self._count = np.bincount(self._shell)
        number = np.arange(len(self._count), dtype=np.float64)
        self.shell_per_angst = (number + 0.5) * _SHELL_PER_ANGST

    def spectrum(self, xyz_angst: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Return the sum of waves exp(-i q r) of all atoms."""
        density = np.zeros(int(np.prod(self._shape)))
        for cell, part, _ in self._corners(xyz_angst):
            density += np.bincount(cell, part.prod(axis=1), len(density))
        image = density.astype(np.float32).reshape(self._shape)
        waves: NDArray[np.complex64] = scipy.fft.rfftn(image) / self._kept
        return waves

    def excess(
        self, spectrum: NDArray[np.complex64], most_per_angst3: float
    ) -> NDArray[np.complex64]:
        """Return the transform of what the smoothed density has above a bound."""
        smooth = np.exp(-2 * (np.pi * _SMOOTH_ANGST * self.frequency) ** 2)
        density = scipy.fft.irfftn(spectrum * smooth, s=self._shape)
        density -= most_per_angst3 * _SPACING_ANGST**3
        above = scipy.fft.rfftn(np.maximum(density, 0))
        return np.asarray(above, dtype=np.complex64)

    def gradient(
        self, spectrum: NDArray[np.complex64], xyz_angst: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return ``(n, 3)``, at places, of a field with this transform."""
        field = scipy.fft.irfftn(spectrum / self._kept, s=self._shape)
        values = field.reshape(-1) / _SPACING_ANGST**3
        slope = np.zeros(xyz_angst.shape)
        for cell, part, sign in self._corners(xyz_angst):
            for axis in range(3):
                other = part[:, axis - 1] * part[:, axis - 2]
                slope[:, axis] += values[cell] * other * (sign[axis] / _SPACING_ANGST)
        return slope

    def shell_means(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean in each shell."""
        total = np.bincount(self._shell, values.reshape(-1), len(self._count))
        return total / np.maximum(self._count, 1)

    def of_shells(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Spread one value a shell over the transform."""
        spread: NDArray[np.float32] = values.astype(np.float32)[self._shell]
        return spread.reshape(self.frequency.shape)

    def _corners(
        self, xyz_angst: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
        """Yield the eight cells about each place, shares by axis, and their sides."""
        place = (xyz_angst - self._low) / _SPACING_ANGST
        below = np.floor(place).astype(np.int64)
        share = place - below
        strides = np.array([self._shape[1] * self._shape[2], self._shape[2], 1])
        for step in itertools.product((0, 1), repeat=3):
            side = np.array(step)
            yield (
                (below + side) @ strides,
                np.where(side, share, 1 - share),
                2 * side - 1,
            )


def _wanted(frequency_per_angst: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the structure factor of protein, not a number where none is told."""
    angst, power = np.array(PROTEIN_ORDER).T
    wanted: NDArray[np.float64] = np.exp(
        np.interp(
            frequency_per_angst, 1 / angst, np.log(power), left=np.nan, right=np.nan
        )
    )
    return wanted
