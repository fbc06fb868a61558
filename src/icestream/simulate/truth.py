"""The truth of an acquisition: one Arrow stream, one row an exposure.

A stream can be read while it is written, and what was written before a kill stays. Any
Arrow reader opens it (``pyarrow.ipc.open_stream``, ``polars.read_ipc_stream``); the
names say the units.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.simulate.exposure import FieldParticles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["TRUTH_NAME", "ExposureTruth", "Truth", "TruthWriter", "read_truth"]

TRUTH_NAME = "truth.arrows"
"""Name of the file in the folder of an acquisition."""

_META = b"icestream"


def _present(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_present("item", kind))


_FLOATS = _list(pa.float32())
_PARTICLES = pa.struct(
    [_present("species", _list(pa.int16()))]
    + [_present(name, _FLOATS) for name in ("x_px", "y_px", "z_angst")]
    + [_present(name, _FLOATS) for name in ("rot_deg", "tilt_deg", "psi_deg")]
    + [_present("overlaps", _list(pa.bool_()))]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureTruth:
    """What is true of one exposure and of its files.

    Parameters
    ----------
    number
        From 1.
    file
        Path of the image or movie, relative to the folder of the acquisition.
    taken_at_s
        Seconds after the first exposure.
    grid, square, hole, area, beam_group
        Which grid, where on it, which shot of the hole, and which beam shift; from 1.
        Squares and holes are numbered anew on each grid.
    defect
        Why it should be rejected; ``None`` for a good one.
    faults
        What was done to its files; empty for nothing.
    pixel_size_angst, voltage_kv, spherical_aberration_mm, amplitude_contrast
        How it was taken.
    frame_count, dose_e_per_angst2
        Frames, and electrons per Å2 that came, in all of them.
    target_defocus_angst
        What was asked for, and what the files beside the image say.
    defocus_u_angst, defocus_v_angst, defocus_angle_deg, phase_shift_deg
        At the middle of image and ice; conventions of `icestream.engines.ctf`.
    tilt_deg, tilt_axis_deg
        Tilt plane, see `icestream.simulate.optics`.
    beam_tilt_x_mrad, beam_tilt_y_mrad
        Of the beam.
    thickness_angst
        ``(s, s)`` thickness of the ice on a lattice over the image, Å.
    motion_angst
        ``(frames, m, m, 2)`` y and x of the shift against frame 0, on a lattice of
        places from the first to the last pixel, Å.
    masked
        ``(k, k)`` share of each of k by k equal parts of the image that film or
        contaminants cover.
    particles
        In and around the image.
    """

    number: int
    file: str
    taken_at_s: float
    grid: int
    square: int
    hole: int
    area: int
    beam_group: int
    defect: str | None
    faults: tuple[str, ...]
    pixel_size_angst: float
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float
    frame_count: int
    dose_e_per_angst2: float
    target_defocus_angst: float
    defocus_u_angst: float
    defocus_v_angst: float
    defocus_angle_deg: float
    phase_shift_deg: float
    tilt_deg: float
    tilt_axis_deg: float
    beam_tilt_x_mrad: float
    beam_tilt_y_mrad: float
    thickness_angst: NDArray[np.float32]
    motion_angst: NDArray[np.float32]
    masked: NDArray[np.float32]
    particles: FieldParticles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """The truth of a whole acquisition.

    Parameters
    ----------
    about
        What all exposures share: ``shape`` as height and width in px, ``species`` as
        names, states, diameters and whether they are denatured, ``grids`` with what
        differs from one to the other, ``gain_faults``, seed, device, version.
    exposures
        In the order in which they were taken; fewer than are planned while the
        acquisition goes on, or where it or its file was cut short.
    """

    about: dict[str, Any]
    exposures: tuple[ExposureTruth, ...]

    @property
    def planned_count(self) -> int | None:
        """How many exposures there are in the end; ``None`` where it does not say."""
        count = self.about.get("count")
        return count if isinstance(count, int) else None


_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "str | None": pa.string(),
    "tuple[str, ...]": _list(pa.string()),
    "NDArray[np.float32]": _FLOATS,
    "FieldParticles": _PARTICLES,
}
_FIELDS = {field.name: str(field.type) for field in fields(ExposureTruth)}
_ARRAYS = [name for name, kind in _FIELDS.items() if kind.startswith("NDArray")]
_SCHEMA = pa.schema(
    [
        pa.field(name, _TYPES[kind], nullable=kind.endswith("None"))
        for name, kind in _FIELDS.items()
    ]
)


class TruthWriter:
    """Writes the truth, exposure by exposure; each one is on disk when `add` returns.

    As a context, it leaves no file behind an error that came before the first one.

    Parameters
    ----------
    path
        The file; replaced if present.
    about
        As in `Truth`.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self._schema = _SCHEMA.with_metadata({_META: json.dumps(about).encode()})
        self._is_empty = True
        with guarding_writes(path), ExitStack() as stack:
            self._file = stack.enter_context(path.open("wb"))
            stack.callback(path.unlink, missing_ok=True)
            self._writer = pa.ipc.new_stream(self._file, self._schema)
            # The schema goes before the first batch, not at once.
            self._writer.write_batch(pa.RecordBatch.from_pylist([], self._schema))
            self._file.flush()
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with guarding_writes(self._path), self._file:
                self._writer.close()
            return
        # The error that came first is the one to tell.
        with suppress(OSError, pa.ArrowException), self._file:
            self._writer.close()
        if self._is_empty:
            with suppress(OSError):
                self._path.unlink()

    def add(self, exposure: ExposureTruth) -> None:
        """Append one exposure."""
        batch = pa.RecordBatch.from_pylist([_row(exposure)], schema=self._schema)
        with guarding_writes(self._path):
            self._writer.write_batch(batch)
            self._file.flush()
        self._is_empty = False


def read_truth(path: Path) -> Truth:
    """Read a truth file, also one that is still being written.

    Raises
    ------
    BadSettings
        There is no such file, it holds something else, or it is damaged.
    """
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            about = _about(reader.schema)
            exposures = tuple(
                _exposure(row, _species_count(about))
                for batch in _whole_batches(reader)
                for row in _checked(batch).to_pylist()
            )
    except (OSError, pa.ArrowException, TypeError, ValueError) as error:
        raise BadSettings(
            f"{path} is no truth of a simulated acquisition, or is damaged: {error}.",
            hint=f"Give the {TRUTH_NAME} that `icestream simulate` wrote.",
        ) from error
    return Truth(about=about, exposures=exposures)


def _about(schema: pa.Schema) -> dict[str, Any]:
    if not schema.equals(_SCHEMA):
        raise ValueError("it has other columns")
    about = json.loads((schema.metadata or {}).get(_META, b"null"))
    if not isinstance(about, dict):
        raise TypeError("it does not say what it is about")
    return about


def _species_count(about: dict[str, Any]) -> int:
    species = about.get("species")
    return len(species) if isinstance(species, list) else 0


def _whole_batches(reader: pa.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """Give the batches up to one that is only partly there."""
    while True:
        try:
            yield reader.read_next_batch()
        except (StopIteration, pa.ArrowException, OSError):
            return


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Refuse what would crash when it is touched, and what is missing."""
    batch.validate(full=True)
    for column, field in zip(batch.columns, batch.schema, strict=True):
        if _lacks_values(column, field):
            raise ValueError(f"{field.name} is missing")
    return batch


def _lacks_values(array: pa.Array, field: pa.Field) -> bool:
    if array.null_count and not field.nullable:
        return True
    if pa.types.is_list(field.type):
        return _lacks_values(array.values, field.type.value_field)
    if not pa.types.is_struct(field.type):
        return False
    return any(_lacks_values(array.field(one.name), one) for one in field.type)


def _row(exposure: ExposureTruth) -> dict[str, Any]:
    row = {name: getattr(exposure, name) for name in _FIELDS}
    for name in _ARRAYS:
        row[name] = np.asarray(row[name], dtype=np.float32).reshape(-1)
    row["faults"] = list(exposure.faults)
    row["particles"] = asdict(exposure.particles)
    return row


def _exposure(row: dict[str, Any], species_count: int) -> ExposureTruth:
    _check_numbers(row)
    if not PurePosixPath(row["file"]).name:
        raise ValueError("a file has no name")
    for name in _ARRAYS:
        row[name] = np.array(row[name], dtype=np.float32)
    row["motion_angst"] = _lattice(row, "motion_angst", (row["frame_count"],), (2,))
    for name in ("thickness_angst", "masked"):
        row[name] = _lattice(row, name)
    row["faults"] = tuple(row["faults"])
    row["particles"] = _particles(row["particles"], species_count)
    return ExposureTruth(**row)


def _check_numbers(row: dict[str, Any]) -> None:
    for name, kind in _FIELDS.items():
        if kind == "float" and not math.isfinite(row[name]):
            raise ValueError(f"{name} is {row[name]}")
    for name in ("pixel_size_angst", "voltage_kv", "frame_count"):
        if row[name] <= 0:
            raise ValueError(f"{name} is {row[name]}")
    if row["defocus_u_angst"] + row["defocus_v_angst"] == 0:
        raise ValueError("it has no defocus")


def _lattice(
    row: dict[str, Any],
    name: str,
    before: tuple[int, ...] = (),
    after: tuple[int, ...] = (),
) -> NDArray[np.float32]:
    """Return the values on a square lattice, within these other axes."""
    values: NDArray[np.float32] = row[name]
    side = math.isqrt(values.size // math.prod(before + after))
    shape = (*before, side, side, *after)
    if not values.size or math.prod(shape) != values.size:
        raise ValueError(f"{name} has {values.size} values")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds what is no number")
    return values.reshape(shape)


def _particles(columns: dict[str, Any], species_count: int) -> FieldParticles:
    kinds = {"species": np.int16, "overlaps": np.bool_}
    arrays: dict[str, NDArray[Any]] = {
        name: np.array(values, dtype=kinds.get(name, np.float64))
        for name, values in columns.items()
    }
    if len({one.size for one in arrays.values()}) != 1:
        raise ValueError("columns of the particles differ in length")
    if not all(np.isfinite(one).all() for one in arrays.values()):
        raise ValueError("a place or an angle of a particle is no number")
    species = arrays["species"]
    if species.size and not 0 <= species.min() <= species.max() < species_count:
        raise ValueError("a particle is of a species that it does not name")
    return FieldParticles(**arrays)
