"""Movies turned into motion-corrected micrographs."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from icestream.cli.arguments import Json, PixelSize, Voltage
from icestream.cli.exits import ITEMS_FAILED, terminable
from icestream.cli.files import (
    FileResult,
    each_file,
    make_folder,
    print_results_json,
    require_distinct_stems,
)
from icestream.cli.flags import with_params
from icestream.cli.output import make_table, say, stdout
from icestream.domain import AcquisitionSetup
from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.io import THUMBNAIL_SUFFIX, guarding_writes, read_movie_header
from icestream.protocols.correct_motion import CorrectMotion, CorrectMotionParams
from icestream.protocols.corrected_movie import CorrectedFiles, CorrectedMovie
from icestream.protocols.movie_correction import correct_movie_file
from icestream.protocols.movie_plan import MovieOptions

__all__ = ["motion_command"]

# A file takes 255 bytes, and a name of 15 more while it is written.
_LONGEST_NAME_BYTES = 240

Movies = Annotated[
    list[Path],
    # One that may not be read is told as such, and the others go on.
    typer.Argument(metavar="FILE", readable=False, help="Movies: TIFF, MRC or EER."),
]
Gain = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Gain reference: MRC, TIFF, DM4 or .gain; none for corrected movies.",
    ),
]
Defects = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Defects, as SerialEM or MotionCor2 list them."),
]
Dose = Annotated[
    float | None,
    typer.Option(help="Dose of a whole movie, e/Å²; without it no dose weights."),
]


@with_params(CorrectMotion)
def motion_command(
    file: Movies,
    pixel_size_angst: PixelSize,
    voltage_kv: Voltage,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Where to: FILE.mrc, FILE.star, FILE_spectrum.mrc, ..."
        ),
    ],
    dose_e_per_angst2: Dose = None,
    dose_before_e_per_angst2: Annotated[
        float, typer.Option(help="Dose before the first frame, e/Å².")
    ] = 0.0,
    gain: Gain = None,
    gain_mirror: Annotated[
        bool, typer.Option("--gain-mirror", help="Reverse the gain's columns first.")
    ] = False,
    gain_turn_deg: Annotated[
        int, typer.Option(help="Then turn it: 0, 90, 180 or 270 degrees.")
    ] = 0,
    gain_divides: Annotated[
        bool, typer.Option("--gain-divides", help="Divide counts by the gain.")
    ] = False,
    defects: Defects = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads.", show_default="one a core"),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"],
        typer.Option(help="Where frames are moved: cpu, or cuda for a GPU."),
    ] = "cpu",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be written, and write nothing."),
    ] = False,
    json: Json = False,
    *,
    params: CorrectMotionParams,
) -> None:
    """Correct movies: gain, defects, motion, dose.

    Each movie gives an image whose rows are in RELION's order, its motion as a STAR
    file that RELION reads, the power spectrum for the CTF, and a picture. A movie that
    cannot be corrected is reported, the others go on; the exit code is then 3.
    """
    require_distinct_stems(file)
    options = params.options()
    named = {one: _targets(one, out, options) for one in file}
    _require_no_movie_replaced(named)
    _require_device(device)
    setup = AcquisitionSetup(
        name="opticsGroup1",
        pixel_size_angst=pixel_size_angst,
        voltage_kv=voltage_kv,
        dose_e_per_angst2=dose_e_per_angst2,
        dose_before_e_per_angst2=dose_before_e_per_angst2,
        gain=None if gain is None else os.fspath(gain.absolute()),
        gain_mirror=gain_mirror,
        gain_turn_deg=gain_turn_deg,
        gain_divides=gain_divides,
        defects=None if defects is None else os.fspath(defects.absolute()),
    )
    if dry_run:
        _tell_sizes(file, params, as_json=json)
        return
    cores = len(os.sched_getaffinity(0))
    count = min(threads or cores, cores)  # starting thousands takes minutes

    def correct(path: Path) -> CorrectedMovie:
        _require_possible_names(path, named[path])
        with _appearing_together(named[path], out) as parts:
            done = correct_movie_file(
                path.absolute(),
                setup=setup,
                options=options,
                files=CorrectedFiles(
                    thumbnail=parts.pop(THUMBNAIL_SUFFIX),
                    by_ending=parts,
                    thumbnail_px=params.thumbnail_px,
                ),
                threads=count,
                device=device,
            )
        star = os.fspath(named[path][".star"])
        return replace(done, motion=replace(done.motion, star=star))

    make_folder(out)
    with terminable():
        results = each_file(file, correct, doing="Correcting motion")
    if json:
        print_results_json(results, _describe)
    else:
        _print_table(results)
    if any(one.error for one in results):
        raise typer.Exit(ITEMS_FAILED)


def _targets(movie: Path, out: Path, options: MovieOptions) -> dict[str, Path]:
    """Return what a movie's files are called, by endings."""
    endings = (*options.endings, THUMBNAIL_SUFFIX)
    return {ending: out / f"{movie.stem}{ending}" for ending in endings}


def _require_no_movie_replaced(named: Mapping[Path, Mapping[str, Path]]) -> None:
    """Refuse a folder in which a result would take the place of a movie."""
    movies = {one.resolve() for one in named}
    for targets in named.values():
        for target in targets.values():
            if target.resolve() in movies:
                raise BadSettings(
                    f"The movie {target} would be replaced by a result.",
                    hint="Give another folder with --out.",
                )


def _require_possible_names(movie: Path, targets: Mapping[str, Path]) -> None:
    """Refuse a movie whose results no folder or STAR file can name."""
    try:
        longest = max(len(one.name.encode()) for one in targets.values())
    except UnicodeEncodeError as error:
        raise UnreadableFile(
            f"{movie} has a name that is no text in UTF-8.",
            hint="Make a link of another name, and give that.",
        ) from error
    if longest > _LONGEST_NAME_BYTES:
        raise UnreadableFile(
            f"{movie} has a name too long for those of its results.",
            hint="Make a link of a shorter name, and give that.",
        )


@contextmanager
def _appearing_together(
    targets: Mapping[str, Path], folder: Path
) -> Iterator[dict[str, Path]]:
    """Say where to write what gets its names when all went well: all of it or none."""
    with guarding_writes(folder):
        hidden = tempfile.TemporaryDirectory(
            prefix=".icestream-", dir=folder, ignore_cleanup_errors=True
        )
    with hidden as place:
        parts = {ending: Path(place, one.name) for ending, one in targets.items()}
        yield dict(parts)
        for ending, part in parts.items():
            with guarding_writes(targets[ending]):
                part.replace(targets[ending])


def _require_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise BadSettings(
            "There is no GPU that PyTorch can use.",
            hint="Leave out --device, or install a PyTorch for this GPU.",
        )


def _tell_sizes(
    files: Sequence[Path], params: CorrectMotionParams, *, as_json: bool
) -> None:
    options = params.options()

    def measure(path: Path) -> int:
        return options.bytes_per_exposure(read_movie_header(path))

    results = each_file(files, measure, doing="Reading headers")
    names = [*options.endings, THUMBNAIL_SUFFIX]
    if as_json:
        print_results_json(results, lambda size: {"bytes": size, "files": names})
    else:
        table = make_table("file", "files", "MB", right=("files", "MB"))
        for one in results:
            if one.value is not None:
                table.add_row(one.file.name, str(len(names)), f"{one.value / 1e6:.1f}")
        if table.row_count:
            stdout().print(table)
        say(stdout(), f"Each movie would leave {', '.join(names)}.")
    if any(one.error for one in results):
        raise typer.Exit(ITEMS_FAILED)


def _describe(done: CorrectedMovie) -> Mapping[str, Any]:
    motion: dict[str, Any] = asdict(done.motion)
    for name in ("shift_y_angst", "shift_x_angst"):
        motion[name] = motion[name].tolist()
    return asdict(done.image) | motion


def _print_table(results: Sequence[FileResult[CorrectedMovie]]) -> None:
    numbers = ("frames", "path (Å)", "early (Å)", "error (Å)", "bad px")
    table = make_table("file", *numbers, "parts", "notice", right=numbers)
    for one in results:
        if one.value is None:
            continue
        motion = one.value.motion
        table.add_row(
            one.file.name,
            f"{motion.seen_frame_count} of {motion.frame_count}",
            f"{motion.total_angst:.1f}",
            "-" if motion.early_angst is None else f"{motion.early_angst:.1f}",
            "-" if motion.error_angst is None else f"{motion.error_angst:.2f}",
            f"{motion.bad_pixel_count:,}",
            "differ" if motion.has_local else "move alike",
            motion.notice,
        )
    if table.row_count:
        stdout().print(table)
