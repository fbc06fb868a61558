"""The tilt of a specimen against planes of defocus that are known."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch

from icestream.engines.ctf import CtfSearch, estimate_ctf_of_blocks
from icestream.engines.ctf.band import Optics as Lens
from icestream.engines.ctf.band import select_band
from icestream.engines.ctf.refine import RingModel, RingParameters
from icestream.engines.ctf.spectrum import BlockSpectra, half_spectrum
from icestream.engines.ctf.tilt import StageTilt, TiltFit, fit_tilt, region_values
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.spectra import simulate_spectrum

if TYPE_CHECKING:
    from icestream.domain import Ctf

PIXEL_ANGST = 1.8
MICROSCOPE = Microscope(voltage_kv=300)
LENS = Lens(
    voltage_kv=300,
    spherical_aberration_mm=MICROSCOPE.spherical_aberration_mm,
    amplitude_contrast=MICROSCOPE.amplitude_contrast,
)
MEAN, ASTIGMATISM, ANGLE = 15_000.0, 300.0, 40.0
FIELD_ANGST = 3_600.0


@cache
def fitted(tilt_deg: float, axis_deg: float, *, seed: int = 0) -> TiltFit:
    return fit(tilt_deg, axis_deg, seed=seed)


def tilted_tiles(
    tilt_deg: float, axis_deg: float, *, seed: int, per_axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make spectra of single tiles of a tilted field, and where they lie."""
    line = (torch.arange(per_axis).double() + 0.5) / per_axis - 0.5
    place = torch.cartesian_prod(line, line) * FIELD_ANGST
    # Towards axis + 90 degrees (y = cos, x = -sin of the axis) it lies higher.
    axis, rise = math.radians(axis_deg), math.tan(math.radians(tilt_deg))
    height = rise * (place[:, 0] * math.cos(axis) - place[:, 1] * math.sin(axis))
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.stack(
        [half_spectrum(spectrum(MEAN - float(one), generator)) for one in height]
    )
    return tiles, place


def fit_blocks(
    tilt_deg: float,
    axis_deg: float,
    *,
    seed: int = 0,
    per_axis: int = 4,
    stage: float | None = None,
) -> Ctf:
    """Fit everything to tiles of a tilted field."""
    tiles, place = tilted_tiles(tilt_deg, axis_deg, seed=seed, per_axis=per_axis)
    return estimate_ctf_of_blocks(
        BlockSpectra(
            power=tiles,
            tile_count=torch.ones(len(tiles)),
            pixel_size_angst=PIXEL_ANGST,
            place_angst=place.float(),
        ),
        voltage_kv=300,
        spherical_aberration_mm=MICROSCOPE.spherical_aberration_mm,
        amplitude_contrast=MICROSCOPE.amplitude_contrast,
        search=CtfSearch(stage_tilt_deg=stage),
    ).ctf


def fit(
    tilt_deg: float,
    axis_deg: float,
    *,
    seed: int = 0,
    per_axis: int = 5,
    stage: StageTilt | None = None,
) -> TiltFit:
    """Fit a plane to spectra of single tiles of a tilted field."""
    tiles, place = tilted_tiles(tilt_deg, axis_deg, seed=seed, per_axis=per_axis)
    band = select_band(
        tiles.shape[-2],
        pixel_size_angst=PIXEL_ANGST,
        resolution_angst=(30.0, 4.0),
        skip_ice=True,
        device=tiles.device,
    ).gathered()
    twice = math.radians(2 * ANGLE)
    model = RingModel.make(
        tiles.mean(dim=0).flatten()[band.index].double(),
        band=band,
        optics=LENS,
    ).at(
        RingParameters(
            mean_angst=MEAN,
            along_angst=ASTIGMATISM / 2 * math.cos(twice),
            across_angst=ASTIGMATISM / 2 * math.sin(twice),
        )
    )
    return fit_tilt(
        region_values(tiles, band=band, model=model.model),
        place,
        band=band,
        optics=LENS,
        parameters=model.parameters,
        envelope=model.envelope,
        stage=stage,
    )


def spectrum(defocus_angst: float, generator: torch.Generator) -> torch.Tensor:
    return simulate_spectrum(
        Optics(
            defocus_u_angst=defocus_angst + ASTIGMATISM / 2,
            defocus_v_angst=defocus_angst - ASTIGMATISM / 2,
            defocus_angle_deg=ANGLE,
        ),
        microscope=MICROSCOPE,
        pixel_size_angst=PIXEL_ANGST,
        box_px=256,
        tile_count=1,
        generator=generator,
    )


@pytest.mark.parametrize(
    ("tilt_deg", "axis_deg", "off_deg"),
    [(10, 85, 8), (-10, 20, 8), (25, 100, 3), (-25, 175, 3), (45, 3, 3)],
)
def test_tilt_and_axis(tilt_deg: float, axis_deg: float, off_deg: float) -> None:
    found = fitted(tilt_deg, axis_deg)
    turn = (found.axis_deg - axis_deg + 90) % 180 - 90
    tilt = found.tilt_deg if abs(found.axis_deg - axis_deg) < 90 else -found.tilt_deg
    assert tilt == pytest.approx(tilt_deg, abs=3)
    assert abs(turn) < off_deg
    assert found.gain > 10


def test_the_side_of_the_axis_is_less_underfocused() -> None:
    found = fitted(25, 100)
    # With the axis along y (100 degrees), axis + 90 degrees points to -x.
    left, right = found.offset_angst[0], found.offset_angst[4]
    assert float(left) < -300 < 300 < float(right)


def test_a_flat_specimen_is_flat_within_its_error() -> None:
    found = [fitted(0, 0, seed=seed) for seed in range(8)]
    pulls = torch.tensor([one.tilt_deg / one.tilt_error_deg for one in found])
    # A tilt has two components: 1.4 is expected; one of 40 such fields has 6.
    assert float(pulls.abs().median()) < 2.2
    assert max(one.gain for one in found) < 12
    assert max(abs(one.tilt_deg) for one in found) < 5


def test_errors_are_of_the_size_of_what_is_wrong() -> None:
    pulls = []
    for seed in range(8):
        found = fitted(20, 60, seed=seed)
        pulls.append((found.tilt_deg - 20) / found.tilt_error_deg)
        pulls.append((found.axis_deg - 60) / found.axis_error_deg)
    # 16 values scatter by 18 %, and 25 regions give errors good to 15 %.
    assert 0.5 < float(torch.tensor(pulls).square().mean().sqrt()) < 1.6


def test_a_known_tilt_of_the_stage_holds_a_weak_fit() -> None:
    free = [fit(20, 60, per_axis=2, seed=seed).tilt_deg for seed in range(4)]
    stage = StageTilt(tilt_deg=-20, error_deg=1)
    held = [fit(20, 60, per_axis=2, seed=seed, stage=stage) for seed in range(4)]
    wrong_free = sum((abs(one) - 20) ** 2 for one in free)
    wrong_held = sum((abs(one.tilt_deg) - 20) ** 2 for one in held)
    assert wrong_held < wrong_free / 4
    assert all(abs(abs(one.tilt_deg) - 20) < 3 for one in held)


def test_a_strong_fit_is_not_moved_by_a_wrong_stage() -> None:
    found = fit(25, 100, stage=StageTilt(tilt_deg=15, error_deg=3))
    assert abs(found.tilt_deg) > 22


class TestInTheFit:
    def test_blocks_of_an_image_tell_their_tilt(self) -> None:
        found = fit_blocks(25, 100, per_axis=4)
        assert found.tilt_deg == pytest.approx(25, abs=3)
        assert found.tilt_axis_deg == pytest.approx(100, abs=6)
        assert found.tilt_error_deg is not None
        assert found.tilt_axis_error_deg is not None
        assert 0.3 < found.tilt_error_deg < 4
        assert found.defocus_angst == pytest.approx(MEAN, rel=0.005)

    def test_too_few_tell_none(self) -> None:
        found = fit_blocks(25, 100, per_axis=2)
        assert found.tilt_deg is found.tilt_axis_deg is None

    def test_what_the_stage_says_reaches_it(self) -> None:
        free, held = (fit_blocks(0, 0, seed=5, stage=one) for one in (None, 0.0))
        assert free.tilt_deg is not None
        assert held.tilt_deg is not None
        assert abs(held.tilt_deg) < abs(free.tilt_deg)

    def test_what_a_tilt_explains_is_no_error_of_the_mean(self) -> None:
        flat, tilted = (
            fit_blocks(tilt, 100, seed=1).defocus_error_angst for tilt in (0, 25)
        )
        assert flat is not None
        assert tilted is not None
        # Rings of a tilted field blur: 58-70 Å, and they are 27-80 Å off. Without what
        # the tilt explains it would be 121-180 Å.
        assert tilted < 4 * flat < 110
