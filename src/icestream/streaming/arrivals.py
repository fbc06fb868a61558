"""All files of a watched folder: moving, settled, lost; and who shares an inode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icestream.streaming.arrival import Arrival
from icestream.streaming.listing import Claims, Lister

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["Arrivals"]


class Arrivals:
    """The files of one folder, by their path in it.

    *Moving* files are looked at in every poll, *settled* ones in turn, *lost* ones are
    remembered by their fingerprint only, should they come back.
    """

    def __init__(self, root: str, *, lister: Lister, turns: int) -> None:
        self._claims = Claims(root, lister)
        self._known: dict[str, Arrival] = {}
        self._moving: dict[str, Arrival] = {}
        self._settled: list[dict[str, Arrival]] = [{} for _ in range(turns)]
        self._lost: dict[str, Arrival] = {}
        self._duplicates: dict[str, set[str]] = {}
        self._count = 0

    @property
    def has_moving(self) -> bool:
        """Whether any file is not settled."""
        return bool(self._moving)

    def moving(self) -> Sequence[Arrival]:
        """Return the files to look at now; plain paths before links to them."""
        return sorted(self._moving.values(), key=lambda one: (one.is_link, one.path))

    def due(self, poll: int) -> Sequence[Arrival]:
        """Return the settled files whose turn it is."""
        return list(self._settled[poll % len(self._settled)].values())

    def settled(self, path: str) -> Arrival | None:
        """Return a settled file, or ``None``."""
        return None if path in self._moving else self._known.get(path)

    def was_taken(self, path: str) -> bool:
        """Whether a file that is not there now was once taken."""
        return path in self._lost

    def remember(self, arrival: Arrival) -> None:
        """Add a file that the ledger knows; it counts as lost until it is seen."""
        self._lost[arrival.path] = arrival

    def enter(self, path: str, *, is_link: bool) -> None:
        """Let a file that a listing showed, new or changed, be looked at."""
        arrival = self._known.get(path)
        if arrival is None:
            arrival = self._lost.pop(path, None) or Arrival(path=path)
            self._count += 1
            arrival.turn = self._count % len(self._settled)
            self._known[path] = arrival
        arrival.is_link = is_link
        self.move(arrival)

    def move(self, arrival: Arrival) -> None:
        """Let a file be looked at in every poll."""
        self._settled[arrival.turn].pop(arrival.path, None)
        self._moving[arrival.path] = arrival

    def settle(self, arrival: Arrival) -> None:
        """Let a file be looked at in its turn only."""
        self._moving.pop(arrival.path, None)
        self._settled[arrival.turn][arrival.path] = arrival

    def claim(self, arrival: Arrival, status: os.stat_result) -> str | None:
        """Claim a file's inode; return the path that came first, or ``None``."""
        owner = self._claims.claim(arrival.path, status)
        if owner is not None:
            self._duplicates.setdefault(owner, set()).add(arrival.path)
        return owner

    def lose(self, path: str) -> None:
        """Forget a file but for its fingerprint; what shared its inode moves again."""
        arrival = self._known.pop(path, None)
        if arrival is not None:
            self._moving.pop(path, None)
            self._settled[arrival.turn].pop(path, None)
        arrival = arrival or self._lost.get(path)
        if arrival is not None and arrival.fingerprint is not None:
            # Without its stamps: what comes back under this path is read again.
            self._lost[path] = Arrival(
                path=path, item=arrival.item, fingerprint=arrival.fingerprint
            )
        self._claims.release(path)
        for duplicate in sorted(self._duplicates.pop(path, ())):
            if duplicate in self._known:
                self.move(self._known[duplicate])
