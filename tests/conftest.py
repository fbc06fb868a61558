from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

from icestream.engines.ctf import contrast_transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Tests run side by side: one thread each, or they wait for one another.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# No test may fail for the time it takes: loops are compiled at their first call.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often the tests of failure kill; `make chaos` kills more often."""
    parser.addoption("--chaos-kills", type=int, default=20)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """What a test before has set does not stay."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository, which is not committed."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"real data are absent: {_SHARED_DATA}")
    return _SHARED_DATA


@pytest.fixture(scope="session")
def thon_rings() -> Callable[..., Tensor]:
    """Make images of white specimens under a known CTF, with white noise."""
    return _thon_rings


def _thon_rings(
    shape: tuple[int, int] = (768, 768),
    *,
    seed: int = 0,
    signal_to_noise: float = 1.0,
    **ctf: float,
) -> Tensor:
    """``(h, w)``; the specimen falls off with a B factor of 60 Å^2."""
    generator = torch.Generator().manual_seed(seed)
    specimen, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    values = {
        "defocus_u_angst": 12150.0,
        "defocus_v_angst": 11850.0,
        "defocus_angle_deg": 40.0,
        "pixel_size_angst": 1.4,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.07,
    } | ctf
    transfer = contrast_transfer(shape, **values)  # type: ignore[arg-type]
    pixel = values["pixel_size_angst"]
    gy, gx = torch.fft.fftfreq(shape[0], pixel), torch.fft.rfftfreq(shape[1], pixel)
    fall = torch.exp(-15 * (gy[:, None].square() + gx.square()))
    seen: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(specimen) * transfer * fall, s=shape
    )
    noisy: Tensor = seen * signal_to_noise**0.5 + noise
    return noisy
