"""Masks of real micrographs; origin of the files in the README of the shared data.

One holds a large ice crystal, and comes with a mask of it by a network: test data of
MicrographCleaner (Sanchez-Garcia et al. 2020). The others hold ice and protein.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import mrcfile
import numpy as np
import pytest
import torch

from icestream.domain import MaskClass
from icestream.engines.quality import ice_order, mask_micrograph
from masked_scene import in_cells, masked, overlap

if TYPE_CHECKING:
    from pathlib import Path


def folder(shared_data: Path, name: str) -> Path:
    found = shared_data / name
    if not found.is_dir():
        pytest.skip(f"real data are absent: {found}")
    return found


def test_a_crystal_is_masked_as_a_network_masks_it(shared_data: Path) -> None:
    where = folder(shared_data, "micrograph_mask")
    image = mrcfile.read(where / "mics_Ucsf_stack_1142_DW.mrc").astype(np.float32)
    other = mrcfile.read(where / "masks_Ucsf_stack_1142_DW.mrc").squeeze() > 0.5
    # Its header says 1 Å/px, which it has not; about 4 Å/px make its particles' size.
    mask = mask_micrograph(torch.from_numpy(image), pixel_size_angst=4.0)
    assert overlap(masked(mask), in_cells(other, mask)) > 0.85
    assert mask.fraction(MaskClass.CARBON) == 0


def test_ice_with_protein_is_good(shared_data: Path) -> None:
    where = folder(shared_data, "fullsize") / "fei-extended.mrc"
    image = torch.from_numpy(mrcfile.read(where).astype(np.float32))
    assert not masked(mask_micrograph(image, pixel_size_angst=0.8538)).any()
    order = ice_order(image, pixel_size_angst=0.8538)
    assert order is not None
    assert 1.1 < order.ring_ratio < 1.25
    assert order.crystal_ratio < 1.5


def test_apoferritin_is_good_but_for_single_things(shared_data: Path) -> None:
    shares = []
    for path in sorted(folder(shared_data, "apoferritin_10146").glob("*_avg.png")):
        pixels = imagecodecs.png_decode(path.read_bytes()).astype(np.float32)
        mask = mask_micrograph(torch.from_numpy(pixels), pixel_size_angst=1.5)
        shares.append(float(masked(mask).mean()))
    assert max(shares) < 0.05
    assert np.mean(shares) < 0.015


def test_a_crystal_of_ice_on_apoferritin_shows_its_lattice(shared_data: Path) -> None:
    """A spot at 3.67 Å (hexagonal ice: 3.66), in a dark thing at the left border."""
    where = folder(shared_data, "apoferritin_10146") / "May08_03.05.02.bin_avg.png"
    image = torch.from_numpy(
        imagecodecs.png_decode(where.read_bytes()).astype(np.float32)
    )
    mask = mask_micrograph(image, pixel_size_angst=1.5).classes
    plain, spared = (
        ice_order(image, pixel_size_angst=1.5, classes=one) for one in (None, mask)
    )
    assert plain is not None
    assert spared is not None
    assert plain.crystal_ratio > 5
    assert spared.crystal_ratio < 1.5
