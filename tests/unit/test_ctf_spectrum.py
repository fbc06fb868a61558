from __future__ import annotations

import math

import pytest
import torch

from icestream.domain.errors import UnusableImage
from icestream.engines.ctf.spectrum import half_spectrum, power_spectra


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_white_noise_has_a_flat_spectrum_of_its_variance() -> None:
    spectra = power_spectra(3 * _noise(1024, 1024), pixel_size_angst=1.4)
    inner = spectra.mean[1:-1, 1:-1]
    # 9 tiles x 130,000 pixels: 0.1 % in the mean
    assert float(inner.mean()) == pytest.approx(9, rel=0.01)
    assert float(inner[:, :100].mean()) == pytest.approx(9, rel=0.02)


def test_wave_peaks_at_its_frequency() -> None:
    rows = torch.arange(700)[:, None]
    columns = torch.arange(800)
    period_px = 8
    image = torch.sin(2 * math.pi * (rows + columns) / period_px)
    spectra = power_spectra(image, pixel_size_angst=1.4, box_px=256)
    row, col = divmod(int(spectra.mean.argmax()), 129)
    assert (row, col) in {(32, 32), (224, 32)}
    assert row == 32, "the phase grows along rows and columns alike"


def test_fine_pixels_are_cropped_to_about_1_4_angst() -> None:
    image = _noise(2850, 2820)  # just three tiles of 1024 px, 12 % in common
    spectra = power_spectra(image, pixel_size_angst=0.7)
    assert spectra.power.shape[1:] == (512, 257)
    assert spectra.pixel_size_angst == pytest.approx(1.4, rel=0.03)
    rows = torch.arange(1100)[:, None]
    wave = torch.sin(2 * math.pi * rows * 0.7 / 14) + torch.zeros(1100, 1000)
    spectra = power_spectra(wave, pixel_size_angst=0.7, extent_angst=700)
    half = spectra.power.shape[1] // 2
    peak = int(spectra.mean[:half, 0].argmax())
    frequency = peak / spectra.extent_angst
    assert 1 / frequency == pytest.approx(14, rel=0.01)  # half a pixel of 51


def test_hot_pixels_do_not_lift_the_spectrum() -> None:
    image = _noise(512, 512)
    hot = image.clone()
    hot.view(-1)[:: 512 * 9 + 5] = 45804.0
    clean = power_spectra(image, pixel_size_angst=1.4).mean[1:-1, 1:-1].mean()
    dirty = power_spectra(hot, pixel_size_angst=1.4).mean[1:-1, 1:-1].mean()
    # 57 pixels at 6 sigma in 262,144 add 0.8 %
    assert float(dirty / clean) == pytest.approx(1, abs=0.02)


def test_blocks_average_to_the_mean() -> None:
    spectra = power_spectra(_noise(400, 600), pixel_size_angst=2, box_px=128)
    count = spectra.tile_count
    assert len(count) == 16  # 4 rows and 6 columns of tiles
    weighted = (spectra.power * count[:, None, None]).sum(0) / count.sum()
    torch.testing.assert_close(spectra.mean, weighted)


def test_small_image_is_cut_three_times_and_tiles_grow_if_asked() -> None:
    spectra = power_spectra(_noise(770, 900), pixel_size_angst=2)
    assert int(spectra.tile_count.sum()) == 3 * 4
    assert spectra.extent_angst == 280 * 2
    longer = power_spectra(_noise(770, 900), pixel_size_angst=2, extent_angst=1000)
    assert longer.extent_angst == pytest.approx(1000, rel=0.03)
    whole = power_spectra(_noise(770, 900), pixel_size_angst=2, extent_angst=9999)
    assert whole.extent_angst == 770 * 2


def test_16_bit_integers_are_taken() -> None:
    image = (_noise(300, 200) * 50 + 400).to(torch.uint16)
    spectra = power_spectra(image, pixel_size_angst=1.4)
    assert spectra.power.dtype == torch.float32
    assert spectra.power.shape == (6, 128, 65)  # three tiles by two, not smaller
    assert float(spectra.mean[1:-1, 1:-1].mean()) == pytest.approx(2500, rel=0.03)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.full((128, 128), 7.0), "constant"),
        (torch.full((128, 128), math.nan), "NaN"),
        (torch.zeros(128, 128).index_fill_(0, torch.tensor(5), math.inf), "NaN or inf"),
        (torch.zeros(40, 4000), "40, 4000"),
        (torch.zeros(3, 128, 128), "3, 128, 128"),
    ],
)
def test_unusable_images_are_refused(image: torch.Tensor, words: str) -> None:
    with pytest.raises(UnusableImage, match=words):
        power_spectra(image, pixel_size_angst=1.4)


@pytest.mark.parametrize("n", [128, 129])
def test_centred_spectrum_becomes_half_spectrum(n: int) -> None:
    image = _noise(n, n)
    full = torch.fft.fftshift(torch.fft.fft2(image).abs())
    expected = torch.fft.rfft2(image).abs()
    torch.testing.assert_close(half_spectrum(full), expected, rtol=1e-3, atol=1e-3)


def test_spectrum_that_is_none_is_refused() -> None:
    with pytest.raises(UnusableImage, match="not square"):
        half_spectrum(torch.rand(128, 130))
    with pytest.raises(UnusableImage, match="negative"):
        half_spectrum(_noise(128, 128))
