"""Which ready task goes next: finish what is started, then newest, some oldest."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["ReadyQueue"]


class ReadyQueue:
    """Ready keys of every run, ordered by when their exposure arrived.

    Removal is lazy: a key that has left stays in the heaps until it comes up.
    """

    def __init__(self, runs: Sequence[str]) -> None:
        self._members: dict[str, dict[str, int]] = {name: {} for name in runs}
        self._newest: dict[str, list[tuple[int, str]]] = {name: [] for name in runs}
        self._oldest: dict[str, list[tuple[int, str]]] = {name: [] for name in runs}

    def __len__(self) -> int:
        return sum(len(one) for one in self._members.values())

    def count(self, run: str) -> int:
        """How many keys of a run are ready."""
        return len(self._members[run])

    def add(self, run: str, key: str, arrival: int) -> None:
        """Enter a key; entering it twice does nothing."""
        if key not in self._members[run]:
            self._members[run][key] = arrival
            heapq.heappush(self._newest[run], (-arrival, key))
            heapq.heappush(self._oldest[run], (arrival, key))

    def discard(self, run: str, key: str) -> None:
        """Take a key out, if it is there."""
        self._members[run].pop(key, None)

    def newest(self, run: str) -> tuple[int, str] | None:
        """Return arrival and key of the newest exposure that is ready in a run."""
        top = self._top(self._newest[run], run, sign=-1)
        return None if top is None else (-top[0], top[1])

    def oldest(self, run: str) -> tuple[int, str] | None:
        """Return arrival and key of the oldest exposure that is ready in a run."""
        return self._top(self._oldest[run], run, sign=1)

    def among(self, run: str, keys: Collection[str]) -> Iterator[str]:
        """Which of some keys are ready in a run."""
        members = self._members[run]
        return (key for key in keys if key in members)

    def _top(
        self, heap: list[tuple[int, str]], run: str, *, sign: int
    ) -> tuple[int, str] | None:
        members = self._members[run]
        while heap and members.get(heap[0][1]) != sign * heap[0][0]:
            heapq.heappop(heap)
        return heap[0] if heap else None
