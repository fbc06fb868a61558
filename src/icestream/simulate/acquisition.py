"""A whole acquisition: drawn, taken by several processes, delivered as in a facility.

The timetable and every exposure are drawn from the seed alone, so that exposure 7 is
the same whoever takes it. Images are taken in a hidden folder, and delivered in order.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import threading
import time
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.multiprocessing

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.simulate.courier import Courier
from icestream.simulate.layouts import LayoutName, Output, make_layout
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.studio import Studio, Taken
from icestream.simulate.timetable import FaultRates, Timing, draw_timetable
from icestream.simulate.truth import TRUTH_NAME, TruthWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from icestream.simulate.atoms import Atoms
    from icestream.simulate.exposure import Recipe
    from icestream.simulate.timetable import Entry

__all__ = ["Acquisition", "simulate_acquisition"]

_STAGING = ".camera"
_BOX_DIAMETERS = 1.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisition:
    """What is to be acquired.

    Parameters
    ----------
    recipes
        One for each grid, all with the same species; pixel sizes may differ.
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
    timing: Timing = field(default_factory=Timing)
    defect_share: float = 0.1
    faults: FaultRates = field(default_factory=FaultRates)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {len(one.species) for one in self.recipes}
        if not self.recipes or counts != {len(self.atoms)}:
            raise BadSettings(
                f"{len(self.recipes)} recipes and {len(self.atoms)} structures do not "
                "fit each other.",
                hint="Give one recipe a grid, and one structure for each species.",
            )
        if self.output == "eer" and self.recipes[0].shape != (4096, 4096):
            raise BadSettings(
                f"No reader knows an EER movie of {self.recipes[0].shape} px.",
                hint="Falcon cameras have 4096 x 4096 px: give that size.",
            )


def simulate_acquisition(
    folder: Path,
    acquisition: Acquisition,
    *,
    workers: int = 1,
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
        Processes that take images; 1 takes them in this one.
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
        The folder holds an acquisition already, or a value cannot be.
    DiskFull, FolderUnavailable
        A file could not be written.
    """
    if (folder / TRUTH_NAME).exists():
        raise BadSettings(
            f"{folder} holds an acquisition already.", hint="Choose another folder."
        )
    entries = draw_timetable(
        acquisition.count,
        timing=acquisition.timing,
        defect_share=acquisition.defect_share,
        faults=acquisition.faults,
        grids=len(acquisition.recipes),
        seed=acquisition.seed,
    )
    layout = make_layout(
        acquisition.layout,
        output=acquisition.output,
        recipes=acquisition.recipes,
        entries=entries,
    )
    studio = Studio(
        staging=folder / _STAGING,
        recipes=acquisition.recipes,
        projectors=_projectors(acquisition),
        output=acquisition.output,
        super_resolution=acquisition.super_resolution,
        layout=layout,
        seed=acquisition.seed,
    )
    with guarding_writes(folder):
        studio.staging.mkdir(parents=True, exist_ok=True)
    layout.begin(folder)
    courier = Courier(
        folder,
        studio=studio,
        faults=acquisition.faults,
        seed=acquisition.seed,
        speed=speed,
    )
    paths = []
    about = _about(acquisition) | {"gain_faults": courier.gain_faults}
    with courier, TruthWriter(folder / TRUTH_NAME, about) as writer:
        for entry, taken in _taken(studio, entries, workers):
            path, done = courier.deliver(entry, taken)
            writer.add(replace(taken.truth, faults=done))
            paths.append(path)
            if on_delivered is not None:
                on_delivered(path)
    return paths


def _projectors(acquisition: Acquisition) -> tuple[tuple[Projector, ...], ...]:
    """For each recipe, one for each species; those of equal pixels are made once."""
    made: dict[tuple[int, float], Projector] = {}
    for recipe in acquisition.recipes:
        for index, atoms in enumerate(acquisition.atoms):
            key = (index, recipe.pixel_size_angst)
            if key not in made:
                made[key] = _projector(atoms, recipe.pixel_size_angst)
    return tuple(
        tuple(
            made[index, recipe.pixel_size_angst]
            for index in range(len(acquisition.atoms))
        )
        for recipe in acquisition.recipes
    )


@functools.lru_cache(maxsize=2)
def _projector(atoms: Atoms, pixel_size_angst: float) -> Projector:
    reach_angst = float(np.linalg.norm(atoms.xyz_angst, axis=1).max())
    box_px = 2 * int(np.ceil(_BOX_DIAMETERS * reach_angst / pixel_size_angst))
    volume = potential_volume(atoms, box_px=box_px, pixel_size_angst=pixel_size_angst)
    return Projector(volume, pixel_size_angst=pixel_size_angst)


def _about(acquisition: Acquisition) -> dict[str, Any]:
    recipe = acquisition.recipes[0]
    return {
        "icestream": importlib.metadata.version("icestream"),
        "seed": acquisition.seed,
        "shape": list(recipe.shape),
        "output": acquisition.output,
        "layout": acquisition.layout,
        "count": acquisition.count,
        "species": [
            {
                "name": one.name,
                "state": one.state,
                "diameter_angst": one.diameter_angst,
            }
            for one in recipe.species
        ],
        "microscope": asdict(recipe.microscope),
    }


# The studio of a worker process; each takes one image at a time.
_OWN: list[Studio] = []


def _taken(
    studio: Studio, entries: Sequence[Entry], workers: int
) -> Iterator[tuple[Entry, Taken]]:
    """Give exposures in order, each taken by some process; a few are taken ahead."""
    if workers == 1:
        for entry in entries:
            yield entry, studio.take(entry)
        return
    studio.share_memory()
    with ExitStack() as stack:
        pool: Executor = stack.enter_context(
            ProcessPoolExecutor(
                workers,
                mp_context=torch.multiprocessing.get_context("spawn"),
                initializer=_move_in,
                initargs=(studio, os.getpid()),
            )
        )
        waiting: deque[tuple[Entry, Future[Taken]]] = deque()
        stack.callback(_cancel, waiting)
        for entry in entries:
            waiting.append((entry, pool.submit(_take, entry)))
            if len(waiting) >= 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _cancel(waiting: deque[tuple[Entry, Future[Taken]]]) -> None:
    for _, future in waiting:
        future.cancel()


def _move_in(studio: Studio, parent: int) -> None:
    torch.set_num_threads(1)
    _OWN.append(studio)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when its parent has died without a word."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _take(entry: Entry) -> Taken:
    return _OWN[0].take(entry)
