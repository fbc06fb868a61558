"""Sources at work: each is polled in its own thread and never runs ahead."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import InternalError
from icestream.streaming.execution import Failure, guard
from icestream.streaming.protocol import Sighting
from icestream.streaming.records import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icestream.streaming.protocol import Source

__all__ = ["AT_ONCE", "Feed", "Sightings"]

_PATIENCE_S = 1.0
AT_ONCE = 500
"""Sightings that are stored together: a larger transaction holds up everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sightings:
    """What one poll of a source brought.

    ``quiet`` counts the polls in a row that brought nothing new; ``failure`` is set
    where the source could not look at all.
    """

    run: str
    seen: Sequence[Sighting]
    quiet: int
    finished: bool
    failure: Failure | None = None


class Feed:
    """Polls one source and hands over what it saw.

    Parameters
    ----------
    run
        Name of the source's run.
    source
        Primed with what the ledger knows of it.
    deliver
        Takes each poll's result; the next poll waits until `proceed` is called.
    """

    def __init__(
        self,
        run: str,
        source: Source[Any],
        deliver: Callable[[Sightings], None],
    ) -> None:
        self.run = run
        self._source = source
        self._deliver = deliver
        self._stop = threading.Event()
        self._stored = threading.Event()
        self._finished = False
        self._thread = threading.Thread(
            target=self._watch, name=f"source {run}", daemon=True
        )

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def proceed(self) -> None:
        """Say that what was handed over is stored."""
        self._stored.set()

    def stop(self) -> None:
        """Poll no more; returns when the thread has ended."""
        self._stop.set()
        self._stored.set()
        guard(self._source.close)
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        quiet = 0
        known: str | None = None
        while not self._stop.is_set():
            seen, trouble = self._look()
            # Trouble that lasts is told once.
            news = trouble if trouble and trouble.message != known else None
            known = trouble.message if trouble else None
            quiet = 0 if seen or trouble else quiet + 1
            while len(seen) > AT_ONCE:
                self._hand_over(seen[:AT_ONCE], quiet=quiet, more=True)
                seen = seen[AT_ONCE:]
            self._hand_over(seen, quiet=quiet, failure=news)
            if isinstance(guard(self._wait), Failure):
                self._stop.wait(_PATIENCE_S)

    def _look(self) -> tuple[list[Sighting], Failure | None]:
        """Poll once; what cannot be stored is left out and told."""
        result = guard(self._poll)
        if isinstance(result, Failure):
            return [], result
        seen: list[Sighting] = []
        trouble = None
        for one in result:
            failure = guard(functools.partial(self._check, one))
            if isinstance(failure, Failure):
                trouble = failure
            else:
                seen.append(one)
        return seen, trouble

    def _poll(self) -> list[Sighting]:
        seen = list(self._source.poll())
        self._finished = self._source.finished
        return seen

    def _check(self, one: object) -> None:
        if not isinstance(one, Sighting):
            raise InternalError(
                f"Source {self.run!r} returned a {type(one).__name__} among its "
                "sightings."
            )
        for text in (one.path, one.reason, one.key or "", one.fingerprint or ""):
            text.encode()
        if one.item is not None:
            encode(one.item)

    def _wait(self) -> None:
        self._source.wait(self._source.interval_s)

    def _hand_over(
        self,
        seen: Sequence[Sighting],
        *,
        quiet: int,
        more: bool = False,
        failure: Failure | None = None,
    ) -> None:
        """Deliver some sightings and wait until they are stored."""
        self._stored.clear()
        if self._stop.is_set():
            return
        self._deliver(
            Sightings(
                run=self.run,
                seen=seen,
                quiet=quiet,
                finished=self._finished and not more,
                failure=failure,
            )
        )
        self._stored.wait()
