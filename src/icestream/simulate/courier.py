"""Bring files from the hidden folder in which they were made to where they are watched.

In order, by the timetable if wanted, and with what is to go wrong with them.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import torch

from icestream.io import guarding_writes
from icestream.simulate.instrument import MovieFormat, faults, write_gain
from icestream.simulate.replay import ArrivalMode, bring
from icestream.simulate.sensor import flat_field_gain

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import numpy as np

    from icestream.simulate.studio import Studio, Taken
    from icestream.simulate.timetable import Entry, FaultRates

__all__ = ["Courier"]

_KEPT_SHARE = 0.6
_LATE_BY = 3  # exposures
_CLOCK_SKEW_S = 7_200.0
_WRITING_S = 2.0
_MODES: tuple[ArrivalMode, ...] = ("grow", "rename", "preallocate")
_FLAT_ELECTRONS_PER_PX = 400.0
_GAIN_NAMES: dict[str, tuple[str, MovieFormat]] = {
    "tiff": ("gain.mrc", "tiff"),
    "mrc": ("gain.mrc", "mrc"),
    "eer": ("gain.gain", "eer"),
}


class Courier:
    """Delivers the exposures of one acquisition; a context, which clears up.

    Parameters
    ----------
    folder
        Of the acquisition.
    studio
        Whose staging folder holds the files.
    faults
        Chances of those of the gain.
    seed
        Of the acquisition.
    speed
        As `simulate_acquisition` has it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        studio: Studio,
        faults: FaultRates,
        seed: int,
        speed: float | None,
    ) -> None:
        self._folder, self._studio, self._speed = folder, studio, speed
        self._began_s = time.monotonic()
        self._late: list[tuple[int, Path]] = []
        self._last: Path | None = None
        generator = torch.Generator().manual_seed(seed + 1)
        draw = torch.rand(2, generator=generator).tolist()
        self._gain_is_late = draw[0] < faults.late_gain
        self._gain_is_turned = draw[1] < faults.turned_gain
        self._generator = generator

    def __enter__(self) -> Self:
        if not self._gain_is_late:
            self._write_gain()
        return self

    def __exit__(self, *_: object) -> None:
        self._bring_late(None)
        if self._gain_is_late:
            self._write_gain()
        shutil.rmtree(self._studio.staging, ignore_errors=True)

    @property
    def gain_faults(self) -> list[str]:
        """What goes wrong with the gain reference."""
        told = {"late_gain": self._gain_is_late, "turned_gain": self._gain_is_turned}
        has_gain = self._studio.output in _GAIN_NAMES
        return [name for name, is_so in told.items() if is_so and has_gain]

    def deliver(self, entry: Entry, taken: Taken) -> tuple[Path, tuple[str, ...]]:
        """Deliver one exposure's files.

        Returns
        -------
        Path, tuple of str
            Of the image; what was done to it.

        Raises
        ------
        DiskFull, FolderUnavailable
            A file could not be written.
        """
        self._wait_for(entry)
        staging = self._studio.staging
        image, target = staging / taken.truth.file, self._folder / taken.truth.file
        beside = taken.beside
        fault = self._damage(entry.fault, image, beside)
        self._bring(image, target, entry.number)
        if fault == "late_metadata":
            self._late += [(entry.number + _LATE_BY, one) for one in beside]
        elif fault != "missing_metadata":
            for one in beside:
                self._move(one)
        self._harm_delivered(fault, target)
        self._bring_late(entry.number)
        self._last = target
        return target, (fault,) if fault else ()

    def _wait_for(self, entry: Entry) -> None:
        if self._speed is None:
            return
        due_s = self._began_s + entry.taken_at_s / self._speed
        time.sleep(max(0.0, due_s - time.monotonic()))

    def _bring(self, image: Path, target: Path, number: int) -> None:
        with guarding_writes(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        if self._speed is None or not image.stat().st_size:
            with guarding_writes(target):
                image.replace(target)
        else:
            mode = _MODES[number % len(_MODES)]
            bring(image, target, mode=mode, writing_s=_WRITING_S / self._speed)
            image.unlink()

    def _move(self, path: Path) -> None:
        target = self._folder / path
        with guarding_writes(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._studio.staging / path).replace(target)

    def _bring_late(self, number: int | None) -> None:
        """Bring what was held back until this exposure; all of it at the end."""
        due = [one for one in self._late if number is None or one[0] <= number]
        for one in due:
            self._move(one[1])
            self._late.remove(one)

    def _damage(
        self, fault: str | None, image: Path, beside: tuple[Path, ...]
    ) -> str | None:
        """Do to a file what is done before it arrives; return what applies to it."""
        match fault:
            case "truncated":
                faults.truncate(image, share=_KEPT_SHARE)
            case "empty":
                faults.empty(image)
            case "zero_tail":
                faults.zero_tail(image, share=_KEPT_SHARE)
            case "wrong_frame_count":
                if self._studio.output == "micrograph":
                    return None
                faults.drop_frames(image, count=max(1, self._frames() - 3))
            case "late_metadata" | "missing_metadata":
                return fault if beside else None
            case "rewritten":
                return fault if self._last is not None else None
        return fault

    def _frames(self) -> int:
        return self._studio.recipes[0].frame_count

    def _harm_delivered(self, fault: str | None, target: Path) -> None:
        """Do to a file what is done once it has arrived."""
        if fault == "clock_skew":
            faults.skew_clock(target, offset_s=_CLOCK_SKEW_S)
        elif fault == "duplicate_name":
            faults.duplicate_name(target, into=target.parent / "again")
        elif fault == "rewritten" and self._last is not None:
            own = self._studio.staging / "rewritten"
            with guarding_writes(own):
                shutil.copyfile(target, own)
            faults.rewrite(target, source=self._last)
            faults.rewrite(target, source=own)

    def _write_gain(self) -> None:
        sensor = self._studio.sensor()
        if sensor is None:
            return
        name, movie_format = _GAIN_NAMES[self._studio.output]
        gain: np.ndarray = flat_field_gain(
            sensor,
            electrons_per_px=_FLAT_ELECTRONS_PER_PX,
            generator=self._generator,
        ).numpy()
        recipe = self._studio.recipes[0]
        write_gain(
            self._folder / name,
            gain,
            movie_format=movie_format,
            pixel_size_angst=recipe.pixel_size_angst / self._studio.super_resolution,
            is_mirrored=self._gain_is_turned,
        )
