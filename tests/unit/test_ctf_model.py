from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from icestream.engines.ctf import contrast_transfer

_transfer = partial(
    contrast_transfer,
    pixel_size_angst=1.3,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    amplitude_contrast=0.1,
)


def test_value_at_zero_frequency_is_the_amplitude_contrast() -> None:
    ctf = _transfer(
        (16, 16), defocus_u_angst=10000, defocus_v_angst=9000, defocus_angle_deg=12
    )
    assert float(ctf[0, 0]) == pytest.approx(-0.1, abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (8, 9), (9, 8), (9, 9), (6, 15)])
def test_formula_pixel_by_pixel(shape: tuple[int, int]) -> None:
    u, v, angle = 21000.0, 18000.0, 65.0
    ctf = _transfer(
        shape,
        defocus_u_angst=u,
        defocus_v_angst=v,
        defocus_angle_deg=angle,
        phase_shift_deg=25,
        dtype=torch.float64,
    ).numpy()
    assert ctf.shape == (shape[0], shape[1] // 2 + 1)
    wavelength = 0.0196874890  # Å at 300 kV, from CODATA constants
    gy = np.fft.fftfreq(shape[0], 1.3)[:, None] + np.zeros(ctf.shape)
    gx = np.fft.rfftfreq(shape[1], 1.3)[None] + np.zeros(ctf.shape)
    g2, phi = gx**2 + gy**2, np.arctan2(gy, gx)
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (phi - math.radians(angle)))
    chi = np.pi * wavelength * g2 * defocus - np.pi / 2 * 2.7e7 * wavelength**3 * g2**2
    expected = -np.sin(chi + math.radians(25) + math.asin(0.1))
    # the wavelength above has 9 digits and the phase reaches some 300 rad
    np.testing.assert_allclose(ctf, expected, atol=1e-5)


def test_first_zero_along_u_lies_inside_that_along_v() -> None:
    ctf = _transfer(
        (512, 512), defocus_u_angst=20000, defocus_v_angst=10000, defocus_angle_deg=0
    )
    first_x = int((ctf[0, 1:] > 0).nonzero()[0])
    first_y = int((ctf[1:256, 0] > 0).nonzero()[0])
    assert first_y / first_x == pytest.approx(math.sqrt(2), rel=0.05)  # 1 px of 40


def test_angle_turns_from_columns_towards_rows() -> None:
    strong = partial(_transfer, (64, 64), defocus_u_angst=20000)
    upright = strong(defocus_v_angst=10000, defocus_angle_deg=90)
    lying = strong(defocus_v_angst=10000, defocus_angle_deg=0)
    torch.testing.assert_close(upright[:33, 0], lying[0], atol=1e-4, rtol=0)
    oblique = strong(defocus_v_angst=10000, defocus_angle_deg=45)
    round_one = strong(defocus_v_angst=20000, defocus_angle_deg=0)
    diagonal = range(32)  # x and y increase together: the axis of U
    for i in diagonal:
        assert float(oblique[i, i]) == pytest.approx(float(round_one[i, i]), abs=1e-4)
