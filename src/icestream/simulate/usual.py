"""An acquisition as most people would want it, from a few choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from icestream.domain.errors import BadSettings
from icestream.simulate.acquisition import Acquisition
from icestream.simulate.exposure import Recipe
from icestream.simulate.mixture import make_mixture
from icestream.simulate.optics import Microscope

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.simulate.layouts import LayoutName, Output
    from icestream.simulate.timetable import FaultRates, Timing

__all__ = ["usual_acquisition"]

_DEFOCUS_ANGST, _DEFOCUS_AT_PLATE_ANGST = (8_000.0, 22_000.0), (4_000.0, 11_000.0)
_NO_PHASE_DEG, _PHASE_OF_PLATE_DEG = (0.0, 0.0), (30.0, 150.0)


class _Passed(TypedDict, total=False):
    output: Output
    layout: LayoutName
    super_resolution: int
    is_gain_applied: bool
    gain_scale: float
    timing: Timing
    defect_share: float
    faults: FaultRates
    seed: int


def usual_acquisition(
    count: int,
    *,
    shape: tuple[int, int] = (1024, 1024),
    pixel_size_angst: float | Sequence[float] = 1.5,
    frame_count: int = 24,
    dose_e_per_angst2: float = 40.0,
    voltage_kv: float = 300.0,
    specimens: Sequence[str] = ("cage",),
    structures: Sequence[Path] = (),
    state_count: int = 1,
    preferred_share: float = 0.0,
    denatured_share: float = 0.0,
    particle_count: int | None = None,
    tilt_deg: float = 0.0,
    has_phase_plate: bool = False,
    grids: int | None = None,
    **passed: Unpack[_Passed],
) -> Acquisition:
    """Choose an acquisition.

    Parameters
    ----------
    count
        Exposures.
    shape, frame_count, dose_e_per_angst2, voltage_kv, tilt_deg
        As `Recipe` and `Microscope` have them.
    pixel_size_angst
        Å/px; several for a change of magnification: one grid each, in that order. The
        dose per Å2 stays.
    specimens, structures, state_count, preferred_share, denatured_share
        As `make_mixture` has them.
    particle_count
        In a well-filled image; ``None`` for as many as lie densely.
    has_phase_plate
        Phases of 30 to 150 degrees, near focus.
    grids
        How many; ``None`` for one for each pixel size.
    passed
        As `Acquisition` has them.

    Returns
    -------
    Acquisition
        For `simulate_acquisition`.

    Raises
    ------
    BadSettings
        No such specimen, a file that is no structure, or a value that cannot be.
    """
    mixture = make_mixture(
        specimens,
        structures,
        state_count=state_count,
        preferred_share=preferred_share,
        denatured_share=denatured_share,
    )
    recipes = tuple(
        Recipe(
            shape=shape,
            pixel_size_angst=pixel_angst,
            microscope=Microscope(voltage_kv=voltage_kv),
            dose_e_per_angst2=dose_e_per_angst2,
            frame_count=frame_count,
            species=mixture.species,
            particle_count=mixture.dense_count(shape, pixel_angst)
            if particle_count is None
            else particle_count,
            defocus_range_angst=_DEFOCUS_AT_PLATE_ANGST
            if has_phase_plate
            else _DEFOCUS_ANGST,
            phase_shift_range_deg=_PHASE_OF_PLATE_DEG
            if has_phase_plate
            else _NO_PHASE_DEG,
            tilt_deg=tilt_deg,
        )
        for pixel_angst in _of_grids(pixel_size_angst, grids)
    )
    return Acquisition(recipes=recipes, atoms=mixture.atoms, count=count, **passed)


def _of_grids(
    pixel_size_angst: float | Sequence[float], grids: int | None
) -> tuple[float, ...]:
    """Return the pixel size of each grid."""
    if not isinstance(pixel_size_angst, Sequence):
        return (pixel_size_angst,) * (1 if grids is None else grids)
    sizes = tuple(pixel_size_angst)
    if len(sizes) == 1 and grids is not None:
        sizes *= grids
    if not sizes or grids not in (None, len(sizes)):
        raise BadSettings(
            f"{len(sizes)} pixel sizes do not fit {grids or 'no'} grids.",
            hint="Several are of one grid each: give as many, or leave grids out.",
        )
    return sizes
