"""A simulated acquisition: files as a microscope would write them, and their truth."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from icestream.cli.exits import terminable
from icestream.cli.output import count_of, progress_bar, say, stdout
from icestream.domain.errors import BadSettings
from icestream.simulate import (
    FAULTS,
    SPECIMENS,
    TRUTH_NAME,
    FaultRates,
    Timing,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.crew import keep_memory
from icestream.simulate.exposure import MOST_DOSE_E_PER_ANGST2, MOST_TILT_DEG
from icestream.simulate.layouts import LayoutName, Output
from icestream.simulate.mixture import MOST_STATES
from icestream.simulate.studio import Device, DeviceChoice, chosen_device

__all__ = ["share_of", "simulate_command", "usual_workers"]

_SPECIMEN, _MICROSCOPE = "Specimen", "Microscope"
_FILES, _PACE = "Files", "Faults and pace"
_CAMERAS = {"k3": (4092, 5760), "falcon4": (4096, 4096)}


def share_of(text: str) -> float:
    """Read a share such as ``5%`` or ``0.05``.

    Raises
    ------
    typer.BadParameter
        It is none from 0 to 1.
    """
    try:
        number = text.strip().removesuffix("%")
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no share such as 5%.") from error
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is not from 0 to 100%.")
    return share


def simulate_command(
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Where to; made if absent.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many exposures.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes.",
            show_default="one for each CPU; one in all on a GPU",
        ),
    ] = None,
    device: Annotated[
        DeviceChoice,
        typer.Option(help="Where images are computed; auto is a GPU if there is one."),
    ] = "auto",
    specimen: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            help="A made-up particle, several for a mixture: "
            + ", ".join(SPECIMENS)
            + ".",
            show_default="cage",
        ),
    ] = None,
    structure: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            metavar="FILE",
            help="A particle from an mmCIF or PDB file.",
        ),
    ] = None,
    states: Annotated[
        int,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            min=1,
            max=MOST_STATES,
            help="Conformations of each made-up particle.",
        ),
    ] = 1,
    preferred: Annotated[
        str,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            metavar="SHARE",
            help="Of the particles, seen from top or bottom.",
        ),
    ] = "0%",
    denatured: Annotated[
        str,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            metavar="SHARE",
            help="Of the particles, come apart at the surface of the ice.",
        ),
    ] = "0%",
    particles: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SPECIMEN,
            min=0,
            help="In a well-filled image.",
            show_default="as many as lie densely",
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            rich_help_panel=_MICROSCOPE,
            metavar="WIDTHxHEIGHT",
            help="In px, or a camera: " + ", ".join(_CAMERAS) + ".",
        ),
    ] = "1024x1024",
    pixel: Annotated[
        list[float] | None,
        typer.Option(
            rich_help_panel=_MICROSCOPE,
            min=0.2,
            max=10.0,
            help="Pixel size, Å/px; several for a change of magnification.",
            show_default="1.5",
        ),
    ] = None,
    grids: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_MICROSCOPE,
            min=1,
            help="Grids; names repeat.",
            show_default="one for each pixel size",
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(rich_help_panel=_MICROSCOPE, min=1, help="Frames of an exposure."),
    ] = 24,
    dose: Annotated[
        float,
        typer.Option(
            rich_help_panel=_MICROSCOPE,
            min=0.1,
            max=MOST_DOSE_E_PER_ANGST2,
            help="Of an exposure, e/Å2.",
        ),
    ] = 40.0,
    voltage_kv: Annotated[
        float, typer.Option(rich_help_panel=_MICROSCOPE, min=60, max=1_000)
    ] = 300.0,
    tilt: Annotated[
        float,
        typer.Option(
            rich_help_panel=_MICROSCOPE,
            min=-MOST_TILT_DEG,
            max=MOST_TILT_DEG,
            help="Of the stage, degrees.",
        ),
    ] = 0.0,
    phase_plate: Annotated[
        bool,
        typer.Option(
            "--phase-plate",
            rich_help_panel=_MICROSCOPE,
            help="Near focus, with a phase that builds up.",
        ),
    ] = False,
    output: Annotated[
        Output,
        typer.Option(rich_help_panel=_FILES, help="Corrected images, or movies."),
    ] = "micrograph",
    layout: Annotated[
        LayoutName,
        typer.Option(
            rich_help_panel=_FILES, help="Folders, and files beside the images."
        ),
    ] = "plain",
    metadata_dir: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILES,
            metavar="DIR",
            help="Another root for the files beside the images.",
        ),
    ] = None,
    super_resolution: Annotated[
        bool,
        typer.Option(
            "--super-resolution",
            rich_help_panel=_FILES,
            help="TIFF movies twice as fine.",
        ),
    ] = False,
    gain_applied: Annotated[
        bool,
        typer.Option(
            "--gain-applied",
            rich_help_panel=_FILES,
            help="TIFF or MRC movies that the camera has corrected.",
        ),
    ] = False,
    gain_scale: Annotated[
        Literal["0.5", "1", "2"],
        typer.Option(
            rich_help_panel=_FILES, help="Size of the gain's file to the movie's."
        ),
    ] = "1",
    defects: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PACE, metavar="SHARE", help="Of exposures to be rejected."
        ),
    ] = "10%",
    faults: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PACE,
            metavar="SHARE|FILE",
            help="Of files that go wrong; or YAML, a share for each of: "
            + ", ".join(FAULTS)
            + ".",
        ),
    ] = "0%",
    rate: Annotated[
        float,
        typer.Option(
            rich_help_panel=_PACE, min=1, help="Exposures an hour between the pauses."
        ),
    ] = 400.0,
    speed: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_PACE,
            min=0.001,
            help="Let files arrive by the microscope's clock, so many times faster.",
            show_default="as soon as they are made",
        ),
    ] = None,
) -> None:
    """Simulate an acquisition whose truth is known.

    Images or movies of made-up or given particles in ice, as instruments write them:
    with defocus, motion, damage, noise, dirt, film and files that go wrong. What is
    true of each is written to truth.arrows beside them; `icestream score` compares a
    session with it.
    """
    chosen = chosen_device(device)
    bar, task = progress_bar("Making particles", count, has_begun=False)

    def delivered(path: Path) -> None:
        bar.start_task(task)
        bar.update(task, advance=1, description=path.name)

    with terminable(), bar:
        acquisition = usual_acquisition(
            count,
            shape=_shape(size),
            pixel_size_angst=pixel or 1.5,
            frame_count=frames,
            dose_e_per_angst2=dose,
            voltage_kv=voltage_kv,
            specimens=specimen or (() if structure else ("cage",)),
            structures=structure or (),
            state_count=states,
            preferred_share=share_of(preferred),
            denatured_share=share_of(denatured),
            particle_count=particles,
            tilt_deg=tilt,
            has_phase_plate=phase_plate,
            grids=grids,
            output=output,
            layout=layout,
            super_resolution=2 if super_resolution else 1,
            is_gain_applied=gain_applied,
            gain_scale=float(gain_scale),
            timing=Timing(exposures_per_hour=rate),
            defect_share=share_of(defects),
            faults=_rates(faults),
            seed=seed,
        )
        bar.update(task, description="Preparing")
        keep_memory()
        images = simulate_acquisition(
            out_dir,
            acquisition,
            workers=workers or usual_workers(chosen, count),
            device=chosen,
            metadata_folder=metadata_dir,
            speed=speed,
            on_delivered=delivered,
        )
    say(stdout(), f"In {out_dir}: {count_of(len(images), 'exposure')}.")
    say(stdout(), f"Truth: {out_dir / TRUTH_NAME}", in_one_line=True)


def _rates(faults: str) -> FaultRates:
    path = Path(faults)
    if path.suffix in (".yaml", ".yml"):
        return FaultRates.read(path)
    return FaultRates.in_all(share_of(faults))


def usual_workers(device: Device, count: int) -> int:
    """Return how many processes take so many exposures.

    One for each CPU that this process may use; those that share a GPU only get in each
    other's way.
    """
    return 1 if device == "cuda" else min(len(os.sched_getaffinity(0)), count)


def _shape(size: str) -> tuple[int, int]:
    """Rows and columns of a size or a camera."""
    if size in _CAMERAS:
        return _CAMERAS[size]
    try:
        width, height = (int(side) for side in size.lower().split("x"))
    except ValueError as error:
        raise BadSettings(
            f"--size {size} is none.",
            hint=f"Write 1024x1024, or one of {', '.join(_CAMERAS)}.",
        ) from error
    return height, width
