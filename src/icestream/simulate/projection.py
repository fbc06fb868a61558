"""Projections of a volume at any angle, as central slices of its transform.

The transform of a projection is a slice through the middle of the transform of the
volume. Orientations are those of `icestream.simulate.orientations`: the slice of view
``A`` has at ``(gx, gy)`` the value of the volume's transform at ``A^T (gx, gy, 0)``.
Values between the voxels of the transform are interpolated linearly; the volume is
padded, which narrows the voxels, and divided by the transform of the linear kernel
(gridding correction), so that what is left is aliasing of the padded box.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import grid_sample

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import quick_even_side

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Projector", "shifted"]

_USUAL_PADDED_PX = 384
# A block that stays in the processor's memory.
_COLUMNS_AT_ONCE = 8


class Projector:
    """Projects one volume; the padded transform is kept between calls.

    Parameters
    ----------
    volume
        ``(n, n, n)`` real volume as z, y, x, n even; its centre is voxel ``n // 2`` of
        each axis. Or ``(n, n)``, its sum along z: does for what lies flat and is seen
        from above or below alone. Device and result follow it.
    pixel_size_angst
        Å/px.
    padding
        How much larger the box of the transform is than the volume, at least: it is
        rounded up to a side that is quick. Memory grows with its cube, the error falls
        with its square: what lies at the radius r has an error of about
        (r / padded box)2 at every frequency, twice that at worst. By default 4 for
        small volumes and 2 for large ones.

    Raises
    ------
    BadSettings
        Not a cube or square with an even side, or a padding below 1.
    """

    def __init__(
        self, volume: Tensor, *, pixel_size_angst: float, padding: float | None = None
    ) -> None:
        side = volume.shape[-1]
        if padding is None:
            padding = min(max(_USUAL_PADDED_PX / side, 2.0), 4.0)
        is_even = set(volume.shape) == {side} and side % 2 == 0
        if not is_even or volume.ndim not in (2, 3) or padding < 1:
            raise BadSettings(
                f"A volume of {tuple(volume.shape)} px padded {padding} times cannot be"
                " projected.",
                hint="Give an even cube or square, and a padding of 1 or more.",
            )
        self.box_px = side
        self.pixel_size_angst = pixel_size_angst
        self._padded_px = quick_even_side(math.ceil(side * padding))
        pad = _padded_plane if volume.ndim == 2 else _padded_spectrum
        self._spectrum = pad(volume, self._padded_px)

    def let_go(self) -> None:
        """Forget the volume, once other processes have it; it projects nothing then."""
        self._spectrum = self._spectrum.new_empty(0)

    def move_to(self, device: torch.device | str) -> None:
        """Move the volume to a device, where it stays."""
        self._spectrum = self._spectrum.to(device)

    def slices(self, rotations: Tensor) -> Tensor:
        """Compute the transforms of projections.

        Parameters
        ----------
        rotations
            ``(b, 3, 3)`` matrices that take the reference to the view.

        Returns
        -------
        Tensor
            ``(b, n, n // 2 + 1)`` complex rfft2 of the projections, whose centre is
            pixel ``[0, 0]``; 0 at and beyond the Nyquist frequency.
        """
        side, device = self.box_px, self._spectrum.device
        y = torch.fft.fftfreq(side, 1 / side, device=device)
        x = torch.fft.rfftfreq(side, 1 / side, device=device)
        y, x = torch.meshgrid(y, x, indexing="ij")
        plane = torch.stack([x, y], dim=-1).flatten(0, 1)
        is_inside = plane.square().sum(dim=1) < (side / 2) ** 2
        place = plane[is_inside] @ rotations[:, :2].to(self._spectrum)
        inside = self._interpolated(place)
        flat = inside.new_zeros(len(rotations), len(plane))
        flat[:, is_inside] = inside
        return flat.reshape(-1, side, side // 2 + 1)

    def project(self, rotations: Tensor) -> Tensor:
        """Compute projections.

        Parameters
        ----------
        rotations
            ``(b, 3, 3)`` matrices that take the reference to the view.

        Returns
        -------
        Tensor
            ``(b, n, n)`` sums along the view direction times the pixel size (V Å if the
            volume is in V), centre on pixel ``n // 2`` of both axes.
        """
        side = self.box_px
        images = torch.fft.irfft2(self.slices(rotations), s=(side, side))
        centred: Tensor = torch.fft.fftshift(images, dim=(-2, -1))
        return centred * self.pixel_size_angst

    def _interpolated(self, place: Tensor) -> Tensor:
        """Return values at ``(b, m, 3)`` frequencies x, y, z in units of 1 / box."""
        half = self._padded_px // 2
        place = place * (self._padded_px / self.box_px)
        sign = torch.where(place[..., :1] < 0, -1.0, 1.0)
        place = place * sign
        # x goes from 0 to half, y and z from -half to half; grid_sample wants -1 to 1.
        x = place[..., 0] * (2 / half) - 1
        dimensions = self._spectrum.ndim - 1
        rest = [place[..., axis] / half for axis in range(1, dimensions)]
        grid = torch.stack([x, *rest], dim=-1)
        values = grid_sample(
            self._spectrum[None],
            grid.flatten(0, 1)[(None,) * dimensions],
            mode="bilinear",
            align_corners=True,
        )
        real, imaginary = values.reshape(2, *place.shape[:2])
        return torch.complex(real, imaginary * sign[..., 0])


def shifted(spectra: Tensor, shifts_px: Tensor) -> Tensor:
    """Move images, given as rfft2, by parts of a pixel.

    Parameters
    ----------
    spectra
        ``(b, h, h // 2 + 1)`` rfft2 of square images with an even side.
    shifts_px
        ``(b, 2)`` as x, y, px; positive moves the content to larger indices.

    Returns
    -------
    Tensor
        Spectra of the moved images, same shape; they move around the edge.
    """
    side = spectra.shape[-2]
    y = torch.fft.fftfreq(side, device=spectra.device)
    x = torch.fft.rfftfreq(side, device=spectra.device)
    turn = shifts_px[:, 1, None, None] * y[:, None] + shifts_px[:, 0, None, None] * x
    return spectra * torch.exp(-2j * math.pi * turn)


def _padded_spectrum(volume: Tensor, padded_px: int) -> Tensor:
    """Return ``(2, p + 1, p + 1, p // 2 + 1)``: real and imaginary, 0 in the middle.

    Axis by axis, so that nothing is transformed that is all padding, and with real and
    imaginary part side by side in memory: a projection needs both.
    """
    end = padded_px + 1
    middle, kernel = _middle_and_kernel(volume, padded_px)
    flat = volume * middle[:, None, None] * middle[:, None] / kernel
    rows = torch.fft.rfft(_padded(flat, padded_px))
    spectrum = rows.new_empty(end, end, padded_px // 2 + 1)
    for start in range(0, rows.shape[2], _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        along_y = torch.fft.fft(
            _padded(rows[:, :, columns].permute(2, 0, 1), padded_px)
        )
        along_z = torch.fft.fft(_padded(along_y.transpose(1, 2), padded_px))
        spectrum[:-1, :-1, columns] = along_z.permute(2, 1, 0)
    # The highest frequency once more at the other end: no cell lacks its neighbour.
    spectrum[:-1, -1] = spectrum[:-1, 0]
    spectrum[-1] = spectrum[0]
    return torch.view_as_real(spectrum).permute(3, 0, 1, 2)


def _padded_plane(image: Tensor, padded_px: int) -> Tensor:
    """Return ``(2, p + 1, p // 2 + 1)``, as `_padded_spectrum` has it."""
    middle, kernel = _middle_and_kernel(image, padded_px)
    rows = torch.fft.rfft(_padded(image * middle[:, None] / kernel, padded_px))
    along_y = torch.fft.fft(_padded(rows.T, padded_px)).T
    spectrum = torch.cat([along_y, along_y[:1]])
    return torch.view_as_real(spectrum).permute(2, 0, 1)


def _middle_and_kernel(volume: Tensor, padded_px: int) -> tuple[Tensor, Tensor]:
    """Return what is divided out along x, and that along the other axes.

    An alternating sign moves their frequency 0 to the middle.
    """
    side = volume.shape[-1]
    offset = torch.arange(side, device=volume.device) - side // 2
    kernel = torch.sinc(offset / padded_px).square().to(volume)
    return torch.where(offset % 2 == 0, 1.0, -1.0).to(volume) / kernel, kernel


def _padded(values: Tensor, padded_px: int) -> Tensor:
    """Pad the last axis in its middle, its centre first, as the transform wants it."""
    low, high = values.chunk(2, dim=-1)
    gap = values.new_zeros(*values.shape[:-1], padded_px - values.shape[-1])
    return torch.cat([high, gap, low], dim=-1)
