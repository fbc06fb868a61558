"""The simulator's images hold what its truth says."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.fft

from icestream.domain.errors import BadSettings
from icestream.domain.units import electron_wavelength_angst
from icestream.io import check_complete, read_header, read_micrograph
from icestream.simulate import (
    SimulatedMicrograph,
    simulate_acquisition,
    simulate_micrograph,
)
from icestream.simulate.specimen import (
    Specimen,
    interaction_rad_per_volt_angst,
    shell_thickness_angst,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIXEL_SIZE_ANGST = 1.5
DEFOCUS_ANGST = 15_000.0


def simulate(**values: Any) -> SimulatedMicrograph:
    defaults: dict[str, Any] = {
        "shape": (600, 640),
        "pixel_size_angst": PIXEL_SIZE_ANGST,
        "defocus_u_angst": DEFOCUS_ANGST,
        "defocus_v_angst": DEFOCUS_ANGST,
        "defocus_angle_deg": 0.0,
        "particle_count": 25,
        "seed": 1,
    }
    return simulate_micrograph(**(defaults | values))


def average_around(micrograph: SimulatedMicrograph, radius_px: int) -> NDArray[Any]:
    """Average the particles whose surroundings lie in the image."""
    image, found = micrograph.image, micrograph.coordinates
    h, w = image.shape
    windows = [
        image[y - radius_px : y + radius_px + 1, x - radius_px : x + radius_px + 1]
        for x, y in zip(
            np.rint(found.x_px).astype(int),
            np.rint(found.y_px).astype(int),
            strict=True,
        )
        if radius_px <= x < w - radius_px and radius_px <= y < h - radius_px
    ]
    average: NDArray[Any] = np.mean(windows, axis=0)
    return average


def test_same_seed_same_image() -> None:
    first, again, other = simulate(), simulate(), simulate(seed=2)

    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.coordinates.x_px, again.coordinates.x_px)
    assert (first.image != other.image).mean() > 0.5


def test_counts_are_whole_electrons_of_the_dose() -> None:
    image = simulate(dose_e_per_angst2=40.0).image

    assert image.dtype == np.float32
    assert image.shape == (600, 640)
    np.testing.assert_array_equal(image, np.rint(image))
    # 40 e/Å2 on 2.25 Å2; protein takes some per cent by amplitude contrast.
    assert image.mean() == pytest.approx(90, rel=0.03)


@pytest.mark.parametrize("dose_e_per_angst2", [0.2, 2.0, 8.0, 40.0])
def test_noise_is_that_of_counting(dose_e_per_angst2: float) -> None:
    image = simulate(
        dose_e_per_angst2=dose_e_per_angst2,
        particle_count=0,
        ice_thickness_angst=1e-3,
    ).image.astype(np.float64)

    expected = dose_e_per_angst2 * PIXEL_SIZE_ANGST**2
    assert image.min() >= 0
    # 384,000 draws: the variance is known to 0.23 %.
    assert image.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / 384e3))
    assert image.var() == pytest.approx(expected, rel=0.02)


def test_particles_are_dark_rings_at_the_true_centres() -> None:
    average = average_around(simulate(), 60)
    y, x = np.indices(average.shape) - 60
    radius_angst = np.hypot(y, x) * PIXEL_SIZE_ANGST

    wall = average[(radius_angst > 40) & (radius_angst < 55)].mean()
    hollow = average[radius_angst < 15].mean()
    fringe = average[(radius_angst > 66) & (radius_angst < 74)].mean()
    assert wall < 0.97 * fringe
    assert wall < 0.99 * hollow
    # Dark mass lies around the centre to half a pixel, the rounding of the windows.
    dark = np.clip(np.median(average) - average, 0, None) * (radius_angst < 66)
    assert (dark * y).sum() / dark.sum() == pytest.approx(0, abs=0.5)
    assert (dark * x).sum() / dark.sum() == pytest.approx(0, abs=0.5)


def test_overfocus_inverts_the_contrast() -> None:
    def wall_over_outside(defocus_angst: float) -> float:
        micrograph = simulate(
            defocus_u_angst=defocus_angst,
            defocus_v_angst=defocus_angst,
            amplitude_contrast=0.0,
        )
        average = average_around(micrograph, 60)
        radius_angst = np.hypot(*(np.indices(average.shape) - 60)) * PIXEL_SIZE_ANGST
        wall = average[(radius_angst > 45) & (radius_angst < 60)].mean()
        return float(wall / average[radius_angst > 80].mean())

    assert wall_over_outside(DEFOCUS_ANGST) < 0.985
    assert wall_over_outside(-DEFOCUS_ANGST) > 1.015


def test_neighbours_keep_their_distance_and_stay_inside() -> None:
    found = simulate(particle_count=30).coordinates
    xy_px = np.stack([found.x_px, found.y_px], axis=1)
    distance_px = np.linalg.norm(xy_px[:, None] - xy_px[None], axis=2)
    np.fill_diagonal(distance_px, np.inf)

    assert len(found) == 30
    assert distance_px.min() >= 1.05 * 125 / PIXEL_SIZE_ANGST - 1e-3
    assert found.x_px.min() >= -0.5
    assert found.x_px.max() < 639.5
    assert found.y_px.max() < 599.5
    assert set(found.diameter_angst) == {125.0}


@pytest.mark.parametrize("angle_deg", [20.0, 110.0])
def test_thon_rings_lie_where_the_defocus_puts_them(angle_deg: float) -> None:
    """The radius of each minimum follows from the textbook's formula, not our code."""
    u_angst, v_angst, cs_angst, contrast = 18_000.0, 14_000.0, 2.7e7, 0.1
    image = simulate(
        shape=(1024, 1024),
        particle_count=0,
        ice_thickness_angst=3000.0,
        b_factor_angst2=30.0,
        defocus_u_angst=u_angst,
        defocus_v_angst=v_angst,
        defocus_angle_deg=angle_deg,
    ).image
    power = np.abs(scipy.fft.fft2(image - image.mean())) ** 2
    g = np.fft.fftfreq(1024, PIXEL_SIZE_ANGST)
    gy, gx = np.meshgrid(g, g, indexing="ij")
    wavelength_angst = electron_wavelength_angst(300)
    for defocus_angst, axis_deg in ((u_angst, angle_deg), (v_angst, angle_deg + 90)):
        # Angles count from +x towards increasing row index.
        apart_deg = (np.degrees(np.arctan2(gy, gx)) - axis_deg + 90) % 180 - 90
        is_near = np.abs(apart_deg) < 4
        g2 = gx**2 + gy**2

        def chi_over_pi(
            g2: NDArray[Any], defocus_angst: float = defocus_angst
        ) -> NDArray[Any]:
            return (
                wavelength_angst * g2 * defocus_angst
                - cs_angst * wavelength_angst**3 * g2**2 / 2
                + math.asin(contrast) / math.pi
            )

        phase = chi_over_pi(g2)
        use = is_near & (phase > 2) & (phase < 12)
        nodes = power[use & (np.abs(phase - np.rint(phase)) < 0.1)].mean()
        antinodes = power[use & (np.abs(phase - np.rint(phase)) > 0.4)].mean()
        assert antinodes > 1.5 * nodes


def test_ice_alone_has_no_particles() -> None:
    micrograph = simulate(particle_count=0)

    assert len(micrograph.coordinates) == 0
    assert micrograph.image.std() > 9


def test_truth_has_u_above_v() -> None:
    ctf = simulate(
        defocus_u_angst=9000.0, defocus_v_angst=11000.0, defocus_angle_deg=120.0
    ).ctf

    assert (ctf.defocus_u_angst, ctf.defocus_v_angst) == (11000.0, 9000.0)
    assert ctf.defocus_angle_deg == pytest.approx(30)


@pytest.mark.parametrize(
    "values",
    [
        {"particle_count": 1000},
        {"particle_count": -1},
        {"dose_e_per_angst2": 0.0},
        {"dose_e_per_angst2": math.nan},
        {"pixel_size_angst": 0.0},
        {"ice_thickness_angst": -1.0},
        {"voltage_kv": 3.0},
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings):
        simulate(**values)


def test_interaction_constant() -> None:
    # Kirkland, Advanced Computing in Electron Microscopy: 6.526e-4 rad/(V Å), 300 kV.
    assert interaction_rad_per_volt_angst(300) == pytest.approx(6.526e-4, rel=1e-3)
    assert interaction_rad_per_volt_angst(200) == pytest.approx(7.288e-4, rel=1e-3)


def test_volume_of_a_shell() -> None:
    specimen = Specimen(
        particle_count=1,
        particle_diameter_angst=120,
        wall_thickness_angst=20,
        ice_thickness_angst=300,
    )
    x_angst = np.arange(-70, 70.25, 0.5)
    radius_angst = np.hypot(x_angst[:, None], x_angst[None, :])
    volume = shell_thickness_angst(radius_angst, specimen).sum() * 0.25

    assert volume == pytest.approx(4 / 3 * math.pi * (60**3 - 40**3), rel=1e-3)


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
def test_acquisition_is_complete_and_true(tmp_path: Path, dtype: str) -> None:
    written: list[Path] = []
    paths = simulate_acquisition(
        tmp_path / "new",
        count=4,
        shape=(256, 288),
        particle_count=4,
        blank_every=3,
        dtype=dtype,
        seed=5,
        on_written=written.append,
    )

    assert [path.name for path in paths] == [
        f"FoilHole_{number:04d}.mrc" for number in (1, 2, 3, 4)
    ]
    assert written == paths
    truth = json.loads((tmp_path / "new" / "truth.json").read_text())
    assert truth["pixel_size_angst"] == 1.5
    assert truth["voltage_kv"] == 300
    for path in paths:
        check_complete(path)
        header = read_header(path)
        assert header.dtype == np.dtype(dtype)
        assert (header.height_px, header.width_px) == (256, 288)
        assert header.pixel_size_angst == pytest.approx(1.5)
        assert read_micrograph(path).mean() == pytest.approx(90, rel=0.05)
        exposure = truth["exposures"][path.name]
        assert len(exposure["x_px"]) == len(exposure["y_px"]) <= 4
        assert exposure["defocus_u_angst"] > exposure["defocus_v_angst"] > 7_000
    counts = [len(truth["exposures"][path.name]["x_px"]) for path in paths]
    assert counts[2] == 0
    assert min(counts[0], counts[1], counts[3]) >= 2


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    values: dict[str, Any] = {"shape": (128, 128), "particle_count": 1}
    few = simulate_acquisition(tmp_path / "few", count=2, **values)
    many = simulate_acquisition(tmp_path / "many", count=3, **values)
    other = simulate_acquisition(tmp_path / "other", count=1, seed=9, **values)

    assert few[1].read_bytes() == many[1].read_bytes()
    assert few[0].read_bytes() != other[0].read_bytes()


def test_an_acquisition_needs_images(tmp_path: Path) -> None:
    with pytest.raises(BadSettings):
        simulate_acquisition(tmp_path, count=0)
    with pytest.raises(BadSettings):
        simulate_acquisition(tmp_path, count=1, blank_every=0)
