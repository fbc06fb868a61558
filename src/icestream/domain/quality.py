"""How good an exposure is in numbers, and which of its parts show no protein in ice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["MaskClass", "MicrographMask", "Quality"]


class MaskClass(IntEnum):
    """What a cell of a mask shows; the values are those of its picture."""

    GOOD = 0
    CARBON = 1
    CONTAMINATION = 2
    EMPTY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrographMask:
    """Which parts of a micrograph are not ice that may hold protein.

    Parameters
    ----------
    path
        Grey PNG of 8 bits, relative to the session: a `MaskClass` for each cell.
    height_cells, width_cells
        Rows and columns of that picture. Cells divide the micrograph evenly.
    masked_fraction
        Share of the image that is not good, 0 to 1: the sum of the next three.
    carbon_fraction
        Film, of carbon or gold.
    contamination_fraction
        Crystals and drops that lie on the ice, and clumps.
    empty_fraction
        A hole without ice, or with a tear in it.
    """

    path: str
    height_cells: int
    width_cells: int
    masked_fraction: float
    carbon_fraction: float
    contamination_fraction: float
    empty_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Numbers of one exposure, each ``None`` where it cannot be known.

    Parameters
    ----------
    mean_intensity
        Of what is not masked, per pixel, in the unit of the image: electrons of the
        whole exposure where it was counted.
    intensity_gradient, intensity_gradient_deg
        Change of the intensity from one end of the image to the other, along the
        direction in which it rises, as a share of the mean; and that direction, from +x
        towards increasing row index, 0 to 360.
    ice_ring_ratio
        Power at 3.4-4.0 Å over that of a smooth line from below to above; 1 without a
        ring, up to 1.3 of amorphous ice. ``None`` where two pixels are more than 3.1 Å.
    crystal_ratio
        The strongest spot at 3.3-4.1 Å over the strongest that noise would show among
        so many: about 1 for amorphous ice, above 2 for crystals.
    ice_thickness_relative
        -ln(intensity / reference). In units of the mean free path where the reference
        is a true one, else up to a constant of the session.
    ice_reference
        What the reference was: ``vacuum`` of the setup, ``empty`` parts of this image,
        the ``dose`` that user or metadata tell; empty where there was none.
    ice_thickness_angst
        Thickness, Å, where an energy filter's slit was in and the reference is vacuum.
    masked_fraction, carbon_fraction, contamination_fraction, empty_fraction
        As `MicrographMask` has them.
    defocus_minus_target_angst
        Measured mean defocus less what was asked for, Å.
    beam_shift_group
        Number of the optics group that a beam shift or place in a hole belongs to.
    largest_step_angst_per_dose, path_angst_per_dose
        Largest shift from one frame to the next, and the whole path, Å for each e/Å2.
    early_angst_per_dose, late_angst_per_dose
        The path up to 4 e/Å2, and from there on, Å for each e/Å2.
    """

    mean_intensity: float
    intensity_gradient: float
    intensity_gradient_deg: float
    ice_ring_ratio: float | None = None
    crystal_ratio: float | None = None
    ice_thickness_relative: float | None = None
    ice_reference: str = ""
    ice_thickness_angst: float | None = None
    masked_fraction: float | None = None
    carbon_fraction: float | None = None
    contamination_fraction: float | None = None
    empty_fraction: float | None = None
    defocus_minus_target_angst: float | None = None
    beam_shift_group: int | None = None
    largest_step_angst_per_dose: float | None = None
    path_angst_per_dose: float | None = None
    early_angst_per_dose: float | None = None
    late_angst_per_dose: float | None = None
