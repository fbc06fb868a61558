"""Real XML and mdoc; values as a text editor shows them, in RELION's units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from icestream.domain.errors import UnreadableFile
from icestream.domain.exposure import ExposureMetadata
from icestream.domain.optics_groups import OpticsGroups, assign_optics_group
from icestream.domain.precedence import settle_dose, settle_pixel_size
from icestream.io.epu import read_epu_xml
from icestream.io.exposure_metadata import MetadataFinder
from icestream.io.serialem import read_mdoc

if TYPE_CHECKING:
    from pathlib import Path

AFIS = "epu/falcon3_afis/Images-Disc1/GridSquare_5324661/Data"
EPU39 = "epu/epu39_session/Images-Disc1"
FALCON_3 = f"{AFIS}/FoilHole_5330600_Data_5338284_5338286_20200206_181640"
K3 = "epu/k3_krios/FoilHole_5850127_Data_5798426_5798428_20221104_061329.xml"
OF_EPU: list[tuple[str, dict[str, Any]]] = [
    (
        f"{FALCON_3}.xml",
        {
            "pixel_size_angst": 0.87076783283901449,
            "camera_shape": (4096, 4096),
            "super_resolution_factor": 1,
            "magnification": 96_000,
            "voltage_kv": 300.0,
            "dose_e_per_angst2": 30.219527154718191,
            "frame_count": 22,
            "exposure_s": 33.394933788605229,
            "target_defocus_angst": 15_000.0,
            "applied_defocus_angst": 15_000.0,
            "stage_x_um": -218.4776243,
            "stage_y_um": 144.020352,
            "stage_z_um": -22.2262917248,
            "stage_alpha_deg": 0.00999877501,
            "beam_shift_x": -0.16827748715877533,
            "beam_shift_y": -0.12733273208141327,
            "image_shift_x": 0.0,
            "image_shift_y": 0.0,
            "grid_square": "5324661",
            "foil_hole": "5330600",
            "position": "5338284",
            "detector": "BM-Falcon",
            "is_counting": True,
            "is_phase_plate_used": False,
            "acquired_at": "2020-02-06T18:16:41.453759+01:00",
        },
    ),
    (
        f"{FALCON_3}_Fractions.xml",
        {
            "frame_count": 22,
            "exposure_s": 22 * 1.47045708,
            "grid_square": "5324661",
            "foil_hole": "5330600",
            "position": "5338284",
        },
    ),
    (
        K3,
        {
            # The picture is binned by two: 1.2852 Å/px and 2046 x 2880.
            "pixel_size_angst": 1.2851950059733497 / 2,
            "camera_shape": (4092, 5760),
            "super_resolution_factor": 2,
            "magnification": 130_000,
            "voltage_kv": 300.0,
            "dose_e_per_angst2": 63.993040352787363,
            "frame_count": 70,
            "exposure_s": 2.0,
            "target_defocus_angst": 14_000.0,
            "applied_defocus_angst": 14_000.0,
            "stage_x_um": -831.5567709,
            "stage_y_um": -155.120624,
            "stage_z_um": -27.426060674,
            "stage_alpha_deg": 1.49853499e-05,
            "beam_shift_x": 0.247715026140213,
            "beam_shift_y": -0.037177756428718567,
            "image_shift_x": 0.0,
            "image_shift_y": 0.0,
            "foil_hole": "5850127",
            "position": "5798426",
            "detector": "BioQuantum K3",
            "is_counting": True,
            "is_phase_plate_used": False,
            "energy_slit_ev": 20.0,
            "acquired_at": "2022-11-04T06:13:35.537803-05:00",
        },
    ),
    (
        "epu/falcon4i_glacios.xml",
        {
            "pixel_size_angst": 0.74912562264550786,
            "camera_shape": (4096, 4096),
            "super_resolution_factor": 1,
            "magnification": 190_000,
            "voltage_kv": 200.0,
            "dose_e_per_angst2": 42.0197786802792,
            "exposure_s": 3.518346,
            "target_defocus_angst": 11_000.0,
            "applied_defocus_angst": 11_000.0,
            "stage_x_um": 686.26854,
            "stage_y_um": -326.01448,
            "stage_z_um": -63.76455,
            "stage_alpha_deg": 0.000201276008,
            "beam_shift_x": -0.090216286480426788,
            "beam_shift_y": 0.054784409701824188,
            "image_shift_x": 0.0,
            "image_shift_y": 0.0,
            "detector": "Falcon 4i",
            "is_counting": True,
            "is_phase_plate_used": False,
            "gain_reference": "20231018_120449_EER_GainReference.gain",
            "acquired_at": "2023-10-18T12:27:06.334225-07:00",
        },
    ),
]
FRAME_SET = {
    # 1.2827 Å/px at a binning of 0.5.
    "pixel_size_angst": 2.5654,
    "camera_shape": (4092, 5760),
    "super_resolution_factor": 2,
    "magnification": 33_000,
    "voltage_kv": 300.0,
    "dose_e_per_angst2": 7.65892,
    "frame_count": 12,
    "exposure_s": 1.07856,
    "target_defocus_angst": 45_000.0,
    "applied_defocus_angst": 50_828.6,
    "stage_x_um": -142.82,
    "stage_y_um": -457.442,
    "stage_z_um": -13.7196,
    "stage_alpha_deg": 32.984,
    "image_shift_x": 2.69654,
    "image_shift_y": -0.304661,
    "detector": "camera 1",
    "is_cds": False,
    "energy_slit_ev": 20.0,
    "gain_reference": "SuperRef_s_mmm_00000_-15.0_Oct08_01.59.24.dm4",
    "movie_name": "s_mmm_00993_33.0_Oct08_07.39.05.tif",
    "acquired_at": "2021-10-08T07:39:08",
}
APOLLO = {
    # 2.48521 Å/px at a binning of 8, of 1024 pixels then.
    "pixel_size_angst": 0.31065125,
    "camera_shape": (8192, 8192),
    "super_resolution_factor": 1,
    "magnification": 75_000,
    "voltage_kv": 300.0,
    "frame_count": 46,
    "exposure_s": 0.764891,
    "target_defocus_angst": 20_000.0,
    "applied_defocus_angst": 19_744.4,
    "stage_x_um": 792.824,
    "stage_y_um": -213.633,
    "stage_z_um": 338.877,
    "stage_alpha_deg": -0.00549933,
    "image_shift_x": 0.370925,
    "image_shift_y": 0.140584,
    "foil_hole": "726",
    "position": "1-1",
    "detector": "camera 0",
    "movie_name": "20220605_75157_20220605-aav2spr_1-1_counted_frames.mrc",
    "acquired_at": "2022-06-05T23:45:28",
}


def file_of(shared_data: Path, name: str) -> Path:
    path = shared_data / name
    if not path.exists():
        pytest.skip(f"real file is absent: {path}")
    return path


def check(metadata: ExposureMetadata, expected: dict[str, Any]) -> None:
    """All fields: those not named here are unknown."""
    for name in ExposureMetadata.__slots__:
        value, wanted = getattr(metadata, name), expected.get(name)
        if isinstance(wanted, float):
            wanted = pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert value == wanted, name


@pytest.mark.parametrize(("name", "expected"), OF_EPU)
def test_epu(shared_data: Path, name: str, expected: dict[str, Any]) -> None:
    check(read_epu_xml(file_of(shared_data, name)), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("frame_set_single.mdoc", FRAME_SET),
        ("magellon_20220605_counted_frames.mrc.mdoc", APOLLO),
    ],
)
def test_serialem(shared_data: Path, name: str, expected: dict[str, Any]) -> None:
    check(read_mdoc(file_of(shared_data, f"serialem/{name}")), expected)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("montage_section.mdoc", "montage"),
        ("tilt_series.mdoc", "tilt series"),
        ("murfey_test_1.mdoc", "tilt series"),
    ],
)
def test_an_mdoc_of_another_kind_is_named(
    shared_data: Path, name: str, said: str
) -> None:
    with pytest.raises(UnreadableFile, match=said):
        read_mdoc(file_of(shared_data, f"serialem/{name}"))


def test_doses_agree_with_the_electrons_on_the_picture(shared_data: Path) -> None:
    # DoseOnCamera of the same file, over the picture's pixel.
    for name, electrons, pixel_angst in (
        (f"{FALCON_3}.xml", 22.91355208872254, 0.87076783283901449),
        (K3, 105.69898158457826, 1.2851950059733497),
        ("epu/falcon4i_glacios.xml", 23.581045918902184, 0.74912562264550786),
    ):
        metadata = read_epu_xml(file_of(shared_data, name))
        counted = settle_dose(counted_e_per_px=electrons, pixel_size_angst=pixel_angst)
        assert metadata.dose_e_per_angst2 == pytest.approx(counted.value, rel=1e-6)


def test_pixel_sizes_follow_the_shape_of_the_frames(shared_data: Path) -> None:
    metadata = read_epu_xml(file_of(shared_data, K3))
    for shape, pixel_angst in (
        ((4092, 5760), 0.6425975),
        ((8184, 11520), 0.3212988),
        ((2046, 2880), 1.285195),
    ):
        settled = settle_pixel_size(shape, metadata=metadata)
        assert settled.value == pytest.approx(pixel_angst, rel=1e-6)
        assert settled.notice == ""


def test_exposures_are_joined_with_both_xml(shared_data: Path) -> None:
    root = file_of(shared_data, AFIS).parents[2]
    finder = MetadataFinder(root)
    name = FALCON_3.rpartition("/")[2]
    key = f"Images-Disc1/GridSquare_5324661/Data/{name}_Fractions.mrc"
    found = finder.find(key)
    assert found.notice == ""
    assert len(found.files) == 2
    assert found.metadata.exposure_s == pytest.approx(22 * 1.47045708)
    assert found.metadata.voltage_kv == 300.0


def test_beam_shifts_of_one_square_fall_into_groups(shared_data: Path) -> None:
    file_of(shared_data, f"{FALCON_3}.xml")
    files = sorted((shared_data / AFIS).glob("*[0-9].xml"))
    state, groups = OpticsGroups(), []
    for _ in range(2):
        for file in files:
            metadata = read_epu_xml(file)
            state, group = assign_optics_group(state, metadata, setup="falcon")
            groups.append((metadata.position, group.number))
    # Five exposures at five places: each has its own Data_<id> or lies 4 µm away.
    assert [number for _, number in groups] == 2 * [1, 2, 3, 4, 5]
    assert len(state.groups) == 5


def test_shots_of_one_hole_have_groups_of_their_own(shared_data: Path) -> None:
    files = sorted(file_of(shared_data, EPU39).glob("*/Data/*.xml"))
    assert len(files) == 4
    with_places = OpticsGroups()
    without = OpticsGroups()
    for file in files:
        metadata = read_epu_xml(file)
        with_places, _ = assign_optics_group(with_places, metadata, setup="k3")
        shifts = ExposureMetadata(
            beam_shift_x=metadata.beam_shift_x, beam_shift_y=metadata.beam_shift_y
        )
        without, _ = assign_optics_group(without, shifts, setup="k3")
    assert len(with_places.groups) == len(without.groups) == 4
