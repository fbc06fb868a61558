"""Stated standard errors against the scatter of many fits."""

from __future__ import annotations

import numpy as np
import torch

from icestream.engines.ctf import (
    BlockSpectra,
    CtfSearch,
    estimate_ctf_of_blocks,
    estimate_ctf_of_spectrum,
)
from icestream.engines.ctf.spectrum import half_spectrum
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.spectra import simulate_spectrum

_MICROSCOPE = Microscope(voltage_kv=300.0)
_BOX, _PIXEL_ANGST = 192, 2.0


def _pulls(
    count: int, *, blocks: int, tiles: int = 36, with_phase: bool = False
) -> dict[str, np.ndarray]:
    """Error / standard error of fits to spectra of drawn optics."""
    chance = np.random.default_rng(4)
    generator = torch.Generator().manual_seed(4)
    found: dict[str, list[float]] = {}
    for _ in range(count):
        mean, half = chance.uniform(5e3, 1.2e4), chance.uniform(0, 300)
        true = Optics(
            defocus_u_angst=mean + half,
            defocus_v_angst=mean - half,
            defocus_angle_deg=chance.uniform(0, 180),
            phase_shift_deg=chance.uniform(0, 180) if with_phase else 0.0,
        )
        spectra = [
            simulate_spectrum(
                true,
                microscope=_MICROSCOPE,
                pixel_size_angst=_PIXEL_ANGST,
                box_px=_BOX,
                tile_count=tiles // blocks,
                generator=generator,
            )
            for _ in range(blocks)
        ]
        for name, pull in _pulls_of(spectra, true, with_phase=with_phase).items():
            found.setdefault(name, []).append(pull)
    return {name: np.array(pulls) for name, pulls in found.items()}


def _pulls_of(
    spectra: list[torch.Tensor], true: Optics, *, with_phase: bool
) -> dict[str, float]:
    lens = {
        "voltage_kv": 300.0,
        "spherical_aberration_mm": _MICROSCOPE.spherical_aberration_mm,
        "amplitude_contrast": _MICROSCOPE.amplitude_contrast,
    }
    search = CtfSearch(
        defocus_max_angst=20000,
        astigmatism_max_angst=1000,
        phase_shift_deg=None if with_phase else 0.0,
    )
    if len(spectra) == 1:
        ctf = estimate_ctf_of_spectrum(
            spectra[0], pixel_size_angst=_PIXEL_ANGST, search=search, **lens
        ).ctf
    else:
        blocks = BlockSpectra(
            power=torch.stack([half_spectrum(one) for one in spectra]),
            tile_count=torch.ones(len(spectra)),
            place_angst=torch.zeros(len(spectra), 2),
            pixel_size_angst=_PIXEL_ANGST,
        )
        ctf = estimate_ctf_of_blocks(blocks, search=search, **lens).ctf
    assert ctf.defocus_error_angst is not None
    assert ctf.defocus_u_error_angst is not None
    assert ctf.defocus_v_error_angst is not None
    assert ctf.defocus_angle_error_deg is not None
    pulls = {
        "mean": (ctf.defocus_angst - true.defocus_angst) / ctf.defocus_error_angst,
        "U": (ctf.defocus_u_angst - true.defocus_u_angst) / ctf.defocus_u_error_angst,
        "V": (ctf.defocus_v_angst - true.defocus_v_angst) / ctf.defocus_v_error_angst,
    }
    if true.defocus_u_angst - true.defocus_v_angst > 150:
        turn = (ctf.defocus_angle_deg - true.defocus_angle_deg + 90) % 180 - 90
        pulls["angle"] = turn / ctf.defocus_angle_error_deg
    if with_phase:
        assert ctf.phase_shift_error_deg is not None
        turn = (ctf.phase_shift_deg - true.phase_shift_deg + 90) % 180 - 90
        pulls["phase"] = turn / ctf.phase_shift_error_deg
    return pulls


def test_one_sigma_holds_the_truth_in_about_two_of_three_fits() -> None:
    pulls = _pulls(40, blocks=9)
    for name, values in pulls.items():
        # 40 fits tell it to 7 %; ideal speckle errs less than images do
        assert 0.50 < float((np.abs(values) < 1).mean()) < 0.90, name


def test_regions_that_differ_make_the_error_larger() -> None:
    def fit(defocus_angst: list[float]) -> float:
        generator = torch.Generator().manual_seed(1)
        spectra = [
            simulate_spectrum(
                Optics(defocus_u_angst=one, defocus_v_angst=one),
                microscope=_MICROSCOPE,
                pixel_size_angst=_PIXEL_ANGST,
                box_px=_BOX,
                tile_count=9,
                generator=generator,
            )
            for one in defocus_angst
        ]
        blocks = BlockSpectra(
            power=torch.stack([half_spectrum(one) for one in spectra]),
            tile_count=torch.ones(9),
            place_angst=torch.zeros(9, 2),
            pixel_size_angst=_PIXEL_ANGST,
        )
        ctf = estimate_ctf_of_blocks(
            blocks,
            voltage_kv=300.0,
            spherical_aberration_mm=2.7,
            amplitude_contrast=0.07,
        ).ctf
        assert ctf.defocus_error_angst is not None
        return ctf.defocus_error_angst

    steps = [200.0 * step for step in range(-4, 5)]
    # their mean is known to 516 / sqrt(9) = 172 Å at best
    assert fit([10000.0 + one for one in steps]) > 100
    assert fit([10000.0] * 9) < 40


def test_errors_of_a_ready_spectrum_are_as_honest() -> None:
    for name, values in _pulls(60, blocks=1).items():
        # 60 fits tell it to 6 %
        assert 0.52 < float((np.abs(values) < 1).mean()) < 0.86, name


def test_errors_hold_where_the_phase_is_searched() -> None:
    for name, values in _pulls(20, blocks=9, with_phase=True).items():
        # 20 fits tell it to 16 %
        assert 0.6 < float(np.sqrt(np.square(values).mean())) < 1.5, name
