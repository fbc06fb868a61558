"""A whole acquisition: drawn, taken by several processes, delivered as in a facility.

The timetable and every exposure are drawn from the seed alone, so that exposure 7 is
the same whoever takes it. Images are taken in a hidden folder, and delivered in order.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import quick_even_side
from icestream.simulate.courier import Courier
from icestream.simulate.crew import take_all
from icestream.simulate.focus import FocusPlan
from icestream.simulate.layouts import LayoutName, Output, finer_by, make_layout
from icestream.simulate.potential import potential_volume, projected_potential
from icestream.simulate.projection import Projector
from icestream.simulate.studio import DeviceChoice, Studio, chosen_device
from icestream.simulate.timetable import FaultRates, Timing, draw_timetable
from icestream.simulate.truth import TRUTH_NAME, TruthWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from icestream.simulate.atoms import Atoms
    from icestream.simulate.crowd import Species
    from icestream.simulate.exposure import Recipe
    from icestream.simulate.studio import Device
    from icestream.simulate.timetable import Entry

__all__ = ["Acquisition", "simulate_acquisition"]

_STAGING = ".camera"
_BOX_DIAMETERS = 1.3
_LEAST_BOX_PX = 4
# The padded transform of a volume of 800 px takes 16 GB; of a plane, of 8000 px, 1 GB.
_MOST_BOX_PX, _MOST_FLAT_BOX_PX = 800, 8_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisition:
    """What is to be acquired.

    Parameters
    ----------
    recipes
        One for each grid, all with the same shape and species; pixel sizes may differ.
    atoms
        Of each species.
    count
        Exposures.
    output
        Corrected micrographs, or movies as TIFF, EER or MRC.
    layout
        Folders and what stands beside the images.
    super_resolution
        2 for TIFF movies on a grid twice as fine; 1 otherwise.
    is_gain_applied
        Whether TIFF and MRC movies are written as cameras correct them: float32 counts
        times the gain reference, 0 in dead pixels, and no file of the gain.
    gain_scale
        Size of the gain's file against the movie's: 0.5, 1 or 2.
    timing
        The microscope's pace.
    defect_share
        Share of exposures that ought to be rejected.
    faults
        What is done to the files.
    seed
        The same seed and values give the same files on the same kind of device.
    """

    recipes: tuple[Recipe, ...]
    atoms: tuple[Atoms, ...]
    count: int
    output: Output = "micrograph"
    layout: LayoutName = "plain"
    super_resolution: int = 1
    is_gain_applied: bool = False
    gain_scale: float = 1
    timing: Timing = field(default_factory=Timing)
    defect_share: float = 0.1
    faults: FaultRates = field(default_factory=FaultRates)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {len(one.species) for one in self.recipes}
        shapes = {one.shape for one in self.recipes}
        if counts != {len(self.atoms)} or len(shapes) != 1:
            raise BadSettings(
                f"{len(self.recipes)} recipes and {len(self.atoms)} structures do not "
                "fit each other.",
                hint="Give one recipe a grid, all of one shape, and one structure for "
                "each species.",
            )
        if self.output == "eer" and shapes != {(4096, 4096)}:
            raise BadSettings(
                f"No reader knows an EER movie of {self.recipes[0].shape} px.",
                hint="Falcon cameras have 4096 x 4096 px: give that size.",
            )
        self._check_gain()
        for recipe in self.recipes:
            for species, atoms in zip(recipe.species, self.atoms, strict=True):
                _check_box(species, atoms, recipe.pixel_size_angst)

    def _check_gain(self) -> None:
        if self.is_gain_applied and self.output not in ("tiff", "mrc"):
            raise BadSettings(
                f"No camera applies the gain to files of the kind {self.output}.",
                hint="EER movies hold single electrons, micrographs are corrected: "
                "write tiff or mrc movies, or leave the gain alone.",
            )
        finer = finer_by(self.output, self.super_resolution)
        sides = [side * finer for side in self.recipes[0].shape]
        has_gain = self.output != "micrograph" and not self.is_gain_applied
        is_odd = self.gain_scale == 0.5 and any(side % 2 for side in sides)
        fine = self.gain_scale in (0.5, 1, 2) and not is_odd
        if self.gain_scale != 1 and not (has_gain and fine):
            raise BadSettings(
                f"A gain reference {self.gain_scale:g} times as large cannot be "
                "written.",
                hint="Sizes are 0.5 (of even sides), 1 and 2, beside movies that are "
                "not corrected.",
            )


def simulate_acquisition(
    folder: Path,
    acquisition: Acquisition,
    *,
    workers: int = 1,
    device: DeviceChoice = "cpu",
    metadata_folder: Path | None = None,
    speed: float | None = None,
    on_delivered: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Take an acquisition, and write its truth beside the images.

    Parameters
    ----------
    folder
        Where to; made if absent.
    acquisition
        What.
    workers
        Processes that take images; 1 takes them in this one, which is best on a GPU.
    device
        Where images are computed. Files differ from one kind of device to another.
    metadata_folder
        Root of what stands beside images (XML, mdoc, pictures, records of a session),
        with the same folders in it; ``None`` for that of the images.
    speed
        Images arrive by the timetable, so many times faster, and grow while they are
        written; ``None`` as soon as they are taken, each in one step.
    on_delivered
        Called with the path of each image once it and what stands beside it are there.

    Returns
    -------
    list of Path
        The images, in order.

    Raises
    ------
    BadSettings
        The folder holds an acquisition already, there is no such device, the layout
        has no metadata, or their folder is not empty.
    DiskFull, FolderUnavailable
        A file could not be written.
    """
    chosen = chosen_device(device)
    _check_folders(folder, metadata_folder, acquisition)
    beside = metadata_folder or folder
    entries = draw_timetable(
        acquisition.count,
        timing=acquisition.timing,
        defect_share=acquisition.defect_share,
        faults=acquisition.faults,
        plans=[_plan(one) for one in acquisition.recipes],
        seed=acquisition.seed,
    )
    studio = _studio(folder, acquisition, entries, chosen)
    courier = Courier(
        folder,
        metadata_folder=beside,
        studio=studio,
        rates=acquisition.faults,
        gain_scale=acquisition.gain_scale,
        seed=acquisition.seed,
        speed=speed,
    )
    paths = []
    about = _about(acquisition, chosen) | {"gain_faults": courier.gain_faults}
    taking = take_all(studio, entries, workers=workers)
    with courier, TruthWriter(folder / TRUTH_NAME, about) as writer, closing(taking):
        studio.layout.begin(beside, folder.resolve().name)
        for entry, taken in taking:
            path, done = courier.deliver(entry, taken)
            writer.add(replace(taken.truth, faults=done))
            paths.append(path)
            if on_delivered is not None:
                on_delivered(path)
    return paths


def _check_folders(
    folder: Path, metadata_folder: Path | None, acquisition: Acquisition
) -> None:
    _check_new(folder)
    if metadata_folder is None:
        return
    if acquisition.layout == "plain":
        raise BadSettings(
            "Plain images have no metadata that could lie elsewhere.",
            hint="Choose the layout epu or serialem.",
        )
    if metadata_folder.is_dir() and any(metadata_folder.iterdir()):
        raise BadSettings(
            f"{metadata_folder} is not empty.",
            hint="Choose another folder for the metadata.",
        )


def _check_new(folder: Path) -> None:
    if (folder / _STAGING).exists():
        raise BadSettings(
            f"{folder} holds an acquisition that was cut off, or still goes on.",
            hint="Once nothing writes there any more, delete the folder, or choose "
            "another one.",
        )
    if (folder / TRUTH_NAME).exists():
        raise BadSettings(
            f"{folder} holds an acquisition already.",
            hint="Delete the folder, or choose another one.",
        )
    if folder.is_dir() and (held := next(folder.iterdir(), None)) is not None:
        raise BadSettings(
            f"{folder} is not empty: it holds {held.name}.",
            hint="Choose another folder; a simulation replaces nothing.",
        )


def _studio(
    folder: Path, acquisition: Acquisition, entries: Sequence[Entry], device: Device
) -> Studio:
    return Studio(
        staging=folder / _STAGING,
        recipes=acquisition.recipes,
        projectors=_projectors(acquisition),
        output=acquisition.output,
        super_resolution=acquisition.super_resolution,
        is_gain_applied=acquisition.is_gain_applied,
        layout=make_layout(
            acquisition.layout,
            output=acquisition.output,
            recipes=acquisition.recipes,
            entries=entries,
            super_resolution=acquisition.super_resolution,
            is_gain_applied=acquisition.is_gain_applied,
        ),
        seed=acquisition.seed,
        device=device,
    )


def _plan(recipe: Recipe) -> FocusPlan:
    return FocusPlan(
        defocus_range_angst=recipe.defocus_range_angst,
        phase_shift_range_deg=recipe.phase_shift_range_deg,
    )


def _projectors(acquisition: Acquisition) -> tuple[tuple[Projector, ...], ...]:
    """For each recipe, one for each species; those of equal pixels are made once."""
    made: dict[tuple[int, float], Projector] = {}
    for recipe in acquisition.recipes:
        kinds = zip(recipe.species, acquisition.atoms, strict=True)
        for index, (one, atoms) in enumerate(kinds):
            key = (index, recipe.pixel_size_angst)
            if key not in made:
                is_flat = one.sheet_angst is not None
                made[key] = _projector(atoms, recipe.pixel_size_angst, is_flat=is_flat)
    return tuple(
        tuple(
            made[index, recipe.pixel_size_angst]
            for index in range(len(acquisition.atoms))
        )
        for recipe in acquisition.recipes
    )


@functools.lru_cache(maxsize=2)
def _projector(atoms: Atoms, pixel_size_angst: float, *, is_flat: bool) -> Projector:
    box_px = _box_px(atoms, pixel_size_angst)
    compute = projected_potential if is_flat else potential_volume
    potential = compute(atoms, box_px=box_px, pixel_size_angst=pixel_size_angst)
    return Projector(potential, pixel_size_angst=pixel_size_angst)


def _box_px(atoms: Atoms, pixel_size_angst: float) -> int:
    """Return the side of a volume that holds all atoms and room around them, px."""
    wanted_px = 2 * _BOX_DIAMETERS * _reach_angst(atoms) / pixel_size_angst
    return quick_even_side(math.ceil(wanted_px))


def _reach_angst(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.xyz_angst, axis=1).max())


def _check_box(species: Species, atoms: Atoms, pixel_size_angst: float) -> None:
    """Refuse what would need more memory than there is, or cannot be seen."""
    most_px = _MOST_BOX_PX if species.sheet_angst is None else _MOST_FLAT_BOX_PX
    box_px, reach_angst = _box_px(atoms, pixel_size_angst), _reach_angst(atoms)
    if box_px > most_px:
        least_angst = math.ceil(100 * pixel_size_angst * box_px / most_px) / 100
        raise BadSettings(
            f"{species.name} reaches {reach_angst:,.0f} Å from its middle: at "
            f"{pixel_size_angst:g} Å/px it needs a box of {box_px:,} px, but "
            f"{most_px:,} are the most that memory is good for.",
            hint=f"Choose a coarser pixel, {least_angst:,g} Å or more; or look for "
            "atoms that lie far away.",
        )
    if box_px < _LEAST_BOX_PX:
        noun = "atom" if len(atoms) == 1 else "atoms"
        raise BadSettings(
            f"{species.name} has {len(atoms):,} {noun} and reaches {reach_angst:.1f} Å "
            f"from its middle: pixels of {pixel_size_angst:g} Å do not show it.",
            hint="Give a whole particle, or choose a finer pixel.",
        )


def _about(acquisition: Acquisition, device: Device) -> dict[str, Any]:
    first = acquisition.recipes[0]
    has_gain = acquisition.output != "micrograph" and not acquisition.is_gain_applied
    return {
        "icestream": importlib.metadata.version("icestream"),
        "seed": acquisition.seed,
        "device": device,
        "shape": list(first.shape),
        "output": acquisition.output,
        "layout": acquisition.layout,
        "count": acquisition.count,
        "super_resolution": acquisition.super_resolution,
        "gain_applied": acquisition.is_gain_applied,
        "gain_scale": acquisition.gain_scale if has_gain else None,
        "species": [_about_species(one) for one in first.species],
        "grids": [_about_grid(one) for one in acquisition.recipes],
    }


def _about_species(species: Species) -> dict[str, Any]:
    preference = species.preference
    return {
        "name": species.name,
        "state": species.state,
        "diameter_angst": species.diameter_angst,
        "share": species.share,
        "preferred_share": preference.share if preference else 0.0,
        "is_denatured": species.sheet_angst is not None,
    }


def _about_grid(recipe: Recipe) -> dict[str, Any]:
    return {
        "pixel_size_angst": recipe.pixel_size_angst,
        "frame_count": recipe.frame_count,
        "dose_e_per_angst2": recipe.dose_e_per_angst2,
        "particle_count": recipe.particle_count,
        "defocus_range_angst": list(recipe.defocus_range_angst),
        "phase_shift_range_deg": list(recipe.phase_shift_range_deg),
        "tilt_deg": recipe.tilt_deg,
        "tilt_axis_deg": recipe.tilt_axis_deg,
        "microscope": asdict(recipe.microscope),
    }
