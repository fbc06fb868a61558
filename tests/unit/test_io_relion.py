from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icestream.domain import AcquisitionSetup, Coordinates, Ctf, OpticsGroup
from icestream.io import relion
from icestream.io.star import star_table


def a_ctf(*, angle_deg: float, resolution_angst: float | None = 4.0) -> Ctf:
    return Ctf(
        defocus_u_angst=12_000,
        defocus_v_angst=11_000,
        defocus_angle_deg=angle_deg,
        score=0.2,
        resolution_angst=resolution_angst,
    )


@pytest.mark.parametrize(
    ("name", "flipped"),
    [("a.tif", True), ("a.TIFF", True), ("a.tif.mrc", False), ("tiff", False)],
)
def test_relion_turns_tiff_and_nothing_else(name: str, flipped: bool) -> None:
    assert relion.is_flipped(name) is relion.is_flipped(Path(name)) is flipped


def test_rows_turn_and_turn_back() -> None:
    y_px = np.array([0, 10, 99], np.float32)
    seen = relion.seen_y_px(y_px, micrograph="a.tif", height_px=100)
    assert seen.tolist() == [99, 89, 0]
    again = relion.seen_y_px(seen, micrograph="a.tif", height_px=100)
    assert again.tolist() == y_px.tolist()
    same = relion.seen_y_px(y_px, micrograph="a.mrc", height_px=100)
    assert same.tolist() == y_px.tolist()


def test_picks_of_a_tiff_are_turned() -> None:
    one = np.ones(1, np.float32)
    found = Coordinates(x_px=3 * one, y_px=7 * one, score=one, diameter_angst=one)
    table = relion.coordinate_columns(found, micrograph="a.tif", height_px=20)
    assert [list(column) for column in table.values()] == [[3.0], [12.0], [1.0]]


def test_angles_of_a_tiff_are_mirrored_within_half_a_turn() -> None:
    names = ["a.tif", "b.tif", "c.mrc"]
    ctfs = [a_ctf(angle_deg=30), a_ctf(angle_deg=0), a_ctf(angle_deg=30)]
    table = relion.micrograph_columns(names, ctfs, groups=[1, 1, 1])
    assert table["rlnDefocusAngle"] == [150, 0, 30]


def test_no_ring_is_what_relion_writes_for_it() -> None:
    none = a_ctf(angle_deg=0, resolution_angst=None)
    table = relion.micrograph_columns(["a.mrc"], [none], groups=[1])
    assert table["rlnCtfMaxResolution"] == [999.0]


def test_optics_groups_of_any_name_can_stand_in_a_star_file() -> None:
    setup = AcquisitionSetup(name="K2 at 'Ω'", pixel_size_angst=1.1, voltage_kv=300.0)
    table = relion.micrograph_optics_columns([OpticsGroup(number=1, setup=setup)])
    assert table["rlnOpticsGroupName"] == ["K2_at__Ω_"]
    assert "K2_at__Ω_ 1 1.100000 300.000000 2.700000" in star_table("optics", table)


def test_images_are_numbered_from_one() -> None:
    x_px = np.array([1, 2], np.float32)
    table = relion.image_columns(
        "a.mrcs", micrograph="a.mrc", x_px=x_px, y_px=x_px, group=3
    )
    assert table["rlnImageName"] == ["000001@a.mrcs", "000002@a.mrcs"]
    assert table["rlnMicrographName"] == ["a.mrc", "a.mrc"]
    assert table["rlnOpticsGroup"] == [3, 3]
