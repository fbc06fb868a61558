"""Motion correction against truth, beside RELION where installed, on the same movies.

Exposures of protein in ice, each taken without and with damage by the beam: 4096 x 4096
px in 24 frames, and 5760 x 4092 px in 40. One program after the other corrects each
movie with a gain reference, in a process of its own that writes both images and a STAR
file; times hold its start. What the scores mean stands in `moving/scores.py`.

    python benchmarks/motion.py [FOLDER] [--movies 12] [--k3 2] [--quick] [--json]

A folder keeps the simulated movies (about 0.4 GB an exposure) for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from moving.movies import Truth, make_movies
from moving.programs import Usage, programs, start_icestream
from moving.scores import (
    BANDS_ANGST,
    found_motion,
    image_frc,
    motion_error_angst,
    still_frc,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moving.movies import Exposed, Size

OURS, THEIRS = "icestream", "RELION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a program did with a movie."""

    usage: Usage
    rmsd_angst: float
    frc: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A movie: plain sums are scored without damage, dose-weighted ones with it."""

    size: Size
    number: int
    is_damaged: bool
    still_frc: tuple[float, ...]
    uncorrected_rmsd_angst: float
    by_program: dict[str, Result]


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
        first = exposed[0], exposed[0].movie(is_damaged=False), Path(scratch)
        programs()[OURS](*first, given.threads)  # Loops are compiled once.
        start = start_icestream(*first)
        compared = []
        for one in exposed:
            for is_damaged in (False, True):
                with console.status(f"{one.size}, {one.number}, {is_damaged=}"):
                    compared.append(_compare(one, is_damaged, given.threads))
    if given.json:
        each = [asdict(one) for one in compared]
        print(json.dumps({"start": asdict(start), "movies": each}))
        return
    _print(compared, start)


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


def _compare(exposed: Exposed, is_damaged: bool, threads: int) -> Compared:
    movie, truth = exposed.movie(is_damaged=is_damaged), Truth.read(exposed)
    movie.read_bytes()  # Both find it in the system's cache.
    results = {}
    for name, correct in programs().items():
        with tempfile.TemporaryDirectory(prefix="icestream-motion-") as scratch:
            made = correct(exposed, movie, Path(scratch), threads)
            found = found_motion(made.star, truth)
            image = made.weighted if is_damaged else made.plain
            mean = found.mean(0) if made.is_as_in_first_frame else 0 * found[0]
            results[name] = Result(
                usage=made.usage,
                rmsd_angst=motion_error_angst(found, truth),
                frc=image_frc(image, mean, truth),
            )
    still = truth.still_damaged if is_damaged else truth.still
    return Compared(
        size=exposed.size,
        number=exposed.number,
        is_damaged=is_damaged,
        still_frc=still_frc(still, truth),
        uncorrected_rmsd_angst=motion_error_angst(np.zeros_like(found), truth),
        by_program=results,
    )


def _print(compared: Sequence[Compared], start: Usage) -> None:
    console = Console()
    by_size = defaultdict(list)
    for one in compared:
        by_size[one.size].append(one)
    for size, movies in by_size.items():
        console.print(_cost_table(size, movies))
        console.print(_motion_table(size, movies))
        for is_damaged in (False, True):
            console.print(
                _frc_table(
                    size, [one for one in movies if one.is_damaged == is_damaged]
                )
            )
    console.print(
        f"Of each time of {OURS}, its start takes {start.wall_s:.1f} s "
        f"({start.cpu_s:.1f} CPU-s)."
    )


def _cost_table(size: Size, movies: Sequence[Compared]) -> Table:
    """Medians a movie, the largest peak, and ratios of those."""
    table = Table("program", "wall (s)", "CPU (s)", "peak (GiB)")
    table.title = f"{size}: {len(movies)} movies, one process each"
    costs = {}
    for name in movies[0].by_program:
        usages = [one.by_program[name].usage for one in movies]
        costs[name] = (
            float(np.median([one.wall_s for one in usages])),
            float(np.median([one.cpu_s for one in usages])),
            max(one.peak_gib for one in usages),
        )
        table.add_row(name, *(f"{value:.2f}" for value in costs[name]))
    if THEIRS in costs:
        ratios = zip(costs[THEIRS], costs[OURS], strict=True)
        table.add_row(f"{THEIRS} / {OURS}", *(f"{a / b:.2f}" for a, b in ratios))
    return table


def _motion_table(size: Size, movies: Sequence[Compared]) -> Table:
    """Errors of each movie, their medians, and paired differences."""
    names = list(movies[0].by_program)
    table = Table("movie", "as it was", *names, title=f"{size}: motion, RMSD (Å)")
    rows = [
        (one.uncorrected_rmsd_angst, *(one.by_program[n].rmsd_angst for n in names))
        for one in movies
    ]
    for one, row in zip(movies, rows, strict=True):
        damage = "damaged" if one.is_damaged else "plain"
        table.add_row(f"{one.number} {damage}", *(f"{value:.3f}" for value in row))
    table.add_section()
    table.add_row("median", *(f"{value:.3f}" for value in np.median(rows, axis=0)))
    if THEIRS in names:
        ours, theirs = (np.array(rows)[:, 1 + names.index(n)] for n in (OURS, THEIRS))
        table.add_row(f"{OURS} - {THEIRS}", "", _mean_with_error(ours - theirs))
    return table


def _frc_table(size: Size, movies: Sequence[Compared]) -> Table:
    """Means over movies of the same kind, and paired differences."""
    names = list(movies[0].by_program)
    what = "dose-weighted, damaged" if movies[0].is_damaged else "plain, undamaged"
    table = Table("band (Å)", "motionless", *names, title=f"{size}: FRC, {what}")
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
