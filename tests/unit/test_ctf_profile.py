from __future__ import annotations

import pytest
import torch

from icestream.engines.ctf.profile import RingProfile, fit_resolution_angst


def _profile(agreement: list[float]) -> RingProfile:
    values = torch.tensor(agreement)
    frequency = (torch.arange(len(values)) + 1) * 0.01
    return RingProfile(
        frequency_per_angst=frequency, profile=values, model=values, agreement=values
    )


def test_resolution_is_the_bin_before_the_first_loss() -> None:
    agreement = [0.9] * 6 + [0.6] * 4 + [0.4] * 5 + [0.9] * 5
    resolution = fit_resolution_angst(_profile(agreement))
    assert resolution == pytest.approx(1 / 0.10, rel=1e-6)


def test_loss_before_the_rings_began_does_not_count() -> None:
    agreement = [0.2] * 5 + [0.8] * 5 + [0.1]
    resolution = fit_resolution_angst(_profile(agreement))
    assert resolution == pytest.approx(1 / 0.10, rel=1e-6)


def test_rings_to_the_end() -> None:
    resolution = fit_resolution_angst(_profile([0.8] * 20))
    assert resolution == pytest.approx(1 / 0.20, rel=1e-6)


def test_no_rings_no_resolution() -> None:
    assert fit_resolution_angst(_profile([0.8] * 3 + [0.3] * 20)) is None
