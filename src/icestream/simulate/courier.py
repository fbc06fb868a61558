"""Bring files from the hidden folder in which they were made to where they are watched.

In order, by the timetable if wanted, and with what is to go wrong with them.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes, replacing
from icestream.simulate.instrument import faults, write_gain
from icestream.simulate.outputs import GAIN_NAMES
from icestream.simulate.replay import ArrivalMode, bring
from icestream.simulate.streams import Purpose, stream

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from icestream.simulate.studio import Studio, Taken
    from icestream.simulate.timetable import Entry, FaultRates

__all__ = ["Courier"]

_KEPT_SHARE, _LOST_SHARE = 0.6, 0.125
_LATE_BY = 3  # exposures
_CLOCK_SKEW_S = 7_200.0
_WRITING_S = 2.0
_MODES: tuple[ArrivalMode, ...] = ("grow", "rename", "preallocate")


class Courier:
    """Delivers the exposures of one acquisition; a context, which clears up.

    Parameters
    ----------
    folder
        Of the acquisition.
    metadata_folder
        Where what stands beside the images goes.
    studio
        Whose staging folder holds the files.
    rates
        Chances of the gain's faults.
    gain_scale
        Size of the gain's file against the movie's.
    seed
        Of the acquisition.
    speed
        As `simulate_acquisition` has it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metadata_folder: Path,
        studio: Studio,
        rates: FaultRates,
        gain_scale: float,
        seed: int,
        speed: float | None,
    ) -> None:
        self._folder, self._metadata_folder = folder, metadata_folder
        self._studio, self._speed, self._gain_scale = studio, speed, gain_scale
        self._began_s = time.monotonic()
        self._late: list[tuple[int, Path]] = []
        self._last: Path | None = None
        self._leaving = ExitStack()
        draw = stream(seed, Purpose.GAIN_FAULT).random(2)
        self._gain_is_late = bool(draw[0] < rates.late_gain)
        self._gain_is_turned = bool(draw[1] < rates.turned_gain)

    def __enter__(self) -> Self:
        staging = self._studio.staging
        with ExitStack() as stack:
            self._claim(staging)
            stack.callback(shutil.rmtree, staging, ignore_errors=True)
            if not self._gain_is_late:
                self._write_gain()
            self._leaving = stack.pop_all()
        return self

    def _claim(self, staging: Path) -> None:
        """Make the hidden folder, which one of several simulations alone can do."""
        with guarding_writes(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                staging.mkdir()
            except FileExistsError as error:
                raise BadSettings(
                    f"Another simulation is writing into {self._folder}.",
                    hint="Choose another folder.",
                ) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._leaving:
            if kind is not None:
                return
            self._bring_late(None)
            if self._gain_is_late:
                self._write_gain()

    @property
    def gain_faults(self) -> list[str]:
        """What goes wrong with the gain reference."""
        told = {"late_gain": self._gain_is_late, "turned_gain": self._gain_is_turned}
        return [name for name, is_so in told.items() if is_so and self._has_gain]

    @property
    def _has_gain(self) -> bool:
        """Whether a gain reference lies beside the movies."""
        return self._studio.output in GAIN_NAMES and not self._studio.is_gain_applied

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
        fault = self._damage(entry, image, beside)
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
        """Bring what stands beside an image, maybe to another file system."""
        target, made = self._metadata_folder / path, self._studio.staging / path
        with guarding_writes(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            shutil.copyfile(made, temporary)
        made.unlink()

    def _bring_late(self, number: int | None) -> None:
        """Bring what was held back until this exposure; all of it at the end."""
        due = [one for one in self._late if number is None or one[0] <= number]
        for one in due:
            self._move(one[1])
            self._late.remove(one)

    def _damage(
        self, entry: Entry, image: Path, beside: tuple[Path, ...]
    ) -> str | None:
        """Do to a file what is done before it arrives; return what applies to it."""
        fault = entry.fault
        match fault:
            case "truncated":
                faults.truncate(image, share=_KEPT_SHARE)
            case "empty":
                faults.empty(image)
            case "zero_tail":
                faults.zero_tail(image, share=_KEPT_SHARE)
            case "wrong_frame_count":
                return fault if faults.drop_frames(image, share=_LOST_SHARE) else None
            case "late_metadata" | "missing_metadata":
                return fault if beside else None
            case "rewritten":
                return fault if self._last is not None else None
        return fault

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
        gain, output = self._studio.gain(), self._studio.output
        if gain is None or output == "micrograph" or not self._has_gain:
            return
        recipe = self._studio.recipes[0]
        write_gain(
            self._folder / GAIN_NAMES[output],
            gain.cpu().numpy(),
            movie_format=output,
            pixel_size_angst=recipe.pixel_size_angst
            / (self._studio.finer * self._gain_scale),
            is_mirrored=self._gain_is_turned,
            scale=self._gain_scale,
        )
