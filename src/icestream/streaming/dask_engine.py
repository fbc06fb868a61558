"""A dask scheduler in its own process, and the service's connection to it.

It stays out of the service's process because it takes more processor time than the
connection does, and because its memory can then be had back by starting another.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import TYPE_CHECKING, Any

from icestream.domain.errors import InternalError
from icestream.streaming.children import Child
from icestream.streaming.dask_node import OUTCOMES, SCHEDULER, run_bundle

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Engine", "LostBundle", "service_secret"]

CLOSE_LIMIT_S = 0.5


class LostBundle(InternalError):
    """The engine will not answer a bundle any more; whether it runs is unknown."""


class Engine:
    """One scheduler process. Used in one thread, with a running event loop.

    Parameters
    ----------
    folder
        Working directory of the process.
    """

    def __init__(self, folder: Path) -> None:
        self.child = Child(SCHEDULER, folder, threads=1, environment={})
        self.child.order(secret=service_secret())
        self.address = ""
        self.bundles = 0
        self._client: Any = None
        self._running: dict[int, tuple[Any, asyncio.Future[bytes]]] = {}
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether bundles can be submitted."""
        return self._client is not None

    def watch(self) -> bool:
        """Read what the process reports; return whether it is still of use."""
        if self.child.exit_status() is not None:
            return False
        for report in self.child.reports():
            self.address = report["address"]
            self._connecting = asyncio.create_task(self._connect())
        for future, answer in list(self._running.values()):
            if future.status != "pending" and not answer.done():
                answer.set_exception(LostBundle(f"The engine says: {future.status}."))
        failed = self._connecting is not None and self._connecting.done()
        return self.is_ready or not failed

    def submit(
        self, slot: str, address: str, *, ticket: int, payload: bytes
    ) -> asyncio.Future[bytes]:
        """Run a bundle on the worker of a slot, and on no other.

        Returns
        -------
        asyncio.Future
            Gives the pickled outcomes; ends in `LostBundle` when the worker is lost.
            Cancelling it makes the engine forget the bundle.
        """
        self.bundles += 1
        answer = asyncio.get_running_loop().create_future()
        future = self._client.submit(
            run_bundle,
            slot,
            ticket,
            payload,
            key=f"bundle-{ticket}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            # What was submitted first runs first.
            priority=-ticket,
        )
        self._running[ticket] = future, answer
        answer.add_done_callback(lambda _: self._running.pop(ticket)[0].release())
        return answer

    async def close(self) -> None:
        """End the connection and the process."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._client is not None:
            await self._client.close(timeout=CLOSE_LIMIT_S)
        self.child.kill()
        self.child.bury()

    async def _connect(self) -> None:
        from distributed import Client

        from icestream.streaming.dask_comm import configure, unlock

        configure()
        unlock(service_secret())
        client = await Client(  # type: ignore[no-untyped-call]
            self.address,
            asynchronous=True,
            set_as_default=False,
            heartbeat_interval="10s",
        )
        client.subscribe_topic(OUTCOMES, self._receive)
        self._client = client

    def _receive(self, event: tuple[float, tuple[int, bytes]]) -> None:
        """Take outcomes as an event: to fetch a result costs half as much again."""
        ticket, payload = event[1]
        if ticket in self._running:
            _, answer = self._running[ticket]
            if not answer.done():
                answer.set_result(payload)


@functools.cache
def service_secret() -> str:
    """Return what the engines of this process and their workers know each other by."""
    return secrets.token_hex(32)
