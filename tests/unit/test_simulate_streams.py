"""Randomness: what should have nothing to do with each other has not."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import icestream.simulate
from icestream.domain.errors import BadSettings
from icestream.simulate import Recipe, draw_exposure
from icestream.simulate.focus import FocusPlan
from icestream.simulate.streams import Purpose, stream, torch_stream
from icestream.simulate.timetable import draw_timetable

KEYS = [
    (seed, purpose, indices)
    for seed in (0, 1, 2, 7, 2**32, 2**40 + 1)
    for purpose in Purpose
    for count in range(3)
    for indices in itertools.product((0, 1, 2), repeat=count)
]


def test_no_stream_is_like_another() -> None:
    firsts = [stream(seed, what, *more).random() for seed, what, more in KEYS]
    assert len(set(firsts)) == len(KEYS)
    again = [stream(seed, what, *more).random() for seed, what, more in KEYS]
    assert firsts == again
    on_torch = [
        torch.rand(4, generator=torch_stream(seed, what, *more)).tolist()
        for seed, what, more in KEYS
    ]
    assert len(set(map(tuple, on_torch))) == len(KEYS)


def test_what_is_drawn_apart_is_not_correlated() -> None:
    """Of 300 acquisitions: what squares, lenses and exposures are, number by number."""
    recipe = Recipe(shape=(64, 64), pixel_size_angst=8.0, particle_count=0)
    rows = []
    for seed in range(300):
        entries = draw_timetable(
            6,
            plans=[FocusPlan(phase_shift_range_deg=(30, 150))] * 2,
            defect_share=0.5,
            seed=seed,
        )
        exposures = [draw_exposure(recipe, number=n, seed=seed) for n in (1, 2, 3)]
        rows.append(
            [
                *(value for e in (entries[0], entries[3]) for value in _of_entry(e)),
                *(one.optics.defocus_angst for one in exposures),
                *(one.thickness_angst for one in exposures),
                *(one.meniscus_angst for one in exposures),
                *(one.motion.blur_angst[0, 0] for one in exposures),
            ]
        )
    related = np.corrcoef(np.array(rows).T)
    np.fill_diagonal(related, 0)
    # Of 300 the correlation by chance is 0.058: five of those. A thicker ice has a
    # higher meniscus, on purpose.
    thickness, meniscus = slice(13, 16), slice(16, 19)
    related[thickness, meniscus] = related[meniscus, thickness] = 0
    assert np.abs(related).max() < 0.29


def _of_entry(entry: object) -> list[float]:
    names = ("ice_factor", "filling", "defocus_error_angst", "phase_shift_deg")
    stage_um = entry.stage_um  # type: ignore[attr-defined]
    return [*(getattr(entry, name) for name in names), stage_um[2]]


def test_a_seed_is_0_or_more() -> None:
    with pytest.raises(BadSettings, match="The seed is -1"):
        stream(-1, Purpose.EXPOSURE, 1)
    with pytest.raises(BadSettings, match="The seed is -1"):
        torch_stream(-1, Purpose.SENSOR)


def test_nobody_else_makes_streams() -> None:
    """But for shapes and pictures, which have seeds of their own."""
    own = {"proteins.py", "denatured.py", "thumbnail.py", "streams.py"}
    for path in Path(icestream.simulate.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        is_maker = "default_rng(" in text or "manual_seed(" in text
        assert not is_maker or path.name in own, path
