"""Tables for gates, by hand, and a session's questions to a gate without a session."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from icestream.domain.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icestream.domain import Verdict
    from icestream.streaming.protocol import Gate


G = TypeVar("G", bound="Gate[Any]")


def gate_of(kind: type[G], **params: object) -> G:
    """Make a gate, with its parameters checked."""
    return kind(kind.parse(params))


def table_of(
    numbers: Mapping[str, Sequence[float | None]],
    *,
    asked: Sequence[int] | None = None,
    rank: Sequence[int] | None = None,
    standing: Sequence[int] | None = None,
    setup: Sequence[str] | None = None,
    is_complete: bool = False,
) -> Table:
    """Columns as they are given; ``None`` is missing, and every row is asked for."""
    size = len(next(iter(numbers.values())))
    return Table(
        numbers={
            name: np.array([np.nan if one is None else one for one in column], float)
            for name, column in numbers.items()
        },
        words={} if setup is None else {"setup": np.array(setup, object)},
        rank=np.arange(size) if rank is None else np.array(rank),
        standing=np.array([-1] * size if standing is None else standing, np.int8),
        asked=np.array(range(size) if asked is None else asked, np.intp),
        is_complete=is_complete,
    )


@dataclass
class Asking:
    """Asks a gate as a session does, and keeps the verdicts that stand.

    Each exposure has a number in each column, and ten of its setup follow it.
    """

    numbers: Mapping[str, Sequence[float | None]]
    order: list[int] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)

    def table(self, asked: Iterable[int], *, is_complete: bool = False) -> Table:
        shown = [n for n in self.order if n in self.verdicts or n in set(asked)]
        return table_of(
            {name: [one[n] for n in shown] for name, one in self.numbers.items()},
            asked=[shown.index(one) for one in asked],
            rank=[10 * n for n in shown],
            standing=[
                int(self.verdicts[n].accepted) if n in self.verdicts else -1
                for n in shown
            ],
            setup=["grid"] * len(shown),
            is_complete=is_complete,
        )

    def arrive(self, gate: Gate[Any], batch: Sequence[int]) -> None:
        """Ask for new exposures and for all that are held."""
        self.order += batch
        self.ask(gate, [n for n in self.order if n not in self.verdicts])

    def judge_again(self, gate: Gate[Any]) -> None:
        """Ask for all, as where parameters have changed."""
        self.ask(gate, self.order)

    def restart(self, order: Sequence[int]) -> None:
        """Fill the table anew, in another order of rows."""
        assert sorted(order) == sorted(self.order)
        self.order = list(order)

    def finish(self, gate: Gate[Any]) -> None:
        held = [n for n in self.order if n not in self.verdicts]
        self.ask(gate, held, is_complete=True)

    def ask(
        self, gate: Gate[Any], asked: Sequence[int], *, is_complete: bool = False
    ) -> None:
        if not asked:
            return
        found = gate.judge(self.table(asked, is_complete=is_complete))
        assert len(found) == len(asked)
        for one, verdict in zip(asked, found, strict=True):
            if verdict is None:
                assert not is_complete
                assert one not in self.verdicts
            else:
                self.verdicts[one] = verdict

    def sides(self) -> Counter[str]:
        """Count where exposures are; each is at one place."""
        names = {True: "accepted", False: "rejected"}
        decided = Counter(names[one.accepted] for one in self.verdicts.values())
        return decided + Counter(held=len(self.order) - len(self.verdicts))
