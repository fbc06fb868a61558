"""Whether a session and a truth are of the same acquisition, beyond names of files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icestream.simulate.score.values import Pair

__all__ = ["count_by_name", "find_unlike"]

_TOLERANCE = 0.02
"""Of a calibrated magnification; two acquisitions differ by more, or not at all."""


def find_unlike(pairs: Sequence[Pair], shape: tuple[int, int]) -> tuple[str, ...]:
    """Find exposures that a session took for others than they are.

    Parameters
    ----------
    pairs
        What is to be compared.
    shape
        ``(h, w)`` of the camera, px. A micrograph may be binned.

    Returns
    -------
    tuple of str
        Of each, what the session and the truth say.

    Raises
    ------
    BadSettings
        All of them contradict the truth: it is of another acquisition.
    """
    reasons = [_contradiction(one, shape) for one in pairs]
    unlike = tuple(
        f"{one.found.key} {reason}"
        for one, reason in zip(pairs, reasons, strict=True)
        if reason
    )
    decoded = sum(1 for one in pairs if one.found.shape is not None)
    if unlike and len(unlike) >= decoded:
        raise BadSettings(
            f"This is the truth of another acquisition: {unlike[0]}.",
            hint="Give the truth of the acquisition that the session has watched.",
        )
    return unlike


def _contradiction(pair: Pair, shape: tuple[int, int]) -> str:
    truth, found = pair.truth, pair.found
    if found.voltage_kv is not None and _differ(found.voltage_kv, truth.voltage_kv):
        return _told("at {:g} kV", found.voltage_kv, truth.voltage_kv)
    if found.shape is None:
        return ""
    binned_y, binned_x = (s / f for s, f in zip(shape, found.shape, strict=True))
    if _differ(binned_y, binned_x):
        return _told("with {0[1]} x {0[0]} px", found.shape, shape)
    pixel_angst = truth.pixel_size_angst * binned_x
    if found.pixel_size_angst is not None and _differ(
        found.pixel_size_angst, pixel_angst
    ):
        return _told("with pixels of {:.4g} Å", found.pixel_size_angst, pixel_angst)
    return ""


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _TOLERANCE * other


def _told(text: str, found: object, truth: object) -> str:
    session, true = text.format(found), text.format(truth)
    return f"was taken {session} by the session, but {true} by the truth"


def count_by_name(pairs: Sequence[Pair], *, root: str | None) -> int:
    """Count files that lie elsewhere and have no more than their base name in common.

    Parameters
    ----------
    pairs
        Files of the truth, and where the session found them.
    root
        Folder of the acquisition.
    """
    return sum(1 for one in pairs if _is_by_name(one, root))


def _is_by_name(pair: Pair, root: str | None) -> bool:
    path = PurePosixPath(pair.found.path)
    if root is not None and path.is_relative_to(root):
        return False
    file = PurePosixPath(pair.truth.file)
    return len(file.parts) == 1 or path.parts[-2:-1] != file.parts[-2:-1]
