"""Let existing files arrive in a folder, for demonstrations and tests."""

from pathlib import Path
from typing import Annotated, cast

import typer

from icestream.cli.output import count_of, parse_duration, progress_bar, say, stdout
from icestream.simulate.replay import ARRIVAL_MODES, ArrivalMode, replay

__all__ = ["replay_command"]


def replay_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="What to copy, in order.")
    ],
    into: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where to; made if absent.")
    ],
    every: Annotated[
        float,
        typer.Option(
            metavar="TIME",
            parser=parse_duration,
            help="From one file to the next: 2s, 500ms, 1m.",
        ),
    ] = "2s",  # type: ignore[assignment]
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help=f"How files arrive, several in turn: {', '.join(ARRIVAL_MODES)}.",
            show_default="all",
        ),
    ] = None,
    relative_to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the sub folders below this folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
) -> None:
    """Let files arrive as from a microscope.

    They are copied: grown in pieces, renamed from a temporary name, allocated in full
    and then filled, or copied in one go. The sources are only read. Ctrl-C removes the
    file that is half there.
    """
    arrivals = replay(
        files,
        into=into,
        every_s=every,
        modes=cast("list[ArrivalMode]", mode) if mode else ARRIVAL_MODES,
        relative_to=relative_to,
        overwrite=overwrite,
    )
    bar, task = progress_bar("Arriving", len(files))
    count = 0
    with bar:
        for arrival in arrivals:
            count += 1
            bar.update(task, completed=count, description=arrival.target.name)
    say(stdout(), f"Arrived in {into}: {count_of(count, 'file')}.")
