"""The gains of a session: do they fit its movies, and do they go on fitting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from icestream.domain import Movie
from icestream.domain.errors import ItemError
from icestream.engines.gain import (
    GainVerdict,
    check_gain,
    estimate_gain,
    find_defects,
    residual_gain,
)
from icestream.io.writing import write_mrc
from icestream.protocols.gain_sample import (
    GainSample,
    as_stored,
    count_movie,
    defect_list,
)
from icestream.protocols.gain_standing import UNUSABLE, GainStanding
from icestream.protocols.movies import load_gain
from icestream.streaming.protocol import (
    Aggregate,
    Context,
    Input,
    Keep,
    Params,
    Resources,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from numpy.typing import NDArray

    from icestream.engines.gain import CountSums

__all__ = ["FollowGain", "FollowGainParams", "FollowedGains", "GainStandings"]

# One update decodes no more movies than this; those beyond are not looked at.
_MOST_AT_ONCE = 40
_WINDOW_MOVIES = 5
_FIRST_RESULTS = 5
# So many times the movies from which an estimate is better than none halve its error.
_FOR_HALF_THE_ERROR = 4
_MOST_FOR_ESTIMATE = 400


class FollowGainParams(Params):
    """How many movies are looked at: each costs about a second of a CPU."""

    movies: int = Field(
        default=20, ge=2, le=200, description="Movies by which a gain is judged."
    )
    window: int = Field(
        default=100,
        ge=10,
        description="Later on 5 of so many movies are looked at, for what the gain "
        "leaves.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedGains:
    """The state: standings as text, and the file of sums that belongs to each."""

    standings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GainStandings:
    """What is known of the gains of a session, one place of each tuple for each.

    Parameters
    ----------
    setup, frame, gain
        Acquisition setup, rows and columns of the frames, path of the gain.
    movies, looked_at, withdrawn
        Movies that are there; those by which the gain was judged; those of them that
        were withdrawn since.
    verdict
        What the movies say of it.
    correlation, z_score
        Of the gain as declared and the counts; its slope over its error.
    best_way, best_correlation, best_z_score
        The same of the way that fits best.
    pattern, residual
        Deviation of the fixed pattern of the counts; of what the gain leaves of it in
        the last window; both relative.
    window, residual_limit
        Number of that window, and what of a pattern its movies would show.
    bad_pixels, defects
        Pixels that are bad in more than 30 % of the movies; a list of them that a
        setup's ``defects`` takes.
    estimate
        A gain from the movies, which a setup's ``gain`` takes.
    """

    setup: tuple[str, ...]
    frame: tuple[str, ...]
    gain: tuple[str | None, ...]
    movies: tuple[int, ...]
    looked_at: tuple[int, ...]
    withdrawn: tuple[int, ...]
    verdict: tuple[str, ...]
    correlation: tuple[float | None, ...]
    z_score: tuple[float | None, ...]
    best_way: tuple[str, ...]
    best_correlation: tuple[float | None, ...]
    best_z_score: tuple[float | None, ...]
    pattern: tuple[float | None, ...]
    residual: tuple[float | None, ...]
    window: tuple[int | None, ...]
    residual_limit: tuple[float | None, ...]
    bad_pixels: tuple[int, ...]
    defects: tuple[str, ...]
    estimate: tuple[str, ...]


class FollowGain(Aggregate[FollowGainParams, FollowedGains]):
    """Say whether gains fit their movies, what they leave, and which pixels are bad.

    For each setup, shape of frames and gain on its own. The first movies tell whether
    the gain lies as declared, is turned, inverted, foreign or missing, or whether the
    movies are corrected already; later ones what the gain leaves, window by window.
    Where no gain serves, one is estimated: an MRC file that a setup's ``gain`` takes,
    beside a list of bad pixels for its ``defects``. Counts of movies that are withdrawn
    stay: they are of the same camera.
    """

    name: ClassVar = "follow_gain"
    Params: ClassVar = FollowGainParams
    inputs: ClassVar = {"movie": Input(kind=Movie)}
    outputs: ClassVar = {"gains": GainStandings}
    resources: ClassVar = Resources(time_limit_s=1800.0)

    def start(self) -> FollowedGains:
        """Return no gain."""
        return FollowedGains()

    def update(
        self,
        context: Context,
        state: FollowedGains,
        added: Sequence[Movie],
        withdrawn: Sequence[Movie],
    ) -> FollowedGains:
        """Return the state with some movies more, and some gone."""
        standings = [GainStanding.unpacked(one) for one in state.standings]
        book = {one.is_for: one for one in standings}
        files = dict(zip(book, state.files, strict=True))
        for movie in withdrawn:
            _take_out(book, movie)
        gone = {(GainStanding.of(one).is_for, one.path) for one in withdrawn}
        chosen = self._choose(book, added, gone)
        for number, (key, movies) in enumerate(chosen.items()):
            if book[key].movie_count > 0:
                measured = _Measurement(self.params, context, book[key], number)
                files[key] = measured.take(files.get(key, ""), movies)
                book[key] = measured.standing.telling()
        left = {key: one for key, one in book.items() if one.movie_count > 0}
        return FollowedGains(
            standings=tuple(one.packed() for one in left.values()),
            files=tuple(files.get(key, "") for key in left),
            notices=tuple(text for one in left.values() for text in one.notices),
        )

    def snapshot(self, state: FollowedGains) -> GainStandings:
        """Return what is known of each gain."""
        found = [GainStanding.unpacked(one) for one in state.standings]
        last = [one.residuals[-1] if one.residuals else None for one in found]
        return GainStandings(
            setup=tuple(one.setup for one in found),
            frame=tuple(f"{one.height_px} x {one.width_px}" for one in found),
            gain=tuple(one.gain for one in found),
            movies=tuple(one.movie_count for one in found),
            looked_at=tuple(len(one.sampled) for one in found),
            withdrawn=tuple(one.sampled_gone_count for one in found),
            verdict=tuple(one.verdict for one in found),
            correlation=tuple(one.correlation for one in found),
            z_score=tuple(one.z_score for one in found),
            best_way=tuple(one.best_way for one in found),
            best_correlation=tuple(one.best_correlation for one in found),
            best_z_score=tuple(one.best_z_score for one in found),
            pattern=tuple(one.pattern_deviation for one in found),
            residual=tuple(one[2] if one else None for one in last),
            window=tuple(one[0] if one else None for one in last),
            residual_limit=tuple(one[3] if one else None for one in last),
            bad_pixels=tuple(one.defect_count for one in found),
            defects=tuple(one.defects for one in found),
            estimate=tuple(one.estimate for one in found),
        )

    def _choose(
        self,
        book: dict[tuple[object, ...], GainStanding],
        added: Sequence[Movie],
        gone: Set[tuple[tuple[object, ...], str]],
    ) -> Mapping[tuple[object, ...], list[tuple[int, Movie]]]:
        """Count the movies in; return those worth a look, with their windows.

        Movies that are looked at in vain (they cannot be read) leave room for others.
        Those that are gone only to come back in another guise are no new ones.
        """
        chosen: dict[tuple[object, ...], list[tuple[int, Movie]]] = {}
        room = _MOST_AT_ONCE
        for movie in added:
            new = GainStanding.of(movie)
            one = book.get(new.is_for, new)
            was_sampled = movie.path in one.sampled
            is_back = was_sampled or (one.is_for, movie.path) in gone
            some = chosen.get(one.is_for, [])
            place = one.seen_count % self.params.window
            wanted = max(self.params.movies, one.wanted_count)
            is_due = len(one.sampled) + len(some) < wanted or (
                one.seen_count >= self.params.window
                and place % (self.params.window // _WINDOW_MOVIES) == 0
            )
            if is_due and not is_back and room:
                window = one.seen_count // self.params.window
                chosen.setdefault(one.is_for, some).append((window, movie))
                room -= 1
            book[one.is_for] = replace(
                one,
                movie_count=one.movie_count + 1,
                seen_count=one.seen_count + (not is_back),
                sampled_gone_count=one.sampled_gone_count - was_sampled,
            )
        return chosen


class _Measurement:
    """Some movies that are looked at, for one gain."""

    def __init__(
        self,
        params: FollowGainParams,
        context: Context,
        standing: GainStanding,
        number: int,
    ) -> None:
        self.standing = standing
        self._params = params
        self._context = context
        self._number = number

    def take(self, file: str, movies: Sequence[tuple[int, Movie]]) -> str:
        """Take movies in; return the path of the new sums."""
        one = self.standing
        sample = GainSample.empty(one.shape)
        if file:
            sample = GainSample.read(self._context.locate(file))
        before, was_bad = sample.first.movie_count, sample.tally.is_bad
        gain = self._load_gain()
        for window, movie in movies:
            sample = self._with_movie(sample, window, movie, gain)
        if before < sample.first.movie_count:
            self._measure(sample.first, 0, gain)
        self._write_defects(sample, was_bad)
        self._write_estimate_if_due(sample.first, before)
        product = self._context.product(f"_{self._number}.npz", keep=Keep.UNTIL_STALE)
        sample.write(product.temporary)
        return product.path

    def _load_gain(self) -> NDArray[np.float32] | None:
        one = self.standing = replace(self.standing, reason="")
        try:
            found = load_gain(one, is_for_eer=one.is_for_eer, frame_shape=one.shape)
        except ItemError as error:
            self.standing = replace(one, verdict=UNUSABLE, reason=str(error))
            return None
        return None if found is None else np.ascontiguousarray(found[0])

    def _with_movie(
        self,
        sample: GainSample,
        window: int,
        movie: Movie,
        gain: NDArray[np.float32] | None,
    ) -> GainSample:
        wanted = max(self._params.movies, self.standing.wanted_count)
        is_first = sample.first.movie_count < wanted
        if not is_first and window != self.standing.window:
            self.standing = replace(self.standing, window=window)
            sample = sample.in_new_window()
        try:
            counts = count_movie(movie, threads=self._context.threads)
            if counts.shape != self.standing.shape:
                return sample  # written anew since; it comes again
            sample = sample.plus(counts, is_first=is_first)
        except ItemError:
            return sample  # said where the movie is corrected
        if is_first:
            sampled = (*self.standing.sampled, movie.path)
            self.standing = self._judged(sample.first, gain, sampled)
        else:
            self._measure(sample.window, window, gain)
        fits = self.standing.verdict == GainVerdict.AS_DECLARED
        is_bad = find_defects(counts, gain if fits else None)
        return replace(sample, tally=sample.tally.plus(is_bad))

    def _judged(
        self,
        sums: CountSums,
        gain: NDArray[np.float32] | None,
        sampled: tuple[str, ...],
    ) -> GainStanding:
        one = replace(self.standing, sampled=sampled)
        judged = one.judged(check_gain(sums, gain))
        return replace(judged, verdict=UNUSABLE) if one.reason else judged

    def _measure(
        self, sums: CountSums, window: int, gain: NDArray[np.float32] | None
    ) -> None:
        if sums.movie_count > 1:
            found = residual_gain(sums, gain)
            self.standing = self.standing.with_residual(window, found)

    def _write_defects(self, sample: GainSample, was_bad: NDArray[np.bool_]) -> None:
        """Write the list of bad pixels where it has changed."""
        is_bad = sample.tally.is_bad
        found = int(is_bad.sum())
        is_same = found == self.standing.defect_count and (is_bad == was_bad).all()
        least = min(_FIRST_RESULTS, self._params.movies)
        if is_same or sample.tally.movie_count < least:
            return
        self.standing = replace(self.standing, defects="", defect_count=found)
        if not found:
            return
        product = self._context.product(f"_{self._number}_defects.txt")
        head = (
            f"# Bad in more than 30 % of {sample.tally.movie_count} movies: "
            "x, y, width, height\n"
        )
        product.temporary.write_text(head + defect_list(is_bad), encoding="ascii")
        self.standing = replace(self.standing, defects=product.path)

    def _write_estimate_if_due(self, sums: CountSums, before: int) -> None:
        count, one = sums.movie_count, self.standing
        steps = (_FIRST_RESULTS, self._params.movies, one.wanted_count)
        is_due = any(before < step <= count for step in steps)
        is_late = count >= self._params.movies and not one.wanted_count
        if one.wants_estimate and (is_due or is_late):
            self._write_estimate(sums)

    def _write_estimate(self, sums: CountSums) -> None:
        found = estimate_gain(sums)
        wanted = _FOR_HALF_THE_ERROR * (found.least_movies or 0)
        one = self.standing
        if found.movie_count >= self._params.movies and not one.wanted_count:
            one = replace(one, wanted_count=min(wanted, _MOST_FOR_ESTIMATE))
            self.standing = one
        if not found.is_better_than_none:
            return
        product = self._context.product(f"_{self._number}_gain.mrc")
        stored = as_stored(found.gain, is_for_eer=one.is_for_eer)
        write_mrc(product.temporary, stored, pixel_size_angst=1.0, dtype=np.float32)
        path = self._context.locate(product.path)
        name, as_it_lies = f"setups.{one.setup}", ""
        if one.gain_mirror or one.gain_turn_deg or one.gain_divides:
            as_it_lies = (
                f" {name}.gain_mirror=false {name}.gain_turn_deg=0"
                f" {name}.gain_divides=false"
            )
        self.standing = replace(
            one,
            estimate=product.path,
            estimate_notice=f"A gain was estimated from {found.movie_count} movies of "
            f"setup {one.setup!r}, to {100 * found.error:.1f} % a pixel: set "
            f"{name}.gain={path}{as_it_lies} to use it.",
        )


def _take_out(book: dict[tuple[object, ...], GainStanding], movie: Movie) -> None:
    one = book.get(GainStanding.of(movie).is_for)
    if one is not None:
        book[one.is_for] = replace(
            one,
            movie_count=one.movie_count - 1,
            sampled_gone_count=one.sampled_gone_count + (movie.path in one.sampled),
        )
