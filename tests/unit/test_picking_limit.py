"""The limit between particles and noise, from scores of known origin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icestream.engines.picking.limit import noise_limit


def _noise_peaks(seed: int, count: int = 400, sigma: float = 0.1) -> np.ndarray:
    """Peaks of a Gaussian field: Rayleigh distributed."""
    return np.random.default_rng(seed).rayleigh(sigma, count)


@pytest.mark.parametrize("count", [20, 100, 2000])
def test_noise_hardly_passes(count: int) -> None:
    passed = []
    for seed in range(200):
        scores, decoys = np.split(_noise_peaks(seed, 2 * count), 2)
        limit = noise_limit(scores, decoys, false_fraction=0.1)
        passed.append(int((scores >= limit).sum()))
    # 0.1 are expected; no decoy passes, and the error of the tail is on the safe side.
    assert np.mean(passed) < 0.15
    assert np.mean(np.array(passed) > 2) < 0.01


def test_decoys_that_lie_close_together_by_chance_let_no_noise_pass() -> None:
    # As peaks of white noise in small images: their squares spread by 0.31 of the
    # median squared. Without a least width, 9 of 5000 images have three picks or more.
    generator = np.random.default_rng(0)
    exponential = generator.standard_exponential((5000, 2, 20))
    peaks = 0.12 * np.sqrt(1 + 0.31 * (exponential - math.log(2)))
    passed = [
        int((scores >= noise_limit(scores, decoys, false_fraction=0.1)).sum())
        for scores, decoys in peaks
    ]
    assert max(passed) <= 2


def test_the_limit_follows_the_level_of_the_noise() -> None:
    low, high = (
        noise_limit(
            _noise_peaks(0, sigma=s), _noise_peaks(1, sigma=s), false_fraction=0
        )
        for s in (0.05, 0.1)
    )
    assert high == pytest.approx(2 * low, rel=1e-9)


def test_many_particles_are_found_below_the_tail_of_the_noise() -> None:
    particles = np.random.default_rng(2).normal(0.42, 0.05, 150)
    scores = np.concatenate([_noise_peaks(3), particles])
    decoys = _noise_peaks(4)
    limit = noise_limit(scores, decoys, false_fraction=0.1)
    false = (_noise_peaks(3) >= limit).sum()
    kept = (particles >= limit).sum()
    assert kept > 140
    # 0.1 are allowed on average; twice that is 3.6 standard errors off.
    assert false / (false + kept) < 0.2
    assert limit < noise_limit(scores, decoys, false_fraction=0.0)


def test_few_decoys_say_nothing() -> None:
    scores = np.full(14, 0.9)
    assert noise_limit(scores, np.full(3, 0.1), false_fraction=0.1) == math.inf
    assert noise_limit(np.full(15, 0.9), np.array([]), false_fraction=0.1) == 0.9
    assert noise_limit(np.array([]), np.array([]), false_fraction=0.1) == math.inf


def test_a_share_of_one_sets_no_limit() -> None:
    assert noise_limit(np.array([0.2]), np.array([0.9]), false_fraction=1.0) == 0.0
