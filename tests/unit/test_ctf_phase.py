from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from icestream.engines.ctf import CtfSearch, estimate_ctf_of_spectrum
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.spectra import simulate_spectrum

if TYPE_CHECKING:
    from icestream.domain import Ctf

_MICROSCOPE = Microscope(voltage_kv=300.0)
_SEARCHED = CtfSearch(phase_shift_deg=None)


def _fit(phase_shift_deg: float, *, defocus_angst: float, search: CtfSearch) -> Ctf:
    spectrum = simulate_spectrum(
        Optics(
            defocus_u_angst=defocus_angst + 100,
            defocus_v_angst=defocus_angst - 100,
            defocus_angle_deg=30,
            phase_shift_deg=phase_shift_deg,
        ),
        microscope=_MICROSCOPE,
        pixel_size_angst=1.4,
        tile_count=60,
        generator=torch.Generator().manual_seed(7),
    )
    estimate = partial(
        estimate_ctf_of_spectrum,
        pixel_size_angst=1.4,
        voltage_kv=300.0,
        spherical_aberration_mm=_MICROSCOPE.spherical_aberration_mm,
        amplitude_contrast=_MICROSCOPE.amplitude_contrast,
    )
    return estimate(spectrum, search=search).ctf


@pytest.mark.parametrize("phase", [0.0, 1.0, 45.0, 90.0, 135.0, 179.0])
@pytest.mark.parametrize("defocus", [6000.0, 15000.0])
def test_phase_shift_is_found_on_the_whole_circle(phase: float, defocus: float) -> None:
    ctf = _fit(phase, defocus_angst=defocus, search=_SEARCHED)
    assert 0 <= ctf.phase_shift_deg < 180
    turn = (ctf.phase_shift_deg - phase + 90) % 180 - 90
    # the field's targets
    assert abs(turn) < 3
    assert ctf.defocus_angst == pytest.approx(defocus, abs=75)
    assert ctf.phase_shift_error_deg is not None
    assert 0.1 < ctf.phase_shift_error_deg < 5


def test_a_known_phase_shift_has_no_error() -> None:
    known = CtfSearch(phase_shift_deg=60.0)
    ctf = _fit(60.0, defocus_angst=10000.0, search=known)
    assert ctf.phase_shift_deg == 60.0
    assert ctf.phase_shift_error_deg is None
    searched = _fit(60.0, defocus_angst=10000.0, search=_SEARCHED)
    assert ctf.defocus_error_angst is not None
    assert searched.defocus_error_angst is not None
    # phase and defocus trade off
    assert searched.defocus_error_angst > 1.3 * ctf.defocus_error_angst
