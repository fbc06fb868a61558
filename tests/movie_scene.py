"""Small movies of a scene with a known CTF, path and no symmetry."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.engines.ctf import contrast_transfer
from icestream.simulate.instrument import write_mrc_movie, write_tiff_movie

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "DEFOCUS_ANGST",
    "ELECTRONS",
    "FRAMES",
    "PIXEL_ANGST",
    "SIDE",
    "draw_frames",
    "path_angst",
    "seen",
    "still_scene",
    "write_movie",
]

SIDE, MARGIN, FRAMES = 512, 32, 8
PIXEL_ANGST = 1.4
DEFOCUS_ANGST = 12_000.0
ELECTRONS = 20.0


def path_angst(frames: int = FRAMES) -> NDArray[np.float64]:
    """Where content goes, ``(frames, 2)`` y and x, of mean 0: a jump, then a drift."""
    frame = np.arange(frames)[:, None]
    path = (1 - np.exp(-frame / 2)) * [9.0, -5.0] - 0.3 * frame
    centred: NDArray[np.float64] = path - path.mean(0)
    return centred


def draw_frames(
    *, frames: int = FRAMES, electrons: float = ELECTRONS, seed: int = 0
) -> NDArray[np.uint8]:
    """Counts of the moving scene, ``(frames, 512, 512)``, row 0 first."""
    draw = np.random.default_rng(seed)
    path = path_angst(frames) / PIXEL_ANGST
    drawn = [draw.poisson(electrons * seen(*shift)) for shift in path]
    return np.stack(drawn).astype(np.uint8)


def seen(y_px: float, x_px: float) -> NDArray[np.float64]:
    """What is seen of the scene when it has moved by so much, of mean about 1."""
    side = SIDE + 2 * MARGIN
    gy, gx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    moved = _spectrum() * np.exp(-2j * np.pi * (gy * y_px + gx * x_px))
    whole = np.fft.irfft2(moved, s=(side, side))[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.maximum(whole, 0.05)


def still_scene() -> NDArray[np.float64]:
    """The scene at the mean of its path, ``(512, 512)``, of mean about 1."""
    return seen(0.0, 0.0)


def write_movie(path: Path, frames: NDArray[Any]) -> Path:
    """Write frames, row 0 first in the file, as TIFF or MRC by the suffix."""
    if path.suffix == ".mrc":
        write_mrc_movie(path, frames, pixel_size_angst=PIXEL_ANGST)
    else:
        write_tiff_movie(path, iter(frames))
    return path


@functools.cache
def _spectrum() -> NDArray[np.complex128]:
    """White specimen under a CTF, a bright corner and a bar."""
    side = SIDE + 2 * MARGIN
    transfer = contrast_transfer(
        (side, side),
        defocus_u_angst=DEFOCUS_ANGST + 150,
        defocus_v_angst=DEFOCUS_ANGST - 150,
        defocus_angle_deg=40.0,
        pixel_size_angst=PIXEL_ANGST,
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
    )
    grain = torch.randn(side, side, generator=torch.Generator().manual_seed(5))
    y, x = np.mgrid[:side, :side] / side
    shapes = 0.4 * np.exp(-(((y - 0.25) / 0.1) ** 2 + ((x - 0.2) / 0.06) ** 2))
    shapes -= 0.3 * np.exp(-(((y - 0.75) / 0.02) ** 2 + ((x - 0.6) / 0.15) ** 2))
    specimen = torch.fft.rfft2(0.2 * grain) * transfer
    spectrum: NDArray[np.complex128] = specimen.numpy() + np.fft.rfft2(1 + shapes)
    return spectrum
