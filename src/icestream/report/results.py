"""What a session has come to: plain values that the report and the exports show."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icestream.domain import (
        AcquisitionSetup,
        Coordinates,
        Ctf,
        Micrograph,
        OpticsGroup,
        Verdict,
    )
    from icestream.report.roles import Roles
    from icestream.streaming.answers import NoticeLine, SeenFile

__all__ = [
    "ExposureResult",
    "FailureLine",
    "PictureGroup",
    "Rate",
    "Rates",
    "RunResult",
    "SessionResults",
    "SetupResult",
    "Snapshot",
    "Standing",
]


class Standing(StrEnum):
    """Where an exposure stands as a whole; each has exactly one standing."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"
    IN_PROGRESS = "in progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureResult:
    """One exposure and what the runs found.

    Parameters
    ----------
    key
        ``source/path``.
    source
        The run that brought it.
    setup
        Name of its acquisition setup.
    arrival
        Order of arrival, from 0 or 1.
    arrived_at, finished_at
        Seconds since 1970; ``None`` while unknown.
    standing
        Where it stands as a whole.
    states
        State of its task in each run that knows it.
    micrograph, ctf
        What was found, if so.
    group
        Its optics group, where the acquisition is known.
    total_motion_angst, early_motion_angst
        Length of the path of a movie's content, and of its part up to 4 e/Å2, which is
        ``None`` where the dose is not known; both are ``None`` without a movie.
    numbers
        Further numbers by the name of their field: quality, consensus.
    verdict, gate, override
        Of the gate that decided: the rule's word, its run, and a person's word.
    pick_count, particle_count
        ``None`` where picking or extraction has no result.
    reason
        Why it failed or was skipped.
    """

    key: str
    source: str
    setup: str
    arrival: int
    arrived_at: float | None
    finished_at: float | None
    standing: Standing
    states: Mapping[str, str]
    micrograph: Micrograph | None = None
    ctf: Ctf | None = None
    group: OpticsGroup | None = None
    total_motion_angst: float | None = None
    early_motion_angst: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    gate: str | None = None
    override: bool | None = None
    pick_count: int | None = None
    particle_count: int | None = None
    reason: str = ""

    @property
    def accepted(self) -> bool | None:
        """A person's word, else the rule's; ``None`` where nothing was decided."""
        if self.override is not None:
            return self.override
        return None if self.verdict is None else self.verdict.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many in so many seconds; per hour where that is long enough to say so."""

    count: int
    span_s: float
    per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run: what it is, with which parameters, and how far it has come.

    ``counts`` tells how many tasks are in each state; rates are over the session and
    over the last ten minutes; ``mean_s`` is the mean time of an attempt.
    """

    name: str
    protocol: str
    summary: str
    citation: str
    shape: str
    params: Mapping[str, Any]
    counts: Mapping[str, int]
    closed: bool
    paused: str | None
    rate: Rate | None = None
    rate_now: Rate | None = None
    mean_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLine:
    """A task that failed: for good, or until it is tried again (``is_final``)."""

    run: str
    key: str
    cause: str
    reason: str
    details: str
    attempts: int
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What an aggregate has published last: single values, and columns."""

    run: str
    summary: str
    scalars: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureGroup:
    """Exposures whose pictures are shown together under a title."""

    title: str
    note: str
    exposures: tuple[ExposureResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast it goes.

    Parameters
    ----------
    arrived, processed
        Over the session; ``None`` before there is one.
    arrived_now, processed_now
        Over the last ten minutes.
    lag_s
        Median time from arrival to the last result of the 50 exposures that were
        finished last.
    oldest_unprocessed_s
        For how long the oldest exposure in progress has been waiting.
    """

    arrived: Rate | None = None
    processed: Rate | None = None
    arrived_now: Rate | None = None
    processed_now: Rate | None = None
    lag_s: float | None = None
    oldest_unprocessed_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupResult:
    """A setup, counted from 1 as it appeared, and its optics groups' numbers."""

    number: int
    setup: AcquisitionSetup
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResults:
    """Everything at one moment.

    Parameters
    ----------
    read_at
        When this was read, seconds since 1970.
    exposures
        In order of arrival.
    groups
        Optics groups: one for each setup, place in the template of a hole and beam
        shift.
    gallery, coordinates
        Exposures worth looking at, and their picks by key.
    paused
        Run (``""``: the whole session) to the reason why it starts nothing.
    is_finished
        Whether all sources are closed and nothing is left to do.
    """

    read_at: float
    roles: Roles
    exposures: tuple[ExposureResult, ...]
    groups: tuple[OpticsGroup, ...]
    runs: tuple[RunResult, ...]
    failures: tuple[FailureLine, ...]
    ingest: tuple[SeenFile, ...]
    notices: tuple[NoticeLine, ...]
    snapshots: tuple[Snapshot, ...]
    gallery: tuple[PictureGroup, ...]
    coordinates: Mapping[str, Coordinates]
    paused: Mapping[str, str]
    rates: Rates
    is_finished: bool

    @property
    def setups(self) -> tuple[SetupResult, ...]:
        """The setups of the optics groups."""
        found: dict[str, list[OpticsGroup]] = {}
        for one in self.groups:
            found.setdefault(one.setup.name, []).append(one)
        return tuple(
            SetupResult(
                number=number,
                setup=groups[0].setup,
                groups=tuple(one.number for one in groups),
            )
            for number, groups in enumerate(found.values(), start=1)
        )

    def count(self, standing: Standing) -> int:
        """Return how many exposures stand there."""
        return sum(one.standing is standing for one in self.exposures)

    @property
    def pick_count(self) -> int:
        """Picks in all micrographs."""
        return sum(one.pick_count or 0 for one in self.exposures)

    @property
    def particle_count(self) -> int:
        """Extracted particles."""
        return sum(one.particle_count or 0 for one in self.exposures)
