"""Particles in files: where they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from icestream.cli.arguments import Files, Json, PixelSize
from icestream.cli.exits import ITEMS_FAILED
from icestream.cli.files import (
    FileResult,
    each_file,
    make_folder,
    print_results_json,
    require_distinct_stems,
)
from icestream.cli.flags import with_params
from icestream.cli.images import load_image
from icestream.cli.output import make_table, stdout
from icestream.cli.star import write_coordinates_star
from icestream.domain import Coordinates
from icestream.engines.picking import pick_particles
from icestream.protocols.pick_particles import PickParticles, PickParticlesParams

__all__ = ["pick_command"]

_DECIMALS = 3


@with_params(PickParticles)
def pick_command(
    file: Files,
    pixel_size_angst: PixelSize,
    star: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write FILE_picks.star for RELION in there."),
    ] = None,
    json: Json = False,
    *,
    params: PickParticlesParams,
) -> None:
    """Find particles in micrographs.

    With --json: x along the row, y the row's index as stored in the file, the centre of
    the first pixel is (0, 0); diameter_angst is the median of the estimates. A file
    that cannot be read is reported, the others go on; the exit code is then 3.
    """

    def pick(path: Path) -> Coordinates:
        image = load_image(path)
        found = pick_particles(
            image, pixel_size_angst=pixel_size_angst, **params.model_dump()
        )
        if star is not None:
            write_coordinates_star(
                star / f"{path.stem}_picks.star",
                found,
                micrograph=path,
                height_px=image.shape[0],
            )
        return found

    if star is not None:
        require_distinct_stems(file)
        make_folder(star)
    results = each_file(file, pick, doing="Picking")
    if json:
        print_results_json(results, _describe)
    else:
        _print_table(results)
    if any(one.error for one in results):
        raise typer.Exit(ITEMS_FAILED)


def _describe(found: Coordinates) -> Mapping[str, Any]:
    return {
        "diameter_angst": _diameter_angst(found),
        "x_px": _rounded(found.x_px),
        "y_px": _rounded(found.y_px),
        "score": _rounded(found.score),
    }


def _rounded(column: Any) -> list[float]:  # noqa: ANN401 - a column
    return [round(float(one), _DECIMALS) for one in column]


def _diameter_angst(found: Coordinates) -> float | None:
    if not len(found):
        return None
    return round(float(np.median(found.diameter_angst)), 1)


def _print_table(results: Sequence[FileResult[Coordinates]]) -> None:
    numbers = ("picks", "diameter (Å)", "best score", "worst score")
    table = make_table("file", *numbers, right=numbers)
    for one in results:
        found = one.value
        if found is None:
            continue
        diameter = _diameter_angst(found)
        table.add_row(
            one.file.name,
            f"{len(found):,}",
            "" if diameter is None else f"{diameter:.0f}",
            f"{found.score.max():.2f}" if len(found) else "",
            f"{found.score.min():.2f}" if len(found) else "",
        )
    if table.row_count:
        stdout().print(table)
