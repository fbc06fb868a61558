"""Bad exposures are told by what their fit says, or by having none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import torch

from exposure_scene import Population, fitted
from icestream.domain.errors import CtfNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from exposure_scene import Kind

SEED = 8
# Of some hundred exposures of each kind: 0.1 and 0.4 are next to the contrast's limit,
# and good ones have no smear.
MOST_CONTRAST, MOST_SMEAR_ANGST = 0.25, 8.0


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(seed=SEED)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_good_exposures_are_as_they_should_be(
    population: Population, number: int
) -> None:
    taken = population.take("good", number)
    ctf = fitted(taken.image)
    assert taken.optics is not None
    # standard error of 50 Å at this size
    assert ctf.defocus_angst == pytest.approx(taken.optics.defocus_angst, abs=250)
    assert ctf.score > 0.05
    assert ctf.resolution_angst is not None
    assert ctf.resolution_angst < 10
    assert ctf.ring_contrast is not None
    assert ctf.ring_contrast < MOST_CONTRAST / 2
    assert ctf.smear_angst is not None
    assert ctf.smear_angst < MOST_SMEAR_ANGST / 2


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["blank", "smeared"])
def test_blank_and_smeared_exposures_have_no_ctf(
    population: Population, kind: Kind, number: int
) -> None:
    with pytest.raises(CtfNotFound):
        fitted(population.take(kind, number).image)


@pytest.mark.parametrize("number", [1, 2])
def test_rings_of_carbon_stand_high_far_out(
    population: Population, number: int
) -> None:
    image = population.take("carbon", number).image
    contrast = fitted(image).ring_contrast
    assert contrast is not None
    assert contrast > MOST_CONTRAST


def test_what_is_smeared_goes_its_way_in_each_frame(population: Population) -> None:
    for kind, least, most in (("smeared", 20, 60), ("smeared_less", 10, 20)):
        way = population.draw(kind, 1).motion.blur_angst  # type: ignore[arg-type]
        assert least < np.hypot(*way.T).min() < most
        assert np.ptp(way, axis=0).max() == 0


def test_real_images_that_drifted_are_told(shared_data: Path) -> None:
    paths = sorted((shared_data / "apoferritin_10146").glob("*avg.png"))
    assert len(paths) == 10
    told = {}
    for path in paths:
        image = torch.from_numpy(imagecodecs.imread(path).astype(np.float32))
        told[path.name[6:14]] = fitted(image)
    smear = {name: one.smear_angst or 0.0 for name, one in told.items()}
    order = sorted(smear, key=lambda name: -smear[name])
    # Averages without motion correction: 12.9 and 10.3 Å, and at most 4.7 of the rest.
    assert order[:2] == ["03.05.02", "07.13.35"]
    assert smear["03.05.02"] > MOST_SMEAR_ANGST + 2
    assert smear[order[2]] < MOST_SMEAR_ANGST - 2
    loss = {name: one.directional_loss or 0.0 for name, one in told.items()}
    assert loss["03.05.02"] > 0.25 > sorted(loss.values())[-3]
