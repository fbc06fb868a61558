"""TCP on this machine with a password, and the settings of the execution engine.

An open engine port runs whatever code it is sent, and on a shared machine every user
can connect to the loopback address. So each connection starts with a secret that only
the processes of one service know. What a port must keep from the network is not
encrypted: it is never open to it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Any

import dask.config
import distributed
from distributed.comm.registry import backends
from distributed.comm.tcp import BaseTCPBackend, TCPConnector, TCPListener
from tornado.iostream import StreamClosedError

__all__ = ["HOST", "SCHEME", "SETTINGS", "configure", "unlock"]

HOST = "127.0.0.1"
SCHEME = "icestream"
PATIENCE_S = 5.0

SETTINGS: dict[str, Any] = {
    # The ledger counts attempts: the engine itself repeats and moves nothing.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    # A task may hold the interpreter for minutes; its process is watched instead.
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.use-file-locking": False,
    # What grows with the number of tasks.
    "distributed.scheduler.events-cleanup-delay": "1s",
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 1,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.log-length": 10,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.limit": "1h",
    "distributed.admin.large-graph-warning-threshold": "1GB",
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.diagnostics.erred-tasks.max-history": 1,
    "distributed.diagnostics.nvml": False,
    # No dashboard, nothing to ask by HTTP.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.client.scheduler-info-interval": "60s",
    "distributed.comm.compression": False,
    "distributed.comm.require-encryption": False,
    "logging": {"distributed": "warning"},
}


def configure() -> None:
    """Set up the engine's library in this process, whatever the user has set."""
    dask.config.refresh(paths=[], env={})
    dask.config.set(SETTINGS)
    logger = logging.getLogger(distributed.__name__)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def unlock(secret: str) -> None:
    """Give the connections of this process their secret."""
    backends[SCHEME] = _backend(secret.encode())


def _backend(secret: bytes) -> BaseTCPBackend:
    class SecretConnector(TCPConnector):
        prefix = f"{SCHEME}://"

        async def connect(self, address: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
            comm = await super().connect(address, *args, **options)  # type: ignore[no-untyped-call]
            await comm.stream.write(secret)
            return comm

    class SecretListener(TCPListener):
        prefix = f"{SCHEME}://"

        async def _prepare_stream(self, stream: Any, address: str) -> Any:  # noqa: ANN401
            try:
                said = await asyncio.wait_for(
                    stream.read_bytes(len(secret)), PATIENCE_S
                )
            except (StreamClosedError, TimeoutError):
                said = b""
            if hmac.compare_digest(said, secret):
                return stream
            logging.getLogger(__name__).warning("Refused a connection from %s", address)
            stream.close()
            return None

    class SecretBackend(BaseTCPBackend):
        _connector_class = SecretConnector
        _listener_class = SecretListener

    return SecretBackend()
