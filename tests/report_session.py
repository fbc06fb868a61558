"""A session for tests of report and exports: a real service over small fake protocols.

The protocols carry the names and kinds of the real ones but invent their results, so
a session of hundreds of exposures runs in seconds. `run_session` makes one.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sqlite3
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from icestream.domain import (
    AcquisitionSetup,
    Coordinates,
    Ctf,
    Micrograph,
    Particles,
    Quality,
    RawFile,
    Verdict,
)
from icestream.domain.errors import CtfNotFound, UnreadableFile, UnusableImage
from icestream.io import write_mrc, write_thumbnail
from icestream.streaming.execution import Envelope, Outcome, Slot, execute
from icestream.streaming.ledger import Ledger
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import (
    Aggregate,
    Context,
    Gate,
    Input,
    Keep,
    Params,
    PerItem,
    Sighting,
    SightingState,
    Source,
)
from icestream.streaming.service import Service
from icestream.streaming.workflow import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from icestream.domain.table import Table

__all__ = ["SETUPS", "UNMEASURED", "make_plan", "run_session", "session_plan"]

SETUPS = (
    AcquisitionSetup(name="k2", pixel_size_angst=1.35, voltage_kv=300.0),
    AcquisitionSetup(
        name="falcon",
        pixel_size_angst=0.82,
        voltage_kv=200.0,
        spherical_aberration_mm=0.001,
        amplitude_contrast=0.07,
    ),
    AcquisitionSetup(name="ceta", pixel_size_angst=2.4, voltage_kv=100.0),
)
UNMEASURED = "00005"
"""In keys of micrographs whose quality cannot be measured."""

_SIDE_PX = 4096
_PICKED_ANGST = 180.0


class WatchParams(Params):
    folder: str
    setup: str
    count: int = 12
    keys: tuple[str, ...] = ()
    trouble: bool = True


class FakeWatch(Source[WatchParams]):
    """Take each file of an acquisition folder once it is complete."""

    name: ClassVar[str] = "watch_folder"
    Params: ClassVar[type[Params]] = WatchParams
    outputs: ClassVar[Mapping[str, type]] = {"files": RawFile}
    interval_s: ClassVar[float] = 0.01

    def __init__(self, params: WatchParams) -> None:
        super().__init__(params)
        self._over = False

    def poll(self) -> Sequence[Sighting]:
        if self._over:
            return []
        self._over = True
        names = [
            f"GridSquare_{n // 60:02d}/FoilHole_{n:05d}.mrc"
            for n in range(self.params.count - len(self.params.keys))
        ]
        return [
            *(self._taken(name) for name in (*names, *self.params.keys)),
            *(self._trouble() if self.params.trouble else ()),
        ]

    def resume(self, seen: Sequence[Sighting]) -> None:
        del seen

    def _taken(self, name: str) -> Sighting:
        item = RawFile(
            path=f"{self.params.folder}/{name}",
            size_bytes=1,
            mtime_ns=1,
            fingerprint=name,
            setup=self.params.setup,
        )
        return Sighting(
            path=item.path,
            state=SightingState.TAKEN,
            reason="complete",
            key=name,
            item=item,
            fingerprint=name,
        )

    def _trouble(self) -> Sequence[Sighting]:
        lines = [
            ("new_one.mrc", SightingState.WAITING, "still growing"),
            ("cut.mrc", SightingState.UNREADABLE, "ends 2.1 MB too early"),
            *(
                (f"x{n}.xml", SightingState.IGNORED, "matches no pattern")
                for n in range(30)
            ),
        ]
        return [
            Sighting(path=f"{self.params.folder}/{name}", state=state, reason=reason)
            for name, state, reason in lines
        ]


def _random(key: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(key.encode()))


def true_picks(key: str, pixel_size_angst: float) -> Coordinates:
    """Where the particles of an exposure are, on a jittered grid."""
    rng = _random(key)
    step_px = 1.4 * _PICKED_ANGST / pixel_size_angst
    side = np.arange(step_px, _SIDE_PX - step_px, step_px)
    y, x = np.meshgrid(side, side, indexing="ij")
    kept = rng.random(x.size) < rng.uniform(0.3, 0.8)
    jitter = rng.normal(0, step_px / 8, (2, x.size))
    x_px = (x.ravel() + jitter[0])[kept].astype(np.float32)
    y_px = (y.ravel() + jitter[1])[kept].astype(np.float32)
    return Coordinates(
        x_px=x_px,
        y_px=y_px,
        score=np.sort(rng.random(len(x_px), dtype=np.float32))[::-1],
        diameter_angst=np.full(len(x_px), _PICKED_ANGST, np.float32),
    )


def _picture(key: str, pixel_size_angst: float, side_px: int) -> np.ndarray[Any, Any]:
    """Grey ice with a gradient, and dark particles where they are."""
    rng = _random(f"{key} ice")
    image = rng.normal(0, 1, (side_px, side_px)).astype(np.float32)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    image += np.float32(rng.normal(0, 2)) * x + np.float32(rng.normal(0, 2)) * y
    picks = true_picks(key, pixel_size_angst)
    scale = side_px / _SIDE_PX
    radius_px = _PICKED_ANGST / pixel_size_angst / 2 * scale * 0.8
    for x_px, y_px in zip(picks.x_px * scale, picks.y_px * scale, strict=True):
        near = np.s_[
            max(int(y_px - radius_px), 0) : int(y_px + radius_px) + 1,
            max(int(x_px - radius_px), 0) : int(x_px + radius_px) + 1,
        ]
        far = np.hypot(y[near] * side_px - y_px, x[near] * side_px - x_px)
        image[near] -= np.where(far < radius_px, 1.6, 0).astype(np.float32)
    return image


class ImportParams(Params):
    thumbnail_px: int = 48


class FakeImport(PerItem[ImportParams]):
    """Decode and check a micrograph."""

    name: ClassVar[str] = "import_micrographs"
    Params: ClassVar[type[Params]] = ImportParams
    inputs: ClassVar[Mapping[str, Input]] = {"file": Input(kind=RawFile)}
    outputs: ClassVar[Mapping[str, type]] = {"micrograph": Micrograph}
    reads: ClassVar[tuple[str, ...]] = ("pixel_size_angst",)

    def process(self, context: Context, *, file: RawFile) -> Mapping[str, Micrograph]:
        if _random(f"{context.key} file").random() < 0.01 or "broken" in context.key:
            raise UnreadableFile(
                f"{file.path} is not an MRC file (mode 77).",
                hint="Transfer it again, or remove it from the watched folder.",
            )
        pixel = context.acquisition.pixel_size_angst
        thumbnail = context.product(".jpg", keep=Keep.CACHE)
        if side_px := self.params.thumbnail_px:
            image = _picture(context.key, pixel, side_px)
            write_thumbnail(image, thumbnail.temporary, side_px=side_px)
        else:
            thumbnail.temporary.touch()
        micrograph = Micrograph(
            path=file.path,
            height_px=_SIDE_PX,
            width_px=_SIDE_PX,
            pixel_size_angst=pixel,
            setup=file.setup,
            mean=100.0,
            standard_deviation=10.0,
            thumbnail=thumbnail.path,
        )
        return {"micrograph": micrograph}


class CtfParams(Params):
    max_search_resolution_angst: float = 4.0


class FakeCtf(PerItem[CtfParams]):
    """Estimate the contrast transfer function of a micrograph."""

    name: ClassVar[str] = "estimate_ctf"
    Params: ClassVar[type[Params]] = CtfParams
    inputs: ClassVar[Mapping[str, Input]] = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar[Mapping[str, type]] = {"ctf": Ctf}
    citation: ClassVar[str] = (
        "Rohou & Grigorieff, CTFFIND4, J. Struct. Biol. 192 (2015) 216-221."
    )

    def process(self, context: Context, *, micrograph: Micrograph) -> Mapping[str, Ctf]:
        del micrograph
        rng = _random(f"{context.key} ctf")
        if rng.random() < 0.01:
            raise CtfNotFound(
                "No Thon ring stands above the noise between 30 and 4 Å.",
                hint="Look at the micrograph: is it ice, carbon or empty?",
            )
        number = int("".join(c for c in context.key if c.isdigit())[-5:] or 0)
        defocus = 9000 + 4000 * (number % 5) + rng.normal(0, 700)
        astigmatism = abs(rng.normal(250, 120)) * (6 if rng.random() < 0.03 else 1)
        drift = 1.2 * math.exp(-(((number - 180) / 25) ** 2))
        resolution = 3.4 + rng.gamma(2, 0.5) + 3 * drift * rng.random()
        ctf = Ctf(
            defocus_u_angst=defocus + astigmatism / 2,
            defocus_v_angst=defocus - astigmatism / 2,
            defocus_angle_deg=rng.uniform(0, 180),
            score=0.2,
            resolution_angst=None if rng.random() < 0.004 else resolution,
        )
        return {"ctf": ctf}


class FakeQuality(PerItem[Params]):
    """Measure how good a micrograph is; some cannot be measured."""

    name: ClassVar[str] = "measure_quality"
    inputs: ClassVar[Mapping[str, Input]] = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar[Mapping[str, type]] = {"quality": Quality}

    def process(
        self, context: Context, *, micrograph: Micrograph
    ) -> Mapping[str, Quality]:
        del micrograph
        if UNMEASURED in context.key:
            raise UnusableImage("Nothing can be measured.")
        rng = _random(f"{context.key} quality")
        quality = Quality(
            mean_intensity=rng.normal(30, 1),
            intensity_gradient=0.02,
            intensity_gradient_deg=30.0,
            ice_ring_ratio=1 + rng.exponential(0.1),
            masked_fraction=rng.random() * 0.1,
        )
        return {"quality": quality}


class PickParams(Params):
    diameter_angst: float = _PICKED_ANGST


class FakePick(PerItem[PickParams]):
    """Find particles in a micrograph."""

    name: ClassVar[str] = "pick_particles"
    Params: ClassVar[type[Params]] = PickParams
    inputs: ClassVar[Mapping[str, Input]] = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar[Mapping[str, type]] = {"coordinates": Coordinates}

    def process(
        self, context: Context, *, micrograph: Micrograph
    ) -> Mapping[str, Coordinates]:
        if "crash" in context.key:
            raise ValueError("axis 1 is out of bounds")
        return {"coordinates": true_picks(context.key, micrograph.pixel_size_angst)}


class LimitParams(Params):
    max_resolution_angst: float | None = 6.0
    min_defocus_angst: float | None = 5000.0
    max_defocus_angst: float | None = 30000.0
    max_astigmatism_angst: float | None = 1000.0


class FakeLimits(Gate[LimitParams]):
    """Reject exposures whose CTF lies outside the limits."""

    name: ClassVar[str] = "ctf_limits"
    Params: ClassVar[type[Params]] = LimitParams
    inputs: ClassVar[Mapping[str, Input]] = {
        "ctf": Input(kind=Ctf),
        "quality": Input(kind=Quality, required=False),
    }
    passes: ClassVar[str] = "ctf"

    def judge(self, table: Table) -> list[Verdict | None]:
        return [self._verdict(table, row) for row in table.asked]

    def _verdict(self, table: Table, row: int) -> Verdict:
        limit = self.params
        u, v, resolution = (
            float(table.numbers[name][row])
            for name in ("defocus_u_angst", "defocus_v_angst", "resolution_angst")
        )
        for rule, value, allowed in (
            ("resolution_angst", resolution, limit.max_resolution_angst),
            ("defocus_angst", (u + v) / 2, limit.max_defocus_angst),
            ("astigmatism_angst", u - v, limit.max_astigmatism_angst),
        ):
            if math.isnan(value):
                return Verdict(accepted=False, rule=rule, reason="missing")
            if allowed is not None and value > allowed:
                return Verdict(accepted=False, rule=rule, value=value, limit=allowed)
        rings = table.numbers.get("ice_ring_ratio")
        ring = 1.0 if rings is None else float(rings[row])
        if ring > 1.3:
            # Noted, and let pass.
            return Verdict(accepted=True, rule="ice_ring_ratio", value=ring, limit=1.3)
        return Verdict(accepted=True, rule="all")


class ExtractParams(Params):
    box_px: int = 24
    writes_images: bool = True


class FakeExtract(PerItem[ExtractParams]):
    """Cut particles out of a micrograph."""

    name: ClassVar[str] = "extract_particles"
    Params: ClassVar[type[Params]] = ExtractParams
    inputs: ClassVar[Mapping[str, Input]] = {
        "micrograph": Input(kind=Micrograph),
        "coordinates": Input(kind=Coordinates),
        "ctf": Input(kind=Ctf),
    }
    outputs: ClassVar[Mapping[str, type]] = {"particles": Particles}

    def process(
        self,
        context: Context,
        *,
        micrograph: Micrograph,
        coordinates: Coordinates,
        ctf: Ctf,
    ) -> Mapping[str, Particles]:
        count = len(coordinates)
        box_px = self.params.box_px
        stack = context.product(".mrcs")
        pixel = 4 * micrograph.pixel_size_angst
        images = _random(context.key).normal(0, 1, (count, box_px, box_px))
        if self.params.writes_images:
            write_mrc(
                stack.temporary,
                images.astype(np.float32),
                pixel_size_angst=pixel,
                dtype=np.float32,
                is_stack=True,
            )
        else:
            stack.temporary.touch()
        particles = Particles(
            path=stack.path,
            micrograph=micrograph.path,
            box_px=box_px,
            pixel_size_angst=pixel,
            setup=micrograph.setup,
            x_px=coordinates.x_px,
            y_px=coordinates.y_px,
            score=coordinates.score,
            defocus_u_angst=np.full(count, ctf.defocus_u_angst, np.float32),
            defocus_v_angst=np.full(count, ctf.defocus_v_angst, np.float32),
            defocus_angle_deg=np.full(count, ctf.defocus_angle_deg, np.float32),
            phase_shift_deg=np.zeros(count, np.float32),
        )
        return {"particles": particles}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    count: int = 0
    defocus_sum_angst: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsShown:
    setup: tuple[str, ...]
    count: tuple[int, ...]
    defocus_mean_angst: tuple[float, ...]
    total: int


class FakeStatistics(Aggregate[Params, Statistics]):
    """Mean and spread of the session's values, by setup."""

    name: ClassVar[str] = "session_statistics"
    inputs: ClassVar[Mapping[str, Input]] = {"ctf": Input(kind=Ctf)}
    outputs: ClassVar[Mapping[str, type]] = {"statistics": StatisticsShown}

    def start(self) -> Statistics:
        return Statistics()

    def update(
        self,
        _context: Context,
        state: Statistics,
        added: Sequence[Ctf],
        withdrawn: Sequence[Ctf],
    ) -> Statistics:
        change = sum(c.defocus_angst for c in added)
        change -= sum(c.defocus_angst for c in withdrawn)
        return Statistics(
            count=state.count + len(added) - len(withdrawn),
            defocus_sum_angst=state.defocus_sum_angst + change,
        )

    def snapshot(self, state: Statistics) -> StatisticsShown:
        mean = state.defocus_sum_angst / max(state.count, 1)
        return StatisticsShown(
            setup=("all",),
            count=(state.count,),
            defocus_mean_angst=(mean,),
            total=state.count,
        )


class InProcess:
    """Runs tasks where it stands; stops the service after so many outcomes."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.left = math.inf if stop_after is None else stop_after
        self.stop: Callable[[], None] = lambda: None
        self._deliver: Callable[[Outcome], None] = lambda _: None

    def start(self, deliver: Callable[[Outcome], None]) -> None:
        self._deliver = deliver

    def slots(self) -> Sequence[Slot]:
        return [Slot(name=f"slot{n}", threads=8, gpus=1) for n in range(4)]

    def submit(self, slot: str, bundle: Sequence[Envelope]) -> None:
        for envelope in bundle:
            self._deliver(execute(envelope, slot))
        self.left -= len(bundle)
        if self.left <= 0:
            # A second stop would not wait for the other slots.
            self.left = math.inf
            self.stop()

    def restart_slot(self, slot: str) -> None:
        del slot

    def close(self) -> None:
        pass


def make_plan(sources: Sequence[Run], **params: Mapping[str, Any]) -> Plan:
    """Connect sources to the standard runs; ``params`` are given by run."""
    files = tuple(Port(one.spec.name, "files") for one in sources)
    micrograph, coordinates = Port("import", "micrograph"), Port("pick", "coordinates")
    ctf = Port("ctf_limits", "accepted")
    per_run: list[tuple[str, Any, Mapping[str, tuple[Port, ...]]]] = [
        ("import", FakeImport, {"file": files}),
        ("ctf", FakeCtf, {"micrograph": (micrograph,)}),
        ("pick", FakePick, {"micrograph": (micrograph,)}),
        ("quality", FakeQuality, {"micrograph": (micrograph,)}),
        (
            "ctf_limits",
            FakeLimits,
            {"ctf": (Port("ctf", "ctf"),), "quality": (Port("quality", "quality"),)},
        ),
        (
            "extract",
            FakeExtract,
            {
                "micrograph": (micrograph,),
                "coordinates": (coordinates,),
                "ctf": (ctf,),
            },
        ),
        ("statistics", FakeStatistics, {"ctf": (Port("ctf", "ctf"),)}),
    ]
    runs = [
        Run.of(name, protocol, params=params.get(name), inputs=inputs)
        for name, protocol, inputs in per_run
    ]
    return Plan([*sources, *runs])


def session_plan(
    folder: Path,
    *,
    counts: Sequence[int] = (12, 6),
    keys: tuple[str, ...] = (),
    **params: Mapping[str, Any],
) -> Plan:
    """Return the standard workflow with one source for each count."""
    sources = [
        Run.of(
            setup.name,
            FakeWatch,
            params={
                "folder": str(folder / setup.name),
                "setup": setup.name,
                "count": count,
                "keys": keys if number == 0 else (),
            },
            acquisition=asdict(setup),
        )
        for number, (setup, count) in enumerate(zip(SETUPS, counts, strict=False))
    ]
    return make_plan(sources, **params)


def run_session(
    plan: Plan,
    folder: Path,
    *,
    stop_after: int | None = None,
    commands: Sequence[Callable[[Service, Any], object]] = (),
) -> Path:
    """Run a session in a folder until all is done, or for so many outcomes.

    Returns
    -------
    Path
        Its ledger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.db")
    executor = InProcess(stop_after=stop_after)
    service = Service(plan, ledger, executor, session_folder=folder)
    executor.stop = service.stop
    for command in commands:
        service.command(functools.partial(command, service))
    service.command(service.finish)
    try:
        service.run()
    finally:
        ledger.close()
    return ledger.path


def spread_times(ledger: Path, *, span_s: float) -> None:
    """Pretend that the exposures arrived evenly over a span that ends now.

    A fake session runs in seconds; real ones take hours.
    """
    now = time.time()
    with contextlib.closing(sqlite3.connect(ledger)) as connection, connection:
        (count,) = connection.execute("SELECT max(arrival) FROM exposure").fetchone()
        connection.execute(
            "CREATE TEMP TABLE moment AS SELECT key, ? + arrival * ? AS time "
            "FROM exposure",
            (now - span_s, (span_s - 30) / max(count, 1)),
        )
        connection.execute(
            "UPDATE event SET time = moment.time FROM moment "
            "WHERE moment.key = event.key AND kind = 'arrived'"
        )
        connection.execute(
            "UPDATE event SET time = moment.time + 4 FROM moment "
            "WHERE moment.key = event.key AND kind IN ('succeeded', 'decided')"
        )
