"""What the demonstration shows: real micrographs where there are some, or simulated."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain import AcquisitionSetup, Coordinates
from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Material", "Truth", "find_material", "simulate_material"]

_APOFERRITIN = "apoferritin_10146"
_FRAMES = 16
_DEFECT_SHARE, _SEED = 0.25, 7  # so that some of the first exposures are bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known of one image."""

    defocus_u_angst: float
    defocus_v_angst: float
    centres: Coordinates | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Files of one source, how they were taken, and what is known of them.

    Parameters
    ----------
    setup
        Its name is the source's.
    template
        The workflow that begins with such files.
    files
        In the order of their arrival.
    truth
        By file name.
    ctf_known_from, picks_known_from
        Who says so.
    """

    setup: AcquisitionSetup
    files: Sequence[Path]
    template: str = "micrographs"
    truth: Mapping[str, Truth] = field(default_factory=dict)
    ctf_known_from: str = ""
    picks_known_from: str = ""


def find_material(data: Path) -> list[Material]:
    """Return the real micrographs of a folder.

    Raises
    ------
    BadSettings
        The folder lacks them.
    """
    apoferritin = sorted((data / _APOFERRITIN).glob("*bin_avg.png"))
    k2 = data / "fullsize" / "fei-extended.mrc"
    if not apoferritin or not k2.exists():
        raise BadSettings(
            f"{data} lacks {_APOFERRITIN}/*bin_avg.png or fullsize/fei-extended.mrc.",
            hint="Leave --data out: movies are simulated then.",
        )
    return [_apoferritin(apoferritin), _k2(k2)]


def simulate_material(folder: Path, *, count: int) -> Material:
    """Simulate an acquisition of movies in a folder, with a bar."""
    from icestream.cli.output import progress_bar
    from icestream.cli.simulate import usual_workers
    from icestream.simulate import simulate_acquisition, usual_acquisition
    from icestream.simulate.outputs import GAIN_NAMES

    bar, task = progress_bar("Simulating movies", count, has_begun=False)

    def delivered(_: Path) -> None:
        bar.start_task(task)
        bar.update(task, advance=1)

    with bar:
        acquisition = usual_acquisition(
            count,
            output="tiff",
            frame_count=_FRAMES,
            defect_share=_DEFECT_SHARE,
            seed=_SEED,
        )
        files = simulate_acquisition(
            folder,
            acquisition,
            workers=usual_workers("cpu", count),
            on_delivered=delivered,
        )
    recipe = acquisition.recipes[0]
    return Material(
        setup=AcquisitionSetup(
            name="simulated",
            pixel_size_angst=recipe.pixel_size_angst,
            voltage_kv=recipe.microscope.voltage_kv,
            spherical_aberration_mm=recipe.microscope.spherical_aberration_mm,
            amplitude_contrast=recipe.microscope.amplitude_contrast,
            dose_e_per_angst2=recipe.dose_e_per_angst2,
            gain=str(folder / GAIN_NAMES["tiff"]),
        ),
        files=files,
        template="movies",
    )


def _apoferritin(files: Sequence[Path]) -> Material:
    folder = files[0].parent
    text = (folder / "centres_xy_px.json").read_text(encoding="utf-8")
    marked = json.loads(text)
    truth = _ctffind(folder)
    return Material(
        setup=AcquisitionSetup(
            name="apoferritin",
            pixel_size_angst=1.5,
            voltage_kv=300.0,
            amplitude_contrast=0.07,
        ),
        files=files,
        truth={
            name: Truth(
                defocus_u_angst=u,
                defocus_v_angst=v,
                centres=_centres(*zip(*marked[name.partition(".bin")[0]], strict=True)),
            )
            for name, (u, v) in truth.items()
        },
        ctf_known_from="CTFFIND 5",
        picks_known_from="marked by hand",
    )


def _k2(file: Path) -> Material:
    return Material(
        setup=AcquisitionSetup(
            name="k2",
            pixel_size_angst=0.8538,
            voltage_kv=300.0,
            amplitude_contrast=0.07,
        ),
        files=[file],
        truth={
            name: Truth(defocus_u_angst=u, defocus_v_angst=v)
            for name, (u, v) in _ctffind(file.parent).items()
        },
        ctf_known_from="CTFFIND 5",
    )


def _centres(x_px: Sequence[float], y_px: Sequence[float]) -> Coordinates:
    columns = [np.array(one, np.float32) for one in (x_px, y_px)]
    ones = np.ones(len(x_px), np.float32)
    return Coordinates(
        x_px=columns[0], y_px=columns[1], score=ones, diameter_angst=ones
    )


def _ctffind(folder: Path) -> dict[str, tuple[float, float]]:
    path = folder / "ctffind5_reference.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["file"]: (float(row["defocus_u_angst"]), float(row["defocus_v_angst"]))
            for row in csv.DictReader(file)
        }
