"""Write an image or movie, and keep what a microscope would tell of it.

A camera takes raw frames at a steady rate and stores them, or sums of them. How many
are needed for the dose at a rate that it can count is how long an exposure takes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.io import write_mrc
from icestream.simulate.camera import take_events, take_frames, take_micrograph
from icestream.simulate.instrument import (
    FALCON_4I,
    K3,
    EerExposure,
    EerSummary,
    EventFrame,
    thumbnail_shape,
    write_eer,
    write_mrc_movie,
    write_tiff_movie,
)
from icestream.simulate.outputs import GAIN_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from icestream.simulate.camera import Camera
    from icestream.simulate.compose import ComposedScene
    from icestream.simulate.exposure import Exposure, Recipe
    from icestream.simulate.outputs import Output

__all__ = ["Recorder", "Recording", "raw_frames_per_frame"]

_FALCON_E_PER_PX_PER_RAW_FRAME = 0.03
_MOST_SPARE_RAW_FRAMES = 4
_MOST_BYTES_OF_A_TIFF = 4_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What the camera tells of an exposure.

    Parameters
    ----------
    frame_count
        Frames in the file, raw ones for EER; those of the movie for a micrograph.
    exposure_s
        How long it took, s.
    counted_e_per_px
        Electrons that were counted in a pixel of the camera, on average.
    picture
        A small one in 8 bit, ``(h, w)``.
    """

    frame_count: int
    exposure_s: float
    counted_e_per_px: float
    picture: NDArray[np.uint8]


def raw_frames_per_frame(
    recipe: Recipe, output: Output, *, electrons_per_px_per_raw_frame: float
) -> int:
    """Return how many raw frames the dose of one frame of the recipe needs.

    Parameters
    ----------
    recipe
        Says dose and pixel.
    output
        ``eer`` is taken by a Falcon 4i, of which 0.03 electrons per px and raw frame
        are usual (some 10 e/px/s at 320 Hz); all else by a K3.
    electrons_per_px_per_raw_frame
        Of the K3.
    """
    rate = electrons_per_px_per_raw_frame
    if output == "eer":
        rate = _FALCON_E_PER_PX_PER_RAW_FRAME
    dose_per_px = recipe.frame_dose_e_per_angst2 * recipe.pixel_size_angst**2
    return max(1, round(dose_per_px / rate))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorder:
    """Writes the image or movie of one exposure.

    Parameters
    ----------
    composed, exposure, recipe, camera
        As `icestream.simulate.camera` has them.
    output
        What is written.
    gain
        That frames are multiplied by; ``None`` for counts as they are.
    taken_at
        When.
    generator
        The source of all randomness.
    """

    composed: ComposedScene
    exposure: Exposure
    recipe: Recipe
    camera: Camera
    output: Output
    gain: Tensor | None
    taken_at: datetime
    generator: Generator

    def write(self, path: Path) -> Recording:
        """Write it; return what the camera tells of it.

        Raises
        ------
        DiskFull, FolderUnavailable
            The file could not be written.
        """
        album = _Album(thumbnail_shape(self.recipe.shape))
        if self.output == "eer":
            summary = self._write_eer(path, album)
            pixels = math.prod(self.recipe.shape)
            return Recording(
                frame_count=summary.frame_count,
                exposure_s=summary.frame_count / FALCON_4I.frame_rate_hz,
                counted_e_per_px=summary.event_count / pixels,
                picture=album.picture(),
            )
        finer = 1
        if self.output == "micrograph":
            self._write_micrograph(path, album)
        else:
            finer = self.camera.super_resolution
            self._write_frames(path, album, finer)
        frames = self.recipe.frame_count
        return Recording(
            frame_count=frames,
            exposure_s=frames * self._raw_frames / K3.frame_rate_hz,
            counted_e_per_px=album.mean * finer**2,
            picture=album.picture(),
        )

    @property
    def _raw_frames(self) -> int:
        rate = self.camera.response.electrons_per_px_per_raw_frame
        return raw_frames_per_frame(
            self.recipe, self.output, electrons_per_px_per_raw_frame=rate
        )

    def _write_micrograph(self, path: Path, album: _Album) -> None:
        image = take_micrograph(
            self.composed,
            self.exposure,
            self.recipe,
            self.camera,
            generator=self.generator,
        )
        album.add(image)
        write_mrc(
            path,
            image.cpu().numpy(),
            pixel_size_angst=self.recipe.pixel_size_angst,
            dtype=np.uint16,
        )

    def _write_frames(self, path: Path, album: _Album, finer: int) -> None:
        frames = self._developed(
            album.add(one)
            for one in take_frames(
                self.composed,
                self.exposure,
                self.recipe,
                self.camera,
                generator=self.generator,
            )
        )
        if self.output == "mrc":
            pixel_angst = self.recipe.pixel_size_angst / finer
            write_mrc_movie(path, frames, pixel_size_angst=pixel_angst)
            return
        # What was multiplied does not become smaller by LZW, but larger.
        pixels = finer**2 * math.prod(self.recipe.shape) * self.recipe.frame_count
        is_corrected = self.gain is not None
        write_tiff_movie(
            path,
            frames,
            rows_per_strip=128,
            compression="none" if is_corrected else "lzw",
            is_big=is_corrected and 4 * pixels > _MOST_BYTES_OF_A_TIFF,
            taken_at=self.taken_at,
        )

    def _developed(self, frames: Iterator[Tensor]) -> Iterator[NDArray[np.generic]]:
        """Give counts as they are, or multiplied by the gain reference."""
        for frame in frames:
            yield (frame if self.gain is None else frame * self.gain).cpu().numpy()

    def _write_eer(self, path: Path, album: _Album) -> EerSummary:
        return write_eer(
            path,
            self._raw_events(album),
            shape=self.recipe.shape,
            exposure=EerExposure(
                started_at=self.taken_at,
                frame_rate_hz=FALCON_4I.frame_rate_hz,
                pixel_size_angst=self.recipe.pixel_size_angst,
                gain_reference=GAIN_NAMES["eer"],
            ),
        )

    def _raw_events(self, album: _Album) -> Iterator[EventFrame]:
        """Give raw frames; their number differs by a few between exposures."""
        draw = torch.randint(
            0,
            _MOST_SPARE_RAW_FRAMES + 1,
            (1,),
            generator=self.generator,
            device=self.generator.device,
        )
        shape, per_frame = self.recipe.shape, self._raw_frames
        left = max(self.recipe.frame_count * per_frame - int(draw), 1)
        for events in take_events(
            self.composed,
            self.exposure,
            self.recipe,
            self.camera,
            raw_frames_per_frame=per_frame,
            generator=self.generator,
        ):
            counts = torch.bincount(events.pixel.long(), minlength=math.prod(shape))
            album.add(counts.reshape(shape))
            pixel = events.pixel.cpu().numpy()
            quarter = (4 * events.sub_y + events.sub_x).cpu().numpy()
            for first, last in itertools.pairwise(events.starts.tolist()):
                if left <= 0:
                    return
                left -= 1
                yield EventFrame(pixel[first:last], quarter[first:last])


class _Album:
    """Adds up what a camera takes, for the small picture beside a movie."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._sum: Tensor | None = None
        self.mean = 0.0

    def add(self, image: Tensor) -> Tensor:
        values = image[None].float()
        small = torch.nn.functional.adaptive_avg_pool2d(values, self._shape)[0]
        self._sum = small if self._sum is None else self._sum + small
        self.mean += float(values.mean())
        return image

    def picture(self) -> NDArray[np.uint8]:
        """Return it in 8 bit, from the 1st to the 99th percentile."""
        if self._sum is None:
            return np.zeros(self._shape, dtype=np.uint8)
        values = self._sum.cpu().numpy()
        low, high = np.percentile(values, [1, 99])
        scaled = (values - low) / max(float(high - low), 1e-6)
        picture: NDArray[np.uint8] = (255 * scaled.clip(0, 1)).astype(np.uint8)
        return picture
