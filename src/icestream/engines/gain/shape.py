"""Bring a gain to the shape of the frames: super-resolution against counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import UnusableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_defects", "fit_shape", "has_fitting_shape"]


def has_fitting_shape(shape: tuple[int, ...], *, frame_shape: tuple[int, ...]) -> bool:
    """Return whether a gain of this shape is 1x, 2x or 1/2x the frame's."""
    height, width = shape
    rows, columns = frame_shape
    return (rows, columns) in (
        (height, width),
        (2 * height, 2 * width),
    ) or (height, width) == (2 * rows, 2 * columns)


def fit_shape(
    gain: NDArray[np.float32], *, frame_shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Resample a gain to the shape of the frames, where a factor of 2 does it.

    Parameters
    ----------
    gain
        ``(h, w)`` factors that flatten the counts; 0 is a dead pixel.
    frame_shape
        Rows and columns of a frame.

    Returns
    -------
    ndarray
        ``frame_shape``. From twice the size: the counts of 2 x 2 pixels are added, so
        their sensitivities (1 / gain) are averaged, and one that is dead makes the sum
        dead. From half the size: each value four times. The same array where it fits.

    Raises
    ------
    UnusableImage
        Any other shape: the item's fault, since other movies may fit.
    """
    _check_shape(gain.shape, frame_shape)
    if gain.shape == tuple(frame_shape):
        return gain
    if gain.shape[0] < frame_shape[0]:
        return gain.repeat(2, axis=0).repeat(2, axis=1)
    is_dead = gain == 0
    sensitivity = 1 / np.where(is_dead, np.float32(1), gain)
    rows = sensitivity[::2] + sensitivity[1::2]
    half = 4 / (rows[:, ::2] + rows[:, 1::2])
    half[fit_defects(is_dead, frame_shape=frame_shape)] = 0
    return half.astype(np.float32, copy=False)


def fit_defects(
    is_bad: NDArray[np.bool_], *, frame_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Resample a mask of bad pixels as `fit_shape` does a gain.

    Parameters
    ----------
    is_bad
        ``(h, w)``.
    frame_shape
        Rows and columns of a frame.

    Returns
    -------
    ndarray
        ``frame_shape``; bad where any of the pixels that make it up is.

    Raises
    ------
    UnusableImage
        A shape that is not 1x, 2x or 1/2x the frame's.
    """
    _check_shape(is_bad.shape, frame_shape)
    if is_bad.shape == tuple(frame_shape):
        return is_bad
    if is_bad.shape[0] < frame_shape[0]:
        return is_bad.repeat(2, axis=0).repeat(2, axis=1)
    return is_bad[::2, ::2] | is_bad[1::2, ::2] | is_bad[::2, 1::2] | is_bad[1::2, 1::2]


def _check_shape(shape: tuple[int, ...], frame_shape: tuple[int, int]) -> None:
    if has_fitting_shape(shape, frame_shape=frame_shape):
        return
    hint = "Give the gain of this camera and mode."
    if has_fitting_shape(shape[::-1], frame_shape=frame_shape):
        hint = "It fits if turned by 90°: declare that, or give the gain of this mode."
    raise UnusableImage(
        f"A gain of {shape[0]} x {shape[1]} px does not fit frames of "
        f"{frame_shape[0]} x {frame_shape[1]} px, nor at twice or half that size.",
        hint=hint,
    )
