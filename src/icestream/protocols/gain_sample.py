"""What is kept of the movies that a gain is judged by: sums of counts, and defects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.domain.errors import UnreadableFile
from icestream.engines.gain import CountSums, DefectTally, sum_frames
from icestream.io.eer import EerSampling
from icestream.io.movie import open_movie
from icestream.protocols.movies import loaded_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.domain import Movie

__all__ = ["GainSample", "as_stored", "count_movie", "defect_list"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GainSample:
    """Sums of some movies of one camera mode.

    Parameters
    ----------
    first
        Of the movies by which the gain is judged.
    window
        Of those of the present window of movies.
    tally
        In how many of all of them each pixel was bad.
    """

    first: CountSums
    window: CountSums
    tally: DefectTally

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> GainSample:
        """Return the sample of no movie."""
        nothing = CountSums.empty(shape)
        return cls(first=nothing, window=nothing, tally=DefectTally.empty(shape))

    @classmethod
    def read(cls, path: Path) -> GainSample:
        """Read what `write` has written.

        Raises
        ------
        UnreadableFile
            It is not there, or damaged.
        """
        try:
            with np.load(path) as stored:
                return cls(
                    first=_sums(stored, "first"),
                    window=_sums(stored, "window"),
                    tally=DefectTally(
                        seen=stored["seen"], movie_count=int(stored["count"])
                    ),
                )
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableFile(
                f"The sums of movies in {path} cannot be read: {error}.",
                hint="Put the file back; or change a parameter of the run, which then "
                "begins anew.",
            ) from error

    def write(self, path: Path) -> None:
        """Write all arrays into one file, ``.npz``."""
        arrays: dict[str, Any] = {
            "seen": self.tally.seen,
            "count": self.tally.movie_count,
        }
        for name, sums in (("first", self.first), ("window", self.window)):
            if sums.movie_count or name == "first":
                arrays |= {f"{name}_even": sums.even, f"{name}_odd": sums.odd}
            arrays[f"{name}_count"] = sums.movie_count
            arrays[f"{name}_whole"] = sums.are_whole
        np.savez(path, **arrays)

    def in_new_window(self) -> GainSample:
        """Return the sample with nothing in the present window."""
        return replace(self, window=CountSums.empty(self.tally.seen.shape))

    def plus(self, counts: NDArray[np.float32], *, is_first: bool) -> GainSample:
        """Return the sample with one more movie; raises as `CountSums.plus` does."""
        if is_first:
            return replace(self, first=self.first.plus(counts))
        return replace(self, window=self.window.plus(counts))


def count_movie(movie: Movie, *, threads: int = 1) -> NDArray[np.float32]:
    """Return the sum over a movie's frames, as they are in its file.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        As `read_frames` does.
    """
    path, sampling = Path(movie.path), None
    if path.suffix.lower() == ".eer":
        sampling = EerSampling(upsampling=1, frames_per_fraction=movie.frame_count)
    with loaded_frames(open_movie(path, eer=sampling), threads=threads) as frames:
        return sum_frames(frames)


def as_stored(factors: NDArray[np.float32], *, is_for_eer: bool) -> NDArray[np.float32]:
    """Return a gain as an MRC file holds it: for EER movies the inverse."""
    if not is_for_eer:
        return factors
    return np.divide(1, factors, out=np.zeros_like(factors), where=factors > 0)


def defect_list(is_bad: NDArray[np.bool_]) -> str:
    """Return a mask as lines of ``x y width height``, as a setup's ``defects``.

    Parameters
    ----------
    is_bad
        ``(h, w)``, rows in RELION's order.
    """
    boxes: list[list[int]] = []
    above: dict[tuple[int, int], list[int]] = {}
    for y in np.flatnonzero(is_bad.any(axis=1)).tolist():
        edges = np.diff(np.pad(is_bad[y].astype(np.int8), 1))
        starts, ends = (np.flatnonzero(edges == step).tolist() for step in (1, -1))
        here: dict[tuple[int, int], list[int]] = {}
        for x, end in zip(starts, ends, strict=True):
            box = above.get((x, end - x))
            if box is not None and box[1] + box[3] == y:
                box[3] += 1
            else:
                box = [x, y, end - x, 1]
                boxes.append(box)
            here[x, end - x] = box
        above = here
    return "".join(" ".join(map(str, one)) + "\n" for one in boxes)


def _sums(stored: Any, name: str) -> CountSums:  # noqa: ANN401 - an open file of numpy
    if f"{name}_even" not in stored:
        return CountSums.empty(stored["seen"].shape)
    return CountSums(
        even=stored[f"{name}_even"],
        odd=stored[f"{name}_odd"],
        movie_count=int(stored[f"{name}_count"]),
        are_whole=bool(stored[f"{name}_whole"]),
    )
