"""Movies and metadata are joined by name, wherever and whenever the metadata come."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from icestream.domain.exposure import ExposureMetadata
from icestream.domain.optics_groups import OpticsGroups, assign_optics_group
from icestream.domain.precedence import settle_dose, settle_pixel_size
from icestream.io import read_header
from icestream.io.exposure_metadata import MetadataFinder
from icestream.io.name_index import NameIndex
from icestream.simulate import (
    TRUTH_NAME,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.timetable import Timing

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.simulate.layouts import LayoutName
    from icestream.simulate.outputs import Output

DATA = "Images-Disc1/GridSquare_7/Data"
STEM = "FoilHole_1_Data_2_3_20200101_121212"
MDOC = "[FrameSet = 0]\nVoltage = {kv}\n"
XML = """<MicroscopeImage><microscopeData><gun><AccelerationVoltage>{volt}
</AccelerationVoltage></gun></microscopeData></MicroscopeImage>"""
FRACTIONS = """<Acquisition><Info><RecordedNumberOfFractions>9
</RecordedNumberOfFractions></Info></Acquisition>"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return path


def xml(path: Path, volt: int = 300_000) -> Path:
    return write(path, XML.format(volt=volt))


def mdoc(path: Path, kv: int = 300) -> Path:
    return write(path, MDOC.format(kv=kv))


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    movies, metadata = tmp_path / "movies", tmp_path / "metadata"
    for folder in (movies, metadata):
        folder.mkdir()
    return movies, metadata


@pytest.mark.parametrize("ending", ["_fractions.tiff", "_Fractions.mrc", "_EER.eer"])
def test_epu_beside_the_movie_or_below_the_other_root(
    roots: tuple[Path, Path], ending: str
) -> None:
    movies, metadata = roots
    finder = MetadataFinder(movies, metadata_root=metadata)
    key = f"{DATA}/{STEM}{ending}"
    late = finder.find(key)
    # The name alone tells where it was taken.
    named = ExposureMetadata(grid_square="7", foil_hole="1", position="2")
    assert (late.metadata, late.files, late.notice) == (named, (), "")
    beside = xml(movies / DATA / f"{STEM}.xml", 200_000)
    assert finder.find(key).files == (str(beside),)
    other = xml(metadata / DATA / f"{STEM}.xml")
    found = finder.find(key)
    assert found.files == (str(other),)
    assert found.metadata.voltage_kv == 300.0
    assert found.metadata.foil_hole == "1"


def test_fractions_beside_the_movie_are_merged_with_optics_elsewhere(
    roots: tuple[Path, Path],
) -> None:
    movies, metadata = roots
    xml(metadata / DATA / f"{STEM}.xml")
    write(movies / DATA / f"{STEM}_Fractions.xml", FRACTIONS)
    finder = MetadataFinder(movies, metadata_root=metadata)
    found = finder.find(f"{DATA}/{STEM}_Fractions.mrc")
    assert len(found.files) == 2
    assert found.metadata.frame_count == 9
    assert found.metadata.voltage_kv == 300.0


@pytest.mark.parametrize("name", ["g_1.tif.mdoc", "g_1.mdoc"])
def test_serialem_beside_the_movie(roots: tuple[Path, Path], name: str) -> None:
    movies, _ = roots
    mdoc(movies / "frames" / name, 200)
    mdoc(movies / "frames" / "g_2.tif.mdoc", 300)
    found = MetadataFinder(movies).find("frames/g_1.tif")
    assert found.metadata.voltage_kv == 200.0
    assert found.notice == ""


def test_other_folders_are_found_by_name(roots: tuple[Path, Path]) -> None:
    movies, metadata = roots
    finder = MetadataFinder(movies, metadata_root=metadata)
    xml(metadata / "session" / DATA / f"{STEM}.xml", 200_000)
    write(metadata / "session" / DATA / f"{STEM}_Fractions.xml", FRACTIONS)
    for folder in ("", "GridSquare_7/Data/", f"raw/{DATA}/", f"{DATA}/"):
        found = finder.find(f"{folder}{STEM}_fractions.tiff")
        assert found.metadata.voltage_kv == 200.0, folder
        assert found.metadata.frame_count == 9
    other = finder.find(f"GridSquare_8/Data/{STEM}_fractions.tiff")
    assert other.files == ()
    assert other.metadata.grid_square == "8"


def test_numbers_that_start_anew_are_not_mixed(roots: tuple[Path, Path]) -> None:
    movies, metadata = roots
    clock = Clock()
    finder = MetadataFinder(movies, metadata_root=metadata, clock=clock)
    mdoc(metadata / "all" / "grid1" / "frames" / "g_1.tif.mdoc", 200)
    # That of the second grid is late: the first's is not taken for it.
    assert finder.find("grid2/frames/g_1.tif").files == ()
    assert finder.find("grid1/frames/g_1.tif").metadata.voltage_kv == 200.0
    mdoc(metadata / "all" / "grid2" / "frames" / "g_1.tif.mdoc", 300)
    clock.now_s += 10.0
    assert finder.find("grid2/frames/g_1.tif").metadata.voltage_kv == 300.0
    assert finder.find("grid1/frames/g_1.tif").metadata.voltage_kv == 200.0
    # Without a folder nothing tells which of the two it is.
    assert finder.find("g_1.tif").files == ()


def test_the_tree_is_looked_at_once_in_a_while(roots: tuple[Path, Path]) -> None:
    movies, metadata = roots
    clock = Clock()
    finder = MetadataFinder(movies, metadata_root=metadata, refresh_s=5.0, clock=clock)
    assert finder.find("a/g_1.tif").files == ()
    mdoc(metadata / "z" / "a" / "g_1.tif.mdoc")
    clock.now_s += 4.9
    assert finder.find("a/g_1.tif").files == ()
    clock.now_s += 0.1
    assert len(finder.find("a/g_1.tif").files) == 1


def test_no_tree_is_listed_while_files_are_where_they_belong(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    movies, _ = roots
    xml(movies / DATA / f"{STEM}.xml")
    finder = MetadataFinder(movies)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(finder.find(f"{DATA}/{STEM}_fractions.tiff").files) == 1


def test_a_broken_file_is_told_and_the_rest_is_kept(
    roots: tuple[Path, Path],
) -> None:
    movies, _ = roots
    broken = write(movies / DATA / f"{STEM}.xml", "<MicroscopeImage><mic")
    write(movies / DATA / f"{STEM}_Fractions.xml", FRACTIONS)
    found = MetadataFinder(movies).find(f"{DATA}/{STEM}_Fractions.mrc")
    assert str(broken) in found.notice
    assert "ends too early" in found.notice
    assert found.metadata.frame_count == 9
    assert found.metadata.position == "2"


def test_an_mdoc_of_another_movie_is_told(roots: tuple[Path, Path]) -> None:
    movies, _ = roots
    text = MDOC.format(kv=300) + "SubFramePath = X:\\a\\g_2.tif\n"
    write(movies / "g_1.tif.mdoc", text)
    write(movies / "g_2.mrc.mdoc", text)
    finder = MetadataFinder(movies)
    assert "another movie, g_2.tif" in finder.find("g_1.tif").notice
    assert finder.find("g_2.mrc").notice == ""


def test_a_root_that_comes_late(tmp_path: Path) -> None:
    finder = MetadataFinder(tmp_path, metadata_root=tmp_path / "late", refresh_s=0.0)
    assert finder.find("g_1.tif").files == ()
    mdoc(tmp_path / "late" / "x" / "g_1.mdoc")
    assert len(finder.find("g_1.tif").files) == 1


def test_a_folder_that_cannot_be_listed_is_told(roots: tuple[Path, Path]) -> None:
    movies, metadata = roots
    no_folder = write(metadata / "file", "")
    found = MetadataFinder(movies, metadata_root=no_folder).find("g_1.tif")
    assert str(no_folder) in found.notice
    assert "cannot be listed" in found.notice


def test_the_index_lists_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(tmp_path / f"square{number}" / f"a{number}.xml", "")
    index = NameIndex(tmp_path, suffixes=(".xml",))
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str) -> Any:  # noqa: ANN401 - as os has it
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    index.refresh()
    assert len(listed) == 21
    # Once more, since a change within one tick of the clock would not show.
    index.refresh()
    assert len(listed) == 42
    index.refresh()
    assert len(listed) == 42
    write(tmp_path / "square3" / "late.XML", "")
    write(tmp_path / "square3" / "picture.jpg", "")
    (tmp_path / "square4" / "a4.xml").unlink()
    os.utime(tmp_path / "square3", ns=(0, 1))
    os.utime(tmp_path / "square4", ns=(0, 1))
    index.refresh()
    assert sorted(listed[42:]) == [str(tmp_path / f"square{n}") for n in (3, 4)]
    assert index.places("late.XML") == [tmp_path / "square3" / "late.XML"]
    assert index.places("a3.xml") == [tmp_path / "square3" / "a3.xml"]
    assert index.places("a4.xml") == index.places("picture.jpg") == []
    assert index.trouble == ""


def test_the_index_forgets_folders_that_are_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b" / "one.xml", "")
    index = NameIndex(tmp_path, suffixes=(".xml",))
    index.refresh()
    assert index.places("one.xml") == [path]
    path.unlink()
    path.parent.rmdir()
    os.utime(tmp_path / "a", ns=(0, 1))
    index.refresh()
    assert index.places("one.xml") == []


SMALL: dict[str, Any] = {
    "shape": (96, 128),
    "pixel_size_angst": 4.0,
    "frame_count": 3,
    "dose_e_per_angst2": 6.0,
    "particle_count": 3,
    "defect_share": 0.0,
    "timing": Timing(holes_per_cluster=2, holes_per_square=4, shots_per_hole=2),
}


@pytest.mark.parametrize(
    ("layout", "output", "super_resolution"),
    [
        ("epu", "mrc", 1),
        ("epu", "tiff", 2),
        ("serialem", "tiff", 2),
    ],
)
def test_a_simulated_session_is_read_as_it_was(
    tmp_path: Path, layout: LayoutName, output: Output, super_resolution: int
) -> None:
    is_epu = layout == "epu"
    wanted = usual_acquisition(
        6,
        layout=layout,
        output=output,
        super_resolution=super_resolution,
        **SMALL,
    )
    simulate_acquisition(tmp_path, wanted)
    finder = MetadataFinder(tmp_path)
    state = OpticsGroups()
    groups: dict[object, int] = {}
    for truth in read_truth(tmp_path / TRUTH_NAME).exposures:
        found, header = finder.find(truth.file), read_header(tmp_path / truth.file)
        metadata = found.metadata
        assert (len(found.files), found.notice) == (1, "")
        shape = (header.height_px, header.width_px)
        settled = settle_pixel_size(shape, metadata=metadata)
        assert settled.value == pytest.approx(4.0 / super_resolution, rel=1e-6)
        # What a camera of this shape would be, SerialEM does not tell.
        is_told = not is_epu and super_resolution == 2
        assert bool(settled.notice) == is_told
        assert metadata.frame_count == header.frame_count
        assert metadata.voltage_kv == truth.voltage_kv
        assert metadata.target_defocus_angst == pytest.approx(
            truth.target_defocus_angst, rel=1e-5
        )
        dose = settle_dose(metadata=metadata)
        assert dose.origin == "metadata"
        # EPU counts the electrons that come through; SerialEM tells the beam's, while
        # the gun fades by 3 % an hour.
        low = 0.5 if is_epu else 1.0
        assert low <= (dose.value or 0) / truth.dose_e_per_angst2 < 1.001
        state, group = assign_optics_group(state, metadata, setup="one")
        assert groups.setdefault(truth.beam_group, group.number) == group.number
    assert len(state.groups) == len(groups) == 4
