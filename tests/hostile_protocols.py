"""Protocols that hang, abort or leak in a slot's process: for tests of the stream."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar, Literal

from icestream.streaming.protocol import Context, Input, Params, PerItem, Resources
from icestream.testing.trivial import Tick

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Mischief", "MischiefParams"]

_kept: list[bytes] = []


class MischiefParams(Params):
    """What is done, and with which number (none: with all)."""

    how: Literal["hang", "abort", "leak", "swell", "peak", "half"]
    only: int | None = None
    keep_mb: int = 0


class Mischief(PerItem[MischiefParams]):
    """Pass a tick on, or do what no author should."""

    name: ClassVar = "mischief"
    Params: ClassVar = MischiefParams
    inputs: ClassVar = {"tick": Input(kind=Tick)}
    outputs: ClassVar = {"tick": Tick}
    resources: ClassVar = Resources(time_limit_s=3.0)

    def process(self, context: Context, /, *, tick: Tick) -> Mapping[str, Tick]:
        given = self.params
        if given.only not in (None, tick.number):
            product = context.product(".txt")
            product.temporary.write_text("finished")
            return {"tick": tick}
        match given.how:
            case "hang":
                time.sleep(3600)
            case "abort":
                os.abort()
            case "leak":
                _kept.append(os.urandom(1_000_000) * given.keep_mb)
            case "swell":
                _kept.append(os.urandom(1_000_000) * given.keep_mb)
                time.sleep(3600)
            case "peak":
                peak = os.urandom(1_000_000) * given.keep_mb
                time.sleep(1.5)
                del peak
            case "half":
                context.product(".txt").temporary.write_text("half")
                os.abort()
        return {"tick": tick}
