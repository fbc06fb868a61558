"""RELION's motion of a movie, evaluated from its tables: proven against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def recovered_angst(
    tables: dict[str, Any], y_px: NDArray[Any], x_px: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return global and whole shifts of the content, ``(frames, ..., 2)`` y and x, Å.

    RELION reports what is to be done against them. Places are in its own image.
    """
    general, shifts = tables["general"], tables["global_shift"]
    pixel_size_angst = float(general["rlnMicrographOriginalPixelSize"])
    path = np.stack(
        [shifts[f"rlnMicrographShift{axis}"].to_numpy() for axis in "YX"], 1
    )
    y = y_px / int(general["rlnImageSizeY"]) - 0.5
    x = x_px / int(general["rlnImageSizeX"]) - 0.5
    space = np.stack([np.ones_like(x), x, x * x, y, y * y, x * y])
    local = np.zeros((len(path), *y.shape, 2))
    if "local_motion_model" in tables:
        model = tables["local_motion_model"]["rlnMotionModelCoeff"].to_numpy()
        frame = np.arange(len(path))
        time = np.stack([frame, frame**2, frame**3], 1)
        for column, part in ((1, model[:18]), (0, model[18:])):
            terms = part.reshape(6, 3)
            local[..., column] = np.einsum("tk,sk,s...->t...", time, terms, space)
    whole = path[:, *[None] * y.ndim, :]
    return -whole * pixel_size_angst, -(whole + local) * pixel_size_angst
