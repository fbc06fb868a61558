"""How one exposure is imaged: its lens on its canvas, tilted stage and all."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from icestream.simulate.ice_contrast import even_ice, tilted_ice
from icestream.simulate.optics import Transfer, transfer
from icestream.simulate.tilt import TiltSeries

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.simulate.exposure import Exposure, Recipe
    from icestream.simulate.film import Layer
    from icestream.simulate.ice_contrast import IceContrast

__all__ = ["Imaging"]


class Imaging:
    """The lens of one exposure.

    Parameters
    ----------
    exposure, recipe
        Optics, pixel, microscope, thickness.
    canvas
        ``(H, W)``, px.
    margin_px
        Where the image begins on it.
    device
        Where all of it lies.

    Attributes
    ----------
    transfer
        At the middle of the image and of the ice.
    """

    def __init__(
        self,
        exposure: Exposure,
        recipe: Recipe,
        canvas: tuple[int, int],
        margin_px: int,
        device: torch.device,
    ) -> None:
        self._exposure, self._recipe, self._canvas = exposure, recipe, canvas
        self._device = device
        self.transfer = self._transfer_with()
        self._series = None
        if exposure.optics.tilt_deg:
            height, width = recipe.shape
            self._series = TiltSeries(
                canvas,
                optics=exposure.optics,
                middle_px=(margin_px + (height - 1) / 2, margin_px + (width - 1) / 2),
                pixel_size_angst=recipe.pixel_size_angst,
                voltage_kv=recipe.microscope.voltage_kv,
                device=device,
            )

    def _transfer_with(self, **optics: float) -> Transfer:
        return transfer(
            self._canvas,
            microscope=self._recipe.microscope,
            optics=replace(self._exposure.optics, **optics),
            pixel_size_angst=self._recipe.pixel_size_angst,
            device=self._device,
        )

    def ice(self, scale: Tensor) -> IceContrast:
        """Return the contrast of the ice.

        Parameters
        ----------
        scale
            ``(H, W)`` factor against ice of the exposure's thickness.
        """
        voltage_kv = self._recipe.microscope.voltage_kv
        pixel_angst = self._recipe.pixel_size_angst
        if self._series is None:
            return even_ice(
                self.transfer,
                self._canvas,
                pixel_size_angst=pixel_angst,
                thickness_angst=self._exposure.thickness_angst,
                voltage_kv=voltage_kv,
                scale=scale,
            )
        tilt = math.radians(self._exposure.optics.tilt_deg)
        return tilted_ice(
            self._transfer_with(beam_tilt_x_mrad=0.0, beam_tilt_y_mrad=0.0),
            self._canvas,
            self._series,
            pixel_size_angst=pixel_angst,
            thickness_angst=self._exposure.thickness_angst / math.cos(tilt),
            voltage_kv=voltage_kv,
            scale=scale,
        )

    def intensity_of(self, layer: Layer) -> Tensor:
        """Return the intensity behind a layer, ``(H, W)``, about its transmission.

        Parameters
        ----------
        layer
            What the wave passes: its phase may be large.
        """
        # Of a weak texture, sin(chi) becomes sin(chi + asin(A)).
        contrast = math.tan(math.asin(self._recipe.microscope.amplitude_contrast))
        amplitude = layer.transmission.clamp(min=0).sqrt()
        amplitude = amplitude * torch.exp(-contrast * layer.texture_rad)
        wave = torch.polar(amplitude, layer.phase_rad)
        real, imaginary = torch.fft.rfft2(wave.real), torch.fft.rfft2(wave.imag)
        of_real, of_imaginary = self.transfer.of_wave()
        seen_real = of_real * real - of_imaginary * imaginary
        seen_imaginary = of_real * imaginary + of_imaginary * real
        del real, imaginary, of_real, of_imaginary, wave
        if self._series is None:
            return self._square(seen_real) + self._square(seen_imaginary)
        sum_real, sum_imaginary = torch.zeros(2, *self._canvas, device=self._device)
        whole = slice(None)
        for term, weight in enumerate(self._series.weights(whole, whole)):
            bessel = self._series.bessel(term, whole).T.contiguous()
            parts = [
                torch.fft.irfft2(spectrum * bessel, s=self._canvas)
                for spectrum in (seen_real, seen_imaginary)
            ]
            # Times i^k: real and imaginary part change places in odd terms.
            first, second = parts if term % 2 == 0 else (parts[1], parts[0])
            sum_real.addcmul_(first, weight, value=-1 if term % 4 in (1, 2) else 1)
            sum_imaginary.addcmul_(second, weight, value=-1 if term % 4 > 1 else 1)
        intensity: Tensor = sum_real.square_() + sum_imaginary.square_()
        return intensity

    def _square(self, spectrum: Tensor) -> Tensor:
        image: Tensor = torch.fft.irfft2(spectrum, s=self._canvas)
        return image.square_()
