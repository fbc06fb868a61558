"""The pictures of a report: a few exposures worth looking at, with their picks."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.report.results import PictureGroup, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from icestream.domain import Coordinates
    from icestream.report.results import ExposureResult, SessionResults

__all__ = ["Circle", "Picture", "choose", "embed"]

_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_PICTURE_BYTES = 400_000
_ALL_BYTES = 6_000_000
_CIRCLES = 1_000
_NEWEST, _WORST, _REJECTED, _FAILED = 24, 6, 12, 6


@dataclass(frozen=True, slots=True)
class Circle:
    """A pick, in pixels of the micrograph."""

    x_px: float
    y_px: float
    radius_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A thumbnail and what is drawn on it.

    Parameters
    ----------
    exposure
        Whose it is; its micrograph is known.
    source
        A ``data:`` URL, or nothing where the thumbnail is gone.
    circles
        Its best picks.
    """

    exposure: ExposureResult
    source: str
    circles: tuple[Circle, ...]


def choose(exposures: Sequence[ExposureResult]) -> tuple[PictureGroup, ...]:
    """Choose the newest exposures, the worst accepted ones, and some that were lost."""
    shown: set[str] = set()
    seen = [one for one in reversed(exposures) if one.micrograph is not None]
    by = {s: [one for one in seen if one.standing is s] for s in Standing}
    worst = sorted(
        (one for one in by[Standing.ACCEPTED] if one.ctf and one.ctf.resolution_angst),
        key=lambda one: -(one.ctf.resolution_angst or 0) if one.ctf else 0,
    )
    wanted = (
        ("Newest", "in order of arrival, newest first", seen, _NEWEST),
        (
            "Rejected",
            "the newest that a gate rejected",
            by[Standing.REJECTED],
            _REJECTED,
        ),
        (
            "Failed",
            "the newest that failed in a later step",
            by[Standing.FAILED],
            _FAILED,
        ),
        (
            "Accepted, but the worst of them",
            "by the resolution of the CTF fit",
            worst,
            _WORST,
        ),
    )
    groups = []
    for title, note, candidates, limit in wanted:
        chosen = [one for one in candidates if one.key not in shown][:limit]
        shown |= {one.key for one in chosen}
        if chosen:
            groups.append(PictureGroup(title=title, note=note, exposures=tuple(chosen)))
    return tuple(groups)


def embed(results: SessionResults, *, session_folder: Path) -> dict[str, Picture]:
    """Read the thumbnails of the exposures to be shown, up to 6 MB in all.

    Returns
    -------
    dict
        By key.
    """
    left_bytes = _ALL_BYTES
    pictures = {}
    for group in results.gallery:
        for one in group.exposures:
            source = _data_url(one, session_folder, limit_bytes=left_bytes)
            left_bytes -= len(source)
            circles = _circles(one, results.coordinates.get(one.key))
            pictures[one.key] = Picture(exposure=one, source=source, circles=circles)
    return pictures


def _data_url(
    exposure: ExposureResult, session_folder: Path, *, limit_bytes: int
) -> str:
    micrograph = exposure.micrograph
    if micrograph is None:
        return ""
    path = session_folder / micrograph.thumbnail
    kind = _TYPES.get(path.suffix)
    try:
        size = path.stat().st_size
        if kind is None or not 0 < size <= min(_PICTURE_BYTES, limit_bytes * 3 // 4):
            return ""
        raw = path.read_bytes()
    except OSError:
        # A thumbnail is only a cache: without it the values still stand there.
        return ""
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def _circles(exposure: ExposureResult, picks: Coordinates | None) -> tuple[Circle, ...]:
    if exposure.micrograph is None or picks is None:
        return ()
    radii_px = picks.diameter_angst / (2 * exposure.micrograph.pixel_size_angst)
    columns = (picks.x_px, picks.y_px, radii_px)
    rows = zip(*(one[:_CIRCLES].tolist() for one in columns), strict=True)
    return tuple(Circle(*row) for row in rows)
