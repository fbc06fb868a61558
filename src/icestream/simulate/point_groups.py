"""Rotations of the point groups in which particles come, in RELION's standard frames.

C and D have their n-fold axis on z and D a 2-fold on x; O has its 4-folds on x, y, z.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import BadSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["point_group_rotations"]


def point_group_rotations(name: str) -> NDArray[np.float64]:
    """Return the rotations of a point group.

    Parameters
    ----------
    name
        ``C1``, ``C4``, ``D7``, ``O`` and so on.

    Returns
    -------
    ndarray
        ``(order, 3, 3)``, the identity first.

    Raises
    ------
    BadSettings
        Another name.
    """
    match = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if name == "O":
        return _closed([_turn(4, "z"), _turn(4, "x")])
    if match is None:
        raise BadSettings(
            f"{name!r} is no point group known here.", hint="Write C4, D7 or O."
        )
    generators = [_turn(int(match[2]), "z")]
    return _closed([*generators, _turn(2, "x")] if match[1] == "D" else generators)


def _turn(fold: int, axis: str) -> NDArray[np.float64]:
    angle = 2 * np.pi / fold
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return about_z if axis == "z" else np.roll(about_z, 1, axis=(0, 1))


def _closed(generators: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Multiply until nothing new comes."""
    found = [np.eye(3)]
    for one in found:  # it grows under way
        for generator in generators:
            product = generator @ one
            if not any(np.allclose(product, known, atol=1e-6) for known in found):
                found.append(product)
    return np.stack(found)
