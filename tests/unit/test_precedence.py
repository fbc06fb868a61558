"""Which pixel size and which dose hold, and what is said of it."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icestream.domain.errors import BadSettings
from icestream.domain.exposure import ExposureMetadata
from icestream.domain.precedence import (
    CalibratedPixel,
    Settled,
    settle_dose,
    settle_pixel_size,
)

K3 = ExposureMetadata(
    pixel_size_angst=0.64,
    camera_shape=(4092, 5760),
    super_resolution_factor=2,
    magnification=130_000,
    dose_e_per_angst2=50.0,
    detector="BioQuantum K3",
)
CAMERA = (4092, 5760)
TABLE = (
    CalibratedPixel(magnification=105_000, pixel_size_angst=0.83),
    CalibratedPixel(magnification=130_000, pixel_size_angst=0.9, detector="Falcon 4i"),
    CalibratedPixel(magnification=130_000, pixel_size_angst=0.65),
)


def test_the_calibration_goes_before_the_user_before_the_metadata() -> None:
    settled = settle_pixel_size(
        CAMERA, metadata=K3, user_angst=0.645, calibration=TABLE
    )
    assert settled == Settled(value=0.65, origin="calibration")
    settled = settle_pixel_size(CAMERA, metadata=K3, user_angst=0.645)
    assert settled == Settled(value=0.645, origin="user")
    assert settle_pixel_size(CAMERA, metadata=K3) == Settled(
        value=0.64, origin="metadata"
    )


def test_the_table_is_asked_by_magnification_and_detector() -> None:
    falcon = ExposureMetadata(magnification=130_000, detector="Falcon 4i")
    assert settle_pixel_size(CAMERA, metadata=falcon, calibration=TABLE).value == 0.9
    other = ExposureMetadata(magnification=81_000, detector="Falcon 4i")
    assert settle_pixel_size(CAMERA, metadata=other, calibration=TABLE).value is None
    assert settle_pixel_size(CAMERA, calibration=TABLE).origin == "unknown"


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ((4092, 5760), 1.0),
        ((5760, 4092), 1.0),
        ((8184, 11520), 2.0),
        ((11520, 8184), 2.0),
        ((2046, 2880), 0.5),
        ((1023, 1440), 0.25),
    ],
)
def test_frames_finer_than_the_camera_have_smaller_pixels(
    shape: tuple[int, int], factor: float
) -> None:
    settled = settle_pixel_size(shape, metadata=K3)
    assert settled == Settled(value=0.64 / factor, origin="metadata")
    settled = settle_pixel_size(shape, metadata=K3, calibration=TABLE)
    assert settled == Settled(value=0.65 / factor, origin="calibration")


def test_frames_of_no_shape_of_the_camera_are_told() -> None:
    settled = settle_pixel_size((4096, 4096), metadata=K3)
    assert settled.value == 0.64
    assert "(4096, 4096)" in settled.notice
    assert "(4092, 5760)" in settled.notice


def test_super_resolution_that_cannot_be_checked_is_told() -> None:
    metadata = ExposureMetadata(pixel_size_angst=0.8, super_resolution_factor=2)
    settled = settle_pixel_size((192, 256), metadata=metadata)
    assert settled.value == 0.4
    assert "super-resolution" in settled.notice
    metadata = ExposureMetadata(pixel_size_angst=0.8, super_resolution_factor=1)
    assert settle_pixel_size((192, 256), metadata=metadata) == Settled(
        value=0.8, origin="metadata"
    )


def test_what_the_user_says_of_super_resolution_is_compared() -> None:
    right = settle_pixel_size((8184, 11520), metadata=K3, user_angst=0.32)
    assert right == Settled(value=0.32, origin="user")
    wrong = settle_pixel_size((8184, 11520), metadata=K3, user_angst=0.64)
    assert wrong.value == 0.64
    assert wrong.notice == "The user says 0.64 Å/px, the metadata 0.32."


def test_no_pixel_size_is_made_up() -> None:
    for metadata in (None, ExposureMetadata()):
        settled = settle_pixel_size(CAMERA, metadata=metadata, user_angst=0.0)
        assert (settled.value, settled.origin) == (None, "unknown")
        assert "unknown" in settled.notice


def test_the_users_dose_goes_before_the_metadata_before_the_counts() -> None:
    settle = functools.partial(
        settle_dose, counted_e_per_px=16.0, pixel_size_angst=0.64
    )
    settled = settle(metadata=K3, user_e_per_angst2=48.0)
    assert settled == Settled(value=48.0, origin="user")
    assert settle(metadata=K3) == Settled(value=50.0, origin="metadata")
    estimate = settle()
    assert estimate.value == pytest.approx(16 / 0.64**2)
    assert estimate.origin == "counts"
    assert "estimate" in estimate.notice


def test_doses_far_apart_are_told() -> None:
    settled = settle_dose(metadata=K3, user_e_per_angst2=1.2)
    assert settled.value == 1.2
    assert settled.notice == "The user says 1.2 e/Å², the metadata 50."


@pytest.mark.parametrize("counted", [None, 0.0, 16.0])
def test_no_dose_is_made_up(counted: float | None) -> None:
    # Counts without a pixel size are no dose.
    settled = settle_dose(user_e_per_angst2=0.0, counted_e_per_px=counted)
    assert (settled.value, settled.origin) == (None, "unknown")
    assert "not weighted" in settled.notice


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(BadSettings):
        settle_pixel_size(CAMERA, metadata=K3, user_angst=value)
    with pytest.raises(BadSettings):
        settle_dose(metadata=K3, user_e_per_angst2=value)
    with pytest.raises(BadSettings):
        CalibratedPixel(magnification=1, pixel_size_angst=value)
    with pytest.raises(BadSettings):
        ExposureMetadata(dose_e_per_angst2=value)


numbers = st.none() | st.floats(0.01, 1e4)
metadatas = st.none() | st.builds(
    ExposureMetadata,
    pixel_size_angst=numbers,
    dose_e_per_angst2=numbers,
    magnification=st.none() | st.sampled_from([105_000, 130_000]),
    camera_shape=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)),
    super_resolution_factor=st.none() | st.integers(1, 2),
)


@given(
    metadata=metadatas,
    user=st.none() | st.just(0.0) | numbers,
    table=st.booleans(),
    shape=st.tuples(st.integers(1, 99), st.integers(1, 99)),
)
def test_a_value_is_there_if_and_only_if_a_source_has_one(
    metadata: ExposureMetadata | None,
    user: float | None,
    table: bool,
    shape: tuple[int, int],
) -> None:
    rows = TABLE if table else ()
    settled = settle_pixel_size(
        shape, metadata=metadata, user_angst=user, calibration=rows
    )
    is_calibrated = table and metadata is not None and bool(metadata.magnification)
    is_nominal = metadata is not None and metadata.pixel_size_angst is not None
    assert (settled.value is not None) == bool(is_calibrated or user or is_nominal)
    assert (settled.value is None) == (settled.origin == "unknown")
    dose = settle_dose(metadata=metadata, user_e_per_angst2=user)
    told = metadata.dose_e_per_angst2 if metadata else None
    assert dose.value == (user or told)
