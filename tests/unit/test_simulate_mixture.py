"""What lies in the ice: conformations, preferred views, denatured protein."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate import Recipe, draw_exposure, make_specimen
from icestream.simulate.denatured import denatured
from icestream.simulate.mixture import make_mixture
from icestream.simulate.orientations import rotation_matrices
from icestream.simulate.potential import potential_volume, projected_potential
from icestream.simulate.projection import Projector

if TYPE_CHECKING:
    from pathlib import Path

ATOM = (
    "ATOM  {0:5d}  CA  ALA A{0:4d}    {0:8.3f}   0.000   0.000"
    "  1.00 20.00           C\n"
)


def test_states_share_a_name_and_are_equally_many() -> None:
    mixture = make_mixture(["cage", "small"], state_count=3)
    assert [(one.name, one.state) for one in mixture.species] == [
        (name, state) for name in ("cage", "small") for state in range(3)
    ]
    assert {one.share for one in mixture.species} == {1 / 6}
    first, second = mixture.atoms[:2]
    assert np.array_equal(first.xyz_angst, make_specimen("cage").atoms.xyz_angst)
    assert not np.array_equal(first.xyz_angst, second.xyz_angst)


def test_denatured_protein_is_a_species_of_its_own() -> None:
    mixture = make_mixture(["cage"], state_count=2, denatured_share=0.25)
    whole = [one for one in mixture.species if one.sheet_angst is None]
    sheets = [one for one in mixture.species if one.sheet_angst is not None]
    assert {one.name for one in whole} == {"cage"}
    assert {one.name for one in sheets} == {"denatured_cage"}
    assert sum(one.share for one in sheets) == pytest.approx(0.25)
    assert sum(one.share for one in whole) == pytest.approx(0.75)
    for one in sheets:
        assert 20 < one.sheet_angst < 45  # type: ignore[operator]
        assert one.diameter_angst > 1.5 * whole[0].diameter_angst
    recipe = Recipe(
        shape=(2048, 2048),
        pixel_size_angst=4.0,
        species=mixture.species,
        particle_count=300,
    )
    particles = draw_exposure(recipe, number=1, seed=0).particles
    is_sheet = particles.species >= len(whole)
    assert 0.1 < is_sheet.mean() < 0.4
    assert set(particles.tilt_deg[is_sheet]) == {0.0, 180.0}


def test_whole_particles_prefer_top_and_bottom() -> None:
    mixture = make_mixture(["cage"], preferred_share=0.9, denatured_share=0.1)
    assert mixture.species[0].preference is not None
    assert {one.preference for one in mixture.species[1:]} == {None}
    recipe = Recipe(
        shape=(2048, 2048),
        pixel_size_angst=4.0,
        species=mixture.species[:1],
        particle_count=300,
    )
    tilt = draw_exposure(recipe, number=1, seed=0).particles.tilt_deg
    # Kappa 20: nine of ten within 28 degrees; 12 % of all directions are.
    assert 0.75 < (np.minimum(tilt, 180 - tilt) < 28).mean() < 0.92


def test_dense_is_a_matter_of_the_pixel() -> None:
    mixture = make_mixture(["cage"])
    count = mixture.dense_count((1000, 1000), 2.0)
    assert count == pytest.approx(4 * mixture.dense_count((1000, 1000), 1.0), abs=3)
    assert make_mixture().dense_count((1000, 1000), 1.0) == 0


def test_a_sheet_needs_no_volume() -> None:
    """What is seen along z: sums of the volume, from both sides and turned."""
    sheet = denatured(make_specimen("small").atoms)
    size = {"box_px": 88, "pixel_size_angst": 3.0}
    volume = potential_volume(sheet, **size)  # type: ignore[arg-type]
    image = projected_potential(sheet, **size)  # type: ignore[arg-type]
    torch.testing.assert_close(image, volume.sum(dim=0), rtol=0, atol=0.01)
    assert float(image.max()) > 5
    angles = np.array([[0.0, 0, 0], [30, 180, 50], [10, 0, -70]])
    rotations = torch.as_tensor(rotation_matrices(angles))
    one, other = (
        Projector(of, pixel_size_angst=3.0, padding=4.0).project(rotations)
        for of in (volume, image)
    )
    assert float((one - other).norm() / one.norm()) < 1e-3


def test_structures_are_named_after_their_files(tmp_path: Path) -> None:
    path = tmp_path / "my protein.pdb"
    path.write_text("".join(ATOM.format(number) for number in range(1, 9)) + "END\n")
    mixture = make_mixture(["small"], [path], state_count=2)
    assert [(one.name, one.state, one.share) for one in mixture.species] == [
        ("small", 0, 0.25),
        ("small", 1, 0.25),
        ("myprotein", 0, 0.5),
    ]
    with pytest.raises(BadSettings, match="one conformation, not 2"):
        make_mixture([], [path], state_count=2)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"specimens": ["cage", "cage"]}, "called cage"),
        ({"specimens": ["foo"]}, "no specimen 'foo'"),
        ({"state_count": 5}, "5 conformations"),
        ({"state_count": 0}, "0 conformations"),
        ({"denatured_share": 1.1}, "denatured"),
        ({"preferred_share": -0.1}, "no preference"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(BadSettings, match=match):
        make_mixture(**({"specimens": ["cage"]} | wrong))  # type: ignore[arg-type]
