"""The numbers of the demonstration: what was found, beside what is known."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from icestream.engines.picking import Matches, match_coordinates
from icestream.streaming.records import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icestream.app.session import Session
    from icestream.cli.demo_material import Material, Truth
    from icestream.domain import Coordinates, Ctf
    from icestream.report.results import SessionResults

__all__ = ["score_lines"]


def score_lines(
    session: Session,
    results: SessionResults,
    materials: Sequence[Material],
    *,
    diameter_angst: float,
) -> Iterator[str]:
    """Say how the results compare with what is known of the files."""
    fits = {one.key: one.ctf for one in results.exposures if one.ctf is not None}
    picks = _coordinates(session, results)
    for one in materials:
        name = one.setup.name
        known = {f"{name}/{file}": truth for file, truth in one.truth.items()}
        yield from _ctf_lines(one, {k: (fits[k], known[k]) for k in known if k in fits})
        radius_px = diameter_angst / one.setup.pixel_size_angst / 2
        matches = [
            match_coordinates(picks[key], truth.centres, max_distance_px=radius_px)
            for key, truth in known.items()
            if key in picks and truth.centres is not None
        ]
        if matches:
            yield f"{name}: {_pick_text(matches, one.picks_known_from, radius_px)}"


def _coordinates(session: Session, results: SessionResults) -> dict[str, Coordinates]:
    port = results.roles.coordinates
    if port is None:
        return {}
    kind = session.plan.workflow.kind(port)
    reader = session.read()
    try:
        records = reader.records(port.run, port.output)
        return {key: decode(record, kind) for key, record in records.items()}
    finally:
        reader.close()


def _ctf_lines(
    material: Material, pairs: dict[str, tuple[Ctf, Truth]]
) -> Iterator[str]:
    name, source = material.setup.name, material.ctf_known_from
    if len(pairs) == 1:
        ((ctf, truth),) = pairs.values()
        u, v = truth.defocus_u_angst, truth.defocus_v_angst
        yield (
            f"{name}: defocus U {ctf.defocus_u_angst:,.0f} Å "
            f"({100 * (ctf.defocus_u_angst / u - 1):+.1f} %), "
            f"V {ctf.defocus_v_angst:,.0f} Å "
            f"({100 * (ctf.defocus_v_angst / v - 1):+.1f} %) "
            f"against {u:,.0f} and {v:,.0f} Å of {source}"
        )
    elif pairs:
        off = [
            abs(2 * ctf.defocus_angst / (t.defocus_u_angst + t.defocus_v_angst) - 1)
            for ctf, t in pairs.values()
        ]
        yield (
            f"{name}: defocus of {len(off)} micrographs differs from {source} by "
            f"{100 * statistics.median(off):.2f} % (median), {100 * max(off):.2f} % at "
            "most"
        )


def _pick_text(matches: Sequence[Matches], source: str, radius_px: float) -> str:
    matched = sum(len(one.distance_px) for one in matches)
    found = sum(one.found_count for one in matches)
    known = sum(one.true_count for one in matches)
    precision, recall = matched / max(found, 1), matched / max(known, 1)
    f1 = 2 * matched / max(found + known, 1)
    return (
        f"{found:,} picks, {known:,} {source}: precision {precision:.2f}, recall "
        f"{recall:.2f}, F1 {f1:.2f} (within {radius_px:.0f} px)"
    )
