"""Work on a stream of items in threads, in order, with few of them in memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["mapped_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Iterator[Result]:
    """Apply a function that releases the GIL to a stream of items.

    Parameters
    ----------
    function
        Called once an item.
    items
        Drawn in this thread, at most ``2 * threads`` ahead of what has been yielded.
    threads
        How many work at a time; 1 works in this thread, without a pool.

    Yields
    ------
    Result
        In the order of the items.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
