"""A session whose acquisition changes under way: setups, optics groups, late XML."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.domain import MovieMotion
from icestream.report.star import export_star
from icestream.simulate.instrument import K3, EpuImage, write_picture
from icestream.streaming import schema
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.records import decode
from movie_scene import PIXEL_ANGST, SIDE, draw_frames, write_movie
from small import check_replay

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 3
# The metadata's pixel is nominal: 2 % less than the user's.
NOMINAL, FINER = PIXEL_ANGST / 1.02, PIXEL_ANGST / 1.02 / 1.25
# Foil hole, Data_<id>, columns, pixel size of the metadata, beam shift.
SHOTS = [
    (1, 7, SIDE, NOMINAL, (0.0, 0.0)),
    (2, 7, SIDE, NOMINAL, (0.001, 0.0)),
    (3, 7, SIDE, NOMINAL, (0.1, 0.0)),
    (4, 8, SIDE, NOMINAL, (0.0, 0.0)),
    (5, 7, SIDE + 128, FINER, (0.0, 0.0)),
    (6, 7, SIDE + 128, FINER, (0.1, 0.0)),
]
OPENED = "bioquantum-k3_640x512_1.098A_300kV"


def stem(number: int) -> str:
    hole, position, *_ = SHOTS[number]
    return f"FoilHole_{hole}_Data_{position}_1_20250108_15{hole:02}00"


def write_shot(folder: Path, number: int) -> None:
    frames = draw_frames(frames=FRAMES, seed=number)
    frames = np.concatenate([frames, frames], axis=2)[:, :, : SHOTS[number][2]]
    write_movie(folder / "movies" / f"{stem(number)}_Fractions.tif", frames)


def write_xml(folder: Path, number: int) -> None:
    *_, columns, pixel_angst, shift = SHOTS[number]
    image = EpuImage(
        camera=replace(K3, shape=(SIDE, columns), binning=1, super_resolution_factor=1),
        taken_at=datetime(2025, 1, 8, tzinfo=UTC),
        pixel_size_angst=pixel_angst,
        exposure_s=2.0,
        dose_e_per_angst2=27.0,
        fraction_count=FRAMES,
        beam_shift=shift,
        voltage_kv=300.0,
    )
    write_picture(folder / "xml" / stem(number), image, np.zeros((8, 8), np.uint8))


def made(folder: Path, **setup: Any) -> Session:
    (folder / "movies").mkdir()
    values = {"pixel_size_angst": PIXEL_ANGST, "voltage_kv": 300} | setup
    return create_session(
        folder / "session",
        template="movies",
        changes=[
            f"sources.grid.folder={folder / 'movies'}",
            f"sources.grid.metadata_folder={folder / 'xml'}",
            "sources.grid.poll_s=0.1",
            *(f"setups.grid.{name}={value}" for name, value in values.items()),
        ],
    )


def run(session: Session) -> None:
    run_session(Session(session.folder), executor=InlineExecutor(), finish=True)


def acquisitions(session: Session) -> list[dict[str, Any]]:
    """Fields of all exposures, in order of arrival."""
    reader = session.read()
    try:
        return [json.loads(one.acquisition) for one in reader.exposures()]
    finally:
        reader.close()


def attempts(session: Session) -> Counter[str]:
    reader = session.read()
    try:
        return Counter(one["run"] for one in reader.rows(schema.attempt) if one["key"])
    finally:
        reader.close()


def motion(session: Session) -> MovieMotion:
    reader = session.read()
    try:
        (record,) = reader.records("motion", "motion").values()
    finally:
        reader.close()
    found: MovieMotion = decode(record, MovieMotion)
    return found


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session with a finer pixel and another shape from its fifth movie on."""
    folder = tmp_path_factory.mktemp("changed")
    session = made(folder, dose_e_per_angst2=30)
    for number in range(len(SHOTS)):
        write_shot(folder, number)
        write_xml(folder, number)
    run(session)
    return session


def test_a_change_opens_a_setup_with_a_notice(changed: Session) -> None:
    fields = acquisitions(changed)
    assert [one["setup"] for one in fields] == 4 * ["grid"] + 2 * [OPENED]
    pixels = [one["pixel_size_angst"] for one in fields]
    assert pixels == pytest.approx(4 * [PIXEL_ANGST] + 2 * [PIXEL_ANGST / 1.25])
    # The dose of the finer pixel is that of the metadata.
    assert [one["dose_e_per_angst2"] for one in fields] == pytest.approx(
        4 * [30.0] + 2 * [27.0]
    )
    reader = changed.read()
    try:
        said = [one.message for one in reader.notices()]
        micrographs = reader.scalars("motion", "micrograph")
        assert not reader.failed_attempts()
    finally:
        reader.close()
    (notice,) = [one for one in said if "new acquisition setup" in one]
    assert f"{stem(4)}_Fractions.tif" in notice
    pixels = [one["pixel_size_angst"] for _, one in sorted(micrographs.items())]
    assert pixels == pytest.approx(4 * [PIXEL_ANGST] + 2 * [PIXEL_ANGST / 1.25])


def test_optics_groups_stand_in_the_star(changed: Session, tmp_path: Path) -> None:
    numbers = [one["optics_group"]["number"] for one in acquisitions(changed)]
    assert numbers == [1, 1, 2, 3, 4, 5]
    reader = changed.read()
    try:
        export_star(
            reader, changed.plan, session_folder=changed.folder, folder=tmp_path
        )
    finally:
        reader.close()
    # A limit of the CTF may have rejected some of them.
    rows: dict[str, int] = {}
    for name in ("micrographs_ctf.star", "micrographs_ctf_rejected.star"):
        star = starfile.read(tmp_path / name, always_dict=True)
        optics, table = star["optics"], star.get("micrographs", {})
        assert list(optics.rlnOpticsGroup) == [1, 2, 3, 4, 5]
        names = [f"grid_beam{n}" for n in (1, 2, 3)] + [
            f"{OPENED}_beam{n}" for n in (4, 5)
        ]
        assert list(optics.rlnOpticsGroupName) == names
        pixels = 3 * [PIXEL_ANGST] + 2 * [PIXEL_ANGST / 1.25]
        assert list(optics.rlnMicrographPixelSize) == pytest.approx(pixels, abs=1e-5)
        if len(table):
            rows |= dict(
                zip(table.rlnMicrographName, table.rlnOpticsGroup, strict=True)
            )
    found = {stem(n): rows[name] for n in range(6) for name in rows if stem(n) in name}
    assert found == {stem(n): numbers[n] for n in range(6)}


def test_a_restart_keeps_names_and_makes_nothing_anew(changed: Session) -> None:
    before, done = acquisitions(changed), attempts(changed)
    run(changed)
    assert (acquisitions(changed), attempts(changed)) == (before, done)
    check_replay(changed.ledger_path, changed.plan.workflow)


def test_the_report_tells_setups(changed: Session) -> None:
    page = changed.report_path.read_text(encoding="utf-8")
    row = page[page.index(f"</span>{OPENED}</th>") :].partition("</tr>")[0]
    assert ">2 groups<" in row
    assert ">2<" in row  # exposures


def test_late_metadata_make_nothing_stale_that_does_not_read_them(
    tmp_path: Path,
) -> None:
    session = made(tmp_path, dose_e_per_angst2=30)
    write_shot(tmp_path, 2)
    run(session)
    done = attempts(session)
    assert acquisitions(session)[0]["metadata"].keys() == {"foil_hole", "position"}
    write_xml(tmp_path, 2)
    run(session)
    (fields,) = acquisitions(session)
    assert fields["metadata"]["beam_shift_x"] == pytest.approx(0.1)
    assert fields["optics_group"]["beam_shift"] == pytest.approx([0.1, 0.0])
    # The beam shift is one of the numbers of quality, and of nothing else.
    assert attempts(session) - done == {"quality": 1}


def test_a_late_dose_goes_before_the_counts(tmp_path: Path) -> None:
    session = made(tmp_path)
    write_shot(tmp_path, 0)
    run(session)
    counted = motion(session)
    assert counted.dose_origin == "counts"
    assert counted.dose_e_per_angst2 == pytest.approx(20 / PIXEL_ANGST**2, rel=0.02)
    assert "estimate" in counted.notice
    write_xml(tmp_path, 0)
    run(session)
    told = motion(session)
    assert told.dose_origin == "metadata"
    assert told.dose_e_per_angst2 == pytest.approx(27.0 / FRAMES)
    assert attempts(session)["motion"] == 2


@pytest.mark.relion
@pytest.mark.skipif(
    shutil.which("relion_star_printtable") is None,
    reason="RELION is not installed (apt install relion)",
)
def test_relion_reads_the_optics_groups(changed: Session, tmp_path: Path) -> None:
    reader = changed.read()
    try:
        export_star(
            reader, changed.plan, session_folder=changed.folder, folder=tmp_path
        )
    finally:
        reader.close()
    star = tmp_path / "micrographs_ctf.star"
    command = ["relion_star_printtable", str(star), "data_optics"]
    done = subprocess.run(
        [*command, "_rlnOpticsGroup", "_rlnOpticsGroupName"],
        capture_output=True,
        text=True,
        check=True,
    )
    read = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert [int(number) for number, _ in read] == [1, 2, 3, 4, 5]
    assert read[4][1] == f"{OPENED}_beam5"
