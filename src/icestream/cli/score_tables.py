"""A score as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from icestream.cli.output import count_of, make_table, say
from icestream.simulate.score.values import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from icestream.simulate.score import (
        CtfScore,
        ItemScore,
        MotionScore,
        PickScore,
        Score,
        Spread,
    )

__all__ = ["print_score"]

_LABEL_WIDTH = 32
_NAMES_SHOWN = 3
_FOOTNOTE = (
    "* median / 90th percentile / worst. The angle: where astigmatism is above 150 Å. "
    "Error / standard error: RMS."
)


def print_score(console: Console, score: Score) -> None:
    """Print what a scientist wants to know, in a table of four sections."""
    for line in _remarks(score):
        say(console, line, style="yellow")
    for number, section in enumerate(_sections(score)):
        if number:
            console.print()
        console.print(section)
    if score.ctf_all is not None:
        say(console, f"\n{_FOOTNOTE}")
        say(console, f"Worst defocus: {score.ctf_all.worst_key}")


def _remarks(score: Score) -> Iterator[str]:
    """Say what the numbers do not cover."""
    if score.planned is not None and score.known < score.planned:
        yield (
            f"Truth of {score.known:,} of {score.planned:,} exposures: the acquisition "
            "goes on, or was ended early, or its file was cut or damaged."
        )
    if score.by_name:
        yield (
            f"{count_of(score.by_name, 'file')} outside of the truth's folder: matched "
            "by name alone, which other acquisitions may have too."
        )
    if score.unlike:
        yield (
            f"{count_of(len(score.unlike), 'exposure')} unlike the truth: "
            f"{score.unlike[0]}."
        )


def _sections(score: Score) -> Iterator[Table]:
    yield _items(score.items)
    if score.motion is not None:
        yield _motion(score.motion)
    if score.ctf_all is not None:
        yield _ctf(score.ctf_good, score.ctf_all)
    if score.picking_all is not None:
        yield _picking(score)
    if score.verdicts.counts:
        yield _verdicts(score)


def _section(title: str, *columns: str, right: bool = True) -> Table:
    table = make_table(title, *columns, right=columns if right else ())
    table.columns[0].min_width = _LABEL_WIDTH
    return table


def _items(items: ItemScore) -> Table:
    table = _section("Exposures", "", " ", right=False)
    table.columns[1].justify = "right"
    table.add_row("taken", f"{items.taken:,}")
    table.add_row("in the session", f"{items.seen:,}")
    table.add_row("with a spoilt file", f"{items.spoilt:,}")
    named: tuple[tuple[str, Sequence[str]], ...] = (
        ("lost", items.lost),
        ("to come", items.to_come),
        ("doubled", items.doubled),
        ("in two folders, both used", items.copied),
        ("failed", items.failed),
        ("spoilt, but used", items.spoilt_used),
        ("in the session, but not taken", items.strays),
    )
    for label, names in named:
        shown = list(names[:_NAMES_SHOWN])
        if len(names) > _NAMES_SHOWN:
            shown.append("...")
        table.add_row(label, f"{len(names):,}", ", ".join(shown))
    return table


def _motion(motion: MotionScore) -> Table:
    table = _section("Motion", "all exposures")
    table.add_row("movies", f"{motion.movies:,}")
    table.add_row("parts move by themselves", _of(motion.with_parts, motion.movies))
    for label, spread in (
        ("error *, Å", motion.error_angst),
        ("error of the whole alone *, Å", motion.whole_error_angst),
        ("without correction *, Å", motion.uncorrected_angst),
    ):
        table.add_row(label, _spread(spread, ".2f"))
    table.add_row("error / foretold error", _number(motion.pull_rms))
    return table


def _ctf(good: CtfScore | None, whole: CtfScore) -> Table:
    table = _section("CTF", "good exposures", "all exposures")
    rows: tuple[tuple[str, Callable[[CtfScore], str]], ...] = (
        ("fits", lambda one: f"{one.fits:,} of {one.exposures:,}"),
        ("defocus error *, %", lambda one: _spread(one.defocus_percent, ".2f")),
        ("defocus error *, Å", lambda one: _spread(one.defocus_angst, ",.0f")),
        ("median with its sign, %", lambda one: f"{one.bias_percent:+.2f}"),
        ("right to 1 %", lambda one: _percent(one.within_1_percent)),
        ("astigmatism error *, Å", lambda one: _spread(one.astigmatism_angst, ",.0f")),
        ("angle error *, degrees", lambda one: _spread(one.angle_deg, ".1f")),
        (
            "phase shift error *, degrees",
            lambda one: _spread(one.phase_shift_deg, ".1f"),
        ),
        ("defocus error / standard error", lambda one: _number(one.defocus_pull_rms)),
        ("angle error / standard error", lambda one: _number(one.angle_pull_rms)),
    )
    for label, text in rows:
        table.add_row(label, "-" if good is None else text(good), text(whole))
    return table


def _picking(score: Score) -> Table:
    table = _section("Picking", "good exposures", "all exposures")
    rows: tuple[tuple[str, Callable[[PickScore], str]], ...] = (
        ("exposures", lambda one: f"{one.exposures:,}"),
        ("picks", lambda one: f"{one.picks:,}"),
        ("particles in the image", lambda one: f"{one.particles:,}"),
        ("precision", lambda one: _number(one.precision, ".3f")),
        ("recall", lambda one: _number(one.recall, ".3f")),
        ("F1", lambda one: _number(one.f1, ".3f")),
        ("centring error *, Å", lambda one: _spread(one.centring_angst, ".1f")),
        (
            "overlapping particles found",
            lambda one: _of(one.overlapping_matched, one.overlapping),
        ),
        (
            "particles on film or dirt found",
            lambda one: _of(one.masked_matched, one.masked),
        ),
        ("false picks on film or dirt", lambda one: f"{one.picks_on_mask:,}"),
    )
    good, whole = score.picking_good, score.picking_all
    for label, text in rows:
        table.add_row(
            label, *("-" if one is None else text(one) for one in (good, whole))
        )
    blanks = score.blanks
    if blanks is not None:
        table.add_row("picks on a blank one, mean", "", f"{blanks.picks_mean:.1f}")
        table.add_row("picks on a blank one, most", "", f"{blanks.picks_most:,}")
    return table


def _verdicts(score: Score) -> Table:
    outcomes = get_args(Outcome)
    table = _section("Verdicts", *outcomes)
    for kind, counts in score.verdicts.counts.items():
        table.add_row(kind.replace("_", " "), *(f"{counts[one]:,}" for one in outcomes))
    table.add_row("good ones rejected", "", _percent(score.verdicts.rejected_good))
    table.add_row("bad ones accepted", _percent(score.verdicts.accepted_bad))
    return table


def _spread(spread: Spread | None, layout: str) -> str:
    if spread is None:
        return "-"
    numbers = (spread.median, spread.p90, spread.worst)
    return " / ".join(format(one, layout) for one in numbers)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, layout: str = ".2f") -> str:
    return "-" if value is None else format(value, layout)


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"
