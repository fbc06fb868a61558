"""Aggregates that keep files: they live as long as a state names them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pytest

from icestream.domain.errors import DiskFull
from icestream.streaming import schema
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.ledger import Ledger, Transaction
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Aggregate, Context, Input, Keep, Params
from icestream.streaming.reader import LedgerReader
from icestream.streaming.recorder import Limits
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port
from small import Number, Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list of numbers that is too long for a ledger."""

    path: str = ""
    first_path: str = ""
    notices: tuple[str, ...] = ()


class ListParams(Params):
    """From which sum on people are told, and whether the first list is kept."""

    loud_from: int = 1000
    keep: Keep = Keep.UNTIL_STALE


class List(Aggregate[ListParams, Listed]):
    """Write all numbers into a file."""

    name: ClassVar = "list"
    Params: ClassVar = ListParams
    inputs: ClassVar = {"number": Input(kind=Number)}
    outputs: ClassVar = {"listed": Listed}

    def start(self) -> Listed:
        return Listed()

    def update(
        self,
        context: Context,
        state: Listed,
        added: Sequence[Number],
        withdrawn: Sequence[Number],
    ) -> Listed:
        before = context.locate(state.path).read_text().split() if state.path else []
        numbers = [*map(int, before), *(one.value for one in added)]
        for one in withdrawn:
            numbers.remove(one.value)
        product = context.product(".txt", keep=self.params.keep)
        product.temporary.write_text(" ".join(map(str, numbers)))
        loud = sum(numbers) >= self.params.loud_from
        return Listed(
            path=product.path,
            first_path=state.first_path or product.path,
            notices=("It is loud.",) if loud else (),
        )

    def snapshot(self, state: Listed) -> Listed:
        return Listed(path=state.path, first_path="")


def run(folder: Path, *, count: int, **params: object) -> None:
    numbers = Run.of("numbers", Numbers, params={"count": count})
    fed = {"number": (Port("numbers", "number"),)}
    plan = Plan([numbers, Run.of("list", List, params=params, inputs=fed)])
    with closing(Ledger(folder / "ledger.db")) as ledger:
        service = Service(
            plan,
            ledger,
            InlineExecutor(),
            session_folder=folder,
            limits=Limits(free_gb=0.0),
        )
        service.command(service.finish)
        service.run()


def files(folder: Path) -> list[str]:
    return sorted(one.read_text() for one in (folder / "products" / "list").iterdir())


def stored(folder: Path) -> list[str]:
    with closing(LedgerReader(folder / "ledger.db")) as reader:
        paths = [row["path"] for row in reader.rows(schema.artifact)]
    return sorted((folder / one).read_text() for one in paths)


def notices(folder: Path) -> list[str]:
    with closing(LedgerReader(folder / "ledger.db")) as reader:
        return [one.message for one in reader.notices()]


def test_a_file_is_removed_when_no_state_names_it(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        run(tmp_path, count=count)
        first = [] if count == 1 else ["0"]
        assert files(tmp_path) == [*first, " ".join(map(str, range(count)))]
        assert stored(tmp_path) == files(tmp_path), "the ledger owns them"


def test_what_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        run(tmp_path, count=count, keep="keep")
    assert files(tmp_path) == stored(tmp_path) == ["0", "0 1", "0 1 2"]


def test_other_parameters_begin_anew_and_leave_nothing(tmp_path: Path) -> None:
    run(tmp_path, count=2)
    run(tmp_path, count=2, loud_from=500)
    assert files(tmp_path) == stored(tmp_path) == ["0 1"]


def test_a_notice_is_told_once(tmp_path: Path) -> None:
    for count, told in ((2, []), (3, ["It is loud."]), (4, ["It is loud."])):
        run(tmp_path, count=count, loud_from=3)
        assert notices(tmp_path) == told


def test_a_state_that_was_not_stored_loses_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, count=1)
    run(tmp_path, count=2)

    def full(*_args: object, **_values: object) -> None:
        raise DiskFull("No space is left.")

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "add_snapshot", full)
        with pytest.raises(DiskFull):
            run(tmp_path, count=3)
    assert files(tmp_path) == ["0", "0 1", "0 1 2"]
    run(tmp_path, count=4)
    assert files(tmp_path) == stored(tmp_path) == ["0", "0 1 2 3"]
