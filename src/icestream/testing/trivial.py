"""Protocols that do next to nothing, or fail on purpose: for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from icestream.domain.errors import DiskFull, IncompleteFile, ItemError
from icestream.streaming.protocol import (
    Aggregate,
    Context,
    Input,
    Item,
    Params,
    PerItem,
    Sighting,
    SightingState,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Faulty", "Hop", "Sleepy", "Tally", "TallyState", "Tick", "Ticker", "Traced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """An item that carries one number."""

    number: int


class TickerParams(Params):
    """How many ticks come one by one, how far apart, and how many then at once."""

    single: int = 0
    interval_s: float = 2.0
    burst: int = 100


class Ticker(Source[TickerParams]):
    """Tick now and then, then very often."""

    name = "ticker"
    Params = TickerParams
    outputs: ClassVar = {"tick": Tick}

    @property
    def interval_s(self) -> float:
        """Seconds between two looks at the clock."""
        return 0.05

    def __init__(self, params: TickerParams) -> None:
        super().__init__(params)
        self._started = time.monotonic()
        self._next = 0

    def resume(self, seen: Sequence[Sighting]) -> None:
        """Go on after the ticks that are stored."""
        self._next = len(seen)

    def poll(self) -> Sequence[Sighting]:
        """Return the ticks that are due."""
        given = self.params
        due = int((time.monotonic() - self._started) / given.interval_s)
        if due > given.single:
            due = given.single + given.burst
        first, self._next = self._next, max(self._next, due)
        return [_ticked(number) for number in range(first, self._next)]

    @property
    def finished(self) -> bool:
        """Whether the last tick has come."""
        return self._next >= self.params.single + self.params.burst


def _ticked(number: int) -> Sighting:
    return Sighting(
        path=str(number),
        state=SightingState.TAKEN,
        reason="due",
        key=str(number),
        item=Tick(number=number),
        fingerprint=str(number),
    )


class Hop(PerItem[Params]):
    """Pass a tick on."""

    name = "hop"
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tick": Tick}

    def process(self, context: Context, /, *, tick: Tick) -> Mapping[str, Item]:
        """Return the tick as it came."""
        return {"tick": tick}


class TracedParams(Params):
    """Where each execution leaves a line."""

    trace: str
    step: int


class Traced(PerItem[TracedParams]):
    """Pass a tick on and leave a line, so that executions can be counted."""

    name = "traced"
    Params = TracedParams
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tick": Tick}

    def process(self, context: Context, /, *, tick: Tick) -> Mapping[str, Item]:
        """Append step and key to the trace."""
        line = f"{self.params.step} {context.key}\n".encode()
        descriptor = os.open(self.params.trace, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return {"tick": tick}


class SleepyParams(Params):
    """How long, and whether a program is started that outlives its starter."""

    seconds: float = 1.0
    hold_interpreter: bool = False
    program: bool = False


class Sleepy(PerItem[SleepyParams]):
    """Sleep, then pass a tick on."""

    name = "sleepy"
    Params = SleepyParams
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tick": Tick}

    def process(self, context: Context, /, *, tick: Tick) -> Mapping[str, Item]:
        """Sleep; ``program`` sleeps in a program of its own session beside it."""
        if self.params.program:
            subprocess.Popen(
                [sys.executable, "-c", f"import time; time.sleep({3600})"],
                start_new_session=True,
            )
        end = time.monotonic() + self.params.seconds
        while (left := end - time.monotonic()) > 0:
            if self.params.hold_interpreter:
                pow(3, 10**6)
            else:
                time.sleep(left)
        return {"tick": tick}


class FaultyParams(Params):
    """What goes wrong, and for which numbers (none: for all)."""

    fault: Literal["item", "incomplete", "session", "internal", "exit", "kill"] = "item"
    only: tuple[int, ...] = ()


class Faulty(PerItem[FaultyParams]):
    """Fail on purpose, or pass a tick on."""

    name = "faulty"
    Params = FaultyParams
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tick": Tick}

    def process(self, context: Context, /, *, tick: Tick) -> Mapping[str, Item]:
        """Raise, leave or kill its own process as the parameters say."""
        if self.params.only and tick.number not in self.params.only:
            return {"tick": tick}
        match self.params.fault:
            case "item":
                raise ItemError(f"Tick {tick.number} is bad.", hint="It was asked for.")
            case "incomplete":
                raise IncompleteFile(f"Tick {tick.number} is cut short.")
            case "session":
                raise DiskFull("There is no space left.", hint="It was asked for.")
            case "internal":
                raise ZeroDivisionError(f"tick {tick.number}")
            case "exit":
                sys.exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return {"tick": tick}


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyState:
    """How many ticks there are, and their sum."""

    count: int = 0
    total: int = 0


class Tally(Aggregate[Params, TallyState]):
    """Count ticks and add them up."""

    name = "tally"
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tally": TallyState}

    def start(self) -> TallyState:
        """Return nothing counted."""
        return TallyState()

    def update(
        self,
        _context: Context,
        state: TallyState,
        added: Sequence[Tick],
        withdrawn: Sequence[Tick],
    ) -> TallyState:
        """Return the state with ticks added and taken out."""
        return TallyState(
            count=state.count + len(added) - len(withdrawn),
            total=state.total
            + sum(one.number for one in added)
            - sum(one.number for one in withdrawn),
        )

    def snapshot(self, state: TallyState) -> TallyState:
        """Return the state itself."""
        return state
