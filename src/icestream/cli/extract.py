"""Particles cut out of files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from icestream.cli.arguments import Files, Json, PixelSize
from icestream.cli.coordinates import Places
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
from icestream.cli.output import make_table, say, stdout
from icestream.cli.star import write_particles_star
from icestream.domain import Column
from icestream.domain.errors import BadSettings, NoParticles
from icestream.engines.extraction import extract_particles
from icestream.io import write_mrc
from icestream.io.relion import seen_y_px
from icestream.protocols.extract_particles import (
    ExtractParticles,
    ExtractParticlesParams,
)

__all__ = ["Cut", "extract_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The particles of one micrograph: rows of x, y as RELION counts, and the stack."""

    stack: Path
    micrograph: Path
    x_px: Column
    y_px: Column


@with_params(ExtractParticles, without=("box_angst", "pixel_size_angst"))
def extract_command(
    file: Files,
    coordinates: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="JSON of `icestream pick --json`, a STAR file, or the folder of "
            "`icestream pick --star`.",
        ),
    ],
    pixel_size_angst: PixelSize,
    box_px: Annotated[
        int, typer.Option(help="Side of the box in the micrograph, px; even.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to: FILE.mrcs, particles.star.")
    ],
    crop_to_px: Annotated[
        int | None,
        typer.Option(help="Side of the stored images, px; even.", show_default="box"),
    ] = None,
    json: Json = False,
    *,
    params: ExtractParticlesParams,
) -> None:
    """Cut particles out of micrographs.

    Each micrograph gives one stack, normalised; particles whose box reaches
    beyond the image are left out. A file without particles or that cannot be read is
    reported, the others go on; the exit code is then 3.
    """
    stored_px = crop_to_px or box_px
    _check_sides(box_px, stored_px)
    require_distinct_stems(file)
    places = Places(coordinates)
    if places.is_for_one and len(file) > 1:
        raise BadSettings(f"{coordinates} names no micrographs, and there are several.")
    stored_angst = pixel_size_angst * box_px / stored_px

    def cut(path: Path) -> Cut:
        image = load_image(path)
        x_px, y_px = places.find(path)
        height_px = image.shape[0]
        if coordinates.suffix != ".json":
            y_px = seen_y_px(y_px, micrograph=path, height_px=height_px)
        stack, kept = extract_particles(
            image,
            x_px=torch.from_numpy(x_px.copy()),
            y_px=torch.from_numpy(y_px.copy()),
            box_px=box_px,
            crop_to_px=stored_px,
            invert=params.invert,
            background_radius_px=params.background_fraction * box_px / 2,
        )
        if not len(stack):
            raise NoParticles(f"{path} has no particle whose box lies in the image.")
        target = out / f"{path.stem}.mrcs"
        write_mrc(
            target,
            stack.numpy(),
            pixel_size_angst=stored_angst,
            dtype=params.number_format,
            is_stack=True,
        )
        rows = np.asarray(kept)
        y_kept = seen_y_px(y_px[rows], micrograph=path, height_px=height_px)
        return Cut(stack=target, micrograph=path, x_px=x_px[rows], y_px=y_kept)

    make_folder(out)
    results = each_file(file, cut, doing="Extracting")
    cuts = [one.value for one in results if one.value is not None]
    star = out / "particles.star"
    write_particles_star(
        star,
        [(c.stack.name, os.fspath(c.micrograph), c.x_px, c.y_px) for c in cuts],
        box_px=stored_px,
        pixel_size_angst=(pixel_size_angst, stored_angst),
    )
    _show(results, star, as_json=json)
    if len(cuts) < len(results):
        raise typer.Exit(ITEMS_FAILED)


def _check_sides(box_px: int, stored_px: int) -> None:
    if box_px % 2 or stored_px % 2 or not 8 <= stored_px <= box_px:
        raise BadSettings(
            f"A box of {box_px} px cannot be stored with {stored_px} px.",
            hint="Both are even, the stored one the smaller, and 8 at least.",
        )


def _show(results: Sequence[FileResult[Cut]], star: Path, *, as_json: bool) -> None:
    if as_json:
        print_results_json(results, _describe)
        return
    table = make_table("file", "particles", "stack", right=("particles",))
    for one in results:
        if one.value is not None:
            count = f"{len(one.value.x_px):,}"
            table.add_row(one.file.name, count, os.fspath(one.value.stack))
    if table.row_count:
        stdout().print(table)
    say(stdout(), f"Particles: {star}", in_one_line=True)


def _describe(cut: Cut) -> Mapping[str, Any]:
    return {"stack": os.fspath(cut.stack), "particle_count": len(cut.x_px)}
