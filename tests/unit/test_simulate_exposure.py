"""What is drawn of an exposure: the same each time, and as real ones are."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from icestream.domain.errors import BadSettings
from icestream.simulate.compose import compose_scene
from icestream.simulate.denatured import denatured
from icestream.simulate.exposure import (
    Defect,
    Exposure,
    Recipe,
    Species,
    draw_exposure,
)
from icestream.simulate.proteins import make_specimen
from microscope import seeded

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAGE = Species(name="cage", diameter_angst=130)
SHEET = Species(name="sheet", diameter_angst=220, sheet_angst=30, share=0.5)
RECIPE = Recipe(
    shape=(1024, 1536), pixel_size_angst=2.0, species=(CAGE,), particle_count=80
)


def drawn(number: int = 1, recipe: Recipe = RECIPE, **values: Any) -> Exposure:
    return draw_exposure(recipe, number=number, seed=5, **values)


def nearest(one: Exposure) -> NDArray[np.float64]:
    """Return the distance to the nearest neighbour, Å."""
    places = np.stack([one.particles.x_px, one.particles.y_px], axis=1)
    gaps = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(gaps, np.inf)
    found: NDArray[np.float64] = 2.0 * gaps.min(axis=1)
    return found


def test_number_and_seed_decide_everything() -> None:
    first, again, other = drawn(7), drawn(7), drawn(8)
    for name, column in asdict(first.particles).items():
        assert np.array_equal(column, getattr(again.particles, name))
    assert first.optics == again.optics
    assert first.seed == again.seed
    assert np.array_equal(first.motion.global_angst, again.motion.global_angst)
    assert other.optics != first.optics
    assert other.seed != first.seed


def test_particles_keep_apart_but_for_those_that_touch() -> None:
    apart = drawn(recipe=replace(RECIPE, touching_share=0.0))
    assert nearest(apart).min() > 130
    assert not apart.particles.overlaps.any()

    touching = drawn(recipe=replace(RECIPE, touching_share=0.3))
    near = nearest(touching) < 130
    assert 0.02 < near.mean() < 0.5
    assert np.array_equal(near, touching.particles.overlaps)


def test_particles_lie_in_the_ice_and_most_at_its_surfaces() -> None:
    heights, rooms = [], []
    for number in range(1, 12):
        one = drawn(number)
        room = one.thickness_angst / 2 - 65
        assert (np.abs(one.particles.z_angst) <= max(room, 0) + 1e-9).all()
        heights.append(np.abs(one.particles.z_angst))
        rooms.append(np.full(len(one.particles), room))
    at_surface = np.concatenate(rooms) - np.concatenate(heights) < 30
    assert 0.6 < at_surface.mean() < 0.9


def test_sheets_lie_flat_at_a_surface() -> None:
    one = drawn(recipe=replace(RECIPE, species=(CAGE, SHEET)))
    particles, is_sheet = one.particles, one.particles.species == 1
    assert 0.1 < is_sheet.mean() < 0.6
    assert set(particles.tilt_deg[is_sheet]) == {0.0, 180.0}
    room = one.thickness_angst / 2 - 15
    np.testing.assert_allclose(np.abs(particles.z_angst[is_sheet]), room)
    assert len(set(particles.tilt_deg[~is_sheet])) > 10


@pytest.mark.parametrize("name", ["cage", "small"])
def test_denatured_protein_is_a_thin_wide_flake_of_the_same_mass(name: str) -> None:
    atoms = make_specimen(name).atoms
    sheet, again = denatured(atoms, 3), denatured(atoms, 3)
    assert np.array_equal(sheet.xyz_angst, again.xyz_angst)
    assert sheet.mass_da == atoms.mass_da
    low, high = np.percentile(sheet.xyz_angst[:, 2], [1, 99])
    assert 24 < high - low < 36
    wide = np.percentile(np.hypot(*sheet.xyz_angst[:, :2].T), 90)
    assert wide > 1.3 * np.percentile(np.linalg.norm(atoms.xyz_angst, axis=1), 90)
    # Looser than folded protein, 0.8 Da a cubic Å, over the area that it covers.
    area = len(np.unique(np.floor(sheet.xyz_angst[:, :2] / 8), axis=0)) * 64
    assert 0.2 < sheet.mass_da / (area * 30) < 0.7
    assert not np.array_equal(sheet.xyz_angst, denatured(atoms, 4).xyz_angst)


def test_good_exposures_have_little_dirt_now_and_then() -> None:
    dirt = [drawn(number).contaminants for number in range(1, 101)]
    counts = [len(one) for one in dirt]
    assert max(counts) == 1
    assert 8 <= sum(counts) <= 35
    assert all(one.diameter_angst <= 400 for row in dirt for one in row)
    number = counts.index(1) + 1
    small = replace(RECIPE, shape=(512, 512), particle_count=0, pixel_size_angst=4.0)
    for chance in range(number, 100):
        one = drawn(chance, small)
        if one.contaminants:
            share = float(
                compose_scene(one, small, [], generator=seeded()).mask.float().mean()
            )
            assert 0 < share < 0.05
            break
    else:
        pytest.fail("no dirt at all")


def test_a_small_image_sees_little_of_the_dome() -> None:
    far: list[float] = []
    near: list[float] = []
    for number in range(1, 6):
        large, small = (
            drawn(number, replace(RECIPE, shape=(side, side), particle_count=0))
            for side in (2048, 512)
        )
        for one, into in ((large, far), (small, near)):
            _, shifts = one.motion.lattice()
            into.append(
                float(np.abs(shifts - shifts.mean(axis=(1, 2))[:, None, None]).max())
            )
    assert max(near) < 1.0
    assert min(f / n for f, n in zip(far, near, strict=True)) > 2


@pytest.mark.parametrize("defect", [None, *get_args(Defect)])
def test_each_defect_is_in_the_truth(defect: Defect | None) -> None:
    one = drawn(2, defect=defect)
    assert one.defect == defect
    assert (len(one.particles) == 0) == (defect == "blank")
    assert (one.film is not None) == (defect in {"carbon", "gold"})
    assert (one.thickness_angst > 1000) == (defect == "thick_ice")
    assert (one.crystal_count > 0) == (defect == "crystalline")
    assert (len(one.contaminants) > 1) == (defect == "dirty")
    assert (one.dose_share < 1) == (defect == "dim")
    path = np.linalg.norm(one.motion.global_angst[-1])
    assert (path > 60) == (defect == "drifted")


def test_a_mixture_has_its_shares_and_states() -> None:
    mixture = (replace(CAGE, share=3.0), replace(CAGE, name="other", state=1))
    species = np.concatenate(
        [
            drawn(n, replace(RECIPE, species=mixture)).particles.species
            for n in range(1, 31)
        ]
    )
    # Four standard deviations of 2,200 draws.
    assert float((species == 0).mean()) == pytest.approx(0.75, abs=0.04)


def test_lenses_stay_as_they_are_set_for_a_session() -> None:
    vectors = []
    for seed in range(40):
        drawn_ones = [draw_exposure(RECIPE, number=n, seed=seed) for n in range(1, 9)]
        sizes = [
            one.optics.defocus_u_angst - one.optics.defocus_v_angst
            for one in drawn_ones
        ]
        turns = np.radians([2 * one.optics.defocus_angle_deg for one in drawn_ones])
        assert min(sizes) >= 50 - 1e-6
        assert max(sizes) <= 400 + 1e-6
        vectors.append(sizes * np.stack([np.cos(turns), np.sin(turns)]))
    within = np.array(vectors)
    # 30 Å along each axis, less where a size is held within the range.
    assert 22 < within.std(axis=2).mean() < 33
    # Means of 225 Å in any direction.
    assert 120 < within.mean(axis=2).std() < 200


def test_a_stage_has_one_axis() -> None:
    tilted = replace(RECIPE, tilt_deg=30.0)
    assert {drawn(n, tilted).optics.tilt_axis_deg for n in range(1, 6)} == {85.0}
    other = replace(tilted, tilt_axis_deg=-4.0)
    assert {drawn(n, other).optics.tilt_axis_deg for n in range(1, 6)} == {-4.0}


def test_more_particles_than_could_ever_lie_there_are_refused() -> None:
    small = replace(RECIPE, shape=(64, 64), particle_count=1_000)
    with pytest.raises(
        BadSettings, match=r"100,000,000 particles .* 64 x 64 px: 1 wou"
    ):
        replace(small, particle_count=100_000_000)
    room = 4_000 * 4_000 * RECIPE.pixel_size_angst**2 / (math.pi / 4 * 130.0**2)
    large = replace(RECIPE, shape=(4_000, 4_000), particle_count=int(19 * room))
    with pytest.raises(BadSettings, match=f"{room:,.0f} would cover it"):
        replace(large, particle_count=int(21 * room))
    replace(large, species=(), particle_count=1_000)


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadSettings, match="cannot be simulated"):
        replace(RECIPE, shape=(32, 512))
    with pytest.raises(BadSettings, match="cannot be simulated"):
        replace(RECIPE, frame_count=0)
    for dose in (float("inf"), float("nan"), 1e9):
        with pytest.raises(BadSettings, match="cannot be simulated"):
            replace(RECIPE, dose_e_per_angst2=dose)
    with pytest.raises(BadSettings, match="cannot be simulated"):
        replace(RECIPE, pixel_size_angst=float("inf"))
    for tilt_deg in (90.0, -71.0, float("nan")):
        with pytest.raises(BadSettings, match="cannot be tilted"):
            replace(RECIPE, tilt_deg=tilt_deg)
