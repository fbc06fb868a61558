"""Memory of the slots: what each may keep between tasks, and all of them together.

A protocol that leaks fills the machine, and then the kernel ends what it likes. Two
rules keep that away. A slot that keeps more than its share when its tasks are done is
replaced: nothing is lost. When all slots together reach the limit, the largest is
killed at once, and its task counts as lost with its worker.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["INTERVAL_S", "Excess", "find_excess", "usable_bytes", "used_bytes"]

INTERVAL_S = 1.0
_SHARE = 0.8
"""What slots may have of the memory; the rest is for the service and the system."""


@dataclass(frozen=True, slots=True)
class Excess:
    """A slot that holds too much, whether it must go at once, and why."""

    slot: str
    at_once: bool
    reason: str


def find_excess(used: Mapping[str, int], *, limit_bytes: int) -> Excess | None:
    """Return the slot that holds too much, if any.

    Parameters
    ----------
    used
        Bytes in memory, by slot.
    limit_bytes
        What all may have together; a slot may keep an equal share of it.
    """
    if not used:
        return None
    slot = max(used, key=lambda name: used[name])
    share = limit_bytes / len(used)
    total = sum(used.values())
    if total > limit_bytes:
        return Excess(
            slot,
            True,
            f"It held {_gb(used[slot])} of memory when all slots together held "
            f"{_gb(total)}, and {_gb(limit_bytes)} is the limit.",
        )
    if used[slot] > share:
        return Excess(slot, False, f"It keeps {_gb(used[slot])}, over {_gb(share)}.")
    return None


def used_bytes(pid: int) -> int:
    """Return what a process holds for itself, in bytes; 0 where it is gone."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    # Libraries and mapped files are the same pages for all.
    return int(memory.rss - memory.shared)


@functools.cache
def usable_bytes() -> int:
    """Return what all slots may have together: a share of the machine's memory."""
    from distributed.system import memory_limit  # knows containers, too

    return int(_SHARE * memory_limit())


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
