"""The truth on disk: read as it was written, while it is written, and after a kill."""

from __future__ import annotations

import errno
import json
import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings, DiskFull, FolderUnavailable
from icestream.simulate.score import score_acquisition
from icestream.simulate.truth import (
    TRUTH_NAME,
    ExposureTruth,
    Truth,
    TruthWriter,
    read_truth,
)
from truth_rows import ABOUT, field_particles, row, truth

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.simulate.exposure import FieldParticles


def rich_row(number: int, *, frames: int, particles: int) -> ExposureTruth:
    """Return a row in which no two values are alike."""
    generator = np.random.default_rng(number)
    drawn = generator.uniform(0, 4000, (particles, 2)).astype(np.float32)
    overlaps = (generator.random(particles) < 0.5).tolist()
    return row(
        number,
        file=f"Images-Disc1/GridSquare_{number}/Data/Å {number}.mrc",
        defect="thick_ice" if number % 2 else None,
        faults=("rewritten", "clock_skew: +3 s")[: number % 3],
        taken_at_s=1 / 3 * number,
        frame_count=frames,
        motion_angst=generator.normal(0, 3, (frames, 9, 9, 2)).astype(np.float32),
        thickness_angst=generator.uniform(0, 900, (16, 16)).astype(np.float32),
        masked=generator.uniform(0, 1, (8, 8)).astype(np.float32),
        particles=field_particles(drawn, overlaps=overlaps),
    )


def write(path: Path, *rows: ExposureTruth) -> None:
    with TruthWriter(path, ABOUT) as writer:
        for one in rows:
            writer.add(one)


def assert_same(found: ExposureTruth, given: ExposureTruth) -> None:
    for field in fields(ExposureTruth):
        before, after = getattr(given, field.name), getattr(found, field.name)
        if field.name == "particles":
            for name in before.__dataclass_fields__:
                one, other = getattr(before, name), getattr(after, name)
                assert one.dtype == other.dtype
                # Stored as float32: half a thousandth of a pixel at most.
                np.testing.assert_allclose(one, other, rtol=1e-7)
        elif isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before, after)
        else:
            assert before == after, field.name


@pytest.mark.parametrize("frames", [1, 2, 40])
@pytest.mark.parametrize("particles", [0, 1, 500])
def test_what_is_written_is_read(tmp_path: Path, frames: int, particles: int) -> None:
    rows = [rich_row(n, frames=frames, particles=particles) for n in (1, 2, 3)]
    write(tmp_path / TRUTH_NAME, *rows)
    found = read_truth(tmp_path / TRUTH_NAME)
    assert found.about == ABOUT
    for one, other in zip(found.exposures, rows, strict=True):
        assert_same(one, other)


def test_any_reader_of_arrow_opens_it(tmp_path: Path) -> None:
    write(tmp_path / TRUTH_NAME, row(1), row(2))
    with pa.ipc.open_stream(tmp_path / TRUTH_NAME) as reader:
        table = reader.read_all()
    assert table.num_rows == 2
    assert table["file"].to_pylist() == ["FoilHole_0001.mrc", "FoilHole_0002.mrc"]


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME
    with TruthWriter(path, ABOUT) as writer:
        # Before the first exposure there is an acquisition, too.
        assert read_truth(path).about == ABOUT
        for number in range(1, 5):
            assert len(read_truth(path).exposures) == number - 1
            writer.add(row(number))
            assert read_truth(path).exposures[-1].number == number
    assert len(read_truth(path).exposures) == 4


def test_a_file_that_was_cut_is_read_to_its_last_whole_exposure(tmp_path: Path) -> None:
    path, cut = tmp_path / TRUTH_NAME, tmp_path / "cut"
    ends = []
    with TruthWriter(path, ABOUT) as writer:
        ends.append(path.stat().st_size)
        for number in (1, 2, 3):
            writer.add(row(number))
            ends.append(path.stat().st_size)
    content = path.read_bytes()
    # Each byte near an edge of a message, and some between.
    edges = {end + offset for end in ends for offset in range(-70, 71)}
    lengths = edges | set(range(ends[0], len(content), 37)) | {len(content)}
    for length in sorted(n for n in lengths if n <= len(content)):
        cut.write_bytes(content[:length])
        whole = sum(length >= end for end in ends[1:])
        try:
            found = [one.number for one in read_truth(cut).exposures]
        except BadSettings:
            assert length < ends[0]
        else:
            assert found == list(range(1, whole + 1)), length


def test_a_schema_that_was_cut_is_no_truth(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME
    write(path)
    content = path.read_bytes()
    for length in range(0, len(content) // 2, 11):
        path.write_bytes(content[:length])
        with pytest.raises(BadSettings, match="no truth"):
            read_truth(path)


def test_a_writer_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME
    write(path, row(1), row(2))
    write(path, row(5))
    assert [one.number for one in read_truth(path).exposures] == [5]


def test_what_was_written_before_an_error_stays(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME

    def interrupted() -> None:
        with TruthWriter(path, ABOUT) as writer:
            writer.add(row(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_truth(path).exposures) == 1


def test_an_error_before_the_first_exposure_leaves_no_truth(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME
    with pytest.raises(KeyboardInterrupt), TruthWriter(path, ABOUT):
        raise KeyboardInterrupt
    assert not path.exists()


def test_a_truth_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pa.ipc, "new_stream", full)
    with pytest.raises(DiskFull):
        TruthWriter(tmp_path / TRUTH_NAME, ABOUT)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable, match="nowhere"):
        TruthWriter(tmp_path / "nowhere" / TRUTH_NAME, ABOUT)


def _stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {b"other": b"1"},
        {b"icestream": b"not json"},
        {b"icestream": b"\xff\xfe"},
        {b"icestream": json.dumps(ABOUT).encode()},
        {b"icestream": b"[1]"},
    ],
)
def test_another_arrow_stream_is_no_truth(
    tmp_path: Path, metadata: dict[bytes, bytes] | None
) -> None:
    path = tmp_path / "other.arrows"
    _stream(path, pa.table({"a": [1, 2]}).replace_schema_metadata(metadata))
    with pytest.raises(BadSettings, match=r"other\.arrows is no truth"):
        read_truth(path)


@pytest.mark.parametrize("name", ["truth.json", "image.mrc", "empty"])
def test_other_files_are_no_truth(tmp_path: Path, name: str) -> None:
    contents: dict[str, bytes] = {
        "truth.json": b'{\n "pixel_size_angst": 1.5\n}',
        "image.mrc": np.arange(512, dtype=np.int32).tobytes(),
        "empty": b"",
    }
    (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(BadSettings, match="no truth"):
        read_truth(tmp_path / name)


def test_no_file_or_a_folder_is_no_truth(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(BadSettings, match="no truth") as found:
            read_truth(path)
        assert TRUTH_NAME in str(found.value.hint)


@given(content=st.binary(max_size=300), has_marker=st.booleans())
def test_noise_is_no_truth(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, has_marker: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(b"\xff\xff\xff\xff" * has_marker + content)
    with pytest.raises(BadSettings, match="no truth"):
        read_truth(path)


# Damage -----------------------------------------------------------------------------


def damage(content: bytes, seed: int) -> bytes:
    """Turn bits, overwrite bytes, wipe, take out or double a stretch."""
    chance = random.Random(seed)
    spoilt = bytearray(content)
    start = chance.randrange(len(content))
    end = start + chance.choice([1, 8, 64, 512])
    match seed % 5:
        case 0:
            for _ in range(chance.randint(1, 4)):
                spoilt[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        case 1:
            for _ in range(chance.randint(1, 30)):
                spoilt[chance.randrange(len(content))] = chance.choice([0, 127, 255])
        case 2:
            spoilt[start:end] = bytes(len(spoilt[start:end]))
        case 3:
            del spoilt[start:end]
        case _:
            spoilt[start:start] = content[start:end]
    return bytes(spoilt)


def test_a_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / TRUTH_NAME
    write(path, *(rich_row(n, frames=2, particles=9) for n in (1, 2, 3)))
    content = path.read_bytes()
    refused = 0
    for seed in range(150):
        path.write_bytes(damage(content, seed))
        try:
            found = read_truth(path)
        except BadSettings:
            refused += 1
        else:
            score_acquisition(Truth(about=ABOUT, exposures=found.exposures), [])
    assert 20 < refused < 130


@pytest.mark.parametrize(
    "name", [one.name for one in fields(ExposureTruth) if one.name != "defect"]
)
def test_a_value_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / TRUTH_NAME
    write(path, row(1))
    with pa.ipc.open_stream(path) as reader:
        schema, values = reader.schema, reader.read_all().to_pylist()[0]
    with pa.ipc.new_stream(path, schema) as writer:
        lacking = [values | {name: None}]
        writer.write_batch(pa.RecordBatch.from_pylist(lacking, schema=schema))
    with pytest.raises(BadSettings, match=f"damaged: {name} is missing"):
        read_truth(path)


def particles_with(**columns: list[float]) -> FieldParticles:
    changed = {name: np.array(values) for name, values in columns.items()}
    return replace(field_particles([(1, 2), (3, 4)]), **changed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frame_count": 0}, "frame_count is 0"),
        ({"frame_count": 2**40}, "motion_angst has"),
        ({"frame_count": 2}, "motion_angst has"),
        ({"file": ""}, "no name"),
        ({"pixel_size_angst": 0.0}, "pixel_size_angst is 0"),
        ({"voltage_kv": float("nan")}, "voltage_kv is nan"),
        ({"defocus_u_angst": 0.0, "defocus_v_angst": 0.0}, "no defocus"),
        ({"thickness_angst": np.zeros((0, 0))}, "thickness_angst has 0"),
        ({"masked": np.zeros((2, 3))}, "masked has 6"),
        ({"masked": np.full((2, 2), np.nan)}, "masked holds"),
        ({"particles": particles_with(species=[0, 99])}, "species"),
        ({"particles": particles_with(species=[-1, 0])}, "species"),
        ({"particles": particles_with(species=[])}, "differ in length"),
        ({"particles": particles_with(x_px=[1.0])}, "differ in length"),
        ({"particles": particles_with(x_px=[1.0, np.nan])}, "no number"),
    ],
)
def test_a_row_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / TRUTH_NAME
    write(path, row(1), row(2, **changes))
    with pytest.raises(BadSettings, match=f"damaged: .*{reason}") as found:
        read_truth(path)
    assert str(path) in found.value.what


def test_it_says_how_many_there_will_be() -> None:
    assert truth(row(1)).planned_count is None
    assert truth(row(1), count=6).planned_count == 6
    assert truth(row(1), count="6").planned_count is None
