"""What the charts show of the exposures: which quantity, which points, which limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.report.results import Standing
from icestream.report.wording import Quantity, quantity
from icestream.streaming.workflow import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from icestream.report.results import ExposureResult, SessionResults

__all__ = ["QUALITY", "Limit", "Point", "Series", "all_series", "thinned"]


QUALITY = {
    "mean_intensity": ("Mean intensity", "", 1.0, 2),
    "ice_thickness_relative": ("Relative ice thickness", "", 1.0, 2),
    "ice_ring_ratio": ("Ice ring", "", 1.0, 2),
    "crystal_ratio": ("Crystals of ice", "", 1.0, 2),
    "masked_fraction": ("Masked part of the image", "%", 100.0, 0),
    "defocus_minus_target_angst": ("Defocus less target", "µm", 1e-4, 2),
}
"""Numbers of quality that have a chart: title, unit, factor to it, digits."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of an exposure: its place in the order, and how it is marked."""

    order: int
    value: float
    group: int
    is_rejected: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that a gate sets, with its words."""

    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One quantity over all exposures, in the unit that people read."""

    title: str
    unit: str
    points: tuple[Point, ...]
    limits: tuple[Limit, ...]
    digits: int


def all_series(results: SessionResults) -> dict[str, Series]:
    """Return motion, CTF, quality and picks of a session."""
    defocus = quantity("defocus_u_angst")
    return _quality_series(results) | {
        "motion": _series(
            results,
            "Motion, whole path",
            "total_motion",
            Quantity(label="motion", unit="Å", digits=1),
            lambda one: one.total_motion_angst,
        ),
        "early_motion": _series(
            results,
            "Motion up to 4 e⁻/Å²",
            "early_motion",
            Quantity(label="early motion", unit="Å", digits=1),
            lambda one: one.early_motion_angst,
        ),
        "defocus": _series(
            results, "Defocus U", "defocus", defocus, _of_ctf("defocus_u_angst")
        ),
        "resolution": _series(
            results,
            "Fit resolution",
            "resolution",
            quantity("resolution_angst"),
            _of_ctf("resolution_angst"),
        ),
        "astigmatism": _series(
            results,
            "Astigmatism U − V",
            "astigmatism",
            quantity("astigmatism_angst"),
            _of_ctf("astigmatism_angst"),
        ),
        "picks": _series(
            results,
            "Picks per micrograph",
            "pick",
            Quantity(label="picks", digits=0),
            lambda one: one.pick_count,
        ),
    }


def _quality_series(results: SessionResults) -> dict[str, Series]:
    return {
        name: _series(
            results,
            title,
            name,
            Quantity(label=title.lower(), unit=unit, factor=factor, digits=digits),
            _of_numbers(name),
        )
        for name, (title, unit, factor, digits) in QUALITY.items()
    }


def _of_numbers(field: str) -> Callable[[ExposureResult], float | None]:
    return lambda one: one.numbers.get(field)


def _of_ctf(field: str) -> Callable[[ExposureResult], float | None]:
    return lambda one: None if one.ctf is None else getattr(one.ctf, field)


def _series(
    results: SessionResults,
    title: str,
    word: str,
    shown: Quantity,
    value_of: Callable[[ExposureResult], float | None],
) -> Series:
    setups = {one.setup.name: one.number for one in results.setups}
    points = []
    for order, one in enumerate(results.exposures, start=1):
        value = value_of(one)
        if value is not None:
            points.append(
                Point(
                    order,
                    value * shown.factor,
                    setups.get(one.setup, 1),
                    one.standing is Standing.REJECTED,
                )
            )
    return Series(
        title=title,
        unit=shown.unit,
        points=tuple(points),
        limits=tuple(_limits(results, word, shown)),
        digits=shown.digits,
    )


def _limits(results: SessionResults, word: str, shown: Quantity) -> Iterable[Limit]:
    """Find the parameters of gates that limit a quantity, by their names."""
    for run in results.runs:
        if run.shape != Shape.GATE.value:
            continue
        for name, value in _numbers(run.params):
            if word in name:
                label = quantity(name).label
                yield Limit(value * shown.factor, f"{label} {shown.text(value)}")


def _numbers(params: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """Return numbers among parameters; those of a rule go by its name too."""
    for name, value in params.items():
        if isinstance(value, dict):
            for inner, number in _numbers(value):
                yield f"{inner} {name}".removesuffix(" rules"), number
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def thinned(points: Sequence[Point], *, bins: int) -> list[Point]:
    """Keep the lowest, the highest and the first point of each stretch of the order.

    Parameters
    ----------
    points
        In order.
    bins
        Number of stretches; at most three times as many points are kept.
    """
    if len(points) <= 3 * bins:
        return list(points)
    kept: list[Point] = []
    for number in range(bins):
        part = points[number * len(points) // bins : (number + 1) * len(points) // bins]
        chosen = {
            part[0],
            min(part, key=lambda p: p.value),
            max(part, key=lambda p: p.value),
        }
        kept.extend(sorted(chosen, key=lambda p: p.order))
    return kept
