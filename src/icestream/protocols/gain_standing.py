"""What a session knows of one gain: how it fits, what it leaves, and what to tell."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from icestream.engines.gain import GainVerdict
from icestream.protocols.gain_check import way_to_declare

if TYPE_CHECKING:
    from icestream.domain import Movie
    from icestream.engines.gain import GainCheck, ResidualGain

__all__ = ["UNUSABLE", "GainStanding", "Residual"]

UNUSABLE = "not to be used with these movies"
"""Verdict on a gain that cannot be read, or does not fit the frames."""

Residual = tuple[int, int, float, float]
"""Number of a window of movies, movies looked at, deviation, detection limit."""

# A good gain leaves up to 1 %.
_LARGE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class GainStanding:
    """One gain, the camera mode that it is for, and what the movies said so far.

    Parameters
    ----------
    setup, height_px, width_px, suffix
        Of the movies: acquisition setup, frames, ending of their files.
    gain, gain_fingerprint, gain_mirror, gain_turn_deg, gain_divides
        As the movies have it.
    movie_count
        Movies that are there now.
    seen_count
        Movies that have ever come.
    sampled, sampled_gone_count
        Paths of those by which the gain was judged; how many of them were withdrawn
        since (their counts stay).
    wanted_count
        How many it takes for a good estimate of a gain; 0 where none is wanted.
    window
        Number of the present window of movies.
    residuals
        What the gain leaves, a value for each window.
    verdict
        What the movies say: a `GainVerdict`, or `UNUSABLE` with the reason.
    reason
        Why it is unusable.
    correlation, z_score
        Of the gain as declared and the counts; the slope over its error.
    best_way, best_correlation, best_z_score, best_settings
        The same of the way that fits best, and how to declare it.
    pattern_deviation
        Of the fixed pattern of the counts themselves, relative.
    estimate
        A gain estimated from the movies, a path in the session.
    defects, defect_count
        A list of the pixels that are bad in more than 30 % of the movies, a path in
        the session; how many it has.
    notice, residual_notice, estimate_notice
        What people were told of the gain, of what it leaves, of an estimate.
    """

    setup: str
    height_px: int
    width_px: int
    suffix: str
    gain: str | None
    gain_fingerprint: str
    gain_mirror: bool
    gain_turn_deg: int
    gain_divides: bool
    movie_count: int = 0
    seen_count: int = 0
    sampled: tuple[str, ...] = ()
    sampled_gone_count: int = 0
    wanted_count: int = 0
    window: int = 0
    residuals: tuple[Residual, ...] = ()
    verdict: str = GainVerdict.UNDECIDED.value
    reason: str = ""
    correlation: float | None = None
    z_score: float | None = None
    best_way: str = ""
    best_correlation: float | None = None
    best_z_score: float | None = None
    best_settings: str = ""
    pattern_deviation: float | None = None
    estimate: str = ""
    defects: str = ""
    defect_count: int = 0
    notice: str = ""
    residual_notice: str = ""
    estimate_notice: str = ""

    @property
    def notices(self) -> tuple[str, ...]:
        """What people were told."""
        every = (self.notice, self.residual_notice, self.estimate_notice)
        return tuple(one for one in every if one)

    @classmethod
    def of(cls, movie: Movie) -> GainStanding:
        """Return that of a movie's gain before any movie."""
        return cls(
            setup=movie.setup,
            height_px=movie.height_px,
            width_px=movie.width_px,
            suffix=movie.path.rpartition(".")[2].lower(),
            gain=movie.gain,
            gain_fingerprint=movie.gain_fingerprint,
            gain_mirror=movie.gain_mirror,
            gain_turn_deg=movie.gain_turn_deg,
            gain_divides=movie.gain_divides,
        )

    @classmethod
    def unpacked(cls, text: str) -> GainStanding:
        """Make one of what `packed` has returned."""
        values = json.loads(text)
        values["sampled"] = tuple(values["sampled"])
        values["residuals"] = tuple(tuple(one) for one in values["residuals"])
        return cls(**values)

    def packed(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @property
    def is_for(self) -> tuple[object, ...]:
        """What movies have in common that share it."""
        return (
            self.setup,
            self.height_px,
            self.width_px,
            self.suffix,
            self.gain,
            self.gain_fingerprint,
            self.gain_mirror,
            self.gain_turn_deg,
            self.gain_divides,
        )

    @property
    def is_for_eer(self) -> bool:
        """Whether its movies are EER."""
        return self.suffix == "eer"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.height_px, self.width_px

    @property
    def wants_estimate(self) -> bool:
        """Whether a gain made of the movies would be better than what there is."""
        if self.verdict in (GainVerdict.MISSING, GainVerdict.FOREIGN, UNUSABLE):
            return True
        # Of a gain that has ceased to fit, these movies are the wrong ones.
        fits = self.verdict == GainVerdict.AS_DECLARED
        return fits and any(_is_large(one) for one in self.residuals[:1])

    def judged(self, check: GainCheck) -> GainStanding:
        """Return it with what the movies say of the gain."""
        declared = check.candidates[0] if check.candidates else None
        best = check.best
        how = "" if best is None or not best.is_inverse else ", inverted"
        return replace(
            self,
            verdict=check.verdict.value,
            correlation=None if declared is None else declared.correlation,
            z_score=None if declared is None else declared.z_score,
            best_way="" if best is None else f"{best.orientation}{how}",
            best_correlation=None if best is None else best.correlation,
            best_z_score=None if best is None else best.z_score,
            best_settings=""
            if best is None
            else way_to_declare(self, best, prefix=f"setups.{self.setup}."),
            pattern_deviation=check.pattern_deviation,
        )

    def with_residual(self, window: int, found: ResidualGain) -> GainStanding:
        """Return it with what the gain leaves in a window; the last one may grow."""
        one = (window, found.movie_count, found.deviation, found.detection_limit)
        before = tuple(row for row in self.residuals if row[0] != window)
        return replace(self, residuals=(*before, one))

    def telling(self) -> GainStanding:
        """Return it with what people are to be told; nothing is told twice."""
        news = self._news()
        told = self
        if news and news.partition(":")[0] != self.notice.partition(":")[0]:
            told = replace(told, notice=news)
        elif not news and self.notice:
            told = replace(told, notice="")
        # What a gain leaves that lies otherwise is no news.
        fits = self.verdict == GainVerdict.AS_DECLARED
        is_large = any(_is_large(one) for one in self.residuals[-1:])
        if fits and is_large and not self.residual_notice:
            return replace(told, residual_notice=self._about_residual())
        return told

    def _news(self) -> str:
        """Say what is wrong; the part before the colon is the same for the same."""
        count = len(self.sampled)
        ways = (
            f"by {count} movies its correlation with their counts is "
            f"{self.correlation or 0:.3f} as declared ({self.z_score or 0:.0f} "
            f"standard errors), but {self.best_correlation or 0:.3f} {self.best_way} "
            f"({self.best_z_score or 0:.0f})"
        )
        pattern = f"{100 * (self.pattern_deviation or 0):.1f} %"
        says = {
            GainVerdict.TURNED: f"does not lie as declared: {ways}. Set "
            f"{self.best_settings}.",
            GainVerdict.INVERTED: f"is inverted: {ways}. Set {self.best_settings}.",
            GainVerdict.FOREIGN: f"fits its movies in no way: by {count} movies they "
            f"have a pattern of {pattern}, and the best correlation is "
            f"{self.best_correlation or 0:.3f} {self.best_way}. Give their own.",
            GainVerdict.CORRECTED: f"is not wanted: {count} movies have no fixed "
            "pattern, so they are corrected already (correlation "
            f"{self.correlation or 0:.3f}). Set setups.{self.setup}.gain=null.",
            UNUSABLE: f"cannot be used: {self.reason}",
        }
        if self.gain is not None:
            text = says.get(self.verdict, "")
            return text and f"The gain {self.gain} of setup {self.setup!r} {text}"
        if self.verdict != GainVerdict.MISSING:
            return ""
        return (
            f"The gain of setup {self.setup!r} is missing: {count} movies of "
            f"{self.height_px} x {self.width_px} px have a fixed pattern of {pattern}. "
            f"Set setups.{self.setup}.gain."
        )

    def _about_residual(self) -> str:
        window, count, deviation, _ = self.residuals[-1]
        return (
            f"The movies of setup {self.setup!r} keep a fixed pattern of "
            f"{100 * deviation:.1f} % after their gain (window {window}, {count} "
            "movies). Measure the gain anew."
        )


def _is_large(residual: Residual) -> bool:
    """Whether more of a pattern is left than a good gain leaves."""
    _, _, deviation, limit = residual
    return deviation > max(_LARGE, limit)
