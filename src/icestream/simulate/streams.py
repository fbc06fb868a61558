"""Where all randomness of an acquisition comes from: streams, none like another.

Lists of numbers do not do as seeds: NumPy pads them with zeros, so [7, 2] and [7, 2, 0]
give the same stream; and the seeds 7 and 8 of two acquisitions must not share what one
calls 7 + 1. Here every purpose has a stream of its own, keyed apart from the seed.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

from icestream.domain.errors import BadSettings

__all__ = ["Purpose", "stream", "torch_stream"]


class Purpose(IntEnum):
    """What a stream is for, and what its indices count."""

    EXPOSURE = 1
    """All that is true of one, but for what the timetable says: number."""
    IMAGE = 2
    """Texture and noise of one; its seed is the exposure's own."""
    ENTRY = 3
    """When exposures are taken, and what goes wrong: block of many."""
    SQUARE = 4
    """Its ice, filling and share of defects: grid, square."""
    AUTOFOCUS = 5
    """Its error and drift: grid, square."""
    HEIGHT = 6
    """Of the ice at places, and scatter of the plate: grid, block of many."""
    PHASE_PLATE = 7
    """A fresh place on it: grid, place."""
    STIGMATOR = 8
    """The mean astigmatism."""
    SENSOR = 9
    """Its flaws."""
    FLAT_FIELD = 10
    """The exposure from which the gain is measured."""
    GAIN_FAULT = 11
    """Whether its file is late or turned."""
    PARTICLES = 12
    """Of one micrograph of a stack of particles: micrograph."""


def stream(seed: int, purpose: Purpose, *indices: int) -> np.random.Generator:
    """Return a stream of NumPy's.

    Parameters
    ----------
    seed
        Of the acquisition, 0 or more.
    purpose, indices
        What for; each gives a stream of its own.

    Raises
    ------
    BadSettings
        A seed below 0.
    """
    return np.random.default_rng(_sequence(seed, purpose, indices))


def torch_stream(
    seed: int, purpose: Purpose, *indices: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a stream of PyTorch's on a device; the rest as `stream` has it.

    Notes
    -----
    PyTorch keeps 32 bits of a seed on the CPU.
    """
    (state,) = _sequence(seed, purpose, indices).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state))


def _sequence(
    seed: int, purpose: Purpose, indices: tuple[int, ...]
) -> np.random.SeedSequence:
    if seed < 0:
        raise BadSettings(f"The seed is {seed}.", hint="Give 0 or more.")
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *indices))
