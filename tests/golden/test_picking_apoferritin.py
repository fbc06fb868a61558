"""Real apoferritin against manual picks.

EMPIAR-10146 (CC0), 10 unaligned averages with 1,634 centres; origin in the README of
the shared data. RELION 3.1.3 LoG (110-140 Å, threshold -1) reaches F1 0.86 within
43 px and 0.56 within 20 px here (``benchmarks/picking.py``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import torch

from icestream.engines.picking import match_coordinates, pick_particles
from picking_scene import coordinates

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.domain import Coordinates

    Both = list[tuple[Coordinates, Coordinates]]


@pytest.fixture(scope="module")
def picks_and_centres(shared_data: Path) -> Both:
    folder = shared_data / "apoferritin_10146"
    if not folder.is_dir():
        pytest.skip(f"real data are absent: {folder}")
    both = []
    centres = json.loads((folder / "centres_xy_px.json").read_text(encoding="utf-8"))
    for name, places_xy_px in centres.items():
        pixels = imagecodecs.png_decode((folder / f"{name}.bin_avg.png").read_bytes())
        found = pick_particles(
            torch.from_numpy(pixels.astype(np.float32)),
            pixel_size_angst=1.5,
            diameter_angst=(110.0, 140.0),
        )
        both.append((found, coordinates([(y, x) for x, y in places_xy_px])))
    return both


@pytest.mark.parametrize(("distance_px", "least_f1"), [(43.0, 0.94), (20.0, 0.92)])
def test_picks_agree_with_the_manual_ones(
    picks_and_centres: Both, distance_px: float, least_f1: float
) -> None:
    matches = [
        match_coordinates(found, truth, max_distance_px=distance_px)
        for found, truth in picks_and_centres
    ]
    pairs = sum(len(match.distance_px) for match in matches)
    total = sum(match.found_count + match.true_count for match in matches)
    assert 2 * pairs / total >= least_f1
    assert len(matches) == 10


def test_centres_agree_to_a_tenth_of_the_diameter(picks_and_centres: Both) -> None:
    errors_px = np.concatenate(
        [
            match_coordinates(found, truth, max_distance_px=43).distance_px
            for found, truth in picks_and_centres
        ]
    )
    # People click to about 5 px; 83 px are a diameter.
    assert np.median(errors_px) < 8
