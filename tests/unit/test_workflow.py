"""The graph of runs, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from icestream.domain.errors import BadSettings, InternalError
from icestream.streaming.protocol import (
    Aggregate,
    Context,
    Gate,
    Input,
    Item,
    Params,
    PerItem,
    Protocol,
    Resources,
    Sighting,
    Source,
)
from icestream.streaming.workflow import (
    ACCEPTED,
    REJECTED,
    Port,
    RunSpec,
    Shape,
    Workflow,
    identity,
)
from scheduling import gate, per_item, source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.domain.table import Table
    from icestream.domain.verdict import Verdict


@dataclass(frozen=True)
class Film:
    path: str


@dataclass(frozen=True)
class LongFilm(Film):
    pass


@dataclass(frozen=True)
class Fit:
    defocus_angst: float


class Import(Source[Params]):
    name = "import_films"
    outputs: ClassVar[Mapping[str, type]] = {"film": Film, "long": LongFilm}

    def poll(self) -> Sequence[Sighting]:
        return ()

    def resume(self, seen: Sequence[Sighting]) -> None:
        pass


class EstimateFit(PerItem[Params]):
    name = "estimate_fit"
    inputs: ClassVar[Mapping[str, Input]] = {
        "film": Input(kind=Film),
        "start": Input(kind=Fit, required=False),
    }
    outputs: ClassVar[Mapping[str, type]] = {"fit": Fit}
    reads = ("voltage_kv",)
    resources = Resources(threads=3)

    def process(
        self, context: Context, /, *args: Any, **inputs: Any
    ) -> dict[str, Item]:
        raise NotImplementedError


class LimitFit(Gate[Params]):
    name = "limit_fit"
    inputs: ClassVar[Mapping[str, Input]] = {
        "film": Input(kind=Film),
        "fit": Input(kind=Fit),
    }
    passes = "film"

    def judge(self, table: Table) -> list[Verdict | None]:
        raise NotImplementedError


class Tally(Aggregate[Params, Fit]):
    name = "tally"
    inputs: ClassVar[Mapping[str, Input]] = {"fits": Input(kind=Fit)}
    outputs: ClassVar[Mapping[str, type]] = {"mean": Fit}

    def start(self) -> Fit:
        raise NotImplementedError

    def update(
        self,
        _context: Context,
        state: Fit,
        added: Sequence[Item],
        withdrawn: Sequence[Item],
    ) -> Fit:
        raise NotImplementedError

    def snapshot(self, state: Fit) -> Item:
        raise NotImplementedError


class Shapeless(Protocol[Params]):
    name = "shapeless"


def ports(*names: str) -> tuple[Port, ...]:
    return tuple(Port(*one.split(".")) for one in names)


def films() -> RunSpec:
    return RunSpec.of("films", Import)


def fits(**inputs: tuple[Port, ...]) -> RunSpec:
    return RunSpec.of("fits", EstimateFit, {"film": ports("films.film"), **inputs})


def limit(film: str = "films.film", fit: str = "fits.fit") -> RunSpec:
    return RunSpec.of("limit", LimitFit, {"film": ports(film), "fit": ports(fit)})


class TestRunSpec:
    def test_describes_its_protocol(self) -> None:
        spec = fits()
        assert spec.shape is Shape.PER_ITEM
        assert spec.required == {"film"}
        assert spec.outputs == ("fit",)
        assert spec.reads == ("voltage_kv",)
        assert spec.resources.threads == 3
        assert spec.protocol.endswith(":EstimateFit")
        assert spec.passes is None

    def test_shapes(self) -> None:
        assert films().shape is Shape.SOURCE
        assert limit().shape is Shape.GATE
        assert limit().outputs == (ACCEPTED, REJECTED)
        assert limit().passes == "film"
        tally = RunSpec.of("tally", Tally, {"fits": ports("fits.fit")})
        assert tally.shape is Shape.AGGREGATE

    def test_unknown_input(self) -> None:
        with pytest.raises(BadSettings, match="'fits': estimate_fit has no input 'x'"):
            fits(x=ports("films.film"))

    def test_unconnected_input(self) -> None:
        with pytest.raises(BadSettings, match="input 'film' is not connected"):
            RunSpec.of("fits", EstimateFit)

    def test_input_connected_to_nothing(self) -> None:
        with pytest.raises(BadSettings, match="input 'film' is not connected"):
            RunSpec.of("fits", EstimateFit, {"film": ()})

    def test_optional_input_may_be_left_out(self) -> None:
        assert set(fits().inputs) == {"film"}

    def test_none_of_the_shapes(self) -> None:
        with pytest.raises(BadSettings, match="Shapeless is none of the four shapes"):
            RunSpec.of("x", Shapeless)


class TestWorkflow:
    def test_each_run_comes_after_those_that_feed_it(self) -> None:
        flow = Workflow([limit(), fits(), films()])
        assert list(flow.runs) == ["films", "fits", "limit"]
        assert flow.downstream["films"] == ("fits", "limit")
        assert flow.downstream["limit"] == ()

    def test_order_is_the_same_in_every_process(self) -> None:
        # The order decides the numbers of changes; a set's order differs by process.
        names = [f"movies{number}" for number in range(12)]
        motion = per_item("motion", movie=" ".join(f"{name}.out" for name in names))
        flow = Workflow([motion, *(source(name) for name in reversed(names))])
        assert list(flow.runs) == [*names, "motion"]

    def test_unknown_run_and_unknown_output(self) -> None:
        for port in ("ctf.fit", "films.ctf"):
            with pytest.raises(BadSettings, match=f"reads {port}, which does not") as e:
                Workflow([films(), fits(start=ports(port))])
            assert "films.film" in str(e.value.hint)

    def test_circle(self) -> None:
        one = per_item("one", x="movies.out two.out")
        two = per_item("two", x="one.out")
        with pytest.raises(BadSettings, match=r"in a circle: .*(one → two|two → one)"):
            Workflow([source("movies"), one, two])

    def test_two_runs_of_one_name(self) -> None:
        with pytest.raises(BadSettings, match="Two runs are called 'films'"):
            Workflow([films(), films()])

    def test_wrong_kind(self) -> None:
        wrong = RunSpec.of("again", EstimateFit, {"film": ports("fits.fit")})
        with pytest.raises(BadSettings, match=r"takes Film, but fits\.fit carries Fit"):
            Workflow([films(), fits(), wrong])

    def test_a_more_special_kind_will_do(self) -> None:
        spec = RunSpec.of("fits", EstimateFit, {"film": ports("films.long")})
        assert Workflow([films(), spec]).kind(Port("fits", "fit")) is Fit

    def test_a_gate_carries_what_it_passes(self) -> None:
        flow = Workflow([films(), fits(), limit(film="films.long")])
        assert flow.kind(Port("limit", ACCEPTED)) is LongFilm
        tally = RunSpec.of("tally", Tally, {"fits": ports("limit.accepted")})
        with pytest.raises(BadSettings, match=r"limit\.accepted carries Film"):
            Workflow([films(), fits(), limit(), tally])

    def test_a_protocol_that_is_not_installed(self) -> None:
        gone = RunSpec(name="gone", shape=Shape.SOURCE, protocol="no_such_module:Gone")
        with pytest.raises(InternalError, match="cannot be imported here"):
            Workflow([gone])

    def test_specs_without_protocols_are_not_checked(self) -> None:
        flow = Workflow([source("movies"), gate("limit", "movie", movie="movies.out")])
        assert flow.level == {"movies": 0, "limit": 1}


class TestIdentity:
    def test_is_decided_by_name_revision_and_parameters(self) -> None:
        class Revised(EstimateFit):
            revision = 2

        base = identity(EstimateFit, {"a": 1, "b": 2}, {})
        assert identity(EstimateFit, {"b": 2, "a": 1}, {}) == base
        others = [
            identity(EstimateFit, {"a": 1, "b": 3}, {}),
            identity(Revised, {"a": 1, "b": 2}, {}),
            identity(Tally, {"a": 1, "b": 2}, {}),
        ]
        assert len({base, *others}) == 4
