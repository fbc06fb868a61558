"""Whole acquisitions: files, what stands beside them, faults, and the truth."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from icestream.domain.errors import BadSettings, DiskFull, FolderUnavailable
from icestream.io import read_header, read_micrograph
from icestream.simulate import (
    TRUTH_NAME,
    Acquisition,
    FaultRates,
    Recipe,
    Timing,
    courier,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.atoms import Atoms
from icestream.simulate.courier import Courier
from icestream.simulate.crowd import Species
from icestream.simulate.epu_layout import EpuLayout
from icestream.simulate.studio import Studio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = {"shape": (128, 160), "pixel_size_angst": 4.0, "frame_count": 3}


def acquisition(count: int = 3, **values: object) -> Acquisition:
    given = SMALL | {"particle_count": 6, "defect_share": 0.0} | values
    return usual_acquisition(count, **given)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_truth_tells_what_was_taken(tmp_path: Path) -> None:
    seen: list[Path] = []
    paths = simulate_acquisition(tmp_path, acquisition(), on_delivered=seen.append)
    assert [one.name for one in paths] == [f"FoilHole_000{n}.mrc" for n in (1, 2, 3)]
    assert seen == paths
    truth = read_truth(tmp_path / TRUTH_NAME)
    assert truth.about["shape"] == [128, 160]
    assert truth.about["species"][0]["name"] == "cage"
    assert [tmp_path / one.file for one in truth.exposures] == paths
    one = truth.exposures[0]
    assert one.motion_angst.shape == (3, 9, 9, 2)
    # Targets of 8,000 to 22,000 Å, an autofocus that errs by 3,000 Å at most.
    assert 5_000 < one.defocus_v_angst <= one.defocus_u_angst < 25_500
    image = read_micrograph(paths[0])
    assert image.shape == (128, 160)
    # Counts of 40 e/Å2 on pixels of 16 Å2, less what ice and counting lose.
    assert 0.7 * 640 < image.mean() < 640
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(one.name for one in paths),
        TRUTH_NAME,
    ]


def test_the_same_seed_gives_the_same_bytes_whoever_takes_them(tmp_path: Path) -> None:
    faulty = {"faults": FaultRates(truncated=0.5), "layout": "epu", "output": "tiff"}
    for name, workers in (("one", 1), ("again", 1), ("two", 2)):
        # Records of a session tell its name.
        folder = tmp_path / name / "session"
        simulate_acquisition(folder, acquisition(4, **faulty), workers=workers)
    one = content(tmp_path / "one")
    assert content(tmp_path / "again") == content(tmp_path / "two") == one
    simulate_acquisition(tmp_path / "few", acquisition(2, layout="epu", output="tiff"))
    few = content(tmp_path / "few" / "Images-Disc1")
    movies = [name for name in few if name.endswith("fractions.tiff")]
    assert len(movies) == 2
    unlike_one = acquisition(2, layout="epu", output="tiff", seed=1)
    simulate_acquisition(tmp_path / "other", unlike_one)
    unlike = content(tmp_path / "other" / "Images-Disc1")
    assert all(unlike[name] != few[name] for name in movies)


def test_an_epu_session_has_all_that_belongs_to_it(tmp_path: Path) -> None:
    simulate_acquisition(tmp_path, acquisition(layout="epu", output="tiff"))
    names = list(content(tmp_path))
    data = [name for name in names if "/Data/" in name]
    for ending in ("_fractions.tiff", ".jpg", ".xml"):
        assert sum(name.endswith(ending) for name in data) == 3
    for name in ("EpuSession.dm", "gain.mrc", "atlas/Sample1/Atlas/Atlas.dm"):
        assert name in names
    assert any(name.startswith("Metadata/GridSquare_") for name in names)
    movie = next(name for name in data if name.endswith(".tiff"))
    frames = tifffile.imread(tmp_path / movie)
    assert frames.shape == (3, 128, 160)
    assert frames.dtype == np.uint8


def test_names_repeat_from_grid_to_grid(tmp_path: Path) -> None:
    paths = simulate_acquisition(tmp_path, acquisition(4, grids=2))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "grid1/FoilHole_0001.mrc",
        "grid1/FoilHole_0002.mrc",
        "grid2/FoilHole_0001.mrc",
        "grid2/FoilHole_0002.mrc",
    ]


def _is_truncated(path: Path) -> bool:
    with tifffile.TiffFile(path) as file:
        return path.stat().st_size > 0 and len(file.pages) < 3


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _ends_in_zeros(path: Path) -> bool:
    return not path.read_bytes()[-1000:].strip(b"\0")


def _is_of_the_future(path: Path) -> bool:
    return path.stat().st_mtime > time.time() + 3600


def _is_there_again(path: Path) -> bool:
    again = path.parent / "again" / path.name
    return again.read_bytes() == path.read_bytes()


def _has_metadata(path: Path) -> bool:
    return path.with_name(path.name.replace("_fractions.tiff", ".xml")).exists()


def _has_fewer_frames(path: Path) -> bool:
    with tifffile.TiffFile(path) as file:
        return len(file.pages) == 2


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        ("truncated", _is_truncated),
        ("empty", _is_empty),
        ("zero_tail", _ends_in_zeros),
        ("clock_skew", _is_of_the_future),
        ("duplicate_name", _is_there_again),
        ("missing_metadata", lambda path: not _has_metadata(path)),
        ("late_metadata", _has_metadata),
        ("wrong_frame_count", _has_fewer_frames),
    ],
)
def test_files_go_wrong_as_told(
    tmp_path: Path, fault: str, holds: Callable[[Path], bool]
) -> None:
    wanted = FaultRates(**{fault: 1.0})
    made = acquisition(3, layout="epu", output="tiff", faults=wanted)
    paths = simulate_acquisition(tmp_path, made)
    assert all(holds(path) for path in paths)
    truth = read_truth(tmp_path / TRUTH_NAME)
    assert {one.faults for one in truth.exposures} == {(fault,)}


def test_a_fault_that_cannot_be_is_not_told(tmp_path: Path) -> None:
    rates = FaultRates(missing_metadata=0.5, wrong_frame_count=0.5)
    simulate_acquisition(tmp_path, acquisition(3, faults=rates))
    truth = read_truth(tmp_path / TRUTH_NAME)
    assert {one.faults for one in truth.exposures} == {()}


def test_a_single_frame_cannot_be_missing(tmp_path: Path) -> None:
    rates = FaultRates(wrong_frame_count=1.0)
    made = acquisition(
        2, output="tiff", frame_count=1, dose_e_per_angst2=10.0, faults=rates
    )
    paths = simulate_acquisition(tmp_path, made)
    assert all(tifffile.imread(path).shape == (128, 160) for path in paths)
    truth = read_truth(tmp_path / TRUTH_NAME)
    assert {one.faults for one in truth.exposures} == {()}


def test_each_grid_loses_frames_of_its_own(tmp_path: Path) -> None:
    made = acquisition(2, output="mrc", grids=2)
    few, many = made.recipes[0], replace(made.recipes[1], frame_count=16)
    rates = FaultRates(wrong_frame_count=1.0)
    made = replace(made, recipes=(few, many), faults=rates)
    paths = simulate_acquisition(tmp_path, made)
    # An eighth of them, one at least.
    assert [read_header(path).frame_count for path in paths] == [2, 14]


def test_a_rewritten_file_ends_with_its_own_content(tmp_path: Path) -> None:
    rates = FaultRates(rewritten=1.0)
    simulate_acquisition(tmp_path / "twice", acquisition(faults=rates))
    simulate_acquisition(tmp_path / "once", acquisition())
    twice, once = (content(tmp_path / name) for name in ("twice", "once"))
    del twice[TRUTH_NAME], once[TRUTH_NAME]
    assert twice == once
    truth = read_truth(tmp_path / "twice" / TRUTH_NAME)
    assert [one.faults for one in truth.exposures] == [
        (),
        ("rewritten",),
        ("rewritten",),
    ]


def test_a_gain_may_be_late_or_turned(tmp_path: Path) -> None:
    def seen_gain(rates: FaultRates, name: str) -> bool:
        there: list[bool] = []
        folder = tmp_path / name
        simulate_acquisition(
            folder,
            acquisition(2, output="tiff", faults=rates),
            on_delivered=lambda _: there.append((folder / "gain.mrc").exists()),
        )
        assert (folder / "gain.mrc").exists()
        told = read_truth(folder / TRUTH_NAME).about["gain_faults"]
        assert told == ([] if name == "right" else [f"{name}_gain"])
        return all(there)

    assert seen_gain(FaultRates(), "right")
    assert not seen_gain(FaultRates(late_gain=1), "late")
    assert seen_gain(FaultRates(turned_gain=1), "turned")
    right, turned = (
        read_micrograph(tmp_path / name / "gain.mrc") for name in ("right", "turned")
    )
    assert not np.array_equal(right, turned)
    assert np.array_equal(np.sort(right, axis=None), np.sort(turned, axis=None))


def test_files_arrive_by_the_clock(tmp_path: Path) -> None:
    arrived: list[float] = []
    made = acquisition(4, timing=Timing(exposures_per_hour=3600))
    simulate_acquisition(
        tmp_path, made, speed=2.0, on_delivered=lambda _: arrived.append(time.time())
    )
    # One every half second at the soonest; the first may be late.
    assert arrived[-1] - arrived[0] > 1.0
    assert len(content(tmp_path)) == 5


def test_nothing_is_left_half_done_when_it_is_interrupted(tmp_path: Path) -> None:
    def stop(path: Path) -> None:
        if path.name == "FoilHole_0002.mrc":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_acquisition(tmp_path, acquisition(6), workers=2, on_delivered=stop)
    assert not (tmp_path / ".camera").exists()
    truth = read_truth(tmp_path / TRUTH_NAME)
    assert [one.number for one in truth.exposures] == [1, 2]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskFull("no space")

    monkeypatch.setattr(Courier, "deliver", full)
    with pytest.raises(DiskFull):
        simulate_acquisition(tmp_path, acquisition())
    assert not (tmp_path / ".camera").exists()


def test_an_acquisition_is_not_overwritten(tmp_path: Path) -> None:
    simulate_acquisition(tmp_path, acquisition(1))
    with pytest.raises(BadSettings, match="holds an acquisition already") as found:
        simulate_acquisition(tmp_path, acquisition(1))
    assert "Delete the folder" in str(found.value.hint)


def test_one_that_was_killed_says_what_to_do(tmp_path: Path) -> None:
    simulate_acquisition(tmp_path, acquisition(1))
    (tmp_path / ".camera").mkdir()
    with pytest.raises(BadSettings, match="was cut off") as found:
        simulate_acquisition(tmp_path, acquisition(1))
    assert "delete the folder" in str(found.value.hint)


def _fail_at_the_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FolderUnavailable("no gain here")

    monkeypatch.setattr(courier, "write_gain", fail)


def _fail_at_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FolderUnavailable("no session here")

    monkeypatch.setattr(EpuLayout, "begin", fail)


def _fail_at_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FolderUnavailable("no image here")

    monkeypatch.setattr(Studio, "take", fail)


@pytest.mark.parametrize(
    "fail", [_fail_at_the_gain, _fail_at_the_session, _fail_at_the_first]
)
def test_what_failed_at_once_is_no_acquisition(
    tmp_path: Path, fail: Callable[[pytest.MonkeyPatch], None]
) -> None:
    made = acquisition(1, output="tiff", layout="epu")
    with pytest.MonkeyPatch.context() as monkeypatch:
        fail(monkeypatch)
        with pytest.raises(FolderUnavailable, match="here"):
            simulate_acquisition(tmp_path, made)
    assert not (tmp_path / ".camera").exists()
    assert not (tmp_path / TRUTH_NAME).exists()
    simulate_acquisition(tmp_path / "again", made)
    assert len(read_truth(tmp_path / "again" / TRUTH_NAME).exposures) == 1


def test_the_first_error_is_told_and_nothing_comes_late(tmp_path: Path) -> None:
    rates = FaultRates(late_metadata=1.0, late_gain=1.0)
    made = acquisition(3, output="tiff", layout="serialem", faults=rates)

    def stop(_: Path) -> None:
        # Where metadata and gain would go, nothing can be written any more.
        (tmp_path / "gain.mrc").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_acquisition(tmp_path, made, on_delivered=stop)
    assert not (tmp_path / ".camera").exists()
    assert not list(tmp_path.rglob("*.mdoc"))


def test_what_cannot_be_acquired_is_refused() -> None:
    with pytest.raises(BadSettings, match="4096"):
        acquisition(1, output="eer")
    with pytest.raises(BadSettings, match="no specimen 'foo'"):
        acquisition(1, specimens=("foo",))
    one = Recipe(**SMALL)  # type: ignore[arg-type]
    other = replace(one, shape=(160, 128))
    with pytest.raises(BadSettings, match="1 structures do not fit 0 species"):
        Acquisition(recipes=(one,), atoms=(None,), count=1)  # type: ignore[arg-type]
    with pytest.raises(BadSettings, match=r"2 shapes, \[\(128, 160\), \(160, 128\)\]"):
        Acquisition(recipes=(one, other), atoms=(), count=2)
    for wrong in ({"count": 0}, {"seed": -1}, {"defect_share": 2.0}):
        (name,) = wrong
        with pytest.raises(BadSettings, match=f"{name}: .* cannot be"):
            replace(acquisition(1), **wrong)


def atoms_reaching(reach_angst: float, count: int = 2) -> Atoms:
    xyz_angst = np.zeros((count, 3), np.float32)
    xyz_angst[-1, 0] = reach_angst
    return Atoms(
        xyz_angst=xyz_angst,
        element=np.full(count, 6, np.uint8),
        b_factor_angst2=np.zeros(count, np.float32),
    )


@pytest.mark.parametrize(
    ("reach_angst", "pixel_angst", "sheet_angst", "said"),
    [
        (50_000.0, 1.5, None, "reaches 50,000 Å .* box of 87,480 px, but 800 are"),
        (80.0, 0.2, None, "at 0.2 Å/px .* box of 1,050 px, .* 0.27 Å or more"),
        (4_000.0, 1.0, 30.0, "box of 10,500 px, but 8,000 are"),
        (0.0, 1.5, None, "has 2 atoms and reaches 0.0 Å .* do not show it"),
    ],
)
def test_a_particle_too_large_or_too_small_for_the_pixel_is_refused(
    reach_angst: float, pixel_angst: float, sheet_angst: float | None, said: str
) -> None:
    species = Species(name="mine", diameter_angst=100, sheet_angst=sheet_angst)
    recipe = Recipe(shape=(64, 64), pixel_size_angst=pixel_angst, species=(species,))
    with pytest.raises(BadSettings, match=f"mine .*{said}"):
        Acquisition(recipes=(recipe,), atoms=(atoms_reaching(reach_angst),), count=1)


def test_a_structure_of_one_atom_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "one.pdb"
    path.write_text(
        "ATOM      1  CA  ALA A   1      10.000  10.000  10.000  1.00 20.00"
        "           C\nEND\n"
    )
    with pytest.raises(BadSettings, match=r"one has 1 atom and"):
        acquisition(specimens=(), structures=(path,), particle_count=None)


@pytest.mark.parametrize("output", ["micrograph", "eer"])
def test_super_resolution_is_of_movies_that_have_it(output: str) -> None:
    with pytest.raises(BadSettings, match=f"kind {output} with super-resolution 2"):
        acquisition(1, output=output, shape=(4096, 4096), super_resolution=2)
    with pytest.raises(BadSettings, match="super-resolution 3"):
        acquisition(1, output="tiff", super_resolution=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"output": "tiff", "frame_count": 2}, "40 e/Å2 over 2 frames.* 4 Å are 320 "),
        (
            {"output": "mrc", "dose_e_per_angst2": 80},
            "80 e/Å2 over 3 frames.* are 427 ",
        ),
        (
            {"output": "eer", "shape": (4096, 4096)},
            "over 3 frames on pixels of 4 Å are 213 .*: eer files hold 40",
        ),
        ({"dose_e_per_angst2": 4_000}, "4000 e/Å2.* are 64,000 electrons a pixel: "),
    ],
)
def test_more_electrons_than_files_hold_are_refused(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(BadSettings, match=said):
        acquisition(1, **given)


def test_as_many_electrons_as_files_hold_are_not_clipped(tmp_path: Path) -> None:
    made = acquisition(1, output="tiff", dose_e_per_angst2=41.0)
    (path,) = simulate_acquisition(tmp_path, made)
    # Hot pixels may be: 60 of 20,480.
    assert (tifffile.imread(path) == 255).mean() < 0.005
    with pytest.raises(BadSettings, match="are 224 electrons"):
        acquisition(1, output="tiff", dose_e_per_angst2=42.0)
    fine = acquisition(1, output="tiff", dose_e_per_angst2=160.0, super_resolution=2)
    assert fine.super_resolution == 2
