"""A simulated acquisition: files as a microscope would write them, and their truth."""

import os
from pathlib import Path
from typing import Annotated

import typer

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
from icestream.simulate.layouts import LayoutName, Output

__all__ = ["share_of", "simulate_command"]

_CAMERAS = {"k3": (4092, 5760), "falcon4": (4096, 4096)}


def share_of(text: str) -> float:
    """Read a share such as ``5%`` or ``0.05``.

    Raises
    ------
    typer.BadParameter
        It is none from 0 to 1.
    """
    try:
        number, percent = text.strip().rstrip("%"), text.strip().endswith("%")
        share = float(number) / (100 if percent else 1)
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
    output: Annotated[
        Output, typer.Option(help="Corrected images, or movies.")
    ] = "micrograph",
    layout: Annotated[
        LayoutName, typer.Option(help="Folders, and files beside the images.")
    ] = "plain",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="In px, or a camera: " + ", ".join(_CAMERAS) + ".",
        ),
    ] = "1024x1024",
    pixel: Annotated[
        float, typer.Option(min=0.2, max=10.0, help="Pixel size, Å/px.")
    ] = 1.5,
    frames: Annotated[int, typer.Option(min=1, help="Frames of an exposure.")] = 24,
    dose: Annotated[float, typer.Option(min=0.1, help="Of an exposure, e/Å2.")] = 40.0,
    voltage_kv: Annotated[float, typer.Option(min=60, max=1_000)] = 300.0,
    super_resolution: Annotated[
        bool, typer.Option("--super-resolution", help="TIFF movies twice as fine.")
    ] = False,
    specimen: Annotated[
        list[str] | None,
        typer.Option(
            help="A made-up particle, several for a mixture: "
            + ", ".join(SPECIMENS)
            + ".",
            show_default="cage",
        ),
    ] = None,
    structure: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A particle from an mmCIF or PDB file."),
    ] = None,
    particles: Annotated[
        int | None,
        typer.Option(
            min=0, help="In a well-filled image.", show_default="as many as lie densely"
        ),
    ] = None,
    tilt: Annotated[float, typer.Option(help="Of the stage, degrees.")] = 0.0,
    grids: Annotated[int, typer.Option(min=1, help="Grids; names repeat.")] = 1,
    defects: Annotated[
        str, typer.Option(metavar="SHARE", help="Of exposures to be rejected.")
    ] = "10%",
    faults: Annotated[
        str,
        typer.Option(
            metavar="SHARE|FILE",
            help="Of files that go wrong; or YAML, a share for each of: "
            + ", ".join(FAULTS)
            + ".",
        ),
    ] = "0%",
    rate: Annotated[
        float, typer.Option(min=1, help="Exposures an hour between the pauses.")
    ] = 400.0,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Let files arrive by the microscope's clock, so many times faster.",
            show_default="as soon as they are made",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes.", show_default="one for each CPU"),
    ] = None,
) -> None:
    """Simulate an acquisition whose truth is known.

    Images or movies of made-up or given particles in ice, as instruments write them:
    with defocus, motion, damage, noise, dirt, film and files that go wrong. What is
    true of each is written to truth.arrows beside them; `icestream score` compares a
    session with it.
    """
    wrong = Path(faults)
    acquisition = usual_acquisition(
        count,
        shape=_shape(size),
        pixel_size_angst=pixel,
        frame_count=frames,
        dose_e_per_angst2=dose,
        voltage_kv=voltage_kv,
        specimens=specimen or (() if structure else ("cage",)),
        structures=structure or (),
        particle_count=particles,
        tilt_deg=tilt,
        grids=grids,
        output=output,
        layout=layout,
        super_resolution=2 if super_resolution else 1,
        timing=Timing(exposures_per_hour=rate),
        defect_share=share_of(defects),
        faults=FaultRates.read(wrong)
        if wrong.suffix in (".yaml", ".yml")
        else FaultRates.in_all(share_of(faults)),
        seed=seed,
    )
    bar, task = progress_bar("Simulating", count)
    with bar:
        images = simulate_acquisition(
            out_dir,
            acquisition,
            workers=workers or min(os.cpu_count() or 1, count),
            speed=speed,
            on_delivered=lambda path: bar.update(
                task, advance=1, description=path.name
            ),
        )
    say(stdout(), f"In {out_dir}: {count_of(len(images), 'exposure')}.")
    say(stdout(), f"Truth: {out_dir / TRUTH_NAME}", in_one_line=True)


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
