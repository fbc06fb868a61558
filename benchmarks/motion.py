"""Motion correction against truth, beside RELION where installed, on the same movies.

Exposures of protein in ice, each taken without and with damage by the beam: 4096 x 4096
px in 24 frames, and 5760 x 4092 px in 40. One program after the other corrects all
movies of a kind with a gain reference, in one process that writes both images and a
STAR file of each; times hold its start. What scores mean stands in `moving/scores.py`.

    python benchmarks/motion.py [FOLDER] [--movies 12] [--k3 2] [--quick] [--json]

A folder keeps the simulated movies (about 0.4 GB an exposure) for the next time; those
of another recipe or simulator are made anew beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from moving.movies import Truth, make_movies
from moving.programs import Batch, Usage, programs, start_icestream
from moving.scores import (
    BANDS_ANGST,
    found_motion,
    image_frc,
    motion_error_angst,
    still_frc,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moving.movies import Exposed, Size
    from moving.programs import Corrected

OURS, THEIRS = "icestream", "RELION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a program made of a movie."""

    rmsd_angst: float
    frc: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A movie: plain sums are scored without damage, dose-weighted ones with it."""

    number: int
    still_frc: tuple[float, ...]
    uncorrected_rmsd_angst: float
    by_program: dict[str, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All movies of a kind, and what each program took for them together."""

    size: Size
    is_damaged: bool
    start: Usage
    usage: dict[str, Usage]
    movies: list[Compared]


def main() -> None:
    given = _arguments()
    counts: dict[Size, int] = {"4096": given.movies, "k3": given.k3}
    if given.quick:
        counts = {"4096": 2, "k3": 0}
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="icestream-motion-") as scratch:
        folder = given.folder or Path(scratch) / "movies"
        with console.status("Simulating movies"):
            exposed = make_movies(folder, counts, processes=given.processes)
        torch.set_num_threads(given.processes)
        batches = [
            Batch(
                exposed=tuple(one for one in exposed if one.size == size),
                is_damaged=is_damaged,
            )
            for size, count in counts.items()
            if count
            for is_damaged in (False, True)
        ]
        # Loops are compiled once.
        warm = Batch(exposed=(exposed[0],), is_damaged=False)
        programs()[OURS](warm, Path(scratch), given.threads)
        runs = []
        for batch in batches:
            with console.status(f"{batch.size}, is_damaged={batch.is_damaged}"):
                runs.append(_run(batch, given.threads))
    if given.json:
        print(json.dumps([asdict(one) for one in runs]))
        return
    _print(runs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of simulated movies")
    parser.add_argument("--movies", type=int, default=12, help="exposures of 4096 px")
    parser.add_argument("--k3", type=int, default=2, help="exposures of a K3")
    parser.add_argument("--quick", action="store_true", help="2 exposures, none of K3")
    parser.add_argument("--threads", type=int, default=4, help="of each program")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=cores, help="that simulate")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args()


def _run(batch: Batch, threads: int) -> Run:
    for movie in batch.movies:
        movie.read_bytes()  # Both find it in the system's cache.
    with tempfile.TemporaryDirectory(prefix="icestream-motion-") as scratch:
        usage, made = {}, {}
        for name, correct in programs().items():
            folder = Path(scratch) / name
            folder.mkdir()
            usage[name], made[name] = correct(batch, folder, threads)
        by_movie = [
            dict(zip(made, one, strict=True))
            for one in zip(*made.values(), strict=True)
        ]
        return Run(
            size=batch.size,
            is_damaged=batch.is_damaged,
            start=start_icestream(batch, Path(scratch)),
            usage=usage,
            movies=[
                _compare(one, batch.is_damaged, images)
                for one, images in zip(batch.exposed, by_movie, strict=True)
            ],
        )


def _compare(
    exposed: Exposed, is_damaged: bool, made: Mapping[str, Corrected]
) -> Compared:
    truth, results = Truth.read(exposed), {}
    for name, one in made.items():
        found = found_motion(one.star, truth)
        image = one.weighted if is_damaged else one.plain
        mean = found.mean(0) if one.is_as_in_first_frame else 0 * found[0]
        results[name] = Result(
            rmsd_angst=motion_error_angst(found, truth),
            frc=image_frc(image, mean, truth),
        )
    still = truth.still_damaged if is_damaged else truth.still
    return Compared(
        number=exposed.number,
        still_frc=still_frc(still, truth),
        uncorrected_rmsd_angst=motion_error_angst(np.zeros_like(found), truth),
        by_program=results,
    )


def _print(runs: Sequence[Run]) -> None:
    console = Console()
    for run in runs:
        console.rule(f"{run.size}, {'with' if run.is_damaged else 'without'} damage")
        console.print(_cost_table(run))
        console.print(_motion_table(run.movies))
        console.print(_frc_table(run.movies))


def _cost_table(run: Run) -> Table:
    """Time over movies, the peak, and ratios of those."""
    count = len(run.movies)
    table = Table("program", "wall (s)", "CPU (s)", "peak (GiB)")
    table.title = f"A movie, of {count} in one process"
    costs = {
        name: (one.wall_s / count, one.cpu_s / count, one.peak_gib)
        for name, one in run.usage.items()
    }
    for name, cost in costs.items():
        table.add_row(name, *(f"{value:.2f}" for value in cost))
    if THEIRS in costs:
        ratios = zip(costs[THEIRS], costs[OURS], strict=True)
        table.add_row(f"{THEIRS} / {OURS}", *(f"{a / b:.2f}" for a, b in ratios))
    table.caption = (
        f"The start of {OURS} took {run.start.wall_s:.1f} s, {run.start.cpu_s:.1f} "
        "CPU-s in all."
    )
    return table


def _motion_table(movies: Sequence[Compared]) -> Table:
    """Errors of each movie, their medians, and paired differences."""
    names = list(movies[0].by_program)
    table = Table("movie", "as it was", *names, title="Motion, RMSD (Å)")
    rows = [
        (one.uncorrected_rmsd_angst, *(one.by_program[n].rmsd_angst for n in names))
        for one in movies
    ]
    for one, row in zip(movies, rows, strict=True):
        table.add_row(str(one.number), *(f"{value:.3f}" for value in row))
    table.add_section()
    table.add_row("median", *(f"{value:.3f}" for value in np.median(rows, axis=0)))
    if THEIRS in names:
        ours, theirs = (np.array(rows)[:, 1 + names.index(n)] for n in (OURS, THEIRS))
        table.add_row(f"{OURS} - {THEIRS}", "", _mean_with_error(ours - theirs))
    return table


def _frc_table(movies: Sequence[Compared]) -> Table:
    """Means over movies, and paired differences."""
    names = list(movies[0].by_program)
    table = Table("band (Å)", "motionless", *names, title="FRC with the truth")
    has_both = THEIRS in names
    if has_both:
        table.add_column(f"{OURS} - {THEIRS}")
    still = np.array([one.still_frc for one in movies])
    found = {n: np.array([one.by_program[n].frc for one in movies]) for n in names}
    for number, (coarse, fine) in enumerate(BANDS_ANGST):
        means = [one[:, number].mean() for one in (still, *found.values())]
        row = [f"{coarse:g}-{fine:g}", *(f"{value:.4f}" for value in means)]
        if has_both:
            row.append(_mean_with_error((found[OURS] - found[THEIRS])[:, number]))
        table.add_row(*row)
    return table


def _mean_with_error(differences: np.ndarray) -> str:
    count = len(differences)
    error = differences.std(ddof=1) / count**0.5 if count > 1 else float("nan")
    return f"{differences.mean():+.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
