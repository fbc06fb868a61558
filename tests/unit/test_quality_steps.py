"""The steps that mask and measure, as a slot runs them, and picks beside a mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.domain import (
    AcquisitionSetup,
    Coordinates,
    Ctf,
    MaskClass,
    Micrograph,
    MicrographMask,
    Quality,
)
from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.engines.picking import without_masked
from icestream.io import read_mask, write_mask, write_mrc
from icestream.streaming.execution import Envelope, TaskId, execute, import_protocol
from icestream.streaming.protocol import Missing
from icestream.streaming.records import decode, encode
from masked_scene import drawn
from picking_scene import coordinates
from steady_motion import steady_motion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from icestream.streaming.protocol import Item

MASK = "icestream.protocols.mask_micrograph:MaskMicrograph"
MEASURE = "icestream.protocols.measure_quality:MeasureQuality"
PICK = "icestream.protocols.pick_particles:PickParticles"
SETUP = AcquisitionSetup(name="k3", pixel_size_angst=3.0, voltage_kv=300.0)
DARK_PX = (260, 300, 60)


def step(
    folder: Path,
    protocol: str,
    *,
    known: Mapping[str, Any] | None = None,
    **given: Item,
) -> Mapping[str, Any]:
    """Run a step; inputs that are not given are missing."""
    found = import_protocol(protocol)
    values = {one: getattr(SETUP, one, None) for one in found.reads} | dict(known or {})
    outcome = execute(
        Envelope(
            task=TaskId("run", "key", "content", 1),
            protocol=protocol,
            params={},
            inputs={
                one: encode(given[one]) if one in given else Missing("not there")
                for one in found.inputs
            },
            acquisition=values,
            session_folder=str(folder),
        )
    )
    assert outcome.failure is None, outcome.failure.details
    return outcome.outputs


def micrograph(folder: Path) -> Micrograph:
    image = drawn(dark_px=DARK_PX).numpy()
    write_mrc(folder / "image.mrc", image, pixel_size_angst=3.0, dtype=np.float32)
    return Micrograph(
        path="image.mrc",
        height_px=image.shape[0],
        width_px=image.shape[1],
        pixel_size_angst=3.0,
        setup="k3",
        mean=float(image.mean()),
        standard_deviation=float(image.std()),
        thumbnail="",
    )


def measure(folder: Path, **given: Any) -> Quality:
    quality: Quality = decode(step(folder, MEASURE, **given)["quality"], Quality)
    return quality


def test_a_mask_is_a_small_picture(tmp_path: Path) -> None:
    mask = decode(
        step(tmp_path, MASK, micrograph=micrograph(tmp_path))["mask"], MicrographMask
    )
    path = tmp_path / mask.path
    classes = read_mask(path)
    assert path.stat().st_size < 3000
    assert classes.shape == (mask.height_cells, mask.width_cells)
    assert mask.contamination_fraction == (classes == MaskClass.CONTAMINATION).mean()
    assert mask.masked_fraction == pytest.approx((classes > 0).mean())
    assert 0.05 < mask.masked_fraction < 0.09


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    found = measure(tmp_path, micrograph=micrograph(tmp_path))
    assert found.mean_intensity == pytest.approx(0.8 * 360, rel=0.1)
    assert found.ice_reference == ""
    for name in (
        "ice_ring_ratio",
        "crystal_ratio",
        "ice_thickness_relative",
        "ice_thickness_angst",
        "masked_fraction",
        "defocus_minus_target_angst",
        "beam_shift_group",
        "path_angst_per_dose",
    ):
        assert getattr(found, name) is None, name


def test_what_is_known_is_told(tmp_path: Path) -> None:
    image = micrograph(tmp_path)
    mask = decode(step(tmp_path, MASK, micrograph=image)["mask"], MicrographMask)
    ctf = Ctf(
        defocus_u_angst=15_200.0,
        defocus_v_angst=15_000.0,
        defocus_angle_deg=10.0,
        score=0.3,
        resolution_angst=4.0,
    )
    group = {"number": 3, "setup": "k3", "position": None, "beam_shift": [0.1, 0.2]}
    found = measure(
        tmp_path,
        micrograph=image,
        mask=mask,
        ctf=ctf,
        motion=steady_motion(frames=21, dose=2.0),
        known={
            "vacuum_e_per_px": 360.0,
            "metadata": {"target_defocus_angst": 15_000.0, "energy_slit_ev": 20.0},
            "optics_group": group,
        },
    )
    assert found.masked_fraction == mask.masked_fraction
    assert found.contamination_fraction == mask.contamination_fraction
    assert found.defocus_minus_target_angst == 100
    assert found.beam_shift_group == 3
    assert found.path_angst_per_dose == pytest.approx(22 / 40)
    assert found.ice_reference == "vacuum"
    assert found.ice_thickness_relative == pytest.approx(
        math.log(360 / found.mean_intensity)
    )
    assert found.ice_thickness_angst == pytest.approx(
        3500 * math.log(360 / found.mean_intensity)
    )


@pytest.mark.parametrize(
    ("known", "reference", "is_absolute"),
    [
        ({"dose_e_per_angst2": 40.0}, "dose", False),
        ({"vacuum_e_per_px": 400.0}, "vacuum", False),
        (
            {"vacuum_e_per_px": 400.0, "metadata": {"energy_slit_ev": 20}},
            "vacuum",
            True,
        ),
        (
            {"dose_e_per_angst2": 40.0, "metadata": {"energy_slit_ev": 20}},
            "dose",
            False,
        ),
    ],
)
def test_thickness_is_absolute_with_a_filter_and_a_vacuum_only(
    tmp_path: Path, known: dict[str, Any], reference: str, is_absolute: bool
) -> None:
    found = measure(tmp_path, micrograph=micrograph(tmp_path), known=known)
    assert found.ice_reference == reference
    assert found.ice_thickness_relative is not None
    assert (found.ice_thickness_angst is not None) == is_absolute


def test_a_group_without_place_and_shift_is_none(tmp_path: Path) -> None:
    group = {"number": 1, "setup": "k3", "position": None, "beam_shift": None}
    found = measure(
        tmp_path, micrograph=micrograph(tmp_path), known={"optics_group": group}
    )
    assert found.beam_shift_group is None


def test_a_mask_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a_mask.png"
    for classes in (
        np.zeros((4, 4), np.uint8),
        np.random.default_rng(0).integers(0, 4, (31, 57)).astype(np.uint8),
    ):
        write_mask(classes, path)
        assert np.array_equal(read_mask(path), classes)


def test_a_damaged_mask_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a_mask.png"
    write_mask(np.ones((50, 50), np.uint8), path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(IncompleteFile):
        read_mask(path)
    with pytest.raises(UnreadableFile):
        read_mask(tmp_path / "none.png")


class TestPicks:
    def test_none_reaches_into_what_is_masked(self) -> None:
        classes = np.zeros((10, 20), np.uint8)
        classes[:, 10:] = MaskClass.CARBON
        # Cells of 20 px at 2 Å/px: what is masked begins at x = 200.
        found = coordinates([(50, 160), (50, 173), (50, 185), (50, 199), (50, 300)])
        picks = Coordinates(
            x_px=found.x_px,
            y_px=found.y_px,
            score=found.score,
            diameter_angst=np.full(5, 80, np.float32),
        )
        kept = without_masked(picks, classes, shape_px=(200, 400), pixel_size_angst=2.0)
        # 20 px from the border of cells, told to a cell's half.
        assert kept.x_px.tolist() == [160, 173]
        assert kept.masked_count == 3

    def test_a_clean_mask_takes_nothing(self) -> None:
        picks = coordinates([(5, 5), (90, 190)])
        assert (
            without_masked(
                picks,
                np.zeros((5, 9), np.uint8),
                shape_px=(100, 200),
                pixel_size_angst=1.0,
            )
            is picks
        )

    def test_the_step_spares_a_dark_thing(self, tmp_path: Path) -> None:
        image = micrograph(tmp_path)
        classes = np.zeros((38, 41), np.uint8)
        classes[:, 20:] = MaskClass.CONTAMINATION
        write_mask(classes, tmp_path / "mask.png")
        mask = MicrographMask(
            path="mask.png",
            height_cells=38,
            width_cells=41,
            masked_fraction=0.5,
            carbon_fraction=0.0,
            contamination_fraction=0.5,
            empty_fraction=0.0,
        )
        plain, spared = (
            decode(one["coordinates"], Coordinates)
            for one in (
                step(tmp_path, PICK, micrograph=image),
                step(tmp_path, PICK, micrograph=image, mask=mask),
            )
        )
        assert len(spared) > 0
        assert spared.masked_count == len(plain) - len(spared) > 0
        assert spared.x_px.max() < 220
