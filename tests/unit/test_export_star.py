from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile
import tifffile

import report_session
from icestream.domain.errors import FolderUnavailable, InternalError
from icestream.io import write_mrc
from icestream.io.relion import safe_name
from icestream.io.star import star_rows
from icestream.report import export_star
from icestream.streaming.reader import LedgerReader
from icestream.streaming.records import decode

if TYPE_CHECKING:
    from icestream.report.star import Exported
    from icestream.streaming.plan import Plan

SPACED = "Grid 1/Foil Hole.mrc"
TIFF = "square/hole_3.tiff"


@dataclasses.dataclass(frozen=True)
class Made:
    plan: Plan
    session: Path
    project: Path
    exported: Exported

    def read(self, name: str) -> dict[str, Any]:
        found = starfile.read(self.project / name, always_dict=True)
        assert isinstance(found, dict)
        return found

    def items(self, run: str, output: str) -> dict[str, Any]:
        reader = LedgerReader(self.session / "ledger.db")
        kind = self.plan.runs[run].protocol.outputs[output]
        found = reader.records(run, output)
        reader.close()
        return {key: decode(one, kind) for key, one in found.items()}


def export(plan: Plan, session: Path, project: Path) -> Exported:
    reader = LedgerReader(session / "ledger.db")
    try:
        return export_star(reader, plan, session_folder=session, folder=project)
    finally:
        reader.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("export")
    acquisition, session = folder / "acquisition", folder / "session"
    plan = report_session.session_plan(
        acquisition,
        counts=(14, 6),
        keys=(SPACED, TIFF),
        ctf_limits={"max_resolution_angst": 5.0},
    )
    image = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
    for run in ("k2", "falcon"):
        params = report_session.WatchParams(**plan.runs[run].params)
        source = report_session.FakeWatch(params)
        for one in source.poll():
            if one.key:
                path = Path(one.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".tiff":
                    tifffile.imwrite(path, image)
                else:
                    write_mrc(path, image, pixel_size_angst=1.0, dtype=np.float32)
    report_session.run_session(plan, session)
    project = session / "relion"
    return Made(plan, session, project, export(plan, session, project))


def test_micrographs_stand_in_the_file_of_their_verdict(made: Made) -> None:
    accepted = made.read("micrographs_ctf.star")["micrographs"]
    rejected = made.read("micrographs_ctf_rejected.star")["micrographs"]
    assert len(accepted) == made.exported.accepted_count > 10
    assert len(rejected) == made.exported.rejected_count >= 1
    assert not set(accepted.rlnMicrographName) & set(rejected.rlnMicrographName)
    assert len(made.items("ctf", "ctf")) == len(accepted) + len(rejected)


def test_every_name_leads_to_its_file(made: Made) -> None:
    names = [
        *made.read("micrographs_ctf.star")["micrographs"].rlnMicrographName,
        *made.read("micrographs_ctf_rejected.star")["micrographs"].rlnMicrographName,
        *made.read("coordinates.star")["coordinate_files"].rlnMicrographCoordinates,
        *(
            name.partition("@")[2]
            for name in made.read("particles.star")["particles"].rlnImageName
        ),
    ]
    for name in set(names):
        assert not Path(name).is_absolute()
        assert ".." not in Path(name).parts
        assert not any(letter.isspace() for letter in name)
        assert (made.project / name).is_file(), name


def test_ctf_values_go_over_unchanged(made: Made) -> None:
    table = made.read("micrographs_ctf.star")["micrographs"]
    table = table.set_index("rlnMicrographName")
    key = "falcon/GridSquare_00/FoilHole_00001.mrc"
    ctf = made.items("ctf", "ctf")[key]
    row = table.loc[f"micrographs/{key}"]
    assert row.rlnOpticsGroup == 2
    assert row.rlnDefocusU == pytest.approx(ctf.defocus_u_angst, abs=1e-5)
    assert row.rlnDefocusV == pytest.approx(ctf.defocus_v_angst, abs=1e-5)
    assert row.rlnDefocusAngle == pytest.approx(ctf.defocus_angle_deg, abs=1e-5)
    assert row.rlnCtfMaxResolution == pytest.approx(ctf.resolution_angst, abs=1e-5)
    assert row.rlnCtfFigureOfMerit == pytest.approx(ctf.score, abs=1e-5)


def test_optics_are_those_of_the_setups(made: Made) -> None:
    optics = made.read("micrographs_ctf.star")["optics"]
    assert list(optics.rlnOpticsGroupName) == ["k2", "falcon"]
    assert list(optics.rlnMicrographPixelSize) == [1.35, 0.82]
    assert list(optics.rlnVoltage) == [300, 200]
    assert list(optics.rlnSphericalAberration) == [2.7, 0.001]
    assert list(optics.rlnAmplitudeContrast) == [0.1, 0.07]


def test_particles_are_all_there_in_their_groups(made: Made) -> None:
    star = made.read("particles.star")
    optics, table = star["optics"], star["particles"]
    blocks = made.items("extract", "particles")
    assert len(table) == made.exported.particle_count
    assert len(table) == sum(len(one) for one in blocks.values())
    assert list(optics.rlnImagePixelSize) == pytest.approx([5.4, 3.28])
    assert list(optics.rlnMicrographOriginalPixelSize) == [1.35, 0.82]
    assert set(optics.rlnImageSize) == {24}
    assert set(optics.rlnImageDimensionality) == {2}

    key = "falcon/GridSquare_00/FoilHole_00001.mrc"
    block = blocks[key]
    rows = table[table.rlnMicrographName == f"micrographs/{key}"]
    assert list(rows.rlnImageName[:2]) == [
        f"000001@{block.path}",
        f"000002@{block.path}",
    ]
    assert set(rows.rlnOpticsGroup) == {2}
    np.testing.assert_allclose(rows.rlnCoordinateX, block.x_px, atol=1e-3)
    np.testing.assert_allclose(rows.rlnCoordinateY, block.y_px, atol=1e-3)
    np.testing.assert_allclose(rows.rlnDefocusU, block.defocus_u_angst, atol=1e-2)
    np.testing.assert_allclose(rows.rlnAutopickFigureOfMerit, block.score, atol=1e-5)


def test_coordinates_have_a_file_for_each_micrograph(made: Made) -> None:
    listed = made.read("coordinates.star")["coordinate_files"]
    assert len(listed) == made.exported.coordinate_file_count
    key = "k2/GridSquare_00/FoilHole_00002.mrc"
    row = listed[listed.rlnMicrographName == f"micrographs/{key}"].iloc[0]
    picks = made.items("pick", "coordinates")[key]
    (table,) = made.read(row.rlnMicrographCoordinates).values()
    np.testing.assert_allclose(table.rlnCoordinateX, picks.x_px, atol=1e-3)
    np.testing.assert_allclose(table.rlnCoordinateY, picks.y_px, atol=1e-3)


def test_rows_and_angles_of_tiff_are_turned_as_relion_turns_them(made: Made) -> None:
    key = f"k2/{TIFF}"
    ctf, picks = (
        made.items(*port)[key] for port in (("ctf", "ctf"), ("pick", "coordinates"))
    )
    table = made.read("micrographs_ctf.star")["micrographs"]
    row = table[table.rlnMicrographName == f"micrographs/{key}"].iloc[0]
    assert row.rlnDefocusAngle == pytest.approx(180 - ctf.defocus_angle_deg, abs=1e-4)
    particles = made.read("particles.star")["particles"]
    rows = particles[particles.rlnMicrographName == f"micrographs/{key}"]
    np.testing.assert_allclose(rows.rlnCoordinateY, 4095 - picks.y_px, atol=1e-3)
    # The stack has the rows of the file, not RELION's.
    np.testing.assert_allclose(rows.rlnDefocusAngle, ctf.defocus_angle_deg, atol=1e-4)


def test_exporting_again_replaces(made: Made) -> None:
    before = {path: path.read_bytes() for path in made.project.glob("*.star")}
    assert export(made.plan, made.session, made.project) == made.exported
    assert {path: path.read_bytes() for path in made.project.glob("*.star")} == before


def test_nothing_is_overwritten_by_a_link(made: Made, tmp_path: Path) -> None:
    (tmp_path / "products").mkdir()
    with pytest.raises(FolderUnavailable, match="not a link"):
        export(made.plan, made.session, tmp_path)


def test_different_boxes_are_different_groups(tmp_path: Path) -> None:
    def plan(box_px: int) -> Plan:
        return report_session.session_plan(
            tmp_path / "acquisition",
            counts=(12,),
            extract={"box_px": box_px, "writes_images": False},
        )

    # A session that stopped while it was changing its box holds both.
    report_session.run_session(plan(24), tmp_path / "session")
    report_session.run_session(plan(32), tmp_path / "session", stop_after=1)
    export(plan(32), tmp_path / "session", tmp_path / "relion")
    star = starfile.read(tmp_path / "relion/particles.star", always_dict=True)
    optics = star["optics"]
    assert set(optics.rlnImageSize) == {24, 32}
    assert list(optics.rlnOpticsGroup) == [1, 2]
    assert set(optics.rlnOpticsGroupName) == {"k2_24px_5.4A", "k2_32px_5.4A"}
    assert set(star["particles"].rlnOpticsGroup) == {1, 2}


def test_an_empty_session_gives_empty_tables(tmp_path: Path) -> None:
    plan = report_session.session_plan(tmp_path / "acquisition", counts=(0,))
    report_session.run_session(plan, tmp_path / "session")
    found = export(plan, tmp_path / "session", tmp_path / "relion")
    assert (found.accepted_count, found.particle_count) == (0, 0)


def test_names_that_star_cannot_hold_are_refused_or_replaced() -> None:
    assert safe_name("Fläche 1/a'b#.mrc") == "Fläche_1/a_b_.mrc"
    for text in ("a b", "", "'quoted'", "_rlnName"):
        with pytest.raises(InternalError):
            star_rows({"rlnMicrographName": [text]})


needs_relion = pytest.mark.skipif(
    shutil.which("relion_image_handler") is None,
    reason="RELION is not installed (apt install relion)",
)


def relion(made: Made, *command: str) -> str:
    done = subprocess.run(
        command, cwd=made.project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.relion
@needs_relion
def test_relion_reads_every_particle(made: Made) -> None:
    out = relion(made, "relion_image_handler", "--i", "particles.star", "--stats")
    lines = [one for one in out.splitlines() if ".mrcs : " in one]
    assert len(lines) == made.exported.particle_count
    assert all("= 24 x 24 x 1 x 1" in one for one in lines)


@pytest.mark.relion
@needs_relion
def test_relion_makes_a_stack_of_the_particles(made: Made) -> None:
    relion(made, "relion_stack_create", "--i", "particles.star", "--o", "all")
    import mrcfile

    with mrcfile.mmap(made.project / "all.mrcs", permissive=True) as stack:
        assert stack.data.shape == (made.exported.particle_count, 24, 24)


@pytest.mark.relion
@needs_relion
@pytest.mark.parametrize("name", ["micrographs_ctf", "micrographs_ctf_rejected"])
def test_relion_reads_the_micrographs(made: Made, name: str) -> None:
    relion(
        made,
        *("relion_star_handler", "--i", f"{name}.star", "--o", "again.star"),
        *("--combine", "--check_duplicates", "rlnMicrographName"),
    )
    again = made.read("again.star")
    assert list(again["micrographs"].rlnDefocusU) == pytest.approx(
        list(made.read(f"{name}.star")["micrographs"].rlnDefocusU), rel=1e-4
    )
    assert len(again["optics"]) == 2


@pytest.mark.relion
@needs_relion
def test_relion_turns_tiff_upside_down(made: Made) -> None:
    text = (made.project / "particles.star").read_text(encoding="utf-8")
    optics = text[: text.index("data_particles")].replace(" 24 2 0", " 48 2 0")
    table = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\n"
    one = f"{optics}{table}micrographs/k2/{TIFF} 1\n\n"
    (made.project / "tiff.star").write_text(one, encoding="utf-8")
    relion(made, "relion_stack_create", "--i", "tiff.star", "--o", "tiff")
    import mrcfile

    stored = tifffile.imread(made.project / "micrographs/k2" / TIFF)
    with mrcfile.open(made.project / "tiff.mrcs", permissive=True) as stack:
        np.testing.assert_array_equal(stack.data.squeeze(), stored[::-1])
