"""Charts as inline SVG; colours come from the page's style and follow its theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from icestream.report.axis import Axis, round_step, span_of
from icestream.report.series import thinned
from icestream.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.report.series import Point, Series

__all__ = ["histogram", "over_time"]

_WIDTH, _HEIGHT = 1160, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 22, 30, 38
_BINS_OVER_TIME = 400
_DOT, _BIG_DOT = 3.6, 9.0
"""Width of a dot among many, and of one of a few."""
_GROUPS = 6
"""So many setups have a colour of their own."""


def over_time(
    series: Series, *, clocks: Sequence[tuple[int, str]], count: int
) -> Markup:
    """Draw a quantity against the order of arrival.

    Parameters
    ----------
    series
        What is drawn; rejected exposures get a cross.
    clocks
        Places in the order that get a tick, with the time of day.
    count
        Number of exposures: the length of the axis.
    """
    values = [one.value for one in series.points]
    low, high = _span(series)
    y = Axis(low=low, high=high, start=_HEIGHT - _BOTTOM, end=_TOP)
    x = Axis(low=0.5, high=max(count, 1) + 0.5, start=_LEFT, end=_WIDTH - _RIGHT)
    fine = [one for one in series.points if not one.is_rejected]
    bad = [one for one in series.points if one.is_rejected]
    size = _dot_size(count)
    parts = [_frame(x, y), _y_ticks(y, _WIDTH - _RIGHT), _order_ticks(x, clocks)]
    parts += [_limit_across(y, one.value, one.label) for one in series.limits]
    for group in range(1, _GROUPS + 1):
        shown = [one for one in fine if (one.group - 1) % _GROUPS + 1 == group]
        kept = thinned(shown, bins=_BINS_OVER_TIME)
        parts.append(_dots(x, y, kept, group=group, size=size))
    parts.append(_crosses(x, y, thinned(bad, bins=_BINS_OVER_TIME // 2), size=size))
    parts.append(_title(series))
    return _svg(parts, label=_words(series, values), height=_HEIGHT, width=_WIDTH)


def _span(series: Series) -> tuple[float, float]:
    return span_of(
        [one.value for one in series.points],
        include=[one.value for one in series.limits],
        least=10.0**-series.digits,
    )


def histogram(series: Series, *, width: int = 560, bins: int = 32) -> Markup:
    """Draw how often each value occurs; rejected exposures stand on the others."""
    values = [one.value for one in series.points]
    low, high = _span(series)
    edges = _edges(low, high, bins)
    fine, bad = (
        _heights([p.value for p in series.points if p.is_rejected is rejected], edges)
        for rejected in (False, True)
    )
    tallest = int((fine + bad).max(initial=0))
    y = Axis(low=0, high=max(tallest * 1.05, 1), start=_HEIGHT - _BOTTOM, end=_TOP)
    x = Axis(low=edges[0], high=edges[-1], start=_LEFT, end=width - _RIGHT)
    parts = [_frame(x, y), _y_ticks(y, width - _RIGHT, whole=True), _x_ticks(x)]
    parts.append(_bars(x, y, edges, np.zeros_like(fine), fine, "bar"))
    parts.append(_bars(x, y, edges, fine, fine + bad, "bar bad"))
    parts += [_limit_down(x, one.value, one.label) for one in series.limits]
    parts.append(_title(series))
    return _svg(parts, label=_words(series, values), height=_HEIGHT, width=width)


def _svg(parts: Sequence[Markup], *, label: str, height: int, width: int) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, label, Markup().join(parts))


def _words(series: Series, values: Sequence[float]) -> str:
    if not values:
        return f"{series.title}: no values yet."
    low, middle, high = np.percentile(values, (0, 50, 100))
    shown = [number(float(one), series.digits) for one in (low, middle, high)]
    bad = sum(one.is_rejected for one in series.points)
    return (
        f"{series.title} of {len(values)} exposures: median {shown[1]} {series.unit}, "
        f"from {shown[0]} to {shown[2]} {series.unit}; {bad} rejected."
    )


def _title(series: Series) -> Markup:
    unit = f" / {series.unit}" if series.unit else ""
    empty = (
        Markup()
        if series.points
        else Markup('<text class="empty" x="{}" y="{}">no values yet</text>').format(
            _LEFT + 12, _HEIGHT / 2
        )
    )
    return (
        Markup('<text class="name" x="{}" y="{}">{}{}</text>').format(
            8, 16, series.title, unit
        )
        + empty
    )


def _frame(x: Axis, y: Axis) -> Markup:
    return Markup('<path class="axis" d="M{:.0f} {:.0f}V{:.0f}H{:.0f}"/>').format(
        x.start, y.end, y.start, x.end
    )


def _y_ticks(y: Axis, right: float, *, whole: bool = False) -> Markup:
    ticks = y.ticks(4)
    if whole:
        ticks = [(v, label) for v, label in ticks if float(v).is_integer()]
    return Markup().join(
        Markup(
            '<path class="grid" d="M{} {:.1f}H{}"/>'
            '<text class="tick end" x="{}" y="{:.1f}">{}</text>'
        ).format(_LEFT, y.place(v), right, _LEFT - 6, y.place(v) + 4, label)
        for v, label in ticks
    )


def _x_ticks(x: Axis) -> Markup:
    base = _HEIGHT - _BOTTOM
    return Markup().join(
        Markup(
            '<path class="axis" d="M{:.1f} {}v4"/>'
            '<text class="tick mid" x="{:.1f}" y="{}">{}</text>'
        ).format(x.place(v), base, x.place(v), base + 17, label)
        for v, label in x.ticks(8)
    )


def _order_ticks(x: Axis, clocks: Sequence[tuple[int, str]]) -> Markup:
    base = _HEIGHT - _BOTTOM
    return Markup().join(
        Markup(
            '<path class="axis" d="M{:.1f} {}v4"/>'
            '<text class="tick mid" x="{:.1f}" y="{}">{}</text>'
            '<text class="tick mid faint" x="{:.1f}" y="{}">{}</text>'
        ).format(
            x.place(order),
            base,
            x.place(order),
            base + 16,
            number(order),
            x.place(order),
            base + 30,
            label,
        )
        for order, label in clocks
    )


def _limit_across(y: Axis, value: float, label: str) -> Markup:
    if not y.low <= value <= y.high:
        return Markup()
    place = y.place(value)
    above = place - 4 if place > _TOP + 12 else place + 12
    return Markup(
        '<path class="limit" d="M{} {:.1f}H{}"/>'
        '<text class="limit-name end" x="{}" y="{:.1f}">{}</text>'
    ).format(_LEFT, place, _WIDTH - _RIGHT, _WIDTH - _RIGHT - 4, above, label)


def _limit_down(x: Axis, value: float, label: str) -> Markup:
    if not x.low <= value <= x.high:
        return Markup()
    return Markup(
        '<path class="limit" d="M{:.1f} {}V{}"><title>{}</title></path>'
    ).format(x.place(value), _TOP, _HEIGHT - _BOTTOM, label)


def _dot_size(count: int) -> float:
    """Return the width of dots: two fifths of the room that each exposure has."""
    room = (_WIDTH - _LEFT - _RIGHT) / max(count, 1)
    return min(max(0.4 * room, _DOT), _BIG_DOT)


def _dots(
    x: Axis, y: Axis, points: Sequence[Point], *, group: int, size: float
) -> Markup:
    if not points:
        return Markup()
    path = "".join(f"M{x.place(p.order):.1f} {y.place(p.value):.1f}h0" for p in points)
    return Markup('<path class="dot g{}" stroke-width="{:.1f}" d="{}"/>').format(
        group, size, path
    )


def _crosses(x: Axis, y: Axis, points: Sequence[Point], *, size: float) -> Markup:
    if not points:
        return Markup()
    side = 5 * (size / _DOT) ** 0.5
    path = "".join(
        f"M{x.place(p.order) - side / 2:.1f} {y.place(p.value) - side / 2:.1f}"
        f"l{side:.1f} {side:.1f}m0-{side:.1f}l-{side:.1f} {side:.1f}"
        for p in points
    )
    return Markup('<path class="cross" stroke-width="{:.1f}" d="{}"/>').format(
        side * 0.3, path
    )


def _edges(
    low: float, high: float, bins: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    step = round_step((high - low) / bins)
    first, last = np.floor(low / step), np.ceil(high / step)
    return np.asarray(np.arange(first, last + 1) * step, dtype=np.float64)


def _heights(
    values: Sequence[float], edges: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    # Values beyond the axis are counted in the bar at its end.
    inside = np.clip(values, edges[0], np.nextafter(edges[-1], -np.inf))
    return np.asarray(np.histogram(inside, bins=edges)[0], dtype=np.int64)


def _bars(
    x: Axis,
    y: Axis,
    edges: np.ndarray[tuple[int], np.dtype[np.float64]],
    bottom: np.ndarray[tuple[int], np.dtype[np.int64]],
    top: np.ndarray[tuple[int], np.dtype[np.int64]],
    style: str,
) -> Markup:
    shown = np.flatnonzero(top > bottom)
    path = "".join(
        f"M{x.place(edges[n]) + 0.5:.1f} {y.place(bottom[n]):.1f}"
        f"V{y.place(top[n]):.1f}H{x.place(edges[n + 1]) - 0.5:.1f}"
        f"V{y.place(bottom[n]):.1f}z"
        for n in shown
    )
    return Markup('<path class="{}" d="{}"/>').format(style, path) if path else Markup()
